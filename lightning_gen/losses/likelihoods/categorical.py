"""Likelihoods of classes: a probability for each."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lightning_gen.choice import choose
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.likelihoods.base import Likelihood, of_samples, seen
from lightning_gen.losses.likelihoods.levels import Levels
from lightning_gen.noise import Noise
from lightning_gen.precision import full


class Categorical(Likelihood):
    """p(x | z) = Π_j softmax(outputs_j)[k_j], k the level of an entry; levels do not know their order.

    As in "Pixel Recurrent Neural Networks" (van den Oord et al., ICML 2016), without its dependence between pixels.

    Args:
        levels: L values from −1 to 1, equally spaced: 256 for images stored as bytes. P is L.

    Raises:
        UserError: if there are fewer than two levels.
    """

    discrete = True

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        self.levels = Levels(levels, type(self).__name__)
        self.num_parameters = levels

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats from (N, L, …) logits and (N, …) samples, which may be levels 0 … L − 1 as integers, too."""
        k = self.levels.index(full(x)).long() if x.is_floating_point() else x.long()
        return _log_probability(parameters, k)

    def mean(self, parameters: Tensor) -> Tensor:
        """The expected value."""
        p = full(parameters).softmax(1)
        k = torch.arange(self.levels.count, device=p.device, dtype=p.dtype)
        return (p * self.levels.value(k).view(-1, *[1] * (p.dim() - 2))).sum(1)

    def draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        """Values of levels."""
        logits = full(parameters)
        k = choose(logits, noise.uniform(*logits.shape[2:]))
        return self.levels.value(k.to(logits))

    def check(self, x: Tensor) -> None:
        """Values must be levels, exactly or rounded to a byte; or integers from 0 to L − 1."""
        if x.is_floating_point():
            self.levels.check(x)
        else:
            _check_classes(self, "levels", self.num_parameters, x)


class Tokens(Likelihood):
    """p(x | z) = Π_t softmax(outputs_t)[x_t] of sequences of integers x (N, T), such as text.

    Tokens have no mean; where one is asked for, it is the most probable token of each place.

    Args:
        num_tokens: K: a token is one of 0 … K − 1. P is K.

    Raises:
        UserError: if there are fewer than two.
    """

    discrete = True

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        check_at_least(self, 2, num_tokens=num_tokens)
        self.num_parameters = num_tokens

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats from (N, K, T) logits and (N, T) tokens of any number type."""
        return _log_probability(parameters, x.long())

    def mean(self, parameters: Tensor) -> Tensor:
        """(N, T) int64, the most probable."""
        return parameters.argmax(1)

    def draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        """(N, T) int64."""
        logits = full(parameters)
        return choose(logits, noise.uniform(*logits.shape[2:]))

    def check(self, x: Tensor) -> None:
        """Values must be whole numbers from 0 to K − 1."""
        _check_classes(self, "num_tokens", self.num_parameters, x)


def _log_probability(logits: Tensor, k: Tensor) -> Tensor:
    return of_samples(-cross_entropy(full(logits), k, reduction="none"))


def _check_classes(likelihood: Likelihood, key: str, count: int, x: Tensor) -> None:
    if not bool(((x >= 0) & (x < count) & (x == x.round())).all()):
        raise UserError(
            f"the likelihood {type(likelihood).__name__} needs whole numbers from 0 to {count - 1}, as its {key} is"
            f" {count}, but data has {seen(x)}: make the two agree"
        )
