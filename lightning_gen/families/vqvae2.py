"""Two levels of discrete latents (VQ-VAE-2: Razavi, van den Oord, Vinyals, NeurIPS 2019, algorithm 1).

The top level's codes hold what a whole image is about; the bottom level is quantised given them, and adds detail:

    h_b = E_b(x),   e_t = Q_t(E_t(h_b)),   e_b = Q_b([h_b, D_t(e_t)]),   p(x | e_t, e_b) from D([e_t, e_b])
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.distributions.quantisers import Quantised, Quantiser, VectorQuantiser
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms
from lightning_gen.networks.autoencoders import MapDecoder, MapEncoder
from lightning_gen.one_loss import OneLossModel
from lightning_gen.quantised import QuantisedModel


class VQVAE2(QuantisedModel, OneLossModel):
    """A VQ-VAE of two levels with any quantiser; its loss is that of `VQVAE`, the quantisers' losses added up.

    The decoder sees the top level enlarged by repetition to the size of the bottom level.

    Args:
        encoder: E_b, samples to maps of F features.
        top_encoder: E_t, those maps (its input has F channels) to smaller ones.
        top_decoder: makes D_t from what top codes stand for to F numbers for each position of the bottom level: it is
            called with the length of a code and F, and is to make maps of one channel.
        quantiser: makes what turns features into codes, for each level.
        decoder: makes D from what codes of both levels stand for, beside each other, to the likelihood's parameters;
            conditional when its `num_classes` is set.
        likelihood: p(x | z).
        optimizer: makes the optimiser from the parameters.
        sample_shape: (C, H, W) of a sample.
        quantiser_weight: of the quantisers' losses, ≥ 0.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, or a number is out of its range.
    """

    def __init__(
        self,
        encoder: MapEncoder,
        top_encoder: MapEncoder,
        top_decoder: Callable[[int, int], MapDecoder],
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
        top, bottom = quantiser(top_encoder.num_features), quantiser(2 * encoder.num_features)
        inner = top_decoder(top.latent_dim, encoder.num_features)
        network = decoder(top.latent_dim + bottom.latent_dim, likelihood.num_parameters)
        options = {"optimizer": optimizer, "scheduler": scheduler, "compile": compile, "attributes": attributes}
        super().__init__(sample_shape, [encoder, top_encoder, inner], network, likelihood, **options)
        self.encoder, self.top_encoder, self.top_decoder = encoder, top_encoder, inner
        self.top_quantiser, self.bottom_quantiser = top, bottom
        self.quantiser_weight = quantiser_weight

    @property
    def quantisers(self) -> Sequence[Quantiser]:
        """The top one, then the bottom one."""
        return [self.top_quantiser, self.bottom_quantiser]

    def quantise(self, x: Tensor, y: Tensor | None) -> list[Quantised]:
        """The top level, then the bottom level given it.

        Raises:
            UserError: if the top decoder's maps do not fit beside the bottom level's.
        """
        h = self.encoder(x, y)
        top = self.top_quantiser(self.top_encoder(h, y))
        given = self.top_decoder(top.z, y).flatten(1, 2)
        if given.shape != h.shape:
            raise UserError(
                f"model.init_args.top_decoder makes maps of shape {list(given.shape[1:])} for a bottom level of"
                f" {list(h.shape[1:])}: set its channels to 1, and let it enlarge maps as often as top_encoder halves"
                " them"
            )
        return [top, self.bottom_quantiser(torch.cat((h, given), dim=1))]

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The loss, in nats an entry; its parts, the reconstruction as log p(x | z) in nats a sample."""
        x, y = batch["x"], self.condition_of(batch)
        top, bottom = self.quantise(x, y)
        nats = self.nats(self.join([top.z, bottom.z]), x, y).mean()
        quantiser_loss = top.loss + bottom.loss
        total = nats / prod(self.sample_shape) + self.quantiser_weight * quantiser_loss
        terms = {"reconstruction": -nats, "quantiser_loss": quantiser_loss}
        levels = {"top": top.terms, "bottom": bottom.terms}
        return total, terms | {f"{level}_{name}": v for level, found in levels.items() for name, v in found.items()}
