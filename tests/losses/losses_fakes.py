"""Critics and turns whose penalties have closed forms."""

import torch
from torch import nn

from lightning_gen.augmentation import Augmentation
from lightning_gen.losses.penalties import DiscriminatorTurn, GeneratorTurn
from lightning_gen.networks.base import Judgement, judgement


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Linear(nn.Module):
    """D(x) = w·x + b."""

    def __init__(self, size):
        super().__init__()
        self.w = nn.Parameter(random(size))
        self.b = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, y=None):
        return x.flatten(1) @ self.w + self.b


def quadratic(a):
    """D(x) = ½ xᵀAx, of gradient Ax."""
    return lambda x, y=None: 0.5 * torch.einsum("bi,ij,bj->b", x, a, x)


def psd(size):
    root = random(size, size)
    return root @ root.T


class Scaled(Augmentation):
    """T(x) = factor · x."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def no_generator(z, y=None):
    raise AssertionError("the generator was called")


def critic_turn(critic, real, fake=None, y=None, generator=no_generator, z=None, network=None, scores=None):
    """What a discriminator's penalty sees of a critic; scores are the critic's own unless given."""
    fake = real if fake is None else fake
    real_scores, fake_scores = scores or (critic(real, y), critic(fake, y))
    network = network or (critic if isinstance(critic, nn.Module) else nn.Module())
    return DiscriminatorTurn(critic, real, fake, y, real_scores, fake_scores, network, generator, z)


def blank_judge(x, y=None):
    return Judgement(x.flatten(1).sum(dim=1))


def generator_turn(generator, z, y=None, real=None, judge=blank_judge, network=None):
    """What a generator's penalty sees."""
    fake = generator(z, y)
    real = torch.zeros_like(fake).detach() if real is None else real
    network = network or (generator if isinstance(generator, nn.Module) else nn.Module())

    def judge_real():
        with torch.no_grad():
            return judge(real, y)

    return GeneratorTurn(generator, network, z, y, fake, judgement(judge(fake, y)), real, judge_real)
