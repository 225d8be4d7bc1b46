"""What families with latents expect of their two networks."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Maps samples to features, from which a posterior or a code is made.

    Args:
        num_features: length F of the features.
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
    """

    def __init__(self, num_features: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, …) samples and (B,) classes, or (B, K) attributes, to (B, F) features."""


class Decoder(nn.Module, ABC):
    """Maps latents to the parameters of a likelihood.

    A family makes it from a factory, `Callable[[int, int], Decoder]`, called with the first two arguments; in YAML a
    class path with the others.

    Args:
        latent_dim: length d of a latent.
        num_parameters: numbers P that the likelihood needs for each entry of a sample.
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
    """

    def __init__(self, latent_dim: int, num_parameters: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.num_parameters = num_parameters
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, d) latents and (B,) classes, or (B, K) attributes, to (B, P, …) parameters."""


class MapEncoder(nn.Module, ABC):
    """Maps images to feature maps, whose positions a quantiser makes codes of.

    Args:
        num_features: channels F of the maps.
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
    """

    def __init__(self, num_features: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) images to (B, F, h, w) maps."""


class MapDecoder(nn.Module, ABC):
    """Maps maps of codes to the parameters of a likelihood of images.

    A family makes it from a factory, `Callable[[int, int], MapDecoder]`, called with the first two arguments.

    Args:
        latent_dim: channels d of the maps.
        num_parameters: numbers P that the likelihood needs for each entry of an image.
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
    """

    def __init__(self, latent_dim: int, num_parameters: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.num_parameters = num_parameters
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, d, h, w) maps to (B, P, C, H, W) parameters."""

    @property
    def last_layer(self) -> Tensor:
        """The weight of the last layer, by whose gradients VQGAN weighs its losses against each other."""
        raise NotImplementedError(f"{type(self).__name__} does not say which layer is its last: give it a last_layer")
