"""What StyleGAN2 is made of (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020).

Weights are drawn from N(0, 1) and scaled where they are used ("equalised learning rate": Karras et al., ICLR 2018,
§4.1). A convolution with a kernel for each sample is run as one convolution for all: its input is scaled by the style
before, its output by the demodulation after. Styles scale whole maps, so that rounding them would be seen: they are
computed without autocast.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.fir import Blur, Downsample, Upsample
from lightning_gen.precision import exact

SLOPE = 0.2
_EPSILON = 1e-8


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU times √2, which keeps the second moment."""
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


def normalise(x: Tensor) -> Tensor:
    """Scale (B, d) vectors to a mean square of 1."""
    return x * (x.square().mean(dim=1, keepdim=True) + _EPSILON).rsqrt()


class EqualLinear(nn.Linear):
    """A linear map whose weights are scaled by rate / √inputs where they are used, and its bias by the rate.

    Args:
        inputs: length of the input.
        outputs: length of the output.
        bias: initial value of the bias.
        rate: learning rate relative to the other layers'.
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__(inputs, outputs)
        self.rate = rate
        nn.init.normal_(self.weight, 0.0, 1 / rate)
        nn.init.constant_(self.bias, bias / rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs) to (B, outputs)."""
        return F.linear(x, self.weight * (self.rate * self.in_features**-0.5), self.bias * self.rate)


class EqualConv2d(nn.Module):
    """A convolution whose weights are scaled by 1 / √(inputs × kernel²) where they are used; sizes stay or halve.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: side of the kernel, odd.
        halve: low-pass filter and take every other pixel.
        bias: whether it has one.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, halve: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = (inputs * kernel**2) ** -0.5
        self.before = _before(kernel) if halve else nn.Identity()
        self.stride = 2 if halve and kernel > 1 else 1
        self.padding = 0 if halve else kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W), or half the sides."""
        return F.conv2d(self.before(x), self.weight * self.gain, self.bias, self.stride, self.padding)


def _before(kernel: int) -> nn.Module:
    # a 1×1 convolution commutes with taking every other pixel: halving first saves three quarters of it
    return Downsample() if kernel == 1 else Blur(padding=1 + kernel // 2)


class Mapping(nn.Module):
    """The mapping network f: Z → W (Karras, Laine, Aila, CVPR 2019, §2), or from classes alone.

    Latent and class embedding are normalised each and concatenated (Karras et al., NeurIPS 2020).

    Args:
        latent_dim: length of the latent, 0 for none.
        num_classes: number of classes, or of attributes; None for none.
        style_dim: length of the output, of hidden layers and of the class embedding.
        num_layers: linear layers, each followed by a leaky ReLU, ≥ 1.
        rate: their learning rate relative to the other networks'.
    """

    def __init__(
        self, latent_dim: int, num_classes: int | None, style_dim: int, num_layers: int, rate: float = 0.01
    ) -> None:
        super().__init__()
        self.embed = Embed(num_classes, style_dim) if num_classes else None
        inputs = latent_dim + (style_dim if num_classes else 0)
        sizes = [inputs] + [style_dim] * num_layers
        self.layers = nn.ModuleList(EqualLinear(sizes[k], sizes[k + 1], rate=rate) for k in range(num_layers))

    def forward(self, z: Tensor | None, y: Tensor | None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes, or (B, K) attributes, to (B, style_dim)."""
        with exact(next(self.parameters())):
            parts = [] if z is None else [normalise(z)]
            if self.embed is not None:
                assert y is not None
                parts.append(normalise(self.embed(y)))
            w = torch.cat(parts, dim=1)
            for layer in self.layers:
                w = activate(layer(w))
        return w


class ModulatedConv2d(nn.Module):
    """A convolution whose kernel is scaled by a style for each input channel, and normalised again (§2.2, eqs. 1–3).

    w'_ijk = s_i w_ijk,    w''_ijk = w'_ijk / √(Σ_ik w'_ijk² + ε)

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        style_dim: length of w.
        kernel: side of the kernel, odd.
        double: double the image's sides: a transposed convolution, then the low-pass filter.
        demodulate: off for the layer to colours, whose output must keep its scale.
    """

    def __init__(
        self, inputs: int, outputs: int, style_dim: int, kernel: int = 3, double: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.style = EqualLinear(style_dim, inputs, bias=1.0)
        self.gain = 1.0 if demodulate else (inputs * kernel**2) ** -0.5  # demodulation undoes any gain
        self.demodulate = demodulate
        self.after = Blur(padding=1, gain=4.0) if double else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map (B, inputs, H, W) and (B, style_dim) to (B, outputs, H, W), or twice the sides."""
        with exact(w):
            style = self.style(w) * self.gain
        found = self.convolve(x * style.to(x.dtype)[:, :, None, None])
        if not self.demodulate:
            return found
        with exact(w):
            power = style.square() @ self.weight.square().sum(dim=(2, 3)).T
            scale = (power + _EPSILON).rsqrt()
        return found * scale.to(found.dtype)[:, :, None, None]

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution itself, the same for all samples."""
        if self.after is None:
            return F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        return self.after(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2))


class StyledConv(nn.Module):
    """A modulated 3×3 convolution, noise, bias, leaky ReLU (§2.1, figure 2c).

    In training the noise is drawn for every sample; in evaluation it is one map for all, so that a sample depends on
    its own latent alone, whatever else is in the batch.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        style_dim: length of w.
        size: (height, width) of the output.
        double: double the image's sides.
    """

    noise: Tensor

    def __init__(self, inputs: int, outputs: int, style_dim: int, size: tuple[int, int], double: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, style_dim, double=double)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.randn(size))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map (B, inputs, …) and (B, style_dim) to (B, outputs, *size)."""
        x = self.conv(x, w)
        noise = torch.randn_like(x[:, :1]) if self.training else self.noise.to(x.dtype)
        return activate(x + noise * self.strength.to(x.dtype) + self.bias.to(x.dtype)[:, None, None])


class StyleBlock(nn.Module):
    """One size of the synthesis network: two styled convolutions, the first of which doubles, and a layer to colours.

    Args:
        inputs: channels of the block before.
        outputs: channels of this one.
        style_dim: length of w.
        channels: of the image.
        size: (height, width) of the output.
    """

    def __init__(self, inputs: int, outputs: int, style_dim: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.first = StyledConv(inputs, outputs, style_dim, size, double=True)
        self.second = StyledConv(outputs, outputs, style_dim, size)
        self.colour = ToColour(outputs, channels, style_dim)
        self.upsample = Upsample()

    def forward(self, x: Tensor, image: Tensor, w: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Map features and image of one size, and a (B, style_dim) style for each layer, to those of twice the size."""
        x = self.second(self.first(x, w[0]), w[1])
        with exact(image):
            image = self.upsample(image)
        return x, image + self.colour(x, w[2])


class ToColour(nn.Module):
    """A modulated 1×1 convolution to the image's channels, in the precision of the style: images are summed up.

    Args:
        inputs: channels of the input.
        channels: of the image.
        style_dim: length of w.
    """

    def __init__(self, inputs: int, channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, channels, style_dim, kernel=1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map (B, inputs, H, W) and (B, style_dim) to (B, channels, H, W)."""
        return self.conv(x, w).to(w.dtype) + self.bias[:, None, None]
