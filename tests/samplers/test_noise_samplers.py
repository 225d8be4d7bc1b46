"""Noise of flows at temperatures."""

import math

import pytest
import torch

from lightning_gen.distributions import DiagonalNormal, StandardNormal, draw
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.samplers import FromBase, Temperature


def noise(n=4000):
    return Noise(sample_seeds(0, torch.arange(n)))


def test_noise_is_that_of_the_base():
    base = StandardNormal(3)
    assert torch.equal(FromBase()(noise(), base), draw(base(), noise(), 1)[0])


def test_a_temperature_scales_deviations_from_the_mean():
    base = DiagonalNormal(2)
    with torch.no_grad():
        base.parameters_of.value.copy_(torch.tensor([[5.0, -1.0], [0.0, 2 * math.log(3.0)]]))
        z = Temperature(0.5)(noise(), base)
        assert torch.equal(Temperature(0.0)(noise(), base)[0], torch.tensor([5.0, -1.0]))
        torch.testing.assert_close(Temperature(1.0)(noise(), base), FromBase()(noise(), base))
    torch.testing.assert_close(z.mean(0), torch.tensor([5.0, -1.0]), rtol=0, atol=5 * 1.5 / 4000**0.5)
    torch.testing.assert_close(z.std(0), torch.tensor([0.5, 1.5]), rtol=0.06, atol=0)


def test_a_row_depends_on_its_stream_alone():
    base = StandardNormal(3)
    seeds = sample_seeds(0, torch.arange(6))
    assert torch.equal(Temperature()(Noise(seeds[2:4]), base), Temperature()(Noise(seeds), base)[2:4])


def test_a_negative_temperature_is_refused():
    with pytest.raises(UserError, match=r"Temperature.temperature is -1"):
        Temperature(-1)
