"""DCGAN's networks: any size that doubles, and the paper's initial weights."""

import pytest
import torch
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.networks import Classifier, DCGANDiscriminator, DCGANGenerator, Projection
from lightning_gen.networks.dcgan import size_plan

SIZES = [8, 20, 28, 32, 64, (48, 32), (64, 96)]


def pair(size):
    return (size, size) if isinstance(size, int) else size


def networks(size=32, channels=3, num_classes=None, batch_norm=True):
    torch.manual_seed(0)
    common = {
        "image_size": size,
        "channels": channels,
        "width": 8,
        "num_classes": num_classes,
        "batch_norm": batch_norm,
    }
    return DCGANGenerator(latent_dim=6, class_dim=5, **common), DCGANDiscriminator(**common)


def classes(count, num_classes):
    return None if num_classes is None else torch.arange(count) % num_classes


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_shapes_range_and_gradients(size, channels, num_classes, batch_norm):
    generator, discriminator = networks(size, channels, num_classes, batch_norm)
    y = classes(6, num_classes)
    x = generator(torch.randn(6, 6), y)
    assert x.shape == (6, channels, *pair(size))
    assert x.abs().max() <= 1
    scores = discriminator(x, y).scores
    assert scores.shape == (6,)
    (scores * torch.arange(1.0, 7.0)).sum().backward()
    for name, parameter in [*generator.named_parameters(), *discriminator.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("count", [1, 2])
def test_small_batches_keep_their_dimension(count):
    generator, discriminator = networks()
    x = generator.eval()(torch.randn(count, 6))
    assert discriminator.eval()(x).scores.shape == (count,)


@pytest.mark.parametrize(
    ("size", "base", "doublings"),
    [(8, (4, 4), 1), (20, (5, 5), 2), (28, (7, 7), 2), (32, (4, 4), 3), (64, (4, 4), 4), ((48, 32), (6, 4), 3)],
)
def test_sizes_split_into_base_and_doublings(size, base, doublings):
    assert size_plan(size) == (base, doublings)


@pytest.mark.parametrize(
    ("size", "near"), [(30, (28, 32)), (33, (32,)), (2, (8,)), (0, (8,)), (-32, (8,)), ((32, 36), (32,))]
)
@pytest.mark.parametrize("network", [DCGANGenerator, DCGANDiscriminator])
def test_other_sizes_are_refused_with_the_nearest(network, size, near):
    with pytest.raises(UserError, match="image_size") as error:
        network(image_size=size)
    assert str(size) in str(error.value)
    assert any(f"nearest such side is {n}" in str(error.value) for n in near)


@torch.no_grad()
def test_score_is_a_convolution_of_the_last_map_and_classes_enter_by_projection():
    _, discriminator = networks(num_classes=3, batch_norm=False)
    discriminator.double()
    x, y = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    maps = discriminator.layers(x)
    score, embed = discriminator.head.score, discriminator.head.embed.weight
    unconditional = nn.functional.conv2d(maps, score.weight.unflatten(1, maps.shape[1:]), score.bias)
    projection = [sum(embed[c, k] * value for k, value in enumerate(maps[i].flatten())) for i, c in enumerate(y)]
    judged = discriminator(x, y)
    torch.testing.assert_close(judged.scores, unconditional[:, 0, 0, 0] + torch.stack(projection))
    torch.testing.assert_close(judged.features, maps.flatten(1))


@torch.no_grad()
def test_attributes_count_as_classes_and_add_up():
    generator, discriminator = (network.eval() for network in networks(num_classes=3))
    z, y = torch.randn(3, 6), torch.arange(3)
    x = generator(z, y)
    torch.testing.assert_close(generator(z, torch.eye(3)), x)
    torch.testing.assert_close(discriminator(x, torch.eye(3)).scores, discriminator(x, y).scores)
    none, both = discriminator(x, torch.zeros(3, 3)).scores, discriminator(x, torch.tensor([[1.0, 0, 1]] * 3)).scores
    first, last = (discriminator(x, torch.full((3,), c)).scores for c in (0, 2))
    torch.testing.assert_close(both - none, (first - none) + (last - none))


def test_other_heads():
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(8, 1, width=4, num_classes=5, head=Classifier)
    assert discriminator(torch.randn(2, 1, 8, 8)).logits.shape == (2, 5)


def test_stages_are_the_strided_layers_and_the_head():
    _, discriminator = networks(32)
    stages = discriminator.stages()
    assert [type(stage) for stage in stages] == [nn.Sequential] * 3 + [Projection]
    found = [p for stage in stages for p in stage.parameters()]
    assert {id(p) for p in found} == {id(p) for p in discriminator.parameters()}
    assert len(found) == len(list(discriminator.parameters()))


def test_classes_change_samples():
    generator, _ = networks(num_classes=3)
    z = torch.randn(1, 6).expand(3, -1)
    x = generator.eval()(z, torch.arange(3))
    assert not torch.allclose(x[0], x[1])
    assert not torch.allclose(x[1], x[2])


def test_weights_start_as_in_the_paper():
    torch.manual_seed(0)
    for network in (DCGANGenerator(width=32), DCGANDiscriminator(width=32)):
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                weight = module.weight.detach()
                tolerance = 5 * 0.02 / (2 * weight.numel()) ** 0.5
                assert abs(weight.std() - 0.02) < tolerance, name
                assert module.bias is None or (module.bias == 0).all()
            elif isinstance(module, nn.BatchNorm2d):
                assert abs(module.weight.detach().mean() - 1) < 5 * 0.02 / module.num_features**0.5
                assert (module.bias == 0).all()
    embed = DCGANDiscriminator(width=32, num_classes=4).head.embed.weight.detach()
    assert abs(embed.std() - 0.02) < 5 * 0.02 / (2 * embed.numel()) ** 0.5


def test_batch_norm_is_neither_on_the_first_layer_of_the_discriminator_nor_the_last_of_the_generator():
    generator, discriminator = networks()
    kinds = [[type(layer) for layer in stage] for stage in discriminator.layers]
    assert kinds[0] == [nn.Conv2d, nn.Identity, nn.LeakyReLU]
    assert kinds[1:] == [[nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]] * 2
    assert [type(layer) for layer in generator.layers][-2:] == [nn.ConvTranspose2d, nn.Tanh]


def test_without_batch_norm_samples_do_not_interact():
    generator, discriminator = networks(batch_norm=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for n in (generator, discriminator) for m in n.modules())
    x = generator(torch.randn(4, 6))
    torch.testing.assert_close(discriminator(x).scores[:2], discriminator(x[:2]).scores)
