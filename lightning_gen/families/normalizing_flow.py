"""Normalising flows (Rezende, Mohamed, ICML 2015; Papamakarios et al., JMLR 22, 2021).

A bijection f turns samples into noise z = f(x; h(y)) of a known density, and by the change of variables

    log p(x | y) = log p(z) + log |det ∂f/∂x|

which is maximised. Noise that is drawn becomes a sample by the inverse. Bijection, noise and dequantisation are three
choices of their own.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_gen.autoencoding import AutoencodingModel
from lightning_gen.bijections import Bijection
from lightning_gen.density_model import DensityModel
from lightning_gen.dequantisation import Dequantisation
from lightning_gen.distributions import StandardNormal, VariationalLayer
from lightning_gen.errors import UserError
from lightning_gen.model import evaluating
from lightning_gen.networks.conditioning import Embed
from lightning_gen.noise import Noise
from lightning_gen.precision import exact, full
from lightning_gen.samplers import FromBase, NoiseSampler, Sampler


class NormalizingFlow(AutoencodingModel, DensityModel):
    """A normalising flow, of points, vectors or images.

    Its latents are the noise that samples become, as vectors of as many numbers as a sample has entries: `encode` and
    `decode` lose nothing, but for the level that dequantised values stand for.

    Args:
        sample_shape: of one sample, such as [2] or [1, 8, 8].
        flow: makes f, called with the shape of samples and the length of the features h, or None.
        optimizer: makes the optimiser from the parameters.
        base: makes the density of the noise, a vector; the latent shape of f, flattened.
        dequantisation: of discrete data; None for continuous ones, whose density is exact.
        num_classes: number of classes, or of attributes, that samples are conditioned on; None for none.
        condition_features: length of h, a learnt embedding of `y`; set where `num_classes` is.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[flow]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.
        sampler: draws the noise of samples; another one may be given for every drawing, without training again, such as
            `Temperature`. None for noise of the base.

    Raises:
        UserError: if the base makes vectors of another length, or one of `num_classes` and `condition_features` is set
            without the other; before training, if data do not fit the flow or the dequantisation.
    """

    sampler_kind = NoiseSampler
    sampler: NoiseSampler

    def __init__(
        self,
        sample_shape: list[int],
        flow: Callable[[tuple[int, ...], int | None], Bijection],
        optimizer: OptimizerCallable,
        base: Callable[[int, int | None], VariationalLayer] = StandardNormal,
        dequantisation: Dequantisation | None = None,
        num_classes: int | None = None,
        condition_features: int | None = None,
        scheduler: LRSchedulerCallable | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
        sampler: NoiseSampler | None = None,
    ) -> None:
        options = {"optimizer": optimizer, "scheduler": scheduler, "compile": compile, "attributes": attributes}
        super().__init__(sample_shape=sample_shape, dequantisation=dequantisation, num_classes=num_classes, **options)
        features = condition_features
        if (num_classes is None) != (features is None) or (features is not None and features < 1):
            raise UserError(
                f"model.init_args.num_classes is {num_classes} and condition_features {features}: set both"
                " for a flow that depends on classes, condition_features to at least 1, or neither"
            )
        self.sampler = sampler or FromBase()
        self.flow = flow(self.sample_shape, features)
        self.latent_dim = prod(self.flow.latent_shape)
        self.base = base(self.latent_dim, None)
        if self.base.sample_dim != self.latent_dim:
            raise UserError(
                f"model.init_args.base is {type(self.base).__name__}, which makes vectors of {self.base.sample_dim}"
                f" numbers, but the flow's noise has {self.latent_dim}: use a layer of as many, such as StandardNormal"
            )
        self.embedding: nn.Module | None = None
        if num_classes is not None and features is not None:
            self.embedding = Embed(num_classes, features)

    # ---------------------------------------------------------------- the density

    def features(self, y: Tensor | None) -> Tensor | None:
        """What the flow knows of classes (B,) or attributes (B, K): (B, F), or None."""
        return None if self.embedding is None else full(self.embedding(y))

    def log_p(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The density of the noise at f(x), times the volume that f makes of a unit of x."""
        z, log_det = self.flow(full(x), self.features(y))
        with exact(x):
            return self.base().log_prob(full(z).flatten(1)) + log_det

    def draw_values(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Noise, and back through the flow."""
        return self.from_noise(self.draw_latents(noise, y), y)

    def likelihood_protocol(self) -> dict[str, Any]:
        """With what the flow is approximated by."""
        ways = [part.approximation for part in self.flow.modules() if isinstance(part, Bijection)]
        found = sorted({way for way in ways if way is not None})
        return super().likelihood_protocol() | ({"approximation": ", ".join(found)} if found else {})

    # ---------------------------------------------------------------- latents and samples

    @property
    def sized_parts(self) -> tuple[str, ...]:
        """None: the model's own `sample_shape` tells."""
        return ()

    @property
    def varied_dim(self) -> int:
        """See `lightning_gen.abilities.HasVectorLatents`."""
        return self.latent_dim if self.base.is_euclidean else 0

    def draw_latents(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Draws from p(z), (n, D), or as the sampler has it."""
        return self.sampler(noise, self.base)

    def from_noise(self, z: Tensor, y: Tensor | None) -> Tensor:
        """What latents (n, D) become, (n, …), as `log_p` takes it."""
        return self.flow.samples(z.unflatten(1, self.flow.latent_shape), self.features(y))

    def samples_of(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The same, of discrete values where the data are discrete."""
        return self.samples_of_values(self.from_noise(z, y))

    def latents_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The noise (n, D) that samples become; of discrete data that of their bins' middles."""
        values = full(x) if self.dequantisation is None else self.dequantisation.middles(x)
        return self.flow(values, self.features(y))[0].flatten(1)

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """As the base has it."""
        return self.base.between(a, b, t)

    def check_sampler(self, sampler: Sampler) -> None:
        """Any that draws noise will do; see `lightning_gen.samplers.HasSampler`."""

    # ---------------------------------------------------------------- set-up

    @torch.no_grad()
    def check_values(self, x: Tensor) -> None:
        """The flow must map the data, and their densities must be finite."""
        super().check_values(x)
        x = full(x.to(self.dtype)) if self.dequantisation is None else self.dequantisation.middles(x.to(self.dtype))
        with evaluating(self):
            self.flow.check(x)
            nats = self.log_p(x, self.condition.blank(len(x), x.device))
        if not bool(nats.isfinite().all()):
            raise UserError(
                f"model.init_args.flow gives samples of data a log-density of {float(nats[~nats.isfinite()][0])}: put a"
                " Standardise before it, or check the data's values"
            )
