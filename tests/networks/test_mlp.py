"""Fully connected networks."""

import pytest
import torch

from lightning_gen.networks import MLPDiscriminator, MLPGenerator


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("num_classes", [None, 4])
@pytest.mark.parametrize("sample_dim", [1, 2, 5])
def test_shapes_and_gradients(sample_dim, num_classes, depth):
    torch.manual_seed(0)
    generator = MLPGenerator(sample_dim=sample_dim, latent_dim=3, width=8, depth=depth, num_classes=num_classes)
    discriminator = MLPDiscriminator(sample_dim=sample_dim, width=8, depth=depth, num_classes=num_classes)
    y = None if num_classes is None else torch.arange(7) % num_classes
    x = generator(torch.randn(7, 3), y)
    assert x.shape == (7, sample_dim)
    scores = discriminator(x, y)
    assert scores.shape == (7,)
    scores.square().sum().backward()
    for parameter in [*generator.parameters(), *discriminator.parameters()]:
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("depth", [1, 4])
def test_depth_counts_hidden_layers(depth):
    layers = [m for m in MLPGenerator(depth=depth).layers if isinstance(m, torch.nn.Linear)]
    assert len(layers) == depth + 1


def test_classes_matter_to_both():
    generator, discriminator = MLPGenerator(num_classes=3), MLPDiscriminator(num_classes=3)
    z, x = torch.zeros(3, 16), torch.zeros(3, 2)
    assert generator(z, torch.arange(3)).unique(dim=0).shape[0] == 3
    assert discriminator(x, torch.arange(3)).unique().numel() == 3
