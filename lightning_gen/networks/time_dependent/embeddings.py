"""Vectors that tell a network the time: sinusoids of many frequencies, and a perceptron on top of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above
from lightning_gen.networks.time_dependent.base import ConditionEmbed
from lightning_gen.precision import exact, full


class TimeFeatures(nn.Module, ABC):
    """Fixed features of a time; a network makes one from a number of features.

    Args:
        dim: number of features, d; even, since they come as pairs of a cosine and a sine.

    Raises:
        UserError: if it is odd or less than 2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise UserError(f"{type(self).__name__}.dim is {dim}: it must be even and at least 2")
        self.dim = dim

    @abstractmethod
    def angles(self, t: Tensor) -> Tensor:
        """Map (B,) times to (B, d / 2) radians."""

    def forward(self, t: Tensor) -> Tensor:
        """Map (B,) times to (B, d) numbers in [-1, 1], cosines first; in float32 at least."""
        angles = self.angles(full(t))
        return torch.cat((angles.cos(), angles.sin()), dim=1)


class Sinusoidal(TimeFeatures):
    """cos(ω_k s t) and sin(ω_k s t), with ω_k falling geometrically from 1 to 1 / `longest`.

    Vaswani et al., "Attention is all you need", NIPS 2017, §3.5, with s = 1; Ho et al., "Denoising diffusion
    probabilistic models", NeurIPS 2020, have it of the step, 0 to 999: of times in [0, 1] that is s = 1000. For
    logarithms of noise levels s = 1 (Karras et al., NeurIPS 2022, appendix B), since what depends on them is smooth.

    Args:
        dim: number of features, d, even.
        scale: s, radians a unit of time of the fastest pair, > 0.
        longest: ratio of the fastest to the slowest frequency, > 1.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, dim: int, scale: float = 1000.0, longest: float = 10_000.0) -> None:
        super().__init__(dim)
        check_above(self, 0, scale=scale)
        check_above(self, 1, longest=longest)
        self.scale, self.longest = scale, longest

    def angles(self, t: Tensor) -> Tensor:
        """Map (B,) times to (B, d / 2) radians."""
        half = self.dim // 2
        # Not a buffer: a checkpoint needs none, and `.to(bfloat16)` must not round it.
        places = torch.arange(half, dtype=t.dtype, device=t.device) / max(half - 1, 1)
        return (self.scale * t)[:, None] * torch.exp(-math.log(self.longest) * places)


class GaussianFourier(TimeFeatures):
    """cos(2π f_k t) and sin(2π f_k t), with f_k drawn once from N(0, `scale`²).

    Tancik et al., "Fourier features let networks learn high frequency functions", NeurIPS 2020, eq. 5; of log σ in
    Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021, appendix C.

    Args:
        dim: number of features, d, even.
        scale: standard deviation of the frequencies, periods a unit of time, > 0; 16 as published.

    Raises:
        UserError: if an argument is out of its range.
    """

    frequencies: Tensor

    def __init__(self, dim: int, scale: float = 16.0) -> None:
        super().__init__(dim)
        check_above(self, 0, scale=scale)
        self.register_buffer("frequencies", torch.randn(dim // 2) * scale)

    def angles(self, t: Tensor) -> Tensor:
        """Map (B,) times to (B, d / 2) radians."""
        return 2 * math.pi * t[:, None] * self.frequencies.to(t.dtype)


class TimeEmbedding(nn.Module):
    """The vector of a time and a condition that all layers of a network see: SiLU(W₂ SiLU(W₁ φ(t)) + e(y)).

    Its last SiLU is that with which layers begin that read it (Ho et al., NeurIPS 2020, appendix B), done once for all.
    In float32 at least, autocast or not: it costs little, and nothing else tells the network the time.

    Args:
        time_features: makes φ from the number of its features.
        num_features: how many there are.
        dim: length d of the vector, and of the hidden layer.
        num_classes: classes, or attributes, that e embeds; None for none.
    """

    def __init__(
        self, time_features: Callable[[int], TimeFeatures], num_features: int, dim: int, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.features = time_features(num_features)
        self.first, self.second = nn.Linear(num_features, dim), nn.Linear(dim, dim)
        self.condition = None if num_classes is None else ConditionEmbed(num_classes, dim)

    def forward(self, t: Tensor, y: Tensor | None = None, dropped: Tensor | None = None) -> Tensor:
        """(B, d) vectors of (B,) times and of (B,) classes, or (B, K) attributes, of which (B,) are `dropped`."""
        with exact(t):
            h = self.second(silu(self.first(self.features(t).to(self.first.weight.dtype))))
            if self.condition is not None:
                assert y is not None
                h = h + self.condition(y, dropped)
            return silu(h)


class JointEmbedding(nn.Module):
    """The same where the condition joins the features of time: SiLU(W₂ SiLU(W₁ (φ(t) + e(y)))).

    Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, appendix F.3. At
    first the condition that is none is 0, and each class has e(y) ~ U(±√(6 K / (K + d))), as one-hot vectors times √K
    have behind a linear map.

    Args:
        time_features: makes φ from the number of its features.
        num_features: how many there are, and the length of e(y).
        dim: length d of the vector, and of the hidden layer.
        num_classes: classes, or attributes, K, that e embeds; None for none.
    """

    def __init__(
        self, time_features: Callable[[int], TimeFeatures], num_features: int, dim: int, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.features = time_features(num_features)
        self.first, self.second = nn.Linear(num_features, dim), nn.Linear(dim, dim)
        self.condition = None if num_classes is None else ConditionEmbed(num_classes, num_features)
        if self.condition is not None and num_classes is not None:
            bound = math.sqrt(6 * num_classes / (num_classes + num_features))
            nn.init.uniform_(self.condition.embed.weight, -bound, bound)
            nn.init.zeros_(self.condition.nothing)

    def forward(self, t: Tensor, y: Tensor | None = None, dropped: Tensor | None = None) -> Tensor:
        """As `TimeEmbedding.forward`."""
        with exact(t):
            features = self.features(t).to(self.first.weight.dtype)
            if self.condition is not None:
                assert y is not None
                features = features + self.condition(y, dropped)
            return silu(self.second(silu(self.first(features))))
