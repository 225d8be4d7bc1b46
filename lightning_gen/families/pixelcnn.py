"""Autoregressive models of images (van den Oord et al., ICML 2016 and NIPS 2016; Salimans et al., ICLR 2017).

Pixels in the order of reading, x_1 … x_N, each given those before it:

    log p(x | y) = Σ_i log p(x_i | x_1 … x_{i−1}, y)

A network gives the parameters of all factors at once, a likelihood says what they are of. Images are drawn pixel by
pixel, with everything kept that the network computed before.
"""

from collections.abc import Callable

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.conditions import check_given
from lightning_gen.density_model import DensityModel
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above
from lightning_gen.losses.pixel_likelihoods import PixelLikelihood
from lightning_gen.model import evaluating
from lightning_gen.networks.pixel import PixelNetwork, draw_images
from lightning_gen.noise import Noise

_IMAGE_DIMS = 3


class PixelCNN(DensityModel):
    """A network of causal convolutions and a likelihood of pixels: PixelCNN, gated, PixelCNN++, PixelSNAIL.

    log p(x) is that of a probability, of levels that the likelihood knows.

    Args:
        network: makes the network from (C, H, W), the number of parameters of a turn of a pixel, and the number of
            turns; conditional when its `num_classes` is set.
        sample_shape: [C, H, W] of a sample.
        likelihood: p(x_i | x_1 … x_{i−1}).
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        temperature: when sampling, > 0; below 1 for likelier and less diverse images. log p is that of 1.
        compile: submodules to hand to `torch.compile`, such as `[network]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if samples are no images, or a number is out of its range; before training, if data have other levels
            than the likelihood.
    """

    gives_probabilities = True

    def __init__(
        self,
        network: Callable[[tuple[int, int, int], int, int], PixelNetwork],
        sample_shape: list[int],
        likelihood: PixelLikelihood,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        temperature: float = 1.0,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        check_above(self, 0, temperature=temperature)
        if len(sample_shape) != _IMAGE_DIMS or min(sample_shape) < 1:
            raise UserError(
                f"model.init_args.sample_shape is {list(sample_shape)}: PixelCNN models images, such as [1, 8, 8]"
            )
        channels, height, width = sample_shape
        sizes = likelihood.num_parameters(channels), likelihood.num_turns(channels)
        made = network((channels, height, width), *sizes)
        super().__init__(
            sample_shape,
            optimizer=optimizer,
            scheduler=scheduler,
            num_classes=made.num_classes,
            compile=compile,
            attributes=attributes,
        )
        self.network = made
        self.likelihood = likelihood
        self.temperature = temperature

    def log_p(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Σ_i log p(x_i | x_1 … x_{i−1}, y), (B,) nats."""
        return self.likelihood(self.network(self.likelihood.quantise(x), y), x)

    def draw_values(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Images (n, C, H, W), pixel by pixel."""
        return draw_images(self.network, self.likelihood, noise, y, self.temperature)

    @torch.no_grad()
    def complete(self, x: Tensor, given_rows: int, y: Tensor | None = None, *, seeds: Tensor | None = None) -> Tensor:
        """Images that begin as given ones do, in evaluation mode and without gradients.

        Args:
            x: (n, C, H, W) samples in model form, of which the first rows are taken.
            given_rows: how many, from 0 to H.
            y: (n,) classes or (n, K) attributes of a conditional model.
            seeds: (n,) int64, one a sample; drawn from torch's global generator when None.

        Returns:
            (n, C, H, W).

        Raises:
            UserError: if there are not so many rows, or a conditional model is given no classes.
        """
        height = self.sample_shape[1]
        if not 0 <= given_rows <= height:
            raise UserError(f"complete was given {given_rows} rows: images have {height}")
        if self.num_classes is not None:
            check_given(y, "complete")
        seeds = torch.randint(2**63 - 1, (len(x),)) if seeds is None else seeds
        begun = self.likelihood.quantise(x[:, :, :given_rows])
        with evaluating(self):
            noise = Noise(seeds, self.device)
            return draw_images(self.network, self.likelihood, noise, y, self.temperature, begun)

    def check_values(self, x: Tensor) -> None:
        """Values must be the likelihood's levels."""
        self.likelihood.check(x)
