"""The recipes of `benchmark_step.py`: for each the networks, the model that `fit` trains, and the same loop by hand."""

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus

from lightning_gen.families import GAN, VAE, Diffusion, FlowMatching
from lightning_gen.losses import Hinge, NonSaturating
from lightning_gen.losses.denoising import SimpleLoss
from lightning_gen.losses.likelihoods import Bernoulli
from lightning_gen.model import GenerativeModel
from lightning_gen.networks import (
    BigGANDiscriminator,
    BigGANGenerator,
    DCGANDiscriminator,
    DCGANGenerator,
    ResNetDiscriminator,
    ResNetGenerator,
)
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder
from lightning_gen.networks.sizes import size_plan
from lightning_gen.networks.time_dependent import TimeMLP, UNet
from lightning_gen.preconditioning import Epsilon
from lightning_gen.samplers.diffusion import DDPM
from lightning_gen.schedules import LinearBeta

NUM_CLASSES = 10
CRITIC_STEPS = 5
TOTAL_STEPS = 100_000

Feed = Iterator[tuple[Tensor, Tensor | None]]
"""Endless batches: (B, 3, H, W) images in [-1, 1], and their (B,) classes if there are any."""

Players = tuple[Any, ...]
"""Generator and discriminator, encoder and decoder, or one network."""


class Clock:
    """Time from the end of step `first` to the end of step `last`, counted from 1."""

    def __init__(self, first: int, last: int, device: torch.device) -> None:
        self.first, self.last, self.device = first, last, device
        self.step, self.seconds = 0, float("nan")

    def now(self) -> float:
        """Seconds, when the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def tick(self) -> None:
        """A step has ended."""
        self.step += 1
        if self.step == self.first:
            self.start = self.now()
        elif self.step == self.last:
            self.seconds = self.now() - self.start


@dataclass(frozen=True)
class Recipe:
    """What is trained.

    Attributes:
        networks: makes a generator and a discriminator, or whatever the model is made of.
        model: the model that `fit` trains, of them and whether weights are channels last.
        train_plainly: the loop by hand, until its clock's last step.
        arms: names of those that are measured.
        batch_size: unless another is asked for; images of one update.
        width: of the networks, likewise.
        num_critic_steps: updates of the discriminator, and batches, a step.
        decay: of the averaged network, or None for no averaging.
        averaged: which one that is, as the model calls it.
        conditional: whether images have classes.
        shape: channels, and height and width unless others are asked for.
        binary: whether pixels are black or white.
    """

    networks: Callable[[argparse.Namespace], Players]
    model: Callable[[Players, bool], GenerativeModel]
    train_plainly: Callable[[Feed, Clock, argparse.Namespace], None]
    arms: tuple[str, ...] = ("plain", "fit_bare", "fit")
    batch_size: int = 16
    width: int = 64
    num_critic_steps: int = 1
    decay: float | None = None
    averaged: str = "generator"
    conditional: bool = False
    shape: tuple[int, int] = (3, 32)
    binary: bool = False


def players(options: argparse.Namespace) -> Players:
    """Fresh networks on the device, the same for every arm of a recipe."""
    torch.manual_seed(0)
    networks = RECIPES[options.recipe].networks(options)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    for network in networks:
        network.to(options.device, memory_format=layout)
    return networks


def half(options: argparse.Namespace) -> AbstractContextManager:
    """Autocast, if asked for."""
    return torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16-mixed")


# ---------------------------------------------------------------- DCGAN

dcgan_adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))


def dcgan(options: argparse.Namespace) -> Players:
    """Of Radford et al., with 128 latents."""
    size, width = options.image_size, options.width
    return DCGANGenerator(size, 3, 128, width), DCGANDiscriminator(size, 3, width)


def train_dcgan_plainly(batches: Feed, clock: Clock, options: argparse.Namespace) -> None:
    """The step of Goodfellow et al. with a non-saturating loss, as one would write it for one experiment."""
    generator, discriminator = players(options)
    g_optimizer, d_optimizer = dcgan_adam(generator.parameters()), dcgan_adam(discriminator.parameters())
    average = copy.deepcopy(generator).requires_grad_(False)
    pairs = list(average.parameters()), list(generator.parameters())
    buffers = list(average.buffers()), list(generator.buffers())

    for x, _ in batches:
        d_optimizer.zero_grad()
        with half(options):
            with torch.no_grad():
                fake = generator(torch.randn(len(x), generator.latent_dim, device=x.device))
            real_scores, fake_scores = discriminator(x).scores.float(), discriminator(fake).scores.float()
        (softplus(-real_scores).mean() + softplus(fake_scores).mean()).backward()
        d_optimizer.step()

        discriminator.requires_grad_(False)
        g_optimizer.zero_grad()
        with half(options):
            z = torch.randn(len(x), generator.latent_dim, device=x.device)
            fake_scores = discriminator(generator(z)).scores.float()
        softplus(-fake_scores).mean().backward()
        g_optimizer.step()
        discriminator.requires_grad_(True)

        with torch.no_grad():
            torch._foreach_lerp_(*pairs, 1 - 0.999)
            torch._foreach_copy_(*buffers)
        clock.tick()
        if clock.step == clock.last:
            return


# ---------------------------------------------------------------- SNGAN

sngan_adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.0, 0.9))
linear = partial(torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.0, total_iters=TOTAL_STEPS)


def sngan(options: argparse.Namespace) -> Players:
    """As the CIFAR-10 recipe has them; the discriminator is half as wide."""
    size, width = options.image_size, options.width
    generator = ResNetGenerator(size, 3, 128, width, upsample="bilinear")
    return generator, ResNetDiscriminator(size, 3, width // 2)


def train_sngan_plainly(batches: Feed, clock: Clock, options: argparse.Namespace) -> None:
    """Five updates of the critic and one of the generator on hinge losses; rates that fall linearly."""
    generator, discriminator = players(options)
    g_optimizer, d_optimizer = sngan_adam(generator.parameters()), sngan_adam(discriminator.parameters())
    schedules = linear(g_optimizer), linear(d_optimizer)

    while clock.step < clock.last:
        for _ in range(CRITIC_STEPS):
            x, _ = next(batches)
            d_optimizer.zero_grad()
            with half(options):
                with torch.no_grad():
                    fake = generator(torch.randn(len(x), generator.latent_dim, device=x.device))
                real_scores, fake_scores = discriminator(x).scores.float(), discriminator(fake).scores.float()
            (relu(1 - real_scores).mean() + relu(1 + fake_scores).mean()).backward()
            d_optimizer.step()

        discriminator.requires_grad_(False)
        g_optimizer.zero_grad()
        with half(options):
            z = torch.randn(len(x), generator.latent_dim, device=x.device)
            fake_scores = discriminator(generator(z)).scores.float()
        (-fake_scores.mean()).backward()
        g_optimizer.step()
        discriminator.requires_grad_(True)

        for schedule in schedules:
            schedule.step()
        clock.tick()


# ---------------------------------------------------------------- BigGAN

biggan_adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999), eps=1e-6)


def biggan(options: argparse.Namespace) -> Players:
    """As the CIFAR-10 recipe has them: ten classes, and attention at half the size."""
    size, width = options.image_size, options.width
    shared = {"num_classes": NUM_CLASSES, "attention": [size // 2]}
    latent_dim = 20 * (1 + size_plan(size)[1])  # 80 for 32 pixels
    return BigGANGenerator(size, 3, latent_dim, width, **shared), BigGANDiscriminator(size, 3, width, **shared)


def train_biggan_plainly(batches: Feed, clock: Clock, options: argparse.Namespace) -> None:
    """Five updates of the critic and one of the generator on hinge losses, with classes, and averaged weights."""
    generator, discriminator = players(options)
    g_optimizer, d_optimizer = biggan_adam(generator.parameters()), biggan_adam(discriminator.parameters())
    average = copy.deepcopy(generator).requires_grad_(False)
    pairs = list(average.parameters()), list(generator.parameters())
    buffers = list(average.buffers()), list(generator.buffers())

    while clock.step < clock.last:
        for _ in range(CRITIC_STEPS):
            x, y = next(batches)
            d_optimizer.zero_grad()
            with half(options):
                with torch.no_grad():
                    fake = generator(torch.randn(len(x), generator.latent_dim, device=x.device), y)
                real_scores, fake_scores = discriminator(x, y).scores.float(), discriminator(fake, y).scores.float()
            (relu(1 - real_scores).mean() + relu(1 + fake_scores).mean()).backward()
            d_optimizer.step()

        discriminator.requires_grad_(False)
        g_optimizer.zero_grad()
        with half(options):
            z = torch.randn(len(x), generator.latent_dim, device=x.device)
            fake_scores = discriminator(generator(z, y), y).scores.float()
        (-fake_scores.mean()).backward()
        g_optimizer.step()
        discriminator.requires_grad_(True)

        with torch.no_grad():
            torch._foreach_lerp_(*pairs, 1 - 0.9999)
            torch._foreach_copy_(*buffers)
        clock.tick()


# ---------------------------------------------------------------- VAE

LATENT_DIM = 16
vae_adam = partial(torch.optim.Adam, lr=1e-3, fused=True)


def autoencoder(options: argparse.Namespace) -> Players:
    """One hidden layer each."""
    shape = [1, options.image_size, options.image_size]
    return MLPEncoder(shape, options.width, 1), MLPDecoder(LATENT_DIM, 1, shape, options.width, 1)


def vae(networks: Players, last: bool) -> VAE:
    """The model."""
    encoder, decoder = networks
    return VAE(encoder, lambda latent_dim, num_parameters: decoder, LATENT_DIM, Bernoulli(), vae_adam)


def train_vae_plainly(batches: Feed, clock: Clock, options: argparse.Namespace) -> None:
    """Kingma and Welling's, as PyTorch's own example has it."""
    encoder, decoder = players(options)
    head = torch.nn.Linear(encoder.num_features, 2 * LATENT_DIM, device=options.device)
    optimizer = vae_adam([*encoder.parameters(), *head.parameters(), *decoder.parameters()])
    for x, _ in batches:
        optimizer.zero_grad()
        with half(options):
            mean, log_variance = head(encoder(x)).chunk(2, dim=1)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            logits = decoder(z).float()
        error = binary_cross_entropy_with_logits(logits[:, 0], (x + 1) / 2, reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        ((error + kl) / len(x)).backward()
        optimizer.step()
        clock.tick()
        if clock.step == clock.last:
            return


# ---------------------------------------------------------------- DDPM

ddpm_adam = partial(torch.optim.Adam, lr=2e-4)


def unet(options: argparse.Namespace) -> Players:
    """Of Ho et al., for CIFAR-10."""
    return (UNet(options.image_size, 3, options.width),)


def ddpm(networks: Players, last: bool) -> Diffusion:
    """The model."""
    return Diffusion(*networks, LinearBeta(), Epsilon(), SimpleLoss(), DDPM(), ddpm_adam)


def train_ddpm_plainly(batches: Feed, clock: Clock, options: argparse.Namespace) -> None:
    """Algorithm 1 of Ho et al., and averaged weights."""
    (network,) = players(options)
    optimizer = ddpm_adam(network.parameters())
    average = copy.deepcopy(network).requires_grad_(False)
    pairs = list(average.parameters()), list(network.parameters())
    alpha_bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, device=options.device), dim=0)
    for x, _ in batches:
        optimizer.zero_grad()
        step, epsilon = torch.randint(1000, (len(x),), device=x.device), torch.randn_like(x)
        alpha_bar = alpha_bars[step].view(-1, 1, 1, 1)
        with half(options):
            output = network(alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * epsilon, (step + 1) / 1000)
        (output.float() - epsilon).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(*pairs, 1 - 0.9999)
        clock.tick()
        if clock.step == clock.last:
            return


# ---------------------------------------------------------------- flow matching

flow_adam = partial(torch.optim.Adam, lr=1e-3, fused=True)


def time_mlp(options: argparse.Namespace) -> Players:
    """Four residual layers."""
    return (TimeMLP([1, options.image_size, options.image_size], options.width),)


def train_flow_matching_plainly(batches: Feed, clock: Clock, options: argparse.Namespace) -> None:
    """Straight paths from noise to samples."""
    (network,) = players(options)
    optimizer = flow_adam(network.parameters())
    for x, _ in batches:
        optimizer.zero_grad()
        t, noise = torch.rand(len(x), device=x.device), torch.randn_like(x)
        s = t.view(-1, 1, 1, 1)
        with half(options):
            velocity = network(s * x + (1 - s) * noise, t)
        (velocity.float() - (x - noise)).square().mean().backward()
        optimizer.step()
        clock.tick()
        if clock.step == clock.last:
            return


# ---------------------------------------------------------------- all of them


def gan(networks: Players, last: bool, loss: type, adam: Callable[..., torch.optim.Optimizer], **parts: object) -> GAN:
    """The model, with one optimiser for both networks."""
    return GAN(*networks, loss(), adam, adam, channels_last=last, **parts)


RECIPES = {
    "dcgan": Recipe(
        dcgan,
        partial(gan, loss=NonSaturating, adam=dcgan_adam),
        train_dcgan_plainly,
        arms=("plain", "fit_bare", "fit", "plain_workers", "fit_data", "fit_last"),
        batch_size=64,
        decay=0.999,
    ),
    "sngan": Recipe(
        sngan,
        partial(
            gan,
            loss=Hinge,
            adam=sngan_adam,
            num_critic_steps=CRITIC_STEPS,
            generator_scheduler=linear,
            discriminator_scheduler=linear,
        ),
        train_sngan_plainly,
        width=256,
        num_critic_steps=CRITIC_STEPS,
    ),
    "biggan": Recipe(
        biggan,
        partial(gan, loss=Hinge, adam=biggan_adam, num_critic_steps=CRITIC_STEPS),
        train_biggan_plainly,
        width=96,
        num_critic_steps=CRITIC_STEPS,
        decay=0.9999,
        conditional=True,
    ),
    "ddpm": Recipe(unet, ddpm, train_ddpm_plainly, decay=0.9999, averaged="network"),
    "flow_matching": Recipe(
        time_mlp,
        lambda networks, last: FlowMatching(*networks, flow_adam),
        train_flow_matching_plainly,
        batch_size=128,
        width=256,
        shape=(1, 8),
    ),
    "vae": Recipe(autoencoder, vae, train_vae_plainly, batch_size=128, width=400, shape=(1, 28), binary=True),
}
