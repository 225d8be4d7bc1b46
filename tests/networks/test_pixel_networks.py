"""Pixel networks: what a pixel sees, and drawing with what was kept against drawing plainly."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.losses.pixel_likelihoods import CategoricalPixels, LogisticMixturePixels
from lightning_gen.networks.conditioning import indicators
from lightning_gen.networks.pixel import (
    GatedPixelNetwork,
    MaskedPixelCNN,
    PixelCNNPlusPlus,
    PixelSNAIL,
    draw_images,
    draw_plainly,
)
from lightning_gen.noise import Noise

MASKED = partial(MaskedPixelCNN, width=12, depth=2, head_width=24)
GATED = partial(GatedPixelNetwork, width=8, depth=4, head_width=24)
PLUS = partial(PixelCNNPlusPlus, width=6, depth=2, num_sizes=1)
STRIDED = partial(PixelCNNPlusPlus, width=10, depth=1, num_sizes=3)
SNAIL = partial(PixelSNAIL, width=6, num_blocks=2, depth=1, key_dim=4, value_dim=6, heads=2)
NETWORKS = {"masked": MASKED, "gated": GATED, "plus_plus": PLUS, "strided": STRIDED, "snail": SNAIL}
SEE_ALL = {"gated": GATED, "plus_plus": PLUS, "strided": partial(STRIDED, depth=2), "snail": SNAIL}


def made(make, shape, likelihood, louder=1.5, **options):
    torch.manual_seed(0)
    sizes = likelihood.num_parameters(shape[0]), likelihood.num_turns(shape[0])
    network = make(shape, *sizes, **options).double().eval()
    for parameter in network.parameters():  # far from uniform
        parameter.data.mul_(louder)
    return network


def influence(network, x, y=None):
    """Whether parameters at (turn, pixel) depend on (channel, pixel): (T, N, C, N), summed over images."""
    x = x.clone().requires_grad_()
    out = network(x, y).flatten(3)
    weights = torch.linspace(-1, 2, out.shape[1], dtype=out.dtype)
    found = torch.zeros(out.shape[2], out.shape[3], x.shape[1], out.shape[3], dtype=torch.bool)
    for turn, n in product(range(out.shape[2]), range(out.shape[3])):
        (grad,) = torch.autograd.grad((weights @ out[:, :, turn, n].T).sum(), x, retain_graph=True)
        found[turn, n] = (grad != 0).any(0).flatten(1)
    return found


def order(turns, channels, pixels):
    """What may be seen: all channels of pixels before, and in the pixel those of turns before."""
    past = torch.ones(pixels, pixels).tril(-1).bool()[None, :, None].expand(turns, -1, channels, -1).clone()
    for turn, channel in product(range(turns), range(channels)):
        past[turn, :, channel] |= torch.eye(pixels).bool() & (channel * turns // channels < turn)
    return past


@pytest.mark.parametrize("likelihood", [CategoricalPixels(4), LogisticMixturePixels(4, 2)], ids=["turns", "one_turn"])
@pytest.mark.parametrize("name", SEE_ALL)
def test_a_pixel_sees_the_whole_past_and_nothing_else(name, likelihood):
    shape = (3, 4, 8)
    network = made(SEE_ALL[name], shape, likelihood)
    x = torch.rand(4, *shape, dtype=torch.float64) * 2 - 1
    expected = order(likelihood.num_turns(3), 3, 32)
    assert torch.equal(influence(network, x), expected)


def masked_region(rows, columns, reach, depth):
    """What masked convolutions see, by following their supports from pixel to pixel: (N, N) and the pixel itself."""

    def step(seen, reach, itself):
        found = torch.zeros_like(seen)
        for i, j in seen.nonzero().tolist():
            for a, b in product(range(i - reach, i + 1), range(j - reach, j + reach + 1)):
                inside = 0 <= a < rows and 0 <= b < columns
                if inside and ((a, b) < (i, j) or (itself and (a, b) == (i, j))):
                    found[a, b] = True
        return found

    regions = []
    for n in range(rows * columns):
        seen = torch.zeros(rows, columns, dtype=torch.bool)
        seen.view(-1)[n] = True
        for _ in range(depth):
            seen = step(seen, 1, itself=True)
        regions.append(step(seen, reach, itself=False).flatten())
    return torch.stack(regions)


def test_stacked_masks_have_the_blind_spot_that_they_are_said_to_have():
    likelihood = CategoricalPixels(3)
    network = made(partial(MASKED, depth=4, first_kernel_size=5), (1, 5, 9), likelihood)
    seen = influence(network, torch.rand(4, 1, 5, 9, dtype=torch.float64))[0, :, 0]
    assert torch.equal(seen, masked_region(5, 9, 2, 4))
    pixel = seen[4 * 9 + 2].view(5, 9)
    for up in range(1, 5):
        last = 2 + 2 + up - 1  # the docstring's
        assert pixel[4 - up, : last + 1].all()
        assert not pixel[4 - up, last + 1 :].any()


def test_masks_order_the_channels_of_a_pixel():
    network = made(MASKED, (3, 3, 3), CategoricalPixels(3))
    seen = influence(network, torch.rand(8, 3, 3, 3, dtype=torch.float64))
    assert torch.equal(seen, order(3, 3, 9))  # three columns are too few for a blind spot


def test_channels_of_one_turn_do_not_see_each_other_in_masked_networks():
    network = made(MASKED, (3, 3, 3), LogisticMixturePixels(3, 2))
    assert torch.equal(influence(network, torch.rand(8, 3, 3, 3, dtype=torch.float64)), order(1, 3, 9))


# -------------------------------------------------------------------- drawing


@pytest.mark.parametrize(
    ("shape", "likelihood", "num_classes"),
    [
        ((1, 4, 8), CategoricalPixels(5), 3),
        ((2, 4, 4), CategoricalPixels(3), None),
        ((3, 8, 4), LogisticMixturePixels(6, 2), None),
    ],
    ids=["grey", "turns", "mixture"],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_drawing_with_what_was_kept_is_drawing(name, shape, likelihood, num_classes):
    network = made(NETWORKS[name], shape, likelihood, num_classes=num_classes)
    seeds, y = torch.arange(3), None if num_classes is None else torch.tensor([0, 1, 2])
    x = draw_images(network, likelihood, Noise(seeds), y, temperature=0.8)
    assert x.shape == (3, *shape)
    assert len(x.unique()) > 2
    likelihood.check(x)
    assert torch.equal(x, draw_plainly(network, likelihood, Noise(seeds), y, temperature=0.8))
    assert torch.equal(x[2:], draw_images(network, likelihood, Noise(seeds[2:]), y if y is None else y[2:], 0.8))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_kept_gives_the_parameters_of_the_whole(name, monkeypatch):
    likelihood = LogisticMixturePixels(256, 2)
    network = made(NETWORKS[name], (2, 4, 8), likelihood)
    kept = []
    draw = likelihood.draw

    def spy(parameters, uniform, temperature):
        kept.append(parameters)
        return draw(parameters, uniform, temperature)

    monkeypatch.setattr(likelihood, "draw", spy)
    x = draw_images(network, likelihood, Noise(torch.arange(3)))
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(kept, 2).unflatten(2, (4, 8)), network(x)[:, :, 0])


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_that_are_given_stay_and_the_rest_goes_on_as_it_would_have(name):
    likelihood = CategoricalPixels(64)
    network = made(NETWORKS[name], (1, 8, 4), likelihood)
    x = draw_images(network, likelihood, Noise(torch.arange(3)))
    for rows in (1, 4, 8):
        # the same numbers for the rest: so the same images
        assert torch.equal(draw_images(network, likelihood, Noise(torch.arange(3)), begun=x[:, :, :rows]), x)
    other = draw_images(network, likelihood, Noise(torch.arange(3)), begun=-x[:, :, :3])
    assert torch.equal(other[:, :, :3], -x[:, :, :3])
    assert not torch.equal(other[:, :, 3:], x[:, :, 3:])


@pytest.mark.parametrize(
    ("name", "likelihood", "shape"),
    [
        ("masked", CategoricalPixels(2), (2, 1, 2)),
        ("gated", CategoricalPixels(2), (3, 1, 2)),
        ("strided", LogisticMixturePixels(3, 2), (1, 4, 4)),
        ("plus_plus", LogisticMixturePixels(3, 2), (2, 1, 2)),
        ("snail", CategoricalPixels(3), (1, 2, 2)),
    ],
)
def test_images_have_their_probabilities(name, likelihood, shape):
    make = partial(PixelCNNPlusPlus, width=6, depth=1, num_sizes=2) if name == "strided" else NETWORKS[name]
    shape = (1, 2, 2) if name == "strided" else shape
    network = made(make, shape, likelihood)
    count = likelihood.levels.count
    images = torch.tensor(list(product(range(count), repeat=math.prod(shape)))).view(-1, *shape)
    values = likelihood.levels.value(images.double())
    with torch.no_grad():
        p = likelihood(network(values), values).exp()
    torch.testing.assert_close(p.sum(), torch.ones((), dtype=p.dtype))
    assert p.max() > 1.5 / len(images)
    n = 3000
    drawn = likelihood.levels.index(draw_images(network, likelihood, Noise(torch.arange(n)))).long().flatten(1)
    place = (drawn * count ** torch.arange(drawn.shape[1]).flip(0)).sum(1)
    counts = torch.bincount(place, minlength=len(images)).double()
    common = n * p > 3  # χ² of those that occur, and of the rest together
    counts = torch.cat((counts[common], counts[~common].sum()[None]))
    expected = torch.cat((n * p[common], n * p[~common].sum()[None]))
    degrees = len(expected) - 1
    assert degrees > 5
    statistic = float(((counts - expected).square() / expected.clamp(min=1)).sum())
    assert statistic < degrees + 4 * math.sqrt(2 * degrees)


# -------------------------------------------------------------------- the rest


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns_and_classes_matter_everywhere(name):
    network = made(NETWORKS[name], (3, 4, 4), CategoricalPixels(3), num_classes=3).train()
    x, y = torch.rand(8, 3, 4, 4, dtype=torch.float64), torch.arange(8) % 3
    network(x, y).square().sum().backward()
    for key, weight in network.named_parameters():
        assert weight.grad.abs().sum() > 0, key
    network.eval()
    same = x[:1].expand(3, -1, -1, -1)
    found = network(same, torch.arange(3))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        assert ((found[a] - found[b]).abs().amax(0) > 1e-6).all()
    torch.testing.assert_close(network(same, indicators(torch.arange(3), 3, torch.float64)), found)


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_is_for_training(name):
    network = made(NETWORKS[name], (1, 4, 4), CategoricalPixels(3), dropout=0.5)
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    assert torch.equal(network(x), network(x))
    network.train()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_is_close(name):
    likelihood = LogisticMixturePixels(256, 3)
    network = made(NETWORKS[name], (1, 4, 4), likelihood, louder=1.0).float()
    x = torch.rand(16, 1, 4, 4) * 2 - 1
    exact = likelihood(network(x), x)
    with torch.autocast("cpu", torch.bfloat16):
        nats = likelihood(network(x), x)
        drawn = draw_images(network, likelihood, Noise(torch.arange(2)))
    assert nats.dtype == torch.float32
    torch.testing.assert_close(nats, exact, rtol=0.01, atol=0.0)
    assert drawn.isfinite().all()


def test_a_masked_layer_is_a_whole_kernel_with_zeros():
    network = made(MASKED, (1, 5, 6), CategoricalPixels(3))
    x = torch.rand(2, 1, 5, 6, dtype=torch.float64)
    canvas = torch.cat((x, torch.ones_like(x)), 1)
    whole = torch.zeros(24, 2, 7, 7, dtype=torch.float64)
    whole[:, :, :3] = network.first.weight[:, :, :3]
    whole[:, :, 3, :3] = network.first.weight[:, :, 3, :3]
    whole[:, 1, 3, 3] = network.first.weight[:, 1, 3, 3]  # the ones are no secret
    expected = F.conv2d(canvas, whole, network.first.bias, padding=3)
    torch.testing.assert_close(network.first(canvas), expected)


def test_a_small_network_of_two_sizes_is_the_paper_s_graph():
    """Down, halve, down, up, double, up; every layer up takes the skips from the last to the first (figure 2)."""
    network = made(partial(PLUS, depth=1, num_sizes=2), (1, 4, 4), LogisticMixturePixels(5, 2))
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    c = torch.cat((x, torch.ones_like(x)), 1)

    def shifted(conv, left, right, top, bottom, x):
        return F.conv2d(F.pad(x, (left, right, top, bottom)), conv.weight, conv.bias, conv.stride)

    def layer(block, x, pads, *extra):
        two = lambda t: torch.cat((F.elu(t), F.elu(-t)), 1)  # noqa: E731
        h = shifted(block.first, *pads, two(x))
        if extra:
            extra = torch.cat(extra, 1)
            h = h + shifted(block.extra, 0, 0, 0, 0, two(extra))
        a, b = shifted(block.second, *pads, two(h)).chunk(2, 1)
        return x + a * b.sigmoid()

    up, side, v, h = (1, 1, 1, 0), (1, 0, 1, 0), network.vertical, network.horizontal
    low_v, low_h = v.coarse.level, h.coarse.level
    u0 = shifted(network.rows_above, 1, 1, 2, -1, c)
    l0 = shifted(network.row_above, 1, 1, 1, -1, c) + shifted(network.left, 1, -1, 1, 0, c)
    u1 = layer(v.down[0], u0, up)
    l1 = layer(h.down[0], l0, side, u1)
    u2, l2 = shifted(v.coarse.shrink, *up, u1), shifted(h.coarse.shrink, *side, l1)
    u3 = layer(low_v.down[0], u2, up)
    l3 = layer(low_h.down[0], l2, side, u3)
    u4 = layer(low_v.up[0], u3, up, u2)
    l4 = layer(low_h.up[0], l3, side, u4, l2)
    u4 = F.conv_transpose2d(u4, v.coarse.grow.weight, v.coarse.grow.bias, 2)[:, :, :, 1:5]
    l4 = F.conv_transpose2d(l4, h.coarse.grow.weight, h.coarse.grow.bias, 2)
    for k, skips in enumerate(((u1, l1), (u0, l0))):
        u4 = layer(v.up[k], u4, up, skips[0])
        l4 = layer(h.up[k], l4, side, u4, skips[1])
    expected = shifted(network.head.out, 0, 0, 0, 0, F.elu(l4))
    torch.testing.assert_close(network(x)[:, :, 0], expected)


def test_attention_is_a_weighted_mean_of_pixels_before():
    network = made(partial(SNAIL, num_blocks=1, heads=1, value_dim=6), (1, 2, 3), CategoricalPixels(3))
    x = torch.rand(1, 1, 2, 3, dtype=torch.float64)
    kept = {}
    (block,) = network.blocks
    for name in ("query", "keys_values", "merge", "content"):
        getattr(block, name).register_forward_hook(
            lambda _, given, out, name=name: kept.update({name: out, f"{name}_in": given})
        )
    network(x)
    query = kept["query"][0].flatten(1).T
    keys, values = kept["keys_values"][0].flatten(1).T.split([4, 6], 1)
    for n in range(6):
        weights = (keys[: n + 1] @ query[n] / 2).softmax(0)  # √4 = 2
        torch.testing.assert_close(kept["merge_in"][3][0].flatten(1)[:, n], weights @ values[: n + 1])
    content = kept["content_in"][0][0].flatten(1)
    assert not content[:, 0].any()
    torch.testing.assert_close(content[0, 1:], x.flatten()[:-1])


@pytest.mark.parametrize(
    ("make", "shape", "options", "words"),
    [
        (MaskedPixelCNN, (1, 8, 8), {"kernel_size": 4}, "MaskedPixelCNN.kernel_size is 4: it must be odd"),
        (MaskedPixelCNN, (3, 8, 8), {"width": 2}, "width is 2: it must be at least 3"),
        (GatedPixelNetwork, (1, 8, 8), {"dropout": 1.0}, r"GatedPixelNetwork.dropout is 1.0: it must be in \[0, 1\)"),
        (GatedPixelNetwork, (1, 8, 8), {"depth": 0}, "depth is 0"),
        (PixelCNNPlusPlus, (1, 10, 8), {}, "num_sizes is 3: images of 10×8 pixels cannot be halved 2 times"),
        (PixelSNAIL, (1, 8, 8), {"heads": 3}, "heads is 3: it must divide key_dim, which is 16"),
        (GatedPixelNetwork, (2,), {}, r"models images.*shape \(2,\)"),
    ],
)
def test_what_is_not_possible_is_refused(make, shape, options, words):
    with pytest.raises(UserError, match=words):
        make(shape, 4, shape[0] if len(shape) == 3 else 1, **options)
