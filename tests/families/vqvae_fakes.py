"""Small convolutional networks for models with maps of codes."""

import torch
from torch import nn

from lightning_gen.networks.autoencoders import MapDecoder, MapEncoder


class TinyMapEncoder(MapEncoder):
    """Halves the sides; a class is a further channel."""

    def __init__(self, num_features: int = 5, channels: int = 1, num_classes: int | None = None):
        super().__init__(num_features, num_classes)
        self.layers = nn.Sequential(
            nn.Conv2d(channels + (num_classes is not None), 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, num_features, 1)
        )

    def forward(self, x, y=None):
        return self.layers(with_class(x, y, self.num_classes))


class TinyMapDecoder(MapDecoder):
    """Doubles the sides; a class is a further channel."""

    def __init__(self, latent_dim: int, num_parameters: int, channels: int = 1, num_classes: int | None = None):
        super().__init__(latent_dim, num_parameters, num_classes)
        self.shape = (num_parameters, channels)
        self.layers = nn.Sequential(
            nn.Conv2d(latent_dim + (num_classes is not None), 8, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, num_parameters * channels, 4, 2, 1),
        )

    def forward(self, z, y=None):
        return self.layers(with_class(z, y, self.num_classes)).unflatten(1, self.shape)


def with_class(x, y, num_classes):
    if num_classes is None:
        return x
    return torch.cat((x, y.to(x).view(-1, 1, 1, 1).expand_as(x[:, :1]) / num_classes), dim=1)
