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
    scores, features, *_ = discriminator(x, y)
    assert features.shape == (7, 8)
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
    assert discriminator(x, torch.arange(3)).scores.unique().numel() == 3


def test_attributes_enter_as_they_are():
    torch.manual_seed(0)
    generator, discriminator = MLPGenerator(num_classes=3), MLPDiscriminator(num_classes=3)
    z, x = torch.randn(3, 16), torch.randn(3, 2)
    torch.testing.assert_close(generator(z, torch.eye(3)), generator(z, torch.arange(3)))
    torch.testing.assert_close(discriminator(x, torch.eye(3)), discriminator(x, torch.arange(3)))
    y = torch.tensor([[1.0, 0.0, 1.0]]).expand(3, -1)
    torch.testing.assert_close(generator(z, y), generator.layers(torch.cat((z, y), dim=1)))


def test_images_have_their_shape_and_range():
    torch.manual_seed(0)
    generator = MLPGenerator([1, 6, 4], latent_dim=3, width=8, bounded=True)
    x = generator(100 * torch.randn(5, 3))
    assert x.shape == (5, 1, 6, 4)
    assert x.abs().max() <= 1
    assert MLPGenerator([1, 6, 4], latent_dim=3, width=8)(1000 * torch.randn(5, 3)).abs().max() > 1
    discriminator = MLPDiscriminator([1, 6, 4], width=8)
    torch.testing.assert_close(discriminator(x).scores, MLPDiscriminator.forward(discriminator, x.flatten(1)).scores)


def test_score_is_linear_in_the_features():
    torch.manual_seed(0)
    discriminator = MLPDiscriminator(width=8).double()
    scores, features, *_ = discriminator(torch.randn(5, 2).double())
    torch.testing.assert_close(scores, features @ discriminator.score.weight[0] + discriminator.score.bias)


def test_stages_hold_every_parameter_in_order():
    discriminator = MLPDiscriminator(width=8, depth=2)
    assert [stage.out_features for stage in discriminator.stages()] == [8, 8, 1]
    assert len(list(discriminator.parameters())) == 6
