"""What every quantiser keeps: maps of features become maps of codes, with a gradient past the rounding."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from lightning_gen.distributions.quantisers.usage import count, usage_terms
from lightning_gen.precision import full


class Quantised(NamedTuple):
    """What a quantiser makes of a map of features."""

    z: Tensor
    """(B, d, h, w) what the codes stand for; its gradient reaches the features."""
    codes: Tensor
    """(B, L, h, w) int64 in [0, K); L codes a position."""
    loss: Tensor
    """Scalar, what the quantiser adds to the loss: a mean over positions, so that it does not grow with the batch."""
    terms: dict[str, Tensor]
    """Scalars to log: `codebook_perplexity`, the exponential of the entropy of the codes in the batch, in [1, K], and
    `codebook_usage`, the share of the K codes that occur in it; in training mode over all processes, and left out where
    a quantiser would have to count for them alone and is not asked to (`Quantiser.counting`)."""


class Quantiser(nn.Module, ABC):
    """Turns each position of a map of features into one or several of K codes.

    A family makes it from a factory, `Callable[[int], Quantiser]`, called with the first argument.

    In training mode processes exchange what they counted, so all of them must come by together; in evaluation mode none
    waits for another, and nothing changes.

    Args:
        num_features: channels F of the features.

    Attributes:
        num_codes: K.
        num_levels: L, codes a position; 1 for most.
        latent_dim: channels d of what codes stand for, as the decoder takes them.
        counting: whether codes are counted for the log in training mode; a model asks for it in the steps that log, on
            all processes alike.
    """

    num_codes: int
    num_levels: int = 1
    latent_dim: int
    counting: bool = True

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    @abstractmethod
    def forward(self, h: Tensor) -> Quantised:
        """Quantise (B, F, h, w) features; in training mode codebooks may be updated."""

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """What (B, L, h, w) codes stand for: (B, d, h, w), exactly the `z` that `forward` gives with these codes.

        In training mode a quantiser may mix codes (`GumbelQuantiser`); then it is the `z` of evaluation mode.
        """

    def check(self, num_vectors: int) -> None:
        """Raise `UserError` if training cannot start with so many positions in a batch; most do not care.

        Args:
            num_vectors: samples in a batch of all processes, times the positions h·w of a map.
        """

    def usage(self, codes: Tensor) -> dict[str, Tensor]:
        """The terms to log of one level's codes, of any shape; none in training mode where `counting` is off."""
        if self.training and not self.counting:
            return {}
        return usage_terms(count(codes, self.num_codes, self.training))


def rows_of(h: Tensor) -> Tensor:
    """A map (B, d, h, w) as vectors (B, h·w, d), in float32 at least: rounded to 16 bits, codes would be confused."""
    return full(h.flatten(2).transpose(1, 2))


def map_of(rows: Tensor, like: Tensor) -> Tensor:
    """Vectors (B, h·w, d) as a map (B, d, h, w), of the height and width of `like`."""
    return rows.transpose(1, 2).unflatten(2, like.shape[-2:])


def straight_through(z: Tensor, v: Tensor) -> Tensor:
    """The value of `z`, bit for bit, with a gradient as if it were `v` (van den Oord et al., 2017, section 3.2)."""
    return z.detach() + (v - v.detach())
