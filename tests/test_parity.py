"""Whole steps of SNGAN and WGAN-GP against a rewriting in plain torch, for any number of updates and processes.

The rewriting shares nothing with the package but the names of the weights and the seed of a step: networks, spectral
norm, losses, penalty, Adam, decay and averaging are written out from the papers. It draws the numbers of a step in the
family's order, from a stream for each process that (seed, step, rank) seeds: for each batch of each critic update the
latents, then under WGAN-GP one ε a sample; then for each batch of the generator's update the latents.
"""

import importlib.util
import subprocess
import sys
from collections import ChainMap
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lightning_gen.noise import step_seed

TOLERANCE = 1e-10  # of float64; a step that passes through float32 anywhere is off by 1e-8
SCRIPT = Path(__file__).parent / "processes" / "train_parity.py"
spec = importlib.util.spec_from_file_location("train_parity", SCRIPT)
runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runs)


# -------------------------------------------------------------------- the rewriting


def stream(seed, step, rank):
    """The random numbers of one process in one step."""
    return torch.Generator().manual_seed(step_seed(seed, step, rank))


def latents(draws, count):
    return torch.randn(count, runs.LATENT_DIM, generator=draws, dtype=torch.float64)


def convolve(state, name, h, weight=None):
    weight = state[f"{name}.weight"] if weight is None else weight
    return F.conv2d(h, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def halve(h):
    return h.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean(dim=(3, 5))


def double(h):
    return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def normalise(state, name, h):
    """Batch norm by the batch's own statistics; running ones, which nothing here reads, follow it."""
    mean = h.mean(dim=(0, 2, 3))
    centred = h - mean[:, None, None]
    variance = centred.square().mean(dim=(0, 2, 3))
    count = h.numel() / h.shape[1]
    for key, value in (("mean", mean), ("var", variance * count / (count - 1))):
        state[f"{name}.running_{key}"] = 0.9 * state[f"{name}.running_{key}"] + 0.1 * value.detach()
    gain, bias = (state[f"{name}.{key}"][:, None, None] for key in ("weight", "bias"))
    return gain * centred / (variance[:, None, None] + 1e-5).sqrt() + bias


def generate(state, z):
    h = (z @ state["generator.project.weight"].T + state["generator.project.bias"]).reshape(len(z), -1, 4, 4)
    for name in ("generator.blocks.0", "generator.blocks.1"):
        r = convolve(state, f"{name}.conv1", double(normalise(state, f"{name}.norm1", h).relu()))
        r = convolve(state, f"{name}.conv2", normalise(state, f"{name}.norm2", r).relu())
        h = r + convolve(state, f"{name}.shortcut", double(h))
    return convolve(state, "generator.image.2", normalise(state, "generator.image.0", h).relu()).tanh()


class Rewriting:
    """What both recipes share; a subclass has the critic's weights, its pooling and the two losses."""

    decay = True
    draws = staticmethod(stream)

    def critic(self, state, x):
        def layer(name, h):
            return convolve(state, f"discriminator.{name}", h, self.weight(state, f"discriminator.{name}"))

        h = layer("blocks.0.conv2", layer("blocks.0.conv1", x).relu())
        h = halve(h) + halve(layer("blocks.0.shortcut", x))
        r = layer("blocks.1.conv2", layer("blocks.1.conv1", h.relu()).relu())
        h = halve(r) + halve(layer("blocks.1.shortcut", h))
        for k in (2, 3):
            h = h + layer(f"blocks.{k}.conv2", layer(f"blocks.{k}.conv1", h.relu()).relu())
        name = "discriminator.head.score"
        return self.pool(h.relu()) @ self.weight(state, name)[0] + state[f"{name}.bias"]

    def combine(self, gradients):
        """Of the batches of one update."""
        return sum(gradients) / len(gradients)

    def replay(self, kept):
        """The state after the steps of a run, and the terms of each; `kept` has a record for each process."""
        self.start(kept)
        terms = []
        for step in range(len(kept[0]["batches"])):
            draws = [self.draws(kept[0]["seed"], step, rank) for rank in range(len(kept))]
            shares = [record["batches"][step].double().chunk(self.n * self.a) for record in kept]
            self.rate = 0.005 * (1 - step / 4 if self.decay else 1)
            for k in range(self.n):
                now = [share[k * self.a : (k + 1) * self.a] for share in shares]
                critic = self.update("discriminator", self.critic_loss, now, draws)
            terms.append(critic | self.update("generator", self.generator_loss, now, draws))
        return self.parameters | self.buffers[0], terms

    def start(self, kept):
        before = kept[0]["before"]
        self.parameters = {name: before[name].clone() for name in kept[0]["parameters"]}
        self.buffers = [{n: t for n, t in before.items() if n not in self.parameters} for _ in kept]
        self.moments = {name: (torch.zeros_like(t), torch.zeros_like(t)) for name, t in self.parameters.items()}
        self.count = {"generator": 0, "discriminator": 0}

    def update(self, player, loss, shares, draws):
        """One step of Adam on the mean gradient; the terms of the loss on rank zero."""
        names = [name for name in self.parameters if name.startswith(player)]
        leaves = [self.parameters[name].requires_grad_() for name in names]
        of_ranks, of_batches = [], []
        for rank, share in enumerate(shares):
            gradients = []
            for x in share:
                total, terms = loss(ChainMap(self.buffers[rank], self.parameters), x, draws[rank])
                gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(total, leaves)]))
                of_batches += [terms] if rank == 0 else []
            of_ranks.append(self.combine(gradients))
        mean = (sum(of_ranks) / len(of_ranks)).split([leaf.numel() for leaf in leaves])
        self.adam(player, names, [g.reshape(leaf.shape) for g, leaf in zip(mean, leaves, strict=True)])
        self.average_buffers()
        return {key: sum(terms[key].item() for terms in of_batches) / len(of_batches) for key in terms}

    def adam(self, player, names, gradients):
        self.count[player] += 1
        t = self.count[player]
        for name, g in zip(names, gradients, strict=True):
            m, v = self.moments[name]
            m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g * g
            self.moments[name] = m, v
            step = self.rate * (m / (1 - 0.5**t)) / ((v / (1 - 0.9**t)).sqrt() + 0.1)
            self.parameters[name] = self.parameters[name].detach() - step

    def average_buffers(self):
        for name in (n for n, t in self.buffers[0].items() if t.is_floating_point()):
            mean = sum(buffers[name] for buffers in self.buffers) / len(self.buffers)
            for buffers in self.buffers:
                buffers[name] = mean


class SNGAN(Rewriting):
    """Miyato et al., ICLR 2018: hinge losses (eqs. 16–17), W / σ(W) by one power iteration a use (algorithm 1)."""

    def weight(self, state, name):
        chain = f"{name}.parametrizations.weight"
        weight = state[f"{chain}.original"]
        matrix = weight.reshape(len(weight), -1)
        u, v = self.iterate(matrix.detach(), state[f"{chain}.0.inner._u"], state[f"{chain}.0.inner._v"])
        state[f"{chain}.0.inner._u"], state[f"{chain}.0.inner._v"] = u, v
        return weight / torch.einsum("i,ij,j->", u, matrix, v)

    def iterate(self, matrix, u, v):
        u = matrix @ v
        u = u / u.square().sum().sqrt()
        v = matrix.T @ u
        return u, v / v.square().sum().sqrt()

    def pool(self, h):
        return h.sum(dim=(2, 3))

    def critic_loss(self, state, x, draws):
        fake = generate(state, latents(draws, len(x))).detach()
        loss = (1 - self.critic(state, x)).clamp(min=0).mean() + (1 + self.critic(state, fake)).clamp(min=0).mean()
        return loss, {"d_loss": loss}

    def generator_loss(self, state, x, draws):
        loss = -self.critic(state, generate(state, latents(draws, len(x)))).mean()
        return loss, {"g_loss": loss}


class WGANGP(Rewriting):
    """Gulrajani et al., NIPS 2017: Wasserstein losses and eq. 3."""

    penalty_weight = 10.0

    def weight(self, state, name):
        return state[f"{name}.weight"]

    def pool(self, h):
        return h.mean(dim=(2, 3))

    def epsilon(self, x, draws):
        return torch.rand(len(x), 1, 1, 1, generator=draws, dtype=torch.float64)

    def critic_loss(self, state, x, draws):
        fake = generate(state, latents(draws, len(x))).detach()
        loss = self.critic(state, fake).mean() - self.critic(state, x).mean()
        epsilon = self.epsilon(x, draws)
        between = (epsilon * x + (1 - epsilon) * fake).requires_grad_()
        (g,) = torch.autograd.grad(self.critic(state, between).sum(), between, create_graph=True)
        penalty = self.penalty_weight * ((g.square().sum(dim=(1, 2, 3)).sqrt() - 1) ** 2).mean()
        return loss + penalty, {"d_loss": loss, "gradient_penalty": penalty}

    generator_loss = SNGAN.generator_loss


REWRITINGS = {"sngan": SNGAN, "wgan_gp": WGANGP}


# -------------------------------------------------------------------- the comparison


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Records of a case for a number of processes; a case is trained once."""
    folder, known = tmp_path_factory.mktemp("parity"), {}

    def find(case, processes):
        if processes == 1 and (case, 1) not in known:
            known[case, 1] = [runs.train(*case, folder, devices=1)]
        elif processes == 2 and (case, 2) not in known:
            command = [sys.executable, str(SCRIPT), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240)
            assert done.returncode == 0, done.stderr[-3000:]
            ranks = [torch.load(folder / f"rank={rank}.pt", weights_only=True) for rank in range(2)]
            known.update(
                {(c, 2): list(records) for c, records in zip(runs.CASES, zip(*ranks, strict=True), strict=True)}
            )
        return known[case, processes]

    return find


def deviations(rewriting, case, kept):
    """The largest difference of any tensor, and of any term, relative to its largest entry."""
    replayed = rewriting()
    _, replayed.n, replayed.a = case
    state, terms = replayed.replay(kept)
    after, given = kept[0]["after"], kept[0]["terms"]
    assert state.keys() == after.keys()
    assert [step.keys() for step in terms] == [step.keys() for step in given]
    tensors = [(state[name], after[name]) for name in after if after[name].is_floating_point()]
    scalars = [
        (torch.tensor(a[key], dtype=torch.float64), b[key]) for a, b in zip(terms, given, strict=True) for key in b
    ]
    return [max_of([(a - b).abs().max() / b.abs().max() for a, b in pairs]) for pairs in (tensors, scalars)]


def max_of(values):
    return torch.stack(values).max().item()  # NaN if one is


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("case", runs.CASES, ids=str)
def test_whole_steps_are_what_the_papers_say(case, processes, kept):
    records = kept(case, processes)
    for record in records[1:]:
        assert not torch.equal(record["batches"][0], records[0]["batches"][0])
        assert all(torch.equal(tensor, records[0]["after"][name]) for name, tensor in record["after"].items())
    of_weights, of_terms = deviations({"sngan": SNGAN, "wgan_gp": WGANGP}[case[0]], case, records)
    assert of_weights < TOLERANCE
    assert of_terms < TOLERANCE


MISTAKES = {
    "no spectral norm": (
        SNGAN,
        {"weight": lambda self, state, name: state[f"{name}.parametrizations.weight.original"]},
    ),
    "no power iteration": (SNGAN, {"iterate": lambda self, matrix, u, v: (u, v)}),
    "one epsilon a batch": (WGANGP, {"epsilon": lambda self, x, draws: WGANGP().epsilon(x, draws)[:1]}),
    "a weaker penalty": (WGANGP, {"penalty_weight": 9.9}),
    "a constant rate": (SNGAN, {"decay": False}),
    "sums of gradients": (WGANGP, {"combine": lambda self, gradients: sum(gradients)}),
    "one noise for all": (SNGAN, {"draws": lambda self, seed, step, rank: stream(seed, step, 0)}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_shows(mistake, kept):
    rewriting, parts = MISTAKES[mistake]
    case = ("sngan" if rewriting is SNGAN else "wgan_gp", 1, 4)
    of_weights, of_terms = deviations(type("Mistaken", (rewriting,), parts), case, kept(case, 2))
    assert of_weights > 1e-4
    assert of_terms > 1e-4
