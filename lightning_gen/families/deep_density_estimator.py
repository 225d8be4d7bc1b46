"""Deep autoregressive density estimators (MADE: Germain et al., ICML 2015; RNADE: Uria et al., NIPS 2013).

The chain rule, with the entries of a sample in some order, and one masked network that gives all factors at once:

    log p(x | y) = Σ_i log p(x_i | x_1 … x_{i−1}, y)

Which distribution an entry has, of levels or of continuous values, is a choice of its own: the likelihood.
"""

import math
from collections.abc import Callable

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.density_model import DensityModel
from lightning_gen.dequantisation import Dequantisation
from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import evaluating
from lightning_gen.networks.masked import MaskedMLP, MaskedNetwork
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.precision import full


class DeepDensityEstimator(DensityModel):
    """A masked network of vectors, or of images as vectors, that gives the likelihood's numbers for each entry.

    With K orders of the entries each step of training takes one at random. In evaluation the model is the average of
    all, p(x) = (1/K) Σ_k p(x | order k), and each sample is drawn in an order of its own.

    Args:
        sample_shape: of one sample, such as [1, 8, 8]; its entries are in the order of memory.
        likelihood: of an entry given those before it.
        optimizer: makes the optimiser from the parameters.
        network: makes the network from the numbers of entries and of the likelihood's parameters; conditional when its
            `num_classes` is set.
        dequantisation: makes continuous values of discrete data, for likelihoods that are densities; None for none.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[network]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if a likelihood of discrete data is to have dequantised ones; before training, if likelihood and data
            do not go together.
    """

    def __init__(
        self,
        sample_shape: list[int],
        likelihood: Likelihood,
        optimizer: OptimizerCallable,
        network: Callable[[int, int], MaskedNetwork] = MaskedMLP,
        dequantisation: Dequantisation | None = None,
        scheduler: LRSchedulerCallable | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        # a shape of no entries is refused below
        made = network(max(math.prod(sample_shape), 1), likelihood.num_parameters)
        options = {"num_classes": made.num_classes, "compile": compile, "attributes": attributes}
        super().__init__(sample_shape, dequantisation, optimizer=optimizer, scheduler=scheduler, **options)
        if dequantisation is not None and likelihood.discrete:
            raise UserError(
                f"model.init_args.dequantisation is {type(dequantisation).__name__}, but the likelihood"
                f" {type(likelihood).__name__} is of discrete data: leave dequantisation out, or use a likelihood such"
                " as GaussianMixture"
            )
        self.network = made
        self.likelihood = likelihood

    @property
    def discrete(self) -> bool:
        """As the likelihood says, or where data are dequantised."""
        return self.likelihood.discrete or self.dequantisation is not None

    # ---------------------------------------------------------------- the density

    def log_p(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Log p(x | y), (B,) nats: in one order, drawn at random, while training; else of the average over orders."""
        num, first = self.network.num_orders, torch.zeros(1, dtype=torch.int64, device=x.device)
        if self.training and num > 1:
            return self.log_p_in(first.random_(num), x, y)
        nats = [self.log_p_in(first + k, x, y) for k in range(num)]
        return torch.stack(nats).logsumexp(0) - math.log(num)

    def log_p_in(self, order: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """Σ_i log p(x_i | x_{<i}, y) in an order, (1,) int64: (B,) nats."""
        entries = x.flatten(1)
        return self.likelihood(self.network(self._inputs(entries), y, order), entries)

    def draw_values(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Entry by entry, each drawn from the sample's own stream; so is the order."""
        order = noise.integers(self.network.num_orders)
        entries = self.network.ancestral(lambda numbers: self.likelihood.draw(numbers, noise), order, y)
        return entries.unflatten(1, self.sample_shape)

    def _inputs(self, entries: Tensor) -> Tensor:
        """In the type of the weights, and no narrower than float32."""
        return full(entries.to(next(self.network.parameters()).dtype))

    # ---------------------------------------------------------------- set-up

    def check_values(self, x: Tensor) -> None:
        """The likelihood must be of such data, and the log-density of the first of them finite."""
        super().check_values(x)
        values = x
        if self.dequantisation is not None:
            values, _ = self.dequantisation.draw(x, Noise(sample_seeds(0, torch.arange(len(x))), x.device))
        self.likelihood.check(values)
        few = values[:2]
        with evaluating(self):
            nats = self.log_p(few, self.condition.blank(len(few), x.device))
        if not bool(nats.isfinite().all()):
            raise UserError(
                f"log p(x) of two samples is {nats.tolist()} before training, with the likelihood"
                f" {type(self.likelihood).__name__}: change its arguments, or scale the data"
            )
