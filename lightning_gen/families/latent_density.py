"""Densities fitted to the latents of an autoencoder after its training.

"Ex-post density estimation" of Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, §4.

A first stage (VAE, RAE, AAE …) encodes samples as vectors z = f(x) and decodes them. The latents that it makes of data
seldom have the distribution of its prior; this family learns theirs by maximum likelihood, and decodes z ~ p(z | y).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.distributions import Distribution

from lightning_gen.abilities import HasVectorLatents
from lightning_gen.autoencoding import AutoencodingModel
from lightning_gen.checkpoints import Weights
from lightning_gen.distributions import VariationalLayer, draw
from lightning_gen.errors import UserError
from lightning_gen.model import Batch, GenerativeModel, Terms
from lightning_gen.networks.conditioning import Embed
from lightning_gen.noise import Noise
from lightning_gen.precision import exact
from lightning_gen.second_stage import WHERE, SecondStageModel, open_first_stage

if TYPE_CHECKING:
    from lightning_gen.data import DataModule

_ROWS = 256
_SMALLEST_STD = 1e-6


class LatentDensity(AutoencodingModel, SecondStageModel):
    """A distribution of vectors, trained by −log p(z) on the latents of a frozen first stage.

    Latents are what `encode` of the first stage gives, without noise: of a variational autoencoder its posteriors'
    means, not draws from them; of a ladder the numbers of all levels, though its decoder sees the lowest alone.

    Latents are standardised by their means and standard deviations over the training set, which are measured when
    training starts. Checkpoints hold the first stage, too, and need nothing but themselves.

    Args:
        first_stage: a checkpoint of a family whose latents are vectors, or the folder of its runs for the newest one's
            last. Checkpoints of this family hold the model's own configuration here.
        prior: makes p(z), such as a mixture of normal distributions or a flow.
        optimizer: makes the optimiser from the prior's parameters.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        num_classes: number of classes, or of attributes, that samples are conditioned on; the first stage's, if it is
            conditional, unless it is set.
        prior_features: length of a learnt embedding of `y` that the prior's parameters depend on; None for a prior that
            does not depend on `y`.
        sample_shape: of one sample; needed only where the first stage is no checkpoint.
        first_stage_weights: `ema` for the first stage's averaged weights where it has them, or `raw`.
        compile: submodules to hand to `torch.compile`, such as `[prior]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if the first stage is missing, has no vectors for latents, or one-hot vectors or points on a sphere,
            which have no density, or is conditioned on something else; if nothing depends on the classes, or the prior
            makes vectors of another length.
    """

    shift: Tensor
    scale: Tensor
    measured: Tensor

    def __init__(
        self,
        first_stage: str | GenerativeModel,
        prior: Callable[[int, int | None], VariationalLayer],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        num_classes: int | None = None,
        prior_features: int | None = None,
        sample_shape: list[int] | None = None,
        first_stage_weights: Weights = "ema",
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        verb = "turn samples into vectors and back"
        stage, shape = open_first_stage(first_stage, sample_shape, first_stage_weights, HasVectorLatents, verb)
        classes = stage.num_classes if num_classes is None else num_classes
        options = {"optimizer": optimizer, "scheduler": scheduler, "compile": compile, "attributes": attributes}
        super().__init__(first_stage=stage, sample_shape=shape, num_classes=classes, **options)
        if (classes is None and prior_features is not None) or (
            prior_features is None and classes is not None and stage.num_classes is None
        ):
            raise UserError(
                f"model.init_args.num_classes is {num_classes} and prior_features {prior_features}: set both for a"
                " prior that depends on classes, or neither"
            )
        vectors: Any = stage  # is a `HasVectorLatents`, too
        if not vectors.varied_dim:
            raise UserError(
                f"{WHERE}: latents of this {type(stage).__name__} are one-hot vectors or points on a sphere, which have"
                " no density among all vectors: use a first stage with another posterior"
            )
        dim: int = vectors.latent_dim
        self.latent_dim, self.varied_dim = dim, int(vectors.varied_dim)
        self.prior = prior(dim, prior_features)
        self.prior_embedding: nn.Module | None = None
        if prior_features is not None:
            assert classes is not None
            self.prior_embedding = Embed(classes, prior_features)
        if self.prior.sample_dim != dim:
            raise UserError(
                f"model.init_args.prior makes vectors of {self.prior.sample_dim} numbers but latents of the first stage"
                f" have {dim}: choose another layer"
            )
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("measured", torch.tensor(False))

    # ---------------------------------------------------------------- the density

    def prior_of(self, y: Tensor | None) -> Distribution:
        """The distribution of standardised latents, of batch shape (), or (B,) where it depends on `y`."""
        return self.prior(None if self.prior_embedding is None else self.prior_embedding(y))

    def nats(self, x: Tensor, y: Tensor | None) -> Tensor:
        """−log p(z | y) of the latents z of samples x (B, …): (B,) nats a sample."""
        standard = (self.latents_of(x, y) - self.shift) / self.scale
        return self.scale.log().sum() - self.prior_of(y).log_prob(standard)

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """−log p(z | y), nats a sample."""
        return self.nats(batch["x"], self.condition_of(batch)).mean(), {}

    # ---------------------------------------------------------------- latents and samples

    @property
    def encodes_condition(self) -> bool:
        """Never by itself: the first stage says what it needs."""
        return False

    @property
    def decodes_condition(self) -> bool:
        """As `encodes_condition`."""
        return False

    def latents_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The first stage's (n, d)."""
        stage: Any = self.first_stage
        with exact(x):
            return stage.encode(x, self.first_stage_condition(y))

    def samples_of(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The first stage's."""
        stage: Any = self.first_stage
        return stage.decode(z, self.first_stage_condition(y))

    def draw_latents(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Draws from p(z | y), (n, d)."""
        return self.shift + self.scale * draw(self.prior_of(y), noise, 1)[0]

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On a straight line: these latents lie on no sphere."""
        return torch.lerp(a, b, t[:, None].to(a))

    # ---------------------------------------------------------------- numbers about data

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """The cost of the latents alone, which tells nothing of x; it compares densities on one first stage."""
        return ("val_latent_nats",)

    def held_out(self, batch: Batch) -> Terms:
        """(n,) nats a sample."""
        return {"val_latent_nats": self.nats(batch["x"], self.condition_of(batch))}

    # ---------------------------------------------------------------- set-up

    def check_data(self, data: "DataModule") -> None:
        """The first stage's latents must be vectors of the length that it tells."""
        super().check_data(data)
        examples = {name: value[:2].to(self.device) for name, value in data.examples(2).items()}
        z = self.latents_of(examples["x"].to(self.dtype), self.condition_of(examples))
        if z.shape != (len(examples["x"]), self.latent_dim):
            raise UserError(
                f"{WHERE} turns a sample into latents of shape {tuple(z.shape[1:])} instead of ({self.latent_dim},):"
                " use one whose latents are vectors of independent numbers"
            )

    def on_fit_start(self) -> None:
        """Measure the training set's latents, unless a checkpoint tells."""
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        if data is not None and not bool(self.measured):
            self._measure(data)

    @torch.no_grad()
    def _measure(self, data: "DataModule") -> None:
        """Means and standard deviations over all processes' shares."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        sums = torch.zeros(2 * self.latent_dim + 1, dtype=dtype, device=self.device)
        for batch in data.rows("train", self.trainer.global_rank, self.trainer.world_size, _ROWS):
            moved = data.on_after_batch_transfer({name: value.to(self.device) for name, value in batch.items()}, 0)
            z = self.latents_of(moved["x"], self.condition_of(moved)).to(dtype)
            sums += torch.cat((z.sum(0), z.square().sum(0), z.new_full((1,), len(z))))
        sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        mean, square = (sums[:-1] / sums[-1]).chunk(2)
        self.shift.copy_(mean)
        self.scale.copy_((square - mean.square()).clamp(min=_SMALLEST_STD**2).sqrt())
        self.measured.fill_(True)
