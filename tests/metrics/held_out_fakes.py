"""Models and data whose held-out numbers are known. (Spawned processes import it by path, so no fixtures here.)"""

from functools import partial

import torch

from lightning_gen.autoencoding import AutoencodingModel
from lightning_gen.data import DataModule, Images, Points, TensorRows
from lightning_gen.families import VAE
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.networks.autoencoders import Decoder, Encoder

ADAM = partial(torch.optim.Adam, lr=1e-3)
SIGMA, SCALES = 0.5, torch.tensor([1.5, 0.7], dtype=torch.float64)
OFFSET = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
# columns of length 1 at right angles: the posterior's covariance is then diagonal
AXES = torch.tensor([[2.0, -2.0, 1.0], [1.0, 2.0, 2.0]], dtype=torch.float64).T / 3


class Data(DataModule):
    """Tensors as splits, all of them the same unless given; with factors where these are."""

    def __init__(self, x, y=None, factors=None, splits=("train", "val", "test"), modality=None):
        super().__init__(batch_size=8)
        self.x, self.y, self.names = x, y, splits
        self.modality = modality or Points()
        if factors is not None:
            self.factors = lambda split: factors
            self.factor_names = tuple(f"f{k}" for k in range(factors.shape[1]))

    @property
    def sample_shape(self):
        return tuple(self.x.shape[1:])

    @property
    def splits(self):
        return self.names

    @property
    def num_classes(self):
        return None if self.y is None else int(self.y.max()) + 1

    def load_split(self, name):
        return TensorRows(self.x, self.y)


def images(n=20, size=4):
    g = torch.Generator().manual_seed(0)
    return Data(torch.randint(256, (n, 1, size, size), dtype=torch.uint8, generator=g), modality=Images())


class Same(Encoder):
    """Samples are their features."""

    def __init__(self, dim=3, num_classes=None):
        super().__init__(dim, num_classes)

    def forward(self, x, y=None):
        return x.flatten(1)


class LinearDecoder(Decoder):
    """W z + b."""

    def __init__(self, latent_dim, num_parameters):
        super().__init__(latent_dim, num_parameters)
        self.register_buffer("weight", AXES * SCALES)
        self.register_buffer("bias", OFFSET.clone())

    def forward(self, z, y=None):
        return (z @ self.weight.T.to(z) + self.bias.to(z))[:, None]


def linear_vae(widened=1.0):
    """x = W z + b + σε, with the exact posterior, or one whose variances are `widened`; in float64."""
    vae = VAE(Same(), LinearDecoder, 2, Gaussian(SIGMA), ADAM).double()
    variance = 1 / (1 + SCALES**2 / SIGMA**2)
    weight = (variance * SCALES / SIGMA**2)[:, None] * AXES.T
    linear = vae.posterior.parameters_of.linear
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[:2] = weight
        linear.bias[:2] = -weight @ OFFSET
        linear.bias[2:] = (widened * variance).log()
    return vae


def exact(x):
    """log p(x) of these models, (n,) float64."""
    w = AXES * SCALES
    covariance = w @ w.T + SIGMA**2 * torch.eye(3, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(OFFSET, covariance).log_prob(x.double())


def vectors(n=2000):
    """(n, 3) points from elsewhere than the model."""
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(3)) * 1.2


class Encoding(AutoencodingModel):
    """Latents that a function gives, and back by another."""

    def __init__(self, encode, decode=None, latent_dim=2):
        super().__init__()
        self.there, self.back = encode, decode or encode
        self.latent_dim = self.varied_dim = latent_dim

    def latents_of(self, x, y):
        return self.there(x)

    def samples_of(self, z, y):
        return self.back(z)

    def draw_latents(self, noise, y):
        return noise.normal(self.latent_dim)

    def training_step(self, batch, batch_idx): ...

    def configure_optimizers(self): ...
