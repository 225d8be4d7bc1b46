"""Samplers of latents against distributions that are known."""

import pytest
import scipy.stats
import torch
from torch import nn

from lightning_gen.callbacks import EMA, SampleGrid
from lightning_gen.data import Digits
from lightning_gen.errors import UserError
from lightning_gen.families import GAN
from lightning_gen.losses import NonSaturating
from lightning_gen.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
    Packed,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from lightning_gen.networks.base import Discriminator, Generator
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.samplers import Gaussian, Langevin, Truncated

N = 4000


class Identity(Generator):
    def __init__(self, latent_dim=2):
        super().__init__(latent_dim)
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, z, y=None):
        return self.scale * z


class Linear(Discriminator):
    """D(x) = a·x."""

    def __init__(self, *a):
        super().__init__()
        self.a = torch.tensor(a, dtype=torch.float64)

    def forward(self, x, y=None):
        return x @ self.a


def noise(n=N, seed=0):
    return Noise(sample_seeds(seed, torch.arange(n)))


def test_gaussian_latents_are_those_of_the_stream():
    assert torch.equal(Gaussian()(noise(5), None, Identity(3), Linear(1.0)), noise(5).normal(3, dtype=torch.float64))


@pytest.mark.parametrize("psi", [0.3, 1.0, 2.0])
def test_truncated_latents_have_the_truncated_normal_distribution(psi):
    z = Truncated(psi)(noise(), None, Identity(2), Linear(1.0)).flatten()
    assert z.dtype == torch.float64
    assert float(z.abs().max()) <= psi
    assert scipy.stats.kstest(z.numpy(), scipy.stats.truncnorm(-psi, psi).cdf).pvalue > 0.01
    assert scipy.stats.kstest(z.numpy(), scipy.stats.norm.cdf).pvalue < 0.01 or psi > 1.5


def test_a_wide_truncation_is_none():
    z = Truncated(float("inf"))(noise(), None, Identity(1), Linear(1.0)).flatten()
    assert scipy.stats.kstest(z.numpy(), scipy.stats.norm.cdf).pvalue > 0.01


def test_langevin_samples_the_tilted_prior():
    # p(z) exp(a·z) is N(a, I); what the discretised chain has instead is known: variance 1 / (1 − ε/4)
    a, step = (0.8, -0.5), 0.2
    z = Langevin(steps=80, step_size=step)(noise(), None, Identity(2), Linear(*a))
    deviation = (1 / (1 - step / 4)) ** 0.5
    for k in range(2):
        assert scipy.stats.kstest(z[:, k].numpy(), scipy.stats.norm(a[k], deviation).cdf).pvalue > 0.01


def test_langevin_without_noise_climbs_to_the_maximum():
    z = Langevin(steps=200, step_size=0.5, noise=0.0)(noise(8), None, Identity(2), Linear(0.8, -0.5))
    torch.testing.assert_close(z, torch.tensor([0.8, -0.5], dtype=torch.float64).expand(8, 2), rtol=0, atol=1e-8)


def test_no_steps_are_plain_latents():
    assert torch.equal(
        Langevin(steps=0)(noise(5), None, Identity(3), Linear(1.0)), noise(5).normal(3, dtype=torch.float64)
    )


@pytest.mark.parametrize("sampler", [Truncated(0.5), Langevin(steps=3)])
def test_a_sample_depends_on_its_seed_alone(sampler):
    torch.manual_seed(0)
    networks = MLPGenerator(latent_dim=4, width=8), MLPDiscriminator(width=8)
    adam = torch.optim.Adam
    gan = GAN(*networks, NonSaturating(), adam, adam, sampler=sampler)
    seeds = sample_seeds(3, torch.arange(7))
    whole = gan.sample(7, seeds=seeds)
    parts = torch.cat([gan.sample(len(part), seeds=part) for part in seeds.split([2, 5])])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    gan.sampler = Gaussian()
    assert not torch.allclose(gan.sample(7, seeds=seeds), whole)
    assert all(p.grad is None for p in gan.parameters())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Truncated(-1.0), "Truncated.psi is -1.0"),
        (lambda: Langevin(steps=-1), "Langevin.steps is -1"),
        (lambda: Langevin(step_size=0.0), "Langevin.step_size is 0.0"),
        (lambda: Langevin(noise=-0.1), "Langevin.noise is -0.1"),
        (lambda: Truncated(0.0)(noise(2), None, Identity(2), Linear(1.0)), "psi is 0"),
    ],
)
def test_bad_arguments_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


# -------------------------------------------------------------------- in a run


@pytest.mark.parametrize("sampler", [Truncated(0.5), Langevin(steps=2)])
def test_a_recipe_may_have_a_sampler(sampler, make_trainer, tmp_path):
    image = {"image_size": 8, "channels": 1, "width": 4}
    adam = torch.optim.Adam
    gan = GAN(DCGANGenerator(**image), DCGANDiscriminator(**image), NonSaturating(), adam, adam, sampler=sampler)
    trainer = make_trainer(EMA(), SampleGrid(num=4), max_steps=2, val_check_interval=1, limit_val_batches=1)
    trainer.fit(gan, Digits(image_size=8, batch_size=8))  # validation runs in inference mode
    assert len(list(tmp_path.rglob("grids/*.png"))) == 2


@pytest.mark.parametrize(
    "discriminator",
    [Packed(DCGANDiscriminator(8, 2, 4)), StyleGAN2Discriminator(8, 1, channel_base=64, channel_max=8)],
    ids=["packed", "minibatch_std"],
)
def test_langevin_needs_scores_of_single_samples(discriminator, make_trainer):
    adam = torch.optim.Adam
    gan = GAN(DCGANGenerator(8, 1, width=4), discriminator, NonSaturating(), adam, adam, sampler=Langevin(2))
    with pytest.raises(UserError, match="Langevin needs scores of single samples"):
        make_trainer(max_steps=1).fit(gan, Digits(image_size=8, batch_size=8))


def test_styles_are_truncated_for_one_draw_alone():
    image = {"image_size": 8, "channels": 1, "channel_base": 64, "channel_max": 8}
    networks = StyleGAN2Generator(latent_dim=8, style_dim=8, truncation=0.9, **image), StyleGAN2Discriminator(**image)
    gan = GAN(*networks, NonSaturating(), torch.optim.Adam, torch.optim.Adam, sampler=Truncated(0.0))
    seeds = sample_seeds(0, torch.arange(3))
    none = gan.sample(3, seeds=seeds)
    torch.testing.assert_close(none, none[:1].expand(3, -1, -1, -1), rtol=0, atol=1e-5)  # the mean style's image
    assert gan.generator.truncation == 0.9
    gan.sampler = Gaussian()
    assert not torch.allclose(*gan.sample(2, seeds=seeds[:2]))
    gan.sampler = Truncated(1.5)
    with pytest.raises(UserError, match="at most 1"):
        gan.sample(2, seeds=seeds[:2])
