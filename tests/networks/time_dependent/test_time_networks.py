"""What every network of a sample and a time does, whatever it is made of."""

import warnings
from functools import partial

import pytest
import torch
from jsonargparse import ArgumentParser

from lightning_gen.networks.conditioning import indicators
from lightning_gen.networks.time_dependent import (
    ConditionEmbed,
    DDPMPlusPlus,
    DiT,
    GaussianFourier,
    ModulatedNorm,
    Sinusoidal,
    TimeMLP,
    TimeNetwork,
    UNet,
)

CLASSES = 3
TINY = {"image_size": (16, 8), "channels": 2, "width": 8, "multipliers": [1, 2], "num_blocks": 1, "attention": [4]}
MAKERS = {
    "mlp": partial(TimeMLP, [2, 3], 8, 2),
    "unet": partial(UNet, **TINY, dropout=0.0),
    "unet_modulated": partial(UNet, **TINY, heads=2, dropout=0.0, norm=ModulatedNorm, skip_scale=0.5**0.5),
    "ddpmpp": partial(DDPMPlusPlus, **TINY, dropout=0.0, time_features=GaussianFourier),
    "dit": partial(DiT, (8, 4), 3, 2, 8, 2, 2),
}


def build(name, num_classes=CLASSES):
    """A network in float64 whose weights are all at work: some start at 0."""
    torch.manual_seed(0)
    network = MAKERS[name](num_classes=num_classes).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return network


def inputs(network, batch=4):
    torch.manual_seed(1)
    x = torch.randn(batch, *network.sample_shape).double()
    return x, torch.rand(batch).double(), torch.arange(batch) % CLASSES


@pytest.fixture(params=MAKERS)
def network(request):
    return build(request.param)


def test_the_output_has_the_shape_of_the_input(network):
    x, t, y = inputs(network)
    out = network(x, t, y)
    assert out.shape == x.shape
    assert out.dtype == torch.float64
    assert network.num_classes == CLASSES


@pytest.mark.parametrize("name", MAKERS)
def test_classes_are_optional(name):
    network = build(name, None)
    x, t, _ = inputs(network)
    assert network.num_classes is None
    assert network(x, t).shape == x.shape
    assert all("condition" not in key for key in network.state_dict())


def test_sample_time_and_class_matter_everywhere(network):
    x, t, y = inputs(network)
    out = network(x, t, y)
    for other in (network(x + 0.1, t, y), network(x, t + 0.1, y), network(x, t, (y + 1) % CLASSES)):
        assert ((other - out).abs() > 1e-9).all()


def test_attributes_are_sums_of_classes(network):
    x, t, y = inputs(network)
    torch.testing.assert_close(network(x, t, indicators(y, CLASSES, torch.float64)), network(x, t, y))


def test_who_is_dropped_loses_the_class_and_nobody_else_does(network):
    x, t, y = inputs(network)
    dropped = torch.tensor([True, False, True, False])
    out, other = network(x, t, y, dropped), network(x, t, (y + 1) % CLASSES, dropped)
    assert torch.equal(out[dropped], other[dropped])
    assert ((out - other)[~dropped].flatten(1).abs().amax(1) > 1e-6).all()
    plain = network(x, t, y)
    torch.testing.assert_close(out[~dropped], plain[~dropped])
    assert ((out - plain)[dropped].flatten(1).abs().amax(1) > 1e-6).all()


def test_samples_do_not_see_each_other(network):
    x, t, y = inputs(network)
    out = network(x, t, y)
    for i in range(len(x)):
        torch.testing.assert_close(network(x[i : i + 1], t[i : i + 1], y[i : i + 1])[0], out[i])


def test_every_weight_learns(network):
    x, t, y = inputs(network)
    (network(x, t, y, torch.tensor([True, False, False, False])) * torch.randn_like(x)).sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad.abs().sum() > 0, name


def test_every_weight_has_a_gradient_where_nobody_is_dropped(network):
    x, t, y = inputs(network)
    network(x, t, y).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("name", MAKERS)
def test_a_few_steps_of_gradient_descent_reach_every_weight(name):
    torch.manual_seed(0)
    network = MAKERS[name](num_classes=CLASSES)
    before = {key: weight.detach().clone() for key, weight in network.named_parameters()}
    adam = torch.optim.Adam(network.parameters(), 1e-2)
    x, t, y = inputs(network)
    dropped = torch.tensor([True, False, False, False])
    for _ in range(4):  # a branch that ends in 0 learns from its end
        adam.zero_grad()
        (network(x.float(), t.float(), y, dropped) - x.float().flip(0)).square().mean().backward()
        adam.step()
    for key, weight in network.named_parameters():
        assert not torch.equal(weight, before[key]), key


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "mlp"])
def test_weights_may_be_channels_last(name):
    network = build(name)
    x, t, y = inputs(network)
    expected = network(x, t, y)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.contiguous(memory_format=torch.channels_last), t, y), expected)


def test_under_autocast_time_keeps_its_digits_and_gradients_stay_finite(network):
    network.float()
    x, t, y = (value.float() if value.is_floating_point() else value for value in inputs(network))
    expected, embedding = network(x, t, y), network.embedding(t, y)
    with torch.autocast("cpu", torch.bfloat16):
        out = network(x, t, y)
        assert torch.equal(network.embedding(t, y), embedding)
    assert embedding.dtype == torch.float32
    assert (out - expected).norm() < 0.05 * expected.norm()
    out.float().square().mean().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize(
    "make",
    [
        partial(TimeMLP, 2, 4, 1, CLASSES),
        partial(UNet, 4, 1, 4, [1], 1, [4], num_classes=CLASSES),
        partial(DiT, 4, 1, 2, 4, 1, 1, CLASSES),
    ],
)
def test_the_whole_network_compiles_in_one_graph(make):
    network = make().eval()
    x, t, y = inputs(network)
    dropped = torch.tensor([True, False, True, False])
    torch.compiler.reset()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo's own
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        torch.testing.assert_close(
            compiled(x.float(), t.float(), y, dropped), network(x.float(), t.float(), y, dropped)
        )


def test_networks_are_made_from_class_names():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=TimeNetwork)
    text = (
        '{"class_path": "UNet", "init_args": {"image_size": 8, "channels": 1, "width": 8, "multipliers": [1],'
        ' "attention": [8], "norm": "ModulatedNorm",'
        ' "time_features": {"class_path": "Sinusoidal", "init_args": {"scale": 3.0}}}}'
    )
    made = parser.instantiate_classes(parser.parse_args(["--network", text])).network
    assert isinstance(made, UNet)
    assert isinstance(made.embedding.features, Sinusoidal)
    assert (made.embedding.features.scale, made.embedding.features.dim) == (3.0, 8)
    assert any(isinstance(module, ModulatedNorm) for module in made.modules())
    with torch.device("meta"):
        for name in ("TimeMLP", "DDPMPlusPlus", "DiT"):
            assert type(parser.instantiate_classes(parser.parse_args(["--network", name])).network).__name__ == name


def test_conditions_that_are_ignored_share_a_vector():
    torch.manual_seed(0)
    embed = ConditionEmbed(CLASSES, 4)
    y, dropped = torch.tensor([0, 1, 2, 2]), torch.tensor([False, True, False, True])
    expected = [embed.embed.weight[0], embed.nothing, embed.embed.weight[2], embed.nothing]
    assert torch.equal(embed(y, dropped), torch.stack(expected))
    assert torch.equal(embed(y), embed.embed.weight[y])
