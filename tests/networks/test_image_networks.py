"""What all residual pairs of networks have in common."""

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from lightning_gen.networks import (
    BigGANDeepDiscriminator,
    BigGANDeepGenerator,
    BigGANDiscriminator,
    BigGANGenerator,
    Discriminator,
    Generator,
    Orthogonal,
    Projection,
    ResNetDiscriminator,
    ResNetGenerator,
)
from lightning_gen.networks.sizes import generator_plan

PAIRS = {
    "resnet": (ResNetGenerator, ResNetDiscriminator),
    "biggan": (BigGANGenerator, BigGANDiscriminator),
    "deep": (BigGANDeepGenerator, BigGANDeepDiscriminator),
}
ATTENTION = {"query", "key", "value", "out"}  # behind a gain of 0


@pytest.fixture(params=list(PAIRS))
def kind(request):
    return request.param


def networks(kind, size=16, channels=3, num_classes=None, **options):
    torch.manual_seed(0)
    generator, discriminator = PAIRS[kind]
    common = {"image_size": size, "channels": channels, "num_classes": num_classes} | options
    common |= {"width": 16 if kind == "resnet" else 2}
    return generator(latent_dim=3 * len(generator_plan(size)[1]), **common), discriminator(**common)


def latents(generator, count):
    return torch.randn(count, generator.latent_dim, dtype=generator.project.bias.dtype)


@pytest.mark.parametrize(
    ("size", "channels"),
    [(8, 3), (20, 3), (28, 1), (32, 3), (48, 3), (64, 3), (128, 3), (256, 3), ((48, 32), 2), ((64, 96), 3)],
    ids=str,
)
@torch.no_grad()
def test_shapes_and_range(kind, size, channels):
    generator, discriminator = networks(kind, size, channels, spectral_norm=False)
    x = generator(20 * latents(generator, 2))
    assert x.shape == (2, channels, *((size, size) if isinstance(size, int) else size))
    assert x.abs().max() <= 1
    scores, features, *_ = discriminator(x)
    assert scores.shape == (2,)
    assert features.shape[0] == 2


def unreached(network):
    return {n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12}


def test_gradients_reach_all_that_they_can(kind):
    generator, discriminator = networks(kind, 16, num_classes=3, attention=[8])
    generator, discriminator = generator.double(), discriminator.double()
    y = torch.arange(6) % 3
    (discriminator(generator(latents(generator, 6), y), y).scores * torch.arange(1.0, 7.0)).sum().backward()
    silent = unreached(discriminator)
    assert silent
    assert all(ATTENTION & set(name.split(".")) for name in silent), silent
    biases = ("conv1.bias", "conv2.bias", "shortcut.bias", "reduce.bias", "expand.bias")  # a batch norm follows
    silent = {name for name in unreached(generator) if not name.endswith(biases)}
    assert silent
    assert all(ATTENTION & set(name.split(".")) for name in silent), silent


def test_classes_change_samples_and_scores_and_attributes_count_as_classes(kind):
    generator, discriminator = (n.eval().double() for n in networks(kind, num_classes=3))
    z, y = latents(generator, 1).expand(3, -1), torch.arange(3)
    x = generator(z, y)
    same = x[:1].expand(3, -1, -1, -1)
    scores = discriminator(same, y).scores
    for a, b in ((0, 1), (1, 2)):
        assert not torch.allclose(x[a], x[b])
        assert not torch.allclose(scores[a], scores[b])
    torch.testing.assert_close(generator(z, torch.eye(3).double()), x)
    torch.testing.assert_close(discriminator(same, torch.eye(3).double()).scores, scores)


def test_samples_do_not_interact_in_discriminators_and_evaluation_is_deterministic(kind):
    _, discriminator = networks(kind, num_classes=3, attention=[8])
    discriminator.eval().double()
    for parameter in discriminator.parameters():
        if parameter.ndim == 0:
            nn.init.constant_(parameter, 0.5)  # lets attention speak
    x, y = torch.randn(4, 3, 16, 16).double(), torch.tensor([0, 1, 2, 0])
    scores = discriminator(x, y).scores
    assert torch.equal(discriminator(x, y).scores, scores)
    for k in range(4):
        torch.testing.assert_close(discriminator(x[k : k + 1], y[k : k + 1]).scores, scores[k : k + 1])


def test_channels_last_changes_nothing(kind):
    generator, discriminator = (n.eval().double() for n in networks(kind, attention=[8]))
    z = latents(generator, 3)
    x = generator(z)
    scores = discriminator(x).scores
    last = torch.channels_last
    again = generator.to(memory_format=last)(z)
    torch.testing.assert_close(again, x)
    torch.testing.assert_close(discriminator.to(memory_format=last)(again.to(memory_format=last)).scores, scores)


def test_discriminators_can_be_differentiated_twice(kind):
    _, discriminator = networks(kind, num_classes=3, attention=[8])
    discriminator.eval().double()
    for parameter in discriminator.parameters():
        if parameter.ndim == 0:
            nn.init.constant_(parameter, 0.5)
    x, y = torch.randn(2, 3, 16, 16).double().requires_grad_(), torch.tensor([0, 2])
    probe = next(p for n, p in discriminator.named_parameters() if n.endswith("conv2.parametrizations.weight.original"))

    def penalty():
        (gradient,) = torch.autograd.grad(discriminator(x, y).scores.sum(), x, create_graph=True)
        return gradient.square().sum()

    (found,) = torch.autograd.grad(penalty(), probe)
    direction = torch.randn_like(probe)
    with torch.no_grad():
        values = []
        for step in (1e-7, -1e-7):  # small: ReLU and max-pooling have kinks
            probe += step * direction
            with torch.enable_grad():
                values.append(penalty().detach())
            probe -= step * direction
    torch.testing.assert_close((found * direction).sum(), (values[0] - values[1]) / 2e-7, rtol=1e-5, atol=1e-8)


def test_two_passes_before_one_backward(kind):
    """As a discriminator's turn does with real and generated samples."""
    _, discriminator = networks(kind)
    x = torch.randn(4, 3, 16, 16)
    (discriminator(x[:2]).scores.mean() - discriminator(x[2:]).scores.mean()).backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_stages_hold_every_parameter_once_and_end_in_the_head(kind):
    _, discriminator = networks(kind, num_classes=3, attention=[8])
    stages = discriminator.stages()
    assert isinstance(stages[-1], Projection)
    found = [id(parameter) for stage in stages for parameter in stage.parameters()]
    assert sorted(found) == sorted(map(id, discriminator.parameters()))


def test_reloading(kind):
    generator, discriminator = networks(kind, num_classes=3, attention=[8])
    z, y = latents(generator, 4), torch.tensor([0, 1, 2, 0])
    discriminator(generator(z, y), y)
    torch.manual_seed(1)
    x = generator.eval()(z, y)
    scores = discriminator.eval()(x, y).scores
    again, judge = networks(kind, num_classes=3, attention=[8])
    for network, source in ((again, generator), (judge, discriminator)):
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.3)
        network.load_state_dict(source.state_dict())
        network.eval()
    assert torch.equal(again(z, y), x)
    assert torch.equal(judge(x, y).scores, scores)


@pytest.mark.parametrize("role", [0, 1])
def test_configurations_choose_initial_weights_by_name(role):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=(Generator, Discriminator)[role])
    network = PAIRS["resnet"][role]
    given = {"image_size": [32, 48], "width": 4, "attention": [16], "init": "lightning_gen.networks.Orthogonal"}
    config = {"class_path": f"lightning_gen.networks.{network.__name__}", "init_args": given}
    built = parser.instantiate(parser.parse_object({"net": config})).net
    assert type(built) is network
    torch.manual_seed(0)
    direct = network((32, 48), width=4, attention=[16], init=Orthogonal)
    assert [p.shape for p in direct.parameters()] == [p.shape for p in built.parameters()]
