"""Small networks of autoencoders, one step of training on record, and the same networks written out by hand."""

import copy
import math
from functools import partial

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from lightning_gen.data import Digits
from lightning_gen.networks import MLPDiscriminator
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder
from lightning_gen.noise import sample_seeds, step_seed

IMAGE = [1, 8, 8]
SGD = partial(torch.optim.SGD, lr=0.05)
ADAM = partial(torch.optim.Adam, lr=3e-3)
DIGITS = partial(Digits, image_size=8, batch_size=4)
JUDGE = partial(MLPDiscriminator, width=6, depth=1)


def networks(num_classes=None, width=7, **options):
    """The first three arguments of every family: encoder, decoder factory, length of a code."""
    torch.manual_seed(0)
    decoder = partial(MLPDecoder, sample_dim=IMAGE, width=width, depth=1, num_classes=num_classes, **options)
    return MLPEncoder(IMAGE, width, 1), decoder, 3


def one_step(model, data, make_trainer, **options):
    """Train one step in float64.

    Returns:
        The model as it was, the rows that the step saw, and what it returned; torch's generator is where the step
        found it.
    """
    before, seen = copy.deepcopy(model).double(), []
    original = model.training_step

    def training_step(batch, batch_idx):
        copied = {key: value.clone() for key, value in batch.items()}
        found = original(batch, batch_idx)
        seen.append((copied, found))
        return found

    model.training_step = training_step
    make_trainer(max_steps=1, precision="64-true", **options).fit(model, data)
    del model.training_step
    torch.manual_seed(step_seed(model.seed, 0, 0))
    return before, *seen[0]


class ByHand:
    """The networks of a model, written out from its weights; gradients and updates in plain torch."""

    def __init__(self, model):
        self.p = {name: p.detach().clone().requires_grad_(True) for name, p in model.named_parameters()}

    def linear(self, name, x):
        return x @ self.p[f"{name}.weight"].T + self.p[f"{name}.bias"]

    def features(self, x):
        return self.linear("encoder.layers.0", x.flatten(1)).clamp(min=0)

    def code(self, x):
        return self.linear("posterior.parameters_of.linear", self.features(x))

    def normal(self, x):
        """Mean and log-variance of DiagonalNormal."""
        return self.code(x).chunk(2, dim=1)

    def decode(self, z):
        return self.linear("decoder.layers.2", self.linear("decoder.layers.0", z).clamp(min=0))

    def judge(self, x, name="discriminator"):
        """Scores and features of MLPDiscriminator."""
        f = leaky_relu(self.linear(f"{name}.layers.0", x.flatten(1)), 0.2)
        return self.linear(f"{name}.score", f)[:, 0], f

    def update(self, loss, *prefixes, lr=0.05):
        """One step of gradient descent of the parameters whose names start so."""
        self.apply(self.gradients(loss, *prefixes), lr)

    def gradients(self, loss, *prefixes):
        names = [name for name in self.p if name.startswith(prefixes)]
        assert names
        found = torch.autograd.grad(loss, [self.p[name] for name in names], retain_graph=True, allow_unused=True)
        return {name: g for name, g in zip(names, found, strict=True) if g is not None}

    def apply(self, gradients, lr=0.05):
        for name, gradient in gradients.items():
            self.p[name] = (self.p[name].detach() - lr * gradient).requires_grad_(True)

    def check(self, model):
        """Every parameter of the model is the one found here."""
        found = dict(model.named_parameters())
        assert found.keys() == self.p.keys()
        for name, p in self.p.items():
            torch.testing.assert_close(found[name].detach(), p.detach(), rtol=1e-9, atol=1e-11, msg=name)


def squared_error(x, again):
    """−log N(x; again, I), nats a sample."""
    x = x.flatten(1)
    return (0.5 * (x - again).square().sum(dim=1) + 0.5 * x.shape[1] * math.log(2 * math.pi)).mean()


def pixel_error(model, num=256):
    """Mean squared error of reconstructed digits."""
    x = DIGITS().examples(num)["x"]
    return float((model.reconstruct(x) - x).square().mean())


def check_sampling(model, y=None):
    """Samples are of the data's shape and depend on their seeds alone; latents go there and back."""
    seeds = sample_seeds(7, torch.arange(6))
    modes = [module.training for module in model.train().modules()]
    whole = model.sample(6, y, seeds=seeds)
    assert whole.shape == (6, *IMAGE)
    parts = [model.sample(len(s), None if y is None else y[k], seeds=s) for s, k in _split(seeds)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    assert whole.unique(dim=0).shape[0] == 6
    assert [module.training for module in model.modules()] == modes
    way = model.interpolate(seeds, seeds.flip(0), torch.zeros(6), y)
    torch.testing.assert_close(way, whole, rtol=0, atol=1e-5)
    x = torch.rand(6, *IMAGE) * 2 - 1
    z = model.encode(x, y)
    assert z.shape == (6, model.latent_dim)
    torch.testing.assert_close(model.decode(z, y), model.reconstruct(x, y))


def _split(seeds):
    index = torch.tensor([3, 0, 5, 1, 4, 2]).argsort()
    return zip(seeds.split([1, 3, 2]), index.sort().values.split([1, 3, 2]), strict=True)


class Deaf(nn.Module):
    """A judge that says one thing of a whole batch."""

    num_classes = None

    def forward(self, x, y=None):
        return x.flatten().sum()[None]
