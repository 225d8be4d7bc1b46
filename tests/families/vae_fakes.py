"""A small variational autoencoder and data for it."""

from functools import partial

import torch

from lightning_gen.data import Digits, Thresholded
from lightning_gen.distributions import (
    GumbelSoftmax,
    UniformCategorical,
)
from lightning_gen.families import VAE
from lightning_gen.losses.likelihoods import Bernoulli
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder

ADAM = partial(torch.optim.Adam, lr=1e-3)


IMAGE = [1, 8, 8]


def networks(num_classes=None, encoder_classes="same", **options):
    classes = num_classes if encoder_classes == "same" else encoder_classes
    encoder = MLPEncoder(IMAGE, 8, 1, classes)
    return encoder, partial(MLPDecoder, sample_dim=IMAGE, width=8, depth=1, num_classes=num_classes)


def vae(num_classes=None, encoder_classes="same", **options):
    torch.manual_seed(0)
    defaults = {"latent_dim": 2, "likelihood": Bernoulli(), "optimizer": ADAM}
    return VAE(*networks(num_classes, encoder_classes), **defaults | options)


def binary(**options):
    return Thresholded(Digits(image_size=8), **{"batch_size": 8} | options)


DISCRETE = {
    "posterior": partial(GumbelSoftmax, num_categories=4),
    "prior": partial(UniformCategorical, num_categories=4),
}
