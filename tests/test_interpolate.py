"""Walking between samples: the sphere in closed form, and what a model keeps on the way."""

import math
from functools import partial

import pytest
import torch

from lightning_gen.abilities import Interpolates
from lightning_gen.errors import UserError
from lightning_gen.families import GAN
from lightning_gen.latents import slerp
from lightning_gen.losses import NonSaturating
from lightning_gen.networks import DCGANDiscriminator, DCGANGenerator
from lightning_gen.noise import Noise, sample_seeds


def pairs(n=20, d=8, dtype=torch.float64):
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(0), dtype=dtype)


# -------------------------------------------------------------------- the sphere


def test_in_the_plane_the_angle_turns_at_constant_speed():
    angles = torch.tensor([0.3, 1.2, 2.9, -2.0], dtype=torch.float64)
    a, b = torch.tensor([[2.0, 0.0]] * 4).double(), 3 * torch.stack([angles.cos(), angles.sin()], dim=1)
    for t in (0.0, 0.25, 0.5, 1.0, 1.1):
        expected = (2 + t) * torch.stack([(t * angles).cos(), (t * angles).sin()], dim=1)
        torch.testing.assert_close(slerp(a, b, torch.full((4,), t, dtype=torch.float64)), expected)


def test_ends_lengths_and_symmetry():
    a, b = pairs()
    zero = torch.zeros(20, dtype=torch.float64)
    torch.testing.assert_close(slerp(a, b, zero), a, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(slerp(a, b, zero + 1), b, rtol=1e-14, atol=1e-14)
    t = torch.linspace(0, 1, 20, dtype=torch.float64)
    z = slerp(a, b, t)
    torch.testing.assert_close(z.norm(dim=1), (1 - t) * a.norm(dim=1) + t * b.norm(dim=1))
    torch.testing.assert_close(z, slerp(b, a, 1 - t))
    torch.testing.assert_close(slerp(a.float(), b.float(), t), z.float())
    assert slerp(a.float(), b.float(), t).dtype == torch.float32


def test_nearly_parallel_keeps_its_digits():
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[math.cos(1e-5), math.sin(1e-5)]], dtype=torch.float64)
    half = slerp(a, b, torch.tensor([0.5]))
    assert float(half[0, 1]) == pytest.approx(math.sin(5e-6), rel=1e-10)


@pytest.mark.parametrize("factor", [2.0, -1.0, 1.0])
def test_where_no_circle_joins_the_ends_the_line_is_straight(factor):
    a = pairs()[0]
    torch.testing.assert_close(slerp(a, factor * a, torch.full((20,), 0.25)), (0.75 + 0.25 * factor) * a)


# -------------------------------------------------------------------- a model


@pytest.fixture(params=[None, 10], ids=["unconditional", "conditional"])
def model(request):
    torch.manual_seed(0)
    image = {"image_size": 8, "channels": 1, "width": 8, "num_classes": request.param}
    adam = partial(torch.optim.Adam, lr=1e-3)
    networks = DCGANGenerator(latent_dim=8, **image), DCGANDiscriminator(**image)
    return GAN(*networks, NonSaturating(), generator_optimizer=adam, discriminator_optimizer=adam)


@pytest.fixture
def seeds():
    return sample_seeds(0, torch.arange(6)), sample_seeds(1, torch.arange(6))


def test_a_gan_says_that_it_can(model):
    assert isinstance(model, Interpolates)
    assert not isinstance(torch.nn.Linear(1, 1), Interpolates)


def test_it_leads_from_one_sample_to_the_other(model, seeds):
    a, b = seeds
    drawn = model.draw(6, seeds=a)
    torch.testing.assert_close(model.interpolate(a, b, torch.zeros(6)), drawn["x"], rtol=0, atol=1e-6)
    other = model.sample(6, drawn.get("y"), seeds=b)  # the class stays
    torch.testing.assert_close(model.interpolate(a, b, torch.ones(6)), other, rtol=0, atol=1e-6)
    assert not torch.allclose(model.interpolate(a, b, torch.full((6,), 0.5)), drawn["x"], atol=1e-3)


def test_halfway_against_the_definition(model, seeds):
    latents, y = [], None
    for each in seeds:
        noise = Noise(each)
        drawn = noise.integers(10) if model.num_classes else None
        y = drawn if y is None else y
        latents.append(noise.normal(8))
    with torch.no_grad():
        expected = model.generator.eval()(slerp(*latents, torch.full((6,), 0.5)), y)
    torch.testing.assert_close(model.interpolate(*seeds, torch.full((6,), 0.5)), expected, rtol=0, atol=1e-6)


def test_classes_are_obeyed_or_refused(model, seeds):
    t = torch.linspace(0, 1, 6)
    if model.num_classes is None:
        with pytest.raises(UserError, match="unconditional"):
            model.interpolate(*seeds, t, torch.zeros(6, dtype=torch.int64))
        return
    y = torch.arange(6)
    torch.testing.assert_close(
        model.interpolate(*seeds, torch.zeros(6), y), model.sample(6, y, seeds=seeds[0]), rtol=0, atol=1e-6
    )
    with pytest.raises(UserError, match=r"class 10, .* does not exist"):
        model.interpolate(*seeds, t, y + 10)


def test_it_leaves_mode_and_gradients(model, seeds):
    model.train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    x = model.interpolate(*seeds, torch.full((6,), 0.5))
    assert not x.requires_grad
    assert all(module.training for module in model.modules())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
