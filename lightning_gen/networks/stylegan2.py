"""StyleGAN2's two networks (Karras et al., CVPR 2020), with the conditioning of StyleGAN2-ADA (Karras et al., "Training
Generative Adversarial Networks with Limited Data", NeurIPS 2020).

A mapping network turns the latent into a style w; the synthesis network starts from a learnt constant and is told w at
every layer; images of all sizes are summed up (§4.1). The discriminator is residual. Progressive growing, and the
wavelet filters of later versions, are not here. Any image whose sides are 4 to 7 pixels times the same power of two.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.networks.base import Discriminator, Generator, Judgement
from lightning_gen.networks.heads import Head
from lightning_gen.networks.minibatch import MinibatchStd
from lightning_gen.networks.sizes import size_plan
from lightning_gen.networks.stylegan2_layers import (
    EqualConv2d,
    EqualLinear,
    Mapping,
    StyleBlock,
    StyledConv,
    ToColour,
    activate,
)


class StyleGAN2Generator(Generator):
    """Latents to styles to images.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        latent_dim: length of the latent vector; its norm does not matter.
        num_classes: classes, or attributes, enter the mapping network beside the latent.
        style_dim: length of w.
        mapping_layers: layers of the mapping network, ≥ 1: 8 in the paper, 2 for small images.
        channel_base: a layer of r × r pixels has `channel_base / r` channels; r counts from 4, whatever the base.
        channel_max: the most channels that a layer has.
        mixing: share of samples in training whose later layers take the style of another latent, in [0, 1].
        truncation: ψ in evaluation mode: w is pulled to the mean style w̄ as w̄ + ψ(w - w̄); 1 leaves it.
        mean_decay: decay of the running mean w̄ at each training batch, in [0, 1).

    Attributes:
        truncation: as above; may be set at any time.
        num_styles: styles that the synthesis network takes, one a layer.

    Raises:
        UserError: if a number is out of its range, or the image size is not as above.
    """

    mean_style: Tensor

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        latent_dim: int = 512,
        num_classes: int | None = None,
        style_dim: int = 512,
        mapping_layers: int = 2,
        channel_base: int = 32768,
        channel_max: int = 512,
        mixing: float = 0.0,
        truncation: float = 1.0,
        mean_decay: float = 0.995,
    ) -> None:
        super().__init__(latent_dim, num_classes)
        if not 0 <= mixing <= 1:
            raise UserError(f"StyleGAN2Generator.mixing is {mixing}: it is a probability, from 0 to 1")
        if not 0 <= mean_decay < 1:
            raise UserError(f"StyleGAN2Generator.mean_decay is {mean_decay}: it must be at least 0 and below 1")
        if mapping_layers < 1:
            raise UserError(f"StyleGAN2Generator.mapping_layers is {mapping_layers}: it must be at least 1")
        base, widths = _widths("StyleGAN2Generator", image_size, channel_base, channel_max)
        sizes = [(base[0] << k, base[1] << k) for k in range(len(widths))]
        self.mixing, self.truncation, self.mean_decay = mixing, truncation, mean_decay
        self.num_styles = 2 * len(widths)
        self.mapper = Mapping(latent_dim, num_classes, style_dim, mapping_layers)
        self.register_buffer("mean_style", torch.zeros(style_dim))
        self.constant = nn.Parameter(torch.randn(widths[0], *base))
        self.first = StyledConv(widths[0], widths[0], style_dim, base)
        self.colour = ToColour(widths[0], channels, style_dim)
        self.blocks = nn.ModuleList(
            StyleBlock(before, after, style_dim, channels, size)
            for (before, after), size in zip(pairwise(widths), sizes[1:], strict=True)
        )

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes, or (B, K) attributes, to (B, C, H, W) images, not bounded."""
        w = self.mapping(z, y)
        if self.training:
            with torch.no_grad():
                self.mean_style.lerp_(w.detach().mean(dim=0).to(self.mean_style.dtype), 1 - self.mean_decay)
            if self.mixing > 0:
                w = self._mixed(w, y)
        return self.synthesis(w)

    def mapping(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents to (B, style_dim) styles w, truncated in evaluation mode."""
        w = self.mapper(z, y)
        if self.training or self.truncation == 1:
            return w
        return self.mean_style + self.truncation * (w - self.mean_style)

    def synthesis(self, w: Tensor) -> Tensor:
        """Map (B, style_dim) styles, or (B, num_styles, style_dim) with one for each layer, to (B, C, H, W) images."""
        styles = (w[:, None].expand(-1, self.num_styles, -1) if w.ndim == 2 else w).unbind(dim=1)
        x = self.first(self.constant.expand(len(w), -1, -1, -1), styles[0])
        image = self.colour(x, styles[1])
        for k, block in enumerate(self.blocks):  # the layer to colours shares the next block's first style
            x, image = block(x, image, styles[2 * k + 1 : 2 * k + 4])
        return image

    def _mixed(self, w: Tensor, y: Tensor | None) -> Tensor:
        """Style mixing (Karras, Laine, Aila, CVPR 2019, §3.1): (B, L, style_dim), cut at a layer for each sample."""
        count, device = len(w), w.device
        other = self.mapping(torch.randn(count, self.latent_dim, dtype=w.dtype, device=device), y)
        cut = torch.randint(1, self.num_styles, (count, 1, 1), device=device)
        kept = torch.rand(count, 1, 1, device=device) >= self.mixing
        layers = torch.arange(self.num_styles, device=device)[:, None]
        return torch.where(kept | (layers < cut), w[:, None], other[:, None])


class HalvingBlock(nn.Module):
    """Two 3×3 convolutions, the second of which halves, beside a 1×1 convolution that halves (figure 7c).

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        residual: whether the latter is there.
    """

    def __init__(self, inputs: int, outputs: int, residual: bool) -> None:
        super().__init__()
        self.first = EqualConv2d(inputs, inputs, 3)
        self.second = EqualConv2d(inputs, outputs, 3, halve=True)
        self.skip = EqualConv2d(inputs, outputs, 1, halve=True, bias=False) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/2, W/2)."""
        found = activate(self.second(activate(self.first(x))))
        return found if self.skip is None else (self.skip(x) + found) * 0.5**0.5


class MappedScore(Head):
    """StyleGAN2-ADA's score: linear; with classes, ⟨W h, f(y)⟩ / √F with a mapping network f of the classes.

    Args:
        num_features: length F of the features.
        num_classes: number of classes, or of attributes, K; None for an unconditional discriminator.
        mapping_layers: layers of f, ≥ 1.
    """

    def __init__(self, num_features: int, num_classes: int | None = None, mapping_layers: int = 8) -> None:
        super().__init__(num_features, num_classes)
        self.score = EqualLinear(num_features, num_features if num_classes else 1)
        self.mapper = Mapping(0, num_classes, num_features, mapping_layers) if num_classes else None

    def forward(self, h: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, F) features: scores and the features."""
        found = self.score(h)
        if self.mapper is not None:
            found = found * self.mapper(None, y) * h.shape[1] ** -0.5
        return Judgement(found.sum(dim=1), h)


class StyleGAN2Discriminator(Discriminator):
    """Residual blocks down to the base, minibatch standard deviation, and a head.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        num_classes: number of classes, or of attributes, that the head is told.
        channel_base: a layer of r × r pixels has `channel_base / r` channels; r counts from 4, whatever the base.
        channel_max: the most channels that a layer has.
        group_size: samples whose standard deviation is appended before the last convolution; null for none.
        residual: off as StyleGAN2-ADA has it on CIFAR-10.
        head: makes the last layer from the numbers of features and of classes.

    Raises:
        UserError: if a number is out of its range, or the image size is not as above.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        num_classes: int | None = None,
        channel_base: int = 32768,
        channel_max: int = 512,
        group_size: int | None = 4,
        residual: bool = True,
        head: Callable[[int, int | None], Head] = MappedScore,
    ) -> None:
        super().__init__(num_classes)
        base, widths = _widths("StyleGAN2Discriminator", image_size, channel_base, channel_max)
        self.image = EqualConv2d(channels, widths[-1], 1)
        self.blocks = nn.Sequential(
            *(HalvingBlock(before, after, residual) for before, after in pairwise(reversed(widths)))
        )
        self.deviation = nn.Identity() if group_size is None else MinibatchStd(group_size)
        self.conv = EqualConv2d(widths[0] + (group_size is not None), widths[0], 3)
        self.linear = EqualLinear(widths[0] * base[0] * base[1], widths[0])
        self.head = head(widths[0], num_classes)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, C, H, W) images in [-1, 1] of (B,) classes or (B, K) attributes."""
        x = self.blocks(activate(self.image(x)))
        x = activate(self.conv(self.deviation(x)))
        return self.head(activate(self.linear(x.flatten(1))), y)

    def stages(self) -> list[nn.Module]:
        """From the image: the layer from colours, the blocks, the last convolution and linear layer, the head."""
        return [self.image, *self.blocks, self.conv, self.linear, self.head]


def _widths(
    network: str, image_size: int | tuple[int, int], channel_base: int, channel_max: int
) -> tuple[tuple[int, int], list[int]]:
    """The (height, width) of the base, and the channels of each size from there on."""
    base, doublings = size_plan(image_size)
    for key, value in (("channel_base", channel_base), ("channel_max", channel_max)):
        least = 4 << doublings if key == "channel_base" else 1
        if value < least:
            raise UserError(f"{network}.{key} is {value}: for images of {image_size} it must be at least {least}")
    return base, [min(channel_base // (4 << k), channel_max) for k in range(doublings + 1)]
