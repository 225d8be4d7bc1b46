"""Autoencoders with discrete latents (van den Oord et al., "Neural Discrete Representation Learning", NIPS 2017).

An encoder's features become codes, of which a decoder makes samples; the prior of codes is learnt afterwards (the
family `LatentPrior`). With D entries a sample and the quantiser's own loss (eq. 3 without its first term):

    L = −log p(x | z) / D + w · L_quantiser
"""

from collections.abc import Callable, Sequence
from math import prod

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.distributions.quantisers import Quantised, Quantiser, VectorQuantiser
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms
from lightning_gen.networks.autoencoders import MapDecoder, MapEncoder
from lightning_gen.one_loss import OneLossModel
from lightning_gen.quantised import QuantisedModel


class VQVAE(QuantisedModel, OneLossModel):
    """A VQ-VAE with any quantiser.

    The published loss is mean (x − x̂)² / V + β mean (v − sg[e])², V the variance of the data's entries: that is this
    one, but for a constant, with a likelihood `Gaussian` of variance V/2, w = 1, and the `VectorQuantiser` of weight β.

    Args:
        encoder: samples to maps of features.
        quantiser: makes what turns features into codes.
        decoder: makes the network from what codes stand for to the likelihood's parameters; conditional when its
            `num_classes` is set.
        likelihood: p(x | z).
        optimizer: makes the optimiser from the parameters.
        sample_shape: (C, H, W) of a sample.
        quantiser_weight: w ≥ 0.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, or a number is out of its range.
    """

    def __init__(
        self,
        encoder: MapEncoder,
        decoder: Callable[[int, int], MapDecoder],
        likelihood: Likelihood,
        optimizer: OptimizerCallable,
        sample_shape: list[int],
        quantiser: Callable[[int], Quantiser] = VectorQuantiser,
        quantiser_weight: float = 1.0,
        scheduler: LRSchedulerCallable | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        check_at_least(self, 0, quantiser_weight=quantiser_weight)
        made = quantiser(encoder.num_features)
        network = decoder(made.latent_dim, likelihood.num_parameters)
        options = {"optimizer": optimizer, "scheduler": scheduler, "compile": compile, "attributes": attributes}
        super().__init__(sample_shape, [encoder], network, likelihood, **options)
        self.encoder = encoder
        self.quantiser = made
        self.quantiser_weight = quantiser_weight

    @property
    def quantisers(self) -> Sequence[Quantiser]:
        """The one."""
        return [self.quantiser]

    def quantise(self, x: Tensor, y: Tensor | None) -> list[Quantised]:
        """One level."""
        return [self.quantiser(self.encoder(x, y))]

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The loss, in nats an entry; its parts, the reconstruction as log p(x | z) in nats a sample."""
        x, y = batch["x"], self.condition_of(batch)
        (level,) = self.quantise(x, y)
        nats = self.nats(level.z, x, y).mean()
        total = nats / prod(self.sample_shape) + self.quantiser_weight * level.loss
        return total, {"reconstruction": -nats, "quantiser_loss": level.loss} | level.terms
