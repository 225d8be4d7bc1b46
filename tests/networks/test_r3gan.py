"""R3GAN's networks: blocks that start as the identity, no normalisation, and as many weights as the formula says."""

import math

import pytest
import torch
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.networks.r3gan import EmbeddedScore, R3GANDiscriminator, R3GANGenerator
from lightning_gen.networks.r3gan_layers import ResidualBlock

SMALL = {"widths": (8, 4), "blocks": 1, "cardinality": 2}


def networks(num_classes=None, **options):
    torch.manual_seed(0)
    options = SMALL | {"image_size": 8} | options
    generator = R3GANGenerator(latent_dim=5, num_classes=num_classes, class_dim=6, **options)
    return generator, R3GANDiscriminator(num_classes=num_classes, **options)


def awaken(*modules):
    """Give the zeros in them something to do."""
    for parameter in (p for module in modules for p in module.parameters()):
        nn.init.normal_(parameter, 0.0, 0.3)


def drawn(count, num_classes):
    return None if num_classes is None else torch.arange(count) % num_classes


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize(
    ("size", "channels", "widths"),
    [(8, 1, (4, 4)), (28, 1, (8, 4, 4)), (32, 3, (8, 8, 4, 4)), (64, 3, (4,) * 5), ((32, 16), 2, (4,) * 3)],
    ids=str,
)
def test_shapes_and_gradients(size, channels, widths, num_classes):
    generator, discriminator = networks(num_classes, image_size=size, channels=channels, widths=widths)
    awaken(generator, discriminator)
    y = drawn(4, num_classes)
    x = generator(torch.randn(4, 5), y)
    assert x.shape == (4, channels, *((size, size) if isinstance(size, int) else size))
    judged = discriminator(x, y)
    assert judged.scores.shape == (4,)
    assert judged.features.shape == (4, widths[0])
    (judged.scores * torch.arange(1.0, 5.0)).sum().backward()
    for name, parameter in [*generator.named_parameters(), *discriminator.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("size", [128, 256])
def test_large_images_work(size):
    options = {"image_size": size, "widths": (4,) * int(math.log2(size) - 1), "blocks": 1, "cardinality": 2}
    with torch.device("meta"):
        x = R3GANGenerator(latent_dim=5, **options)(torch.empty(2, 5))
        assert x.shape == (2, 3, size, size)
        assert R3GANDiscriminator(**options)(x).scores.shape == (2,)


def test_blocks_start_as_the_identity():
    block, x = ResidualBlock(8, groups=2, expansion=2, depth=3), torch.randn(2, 8, 4, 4)
    assert torch.equal(block(x), x)
    block.layers[-1].weight.data.fill_(1.0)
    assert not torch.allclose(block(x), x)


def test_weights_start_with_the_scale_of_fixup():
    torch.manual_seed(0)
    block = ResidualBlock(64, groups=4, expansion=2, depth=8)
    gain = math.sqrt(2 / 1.04) * 8**-0.25
    for layer, inputs in ((block.layers[0], 64), (block.layers[2], 9 * 128 / 4)):
        assert layer.weight.std().item() == pytest.approx(gain / math.sqrt(inputs), rel=0.05)
        assert not layer.bias.any()
    generator, discriminator = networks(num_classes=4, widths=(256, 4))
    assert generator.embed.weight.std().item() == pytest.approx(1 / 2, rel=0.5)
    assert generator.weigh.weight.std().item() == pytest.approx(11**-0.5, rel=0.1)
    assert discriminator.basis.weight.std().item() == pytest.approx(1 / 4, rel=0.1)
    assert discriminator.head.embed.weight.std().item() == pytest.approx(1 / 32, rel=0.1)
    assert discriminator.head.score.weight.std().item() == pytest.approx(1 / 16, rel=0.1)


def test_depth_counts_the_blocks_of_all_stages():
    few, many = (networks(blocks=blocks, widths=(64, 64), cardinality=8) for blocks in ((1, 1), (15, 17)))
    for one, other in zip(few, many, strict=True):
        scales = [network.layers[0][0].layers[0].weight.std().item() for network in (one, other)]
        assert scales[0] / scales[1] == pytest.approx(2.0, rel=0.05)  # (32 / 2)^(1/4)


def test_nothing_normalises():
    for network in networks():
        kinds = {type(module) for module in network.modules()}
        assert not any("Norm" in kind.__name__ for kind in kinds)
        assert nn.LeakyReLU in kinds


@torch.no_grad()
def test_samples_do_not_interact():
    generator, discriminator = networks()
    awaken(generator, discriminator)
    z = torch.randn(5, 5)
    x = generator(z)
    torch.testing.assert_close(generator(z[2:3]), x[2:3])
    torch.testing.assert_close(discriminator(x[2:3]).scores, discriminator(x).scores[2:3])


def block_weights(width, groups, expansion):
    inner = expansion * width
    return (width * inner + inner) + (9 * inner * inner // groups + inner) + inner * width


@pytest.mark.parametrize("num_classes", [None, 10])
def test_the_number_of_weights_is_that_of_the_formula(num_classes):
    widths, blocks, groups, expansion = (12, 12, 8), (1, 2, 3), (4, 3, 2), 2
    with torch.device("meta"):
        options = {"image_size": 16, "channels": 3, "widths": widths, "blocks": blocks, "cardinality": groups}
        generator = R3GANGenerator(latent_dim=5, num_classes=num_classes, class_dim=7, **options)
        discriminator = R3GANDiscriminator(num_classes=num_classes, **options)
    shared = sum(n * block_weights(w, g, expansion) for w, n, g in zip(widths, blocks, groups, strict=True))
    shared += 12 * 8 + 12 * 16 + 8 * 3  # the one change of width, the basis, and the layer to or from colours
    embedded = 5 + 7 if num_classes else 5
    expected = shared + embedded * 12 + (num_classes or 0) * 7
    assert sum(p.numel() for p in generator.parameters()) == expected
    expected = shared + (12 * 12 + num_classes * 12 if num_classes else 12)
    assert sum(p.numel() for p in discriminator.parameters()) == expected


def test_the_defaults_are_as_large_as_published():
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in network().parameters()) for network in (R3GANGenerator, R3GANDiscriminator)]
    assert [round(size / 1e6, 1) for size in sizes] == [20.7, 20.7]


def test_the_gradient_penalty_is_differentiable():
    _, discriminator = networks(num_classes=3)
    awaken(discriminator)
    x, y = torch.randn(4, 3, 8, 8, requires_grad=True), drawn(4, 3)
    (gradient,) = torch.autograd.grad(discriminator(x, y).scores.sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(p.grad is not None for name, p in discriminator.named_parameters() if "bias" not in name)
    assert discriminator.image.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_classes_enter_by_an_inner_product():
    head, h = EmbeddedScore(6, 3), torch.randn(3, 6)
    found = head(h, torch.tensor([2, 0, 1])).scores
    expected = [head.embed.weight[k] @ head.score.weight @ h[i] for i, k in enumerate((2, 0, 1))]
    torch.testing.assert_close(found, torch.stack(expected))
    plain = EmbeddedScore(6)
    torch.testing.assert_close(plain(h).scores, h @ plain.score.weight[0])


@torch.no_grad()
def test_attributes_are_the_sum_of_their_classes():
    generator, discriminator = networks(num_classes=3)
    awaken(generator, discriminator)
    z, x = torch.randn(3, 5), torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(generator(z, torch.eye(3)), generator(z, torch.arange(3)))
    torch.testing.assert_close(discriminator(x, torch.eye(3)).scores, discriminator(x, torch.arange(3)).scores)


def test_stages_hold_all_weights_in_order():
    _, discriminator = networks(widths=(8, 4))
    stages = discriminator.stages()
    assert stages[0] is discriminator.image
    assert stages[-1] is discriminator.head
    found = [id(p) for stage in stages for p in stage.parameters()]
    assert sorted(found) == sorted(id(p) for p in discriminator.parameters())


@pytest.mark.parametrize("network", [R3GANGenerator, R3GANDiscriminator])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"image_size": 256}, r"widths has 2 entries, one a stage, and image_size is 256: that takes 7 or 8"),
        ({"image_size": 28}, r"widths has 2 entries, one a stage, and image_size is 28: that takes 3,"),
        ({"image_size": 30}, r"widths has 2 entries, .* is 30: that takes another size"),
        ({"widths": ()}, r"widths has 0 entries"),
        ({"blocks": (1, 2, 3)}, r"blocks is \(1, 2, 3\): it must be one number, or as many as widths \(2\)"),
        ({"cardinality": 0}, r"cardinality is 0: it must be at least 1"),
        ({"cardinality": 3}, r"cardinality is 3 where the stage is 8 wide: it must divide .* 16"),
        ({"expansion": 0}, r"expansion is 0: it must be at least 1"),
    ],
)
def test_numbers_that_do_not_fit_are_named(network, options, sentence):
    with pytest.raises(UserError, match=f"{network.__name__}.{sentence}"):
        network(**SMALL | {"image_size": 8} | options)
