"""`CodeMatchingModel`: what families share that move the distribution of codes onto a prior, by samples of both."""

from abc import ABC
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from lightning_gen.distributions import VariationalLayer
from lightning_gen.errors import UserError
from lightning_gen.latent_variables import LatentVariableModel

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class CodeMatchingModel(LatentVariableModel, ABC):
    """The codes of all samples together, q(z) = E_x q(z | x), shall be distributed as p(z), any prior one can sample.

    The prior is fixed: its parameters, where it has any, stay what they were at first.

    Args:
        *args: of `LatentVariableModel`.
        **kwargs: likewise, and of the family's other base.

    Raises:
        UserError: if the prior is made of the posterior, and so would move with the codes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if type(self.prior).bind is not VariationalLayer.bind:
            raise UserError(
                f"model.init_args.prior is {type(self.prior).__name__}, which moves with the encoder, but codes are"
                " moved onto the prior: use a fixed one, such as StandardNormal or RingMixture"
            )
        self.prior.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """The prior stays in evaluation mode."""
        super().train(mode)
        self.prior.eval()
        return self

    def codes_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B, d) draws from q(z | x), by torch's global generator, differentiable."""
        return self.posterior_of(x, y).rsample()

    def reconstruction_loss_of(self, z: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """−E log p(x | z), nats a sample, the mean over the batch."""
        return -self.likelihood(self.decoded(z, y), x).mean()

    @torch.no_grad()
    def prior_codes(self, num: int, y: Tensor | None = None) -> Tensor:
        """(num, d) draws from p(z), or p(z | y) in a family whose prior depends on y, by torch's global generator."""
        p = self.prior_of(y)
        return p.sample() if p.batch_shape else p.sample((num,))

    def check_data(self, data: "DataModule") -> None:
        """The prior must have a sampler, too."""
        try:
            with torch.random.fork_rng(devices=[]):
                self.prior_codes(2, self.condition.blank(2, self.device))
        except NotImplementedError as error:
            raise UserError(
                f"model.init_args.prior is {type(self.prior).__name__}, which cannot be sampled: use another, such as"
                " StandardNormal"
            ) from error
        super().check_data(data)
