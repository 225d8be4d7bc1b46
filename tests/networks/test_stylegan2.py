"""StyleGAN2: its layers against a kernel for each sample, its mean style, truncation and mixing."""

import math

import pytest
import torch
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.networks.stylegan2 import HalvingBlock, MappedScore, StyleGAN2Discriminator, StyleGAN2Generator
from lightning_gen.networks.stylegan2_layers import EqualConv2d, EqualLinear, Mapping, ModulatedConv2d, StyledConv

SMALL = {"channel_base": 128, "channel_max": 8}


def networks(size=8, channels=3, num_classes=None, group_size=2, **options):
    torch.manual_seed(0)
    common = SMALL | {"image_size": size, "channels": channels, "num_classes": num_classes}
    generator = StyleGAN2Generator(latent_dim=6, style_dim=8, **common, **options)
    return generator, StyleGAN2Discriminator(group_size=group_size, **common)


def noisy(generator):
    """The same generator with noise that shows."""
    for module in generator.modules():
        if isinstance(module, StyledConv):
            module.strength.data.fill_(0.5)
    return generator


def drawn(count, num_classes):
    return None if num_classes is None else torch.arange(count) % num_classes


# ---------------------------------------------------------------- layers


def by_sample(conv, x, w):
    """The definition: a kernel for every sample, modulated and demodulated, then a convolution of its own."""
    style = F.linear(w, conv.style.weight / w.shape[1] ** 0.5, conv.style.bias)
    found = []
    for image, scales in zip(x, style, strict=True):
        kernel = conv.weight * scales[None, :, None, None]
        if conv.demodulate:
            kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        else:
            kernel = kernel / (conv.weight[0].numel() ** 0.5)
        if conv.after is None:
            found.append(F.conv2d(image[None], kernel, padding=kernel.shape[-1] // 2))
        else:  # the other order: filter up with a border of one, then convolve
            spread = torch.zeros(1, len(image), 2 * image.shape[1], 2 * image.shape[2], dtype=x.dtype)
            spread[..., ::2, ::2] = image
            taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
            filter_ = (torch.outer(taps, taps) / 16).expand(len(image), 1, 4, 4)
            wide = F.conv2d(F.pad(spread, (3, 2, 3, 2)), filter_, groups=len(image))
            found.append(F.conv2d(wide, kernel.flip(2, 3)))
    return torch.cat(found)


@pytest.mark.parametrize(
    "options", [{}, {"double": True}, {"kernel": 1, "demodulate": False}], ids=["plain", "double", "colour"]
)
def test_one_convolution_for_all_equals_one_for_each(options):
    torch.manual_seed(0)
    conv = ModulatedConv2d(4, 5, style_dim=3, **options).double()
    x, w = torch.randn(3, 4, 6, 4, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    torch.testing.assert_close(conv(x, w), by_sample(conv, x, w))


def test_demodulation_keeps_the_variance():
    torch.manual_seed(0)
    conv = ModulatedConv2d(32, 32, style_dim=4)
    x, w = torch.randn(8, 32, 16, 16), 5 * torch.randn(8, 4)
    inside = conv(x, w)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside.std(dim=(2, 3)).mean(), torch.tensor(1.0), rtol=0.05, atol=0.0)


def test_equal_rates_scale_where_they_are_used():
    torch.manual_seed(0)
    layer = EqualLinear(300, 200, bias=1.0, rate=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)
    x = torch.randn(50, 300)
    torch.testing.assert_close(layer(x), x @ layer.weight.T * 0.01 / 300**0.5 + 1.0)
    assert layer(x).std().item() == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("kernel", [1, 3])
def test_halving_filters_before_it_leaves_pixels_out(kernel):
    torch.manual_seed(0)
    conv = EqualConv2d(2, 3, kernel, halve=True)
    conv.bias.data.normal_()
    x = torch.randn(2, 2, 8, 6)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    filter_ = (torch.outer(taps, taps) / 64).expand(2, 1, 4, 4)
    border = 1 + kernel // 2
    filtered = F.conv2d(F.pad(x, (border,) * 4), filter_, groups=2)
    expected = F.conv2d(filtered, conv.weight / (2 * kernel**2) ** 0.5)[..., ::2, ::2] + conv.bias[:, None, None]
    torch.testing.assert_close(conv(x), expected)
    plain = EqualConv2d(2, 3, kernel)
    torch.testing.assert_close(plain(x), F.conv2d(x, plain.weight / (2 * kernel**2) ** 0.5, padding=kernel // 2))


def test_mapping_sees_the_direction_of_the_latent_only():
    torch.manual_seed(0)
    mapping, z = Mapping(6, None, 8, num_layers=2), torch.randn(4, 6)
    torch.testing.assert_close(mapping(7 * z, None), mapping(z, None), rtol=1e-4, atol=1e-5)
    first = z / z.square().mean(dim=1, keepdim=True).sqrt()
    hidden = F.leaky_relu(first @ mapping.layers[0].weight.T * 0.01 / 6**0.5, 0.2) * 2**0.5
    expected = F.leaky_relu(hidden @ mapping.layers[1].weight.T * 0.01 / 8**0.5, 0.2) * 2**0.5
    torch.testing.assert_close(mapping(z, None), expected)


def test_classes_stand_beside_the_latent_with_as_much_weight():
    torch.manual_seed(0)
    mapping, z, y = Mapping(6, 3, 8, num_layers=1), torch.randn(3, 6), torch.tensor([1, 0, 2])
    embedded = mapping.embed.weight[y]
    inputs = torch.cat([part / part.square().mean(dim=1, keepdim=True).sqrt() for part in (z, embedded)], dim=1)
    expected = F.leaky_relu(inputs @ mapping.layers[0].weight.T * 0.01 / 14**0.5, 0.2) * 2**0.5
    torch.testing.assert_close(mapping(z, y), expected)
    torch.testing.assert_close(mapping(z, torch.eye(3)[y]), expected)


@torch.no_grad()
def test_a_residual_block_adds_its_paths_at_half_the_power():
    torch.manual_seed(0)
    block, x = HalvingBlock(3, 4, residual=True), torch.randn(2, 3, 8, 8)
    main = F.leaky_relu(block.second(F.leaky_relu(block.first(x), 0.2) * 2**0.5), 0.2) * 2**0.5
    torch.testing.assert_close(block(x), (main + block.skip(x)) / 2**0.5)
    block.skip = None
    torch.testing.assert_close(block(x), main)


@torch.no_grad()
def test_the_score_with_classes_is_an_inner_product():
    torch.manual_seed(0)
    head, h, y = MappedScore(6, 3), torch.randn(4, 6), torch.tensor([2, 0, 1, 0])
    assert len(head.mapper.layers) == 8
    expected = (F.linear(h, head.score.weight / 6**0.5, head.score.bias) * head.mapper(None, y)).sum(dim=1) / 6**0.5
    torch.testing.assert_close(head(h, y).scores, expected)
    plain = MappedScore(6)
    torch.testing.assert_close(plain(h).scores, (h @ plain.score.weight[0]) / 6**0.5)


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize(
    ("size", "channels"), [(8, 1), (28, 1), (32, 3), (64, 3), ((64, 32), 3), ((16, 24), 2)], ids=str
)
def test_shapes_and_gradients(size, channels, num_classes):
    generator, discriminator = networks(size, channels, num_classes)
    noisy(generator)
    y = drawn(4, num_classes)
    x = generator(torch.randn(4, 6), y)
    assert x.shape == (4, channels, *((size, size) if isinstance(size, int) else size))
    judged = discriminator(x, y)
    assert judged.scores.shape == (4,)
    assert judged.features.shape == (4, 8)
    (judged.scores * torch.arange(1.0, 5.0)).sum().backward()
    for name, parameter in [*generator.named_parameters(), *discriminator.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("size", [128, 256])
def test_large_images_work(size):
    with torch.device("meta"):
        generator = StyleGAN2Generator(size, latent_dim=6, style_dim=8, channel_base=1024, channel_max=8)
        x = generator(torch.empty(2, 6))
        assert x.shape == (2, 3, size, size)
        assert StyleGAN2Discriminator(size, channel_base=1024, channel_max=8)(x).scores.shape == (2,)


def test_channels_and_sizes_are_the_official_ones():
    with torch.device("meta"):
        generator, discriminator = StyleGAN2Generator(256), StyleGAN2Discriminator(256)
    found = [block.second.bias.numel() for block in generator.blocks]
    assert found == [512, 512, 512, 512, 256, 128]
    assert generator.num_styles == 14
    assert [block.first.bias.numel() for block in discriminator.blocks] == found[::-1]


def test_the_image_is_the_sum_over_sizes():
    generator, _ = networks(8)
    generator.eval()
    z = torch.randn(2, 6)
    image = generator(z)
    generator.blocks[0].colour.bias.data += 1.0
    torch.testing.assert_close(generator(z), image + 1.0)
    generator.colour.bias.data += 1.0
    inside = generator(z)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, image[..., 1:-1, 1:-1] + 2.0)


@torch.no_grad()
@pytest.mark.parametrize("num_classes", [None, 3])
def test_in_evaluation_a_sample_depends_on_its_latent_alone(num_classes):
    generator, _ = networks(num_classes=num_classes, mixing=0.9)
    noisy(generator).eval()
    z, y = torch.randn(5, 6), drawn(5, num_classes)
    x = generator(z, y)
    torch.testing.assert_close(generator(z, y), x, rtol=0, atol=0)
    alone = [generator(z[k : k + 1], None if y is None else y[k : k + 1]) for k in range(5)]
    torch.testing.assert_close(torch.cat(alone), x)
    torch.manual_seed(7)
    generator.train()
    assert not torch.allclose(generator(z, y), x, atol=1e-2)  # drawn noise


def test_noise_maps_travel_in_checkpoints():
    generator, _ = networks()
    other = StyleGAN2Generator(8, latent_dim=6, style_dim=8, **SMALL)
    noisy(generator).eval()
    other.load_state_dict(generator.state_dict())
    z = torch.randn(2, 6)
    assert torch.equal(other.eval()(z), generator(z))


def test_the_mean_style_moves_in_training_alone():
    generator, _ = networks(mean_decay=0.9)
    z = torch.randn(4, 6)
    generator.eval()(z)
    assert not generator.mean_style.any()
    generator.train()(z)
    first = 0.1 * generator.mapping(z).mean(dim=0)
    torch.testing.assert_close(generator.mean_style, first)
    generator(2 * z[:2])
    torch.testing.assert_close(generator.mean_style, 0.9 * first + 0.1 * generator.mapping(z[:2]).mean(dim=0))
    assert not generator.mean_style.requires_grad
    assert "mean_style" in generator.state_dict()


@torch.no_grad()
def test_truncation_pulls_to_the_mean_style_in_evaluation_alone():
    generator, _ = networks()
    generator(torch.randn(16, 6))
    z = torch.randn(3, 6)
    generator.eval()
    w, mean = generator.mapping(z), generator.mean_style
    generator.truncation = 0.25
    torch.testing.assert_close(generator.mapping(z), 0.25 * w + 0.75 * mean)
    torch.testing.assert_close(generator(z), generator.synthesis(0.25 * w + 0.75 * mean))
    generator.truncation = 0.0
    torch.testing.assert_close(generator(z), generator.synthesis(mean.expand(3, -1)))
    torch.testing.assert_close(generator.train().mapping(z), w)


@torch.no_grad()
def test_every_layer_may_have_a_style_of_its_own():
    generator, _ = networks(16)
    generator.eval()
    w = torch.randn(2, 8)
    styles = w[:, None].repeat(1, generator.num_styles, 1)
    torch.testing.assert_close(generator.synthesis(styles), generator.synthesis(w))
    for layer in range(generator.num_styles):
        changed = styles.clone()
        changed[:, layer] += 1.0
        assert not torch.allclose(generator.synthesis(changed), generator.synthesis(w))


@torch.no_grad()
def test_mixing_cuts_its_share_of_samples_at_any_layer():
    count = 3000
    generator, _ = networks(16, mixing=0.6)
    w = generator.mapping(torch.randn(count, 6))
    own = (generator._mixed(w, None) == w[:, None]).all(dim=2)
    mixed = ~own[:, -1]
    assert abs(mixed.float().mean() - 0.6) < 4 * (0.6 * 0.4 / count) ** 0.5
    cuts = own[mixed].sum(dim=1)
    assert torch.equal(own[mixed], torch.arange(6) < cuts[:, None])  # own styles first, the others' after
    assert torch.equal(cuts.unique(), torch.arange(1, 6))
    assert not torch.allclose(generator(torch.ones(2, 6))[0], generator(torch.ones(2, 6))[1])


def test_the_gradient_penalty_is_differentiable():
    _, discriminator = networks(num_classes=3)
    x, y = torch.randn(4, 3, 8, 8, requires_grad=True), drawn(4, 3)
    (gradient,) = torch.autograd.grad(discriminator(x, y).scores.sum(), x, create_graph=True)
    gradient.square().sum().backward()
    grads = {name: p.grad for name, p in discriminator.named_parameters() if "bias" not in name}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads.values())


def test_the_path_length_is_differentiable():
    generator, _ = networks()
    w = generator.mapping(torch.randn(2, 6))
    x = generator.synthesis(w)
    (gradient,) = torch.autograd.grad((x * torch.randn_like(x)).sum(), w, create_graph=True)
    gradient.square().sum(dim=1).sqrt().mean().backward()
    assert generator.mapper.layers[0].weight.grad.abs().sum() > 0


@torch.no_grad()
def test_samples_interact_by_their_deviation_alone():
    x = torch.randn(4, 3, 8, 8)
    for group_size, interacts in ((2, True), (None, False)):
        _, discriminator = networks(group_size=group_size)
        scores, alone = discriminator(x).scores, discriminator(x[:1]).scores
        assert torch.allclose(scores[:1], alone, atol=1e-6) is not interacts


def test_styles_are_not_rounded_under_autocast():
    generator, _ = networks()
    z = torch.randn(4, 6)
    w = generator.mapping(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(generator.mapping(z), w)
        x = generator.eval()(z)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, generator(z), rtol=0.05, atol=0.1)


def test_stages_hold_all_weights_in_order():
    _, discriminator = networks(16, num_classes=3)
    stages = discriminator.stages()
    assert (stages[0], stages[-1]) == (discriminator.image, discriminator.head)
    found = [id(p) for stage in stages for p in stage.parameters()]
    assert found == [id(p) for p in discriminator.parameters()]


@pytest.mark.parametrize(
    ("network", "options", "sentence"),
    [
        (StyleGAN2Generator, {"image_size": 36}, "image_size 36"),
        (StyleGAN2Discriminator, {"image_size": (32, 36)}, "image_size"),
        (StyleGAN2Generator, {"mixing": 1.5}, "StyleGAN2Generator.mixing is 1.5"),
        (StyleGAN2Generator, {"mean_decay": 1.0}, "StyleGAN2Generator.mean_decay is 1.0"),
        (StyleGAN2Generator, {"mapping_layers": 0}, "StyleGAN2Generator.mapping_layers is 0"),
        (StyleGAN2Generator, {"channel_max": 0}, "StyleGAN2Generator.channel_max is 0"),
        (StyleGAN2Discriminator, {"channel_base": 16}, "StyleGAN2Discriminator.channel_base is 16: .* at least 32"),
        (StyleGAN2Discriminator, {"group_size": -1}, "MinibatchStd.group_size is -1"),
    ],
)
def test_numbers_out_of_range_are_named(network, options, sentence):
    with pytest.raises(UserError, match=sentence):
        network(**options)


def test_initial_images_have_a_moderate_scale():
    generator, _ = networks(32)
    assert 0.1 < generator(torch.randn(16, 6)).std().item() < 3 * math.sqrt(4)
