"""Autoregressive priors over the codes of a first stage.

Van den Oord et al., "Neural Discrete Representation Learning", NIPS 2017, §3.3; Razavi et al., NeurIPS 2019, §3.2;
Esser et al., CVPR 2021, §3.2.

A first stage (VQVAE, VQGAN) turns a sample into codes c_1 … c_N and back. This family learns how they are distributed,

    log p(c | y) = Σ_i log p(c_i | c_1 … c_{i−1}, y)

and draws samples by drawing codes one after the other and decoding them.
"""

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn.functional import cross_entropy

from lightning_gen.abilities import HasCodes
from lightning_gen.checkpoints import Weights
from lightning_gen.conditions import check_given
from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import bits_per_dim
from lightning_gen.model import Batch, GenerativeModel, Terms, evaluating
from lightning_gen.networks.autoregressive import TokenModel
from lightning_gen.noise import Noise
from lightning_gen.precision import exact, full
from lightning_gen.second_stage import SecondStageModel, open_first_stage

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class LatentPrior(SecondStageModel):
    """A network that gives the next code from those before it, trained on a frozen first stage.

    It encodes, decodes and turns samples into codes as its first stage does. Checkpoints hold the first stage, too, and
    need nothing but themselves.

    Args:
        first_stage: a checkpoint of a family with discrete codes, or the folder of its runs for the newest one's last.
            Checkpoints of this family hold the model's own configuration here.
        network: makes the network from the number of codes and the shapes of their maps; conditional when its
            `num_classes` is set, whether or not the first stage is.
        optimizer: makes the optimiser from the network's parameters.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        temperature: logits are divided by it when sampling, > 0; below 1 for likelier and less diverse codes.
        sample_shape: of one sample; needed only where the first stage is no checkpoint.
        first_stage_weights: `ema` for the first stage's averaged weights where it has them, or `raw`.
        compile: submodules to hand to `torch.compile`, such as `[network]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if the first stage is missing, has no codes, or is conditioned on something else.
    """

    def __init__(
        self,
        first_stage: str | GenerativeModel,
        network: Callable[[int, tuple[tuple[int, ...], ...]], TokenModel],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        temperature: float = 1.0,
        sample_shape: list[int] | None = None,
        first_stage_weights: Weights = "ema",
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        if not temperature > 0:
            raise UserError(f"model.init_args.temperature is {temperature}: it must be above 0")
        verb = "turn samples into discrete codes"
        stage, shape = open_first_stage(first_stage, sample_shape, first_stage_weights, HasCodes, verb)
        codes: Any = stage  # is a `HasCodes`, too
        made = network(codes.num_codes, codes.code_shapes(shape))
        options = {"optimizer": optimizer, "scheduler": scheduler, "compile": compile, "attributes": attributes}
        super().__init__(stage, shape, made.num_classes, **options)
        self.network = made
        self.temperature = temperature

    # ---------------------------------------------------------------- codes

    def nats(self, x: Tensor, y: Tensor | None) -> Tensor:
        """−log p(c | y) of the codes c of samples x (B, …): (B,) nats a sample."""
        codes = self.codes(x, y)
        logits = full(self.network(codes, y))
        return cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none").view_as(codes).sum(1)

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """−log p(c | y), nats a sample; beside it bits a code."""
        nats = self.nats(batch["x"], self.condition_of(batch)).mean()
        return nats, {"bits_per_code": bits_per_dim(nats, self.network.length)}

    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Decoded draws of codes."""
        return self.decode_codes(self.network.draw(noise, y, self.temperature), y)

    @torch.no_grad()
    def code_nats(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.PricesCodes`."""
        if self.num_classes is not None:
            check_given(y, "code_nats")
        with evaluating(self):
            return self.nats(x, y)

    # ---------------------------------------------------------------- what the first stage does

    @property
    def num_codes(self) -> int:
        """K, the first stage's."""
        return self._stage.num_codes

    def code_shapes(self, sample_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """The first stage's; see `lightning_gen.abilities.HasCodes`."""
        return self._stage.code_shapes(sample_shape)

    def codes(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The first stage's (n, N), the same in any precision of training."""
        with exact(x):
            return self._stage.codes(x, self.first_stage_condition(y))

    def decode_codes(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        """The first stage's samples (n, …)."""
        return self._stage.decode_codes(codes, self.first_stage_condition(y))

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The first stage's latents; see `lightning_gen.abilities.Reconstructs`."""
        return self._stage.encode(x, self.first_stage_condition(y))

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The first stage's samples (n, …)."""
        return self._stage.decode(z, self.first_stage_condition(y))

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The first stage's reconstructions (n, …)."""
        return self._stage.reconstruct(x, self.first_stage_condition(y))

    @property
    def _stage(self) -> Any:
        return self.first_stage  # a `HasCodes`, too

    # ---------------------------------------------------------------- numbers about data

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """The cost of the codes alone: what the first stage loses of a sample is not in it."""
        return ("val_prior_nats", "val_prior_bits_per_dim")

    def held_out(self, batch: Batch) -> Terms:
        """(n,) nats a sample, and bits for each of its D entries: nats / (D ln 2)."""
        nats = self.nats(batch["x"], self.condition_of(batch))
        return {"val_prior_nats": nats, "val_prior_bits_per_dim": bits_per_dim(nats, prod(self.sample_shape))}

    # ---------------------------------------------------------------- set-up

    @torch.no_grad()
    def check_data(self, data: "DataModule") -> None:
        """The network must give logits for every code of every place."""
        codes = torch.zeros(2, self.network.length, dtype=torch.int64, device=self.device)
        with evaluating(self.network):
            found = tuple(self.network(codes, self.condition.blank(2, self.device)).shape)
        if found != (wanted := (*codes.shape, self.network.num_tokens)):
            raise UserError(
                f"model.init_args.network gives logits of shape {found} for codes of shape {tuple(codes.shape)} instead"
                f" of {wanted}: correct its forward"
            )
        super().check_data(data)
