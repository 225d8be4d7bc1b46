"""A fully connected network of a sample and a time: of points and vectors, and of whatever needs no structure."""

from collections.abc import Callable
from math import prod

from torch import Tensor, nn
from torch.nn.functional import silu

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.networks.mlp import shape_of
from lightning_gen.networks.time_dependent.base import TimeNetwork
from lightning_gen.networks.time_dependent.embeddings import Sinusoidal, TimeEmbedding, TimeFeatures

_NUM_FEATURES = 64  # of time


class TimeMLP(TimeNetwork):
    """h ← h + W SiLU(h + e) in each of some layers, between two linear maps; e is the vector of time and class.

    Args:
        sample_dim: length D of a sample, or its shape, such as [1, 8, 8] of grey images, which are flattened.
        width: units of each layer, and length of e.
        depth: number of residual layers, ≥ 1.
        num_classes: number of classes, or of attributes; None for an unconditional network.
        time_features: makes the features of time from their number, 64; unless set `Sinusoidal` of scale 10 with
            frequencies down to 1 / 100 of the fastest, which suit times in [0, 1] and logarithms of noise levels.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(
        self,
        sample_dim: int | list[int] = 2,
        width: int = 256,
        depth: int = 4,
        num_classes: int | None = None,
        time_features: Callable[[int], TimeFeatures] | None = None,
    ) -> None:
        super().__init__(shape_of(sample_dim), num_classes)
        check_at_least(self, 1, width=width, depth=depth)
        size = prod(self.sample_shape)
        self.embedding = TimeEmbedding(time_features or _slow, _NUM_FEATURES, width, num_classes)
        self.entry = nn.Linear(size, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.exit = nn.Linear(width, size)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, dropped: Tensor | None = None) -> Tensor:
        """As `TimeNetwork.forward`."""
        embedding = self.embedding(t, y, dropped)
        h = self.entry(x.flatten(1))
        for layer in self.layers:
            h = h + layer(silu(h + embedding))
        return self.exit(silu(h)).unflatten(1, self.sample_shape)


def _slow(dim: int) -> TimeFeatures:
    return Sinusoidal(dim, scale=10.0, longest=100.0)
