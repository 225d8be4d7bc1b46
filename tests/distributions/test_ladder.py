import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from lightning_gen.distributions import draw
from lightning_gen.distributions.ladder import HierarchicalNormal, LadderNormal
from lightning_gen.errors import UserError
from lightning_gen.losses.bounds import Levelwise
from lightning_gen.noise import Noise, sample_seeds

DIMS = [3, 2]


@pytest.fixture
def layers():
    torch.manual_seed(0)
    prior = HierarchicalNormal(5, None, DIMS, 4).double()
    posterior = LadderNormal(5, 6, DIMS, 4).double()
    h = torch.randn(7, 6).double()
    return prior, posterior, h


def test_densities_are_those_of_the_levels(layers):
    prior, posterior, h = layers
    z = torch.randn(11, 7, 5).double()
    low, high = z.split(DIMS, dim=-1)
    loc, log_variance = prior.networks[0](high).unbind(-2)
    expected = Normal(0.0, 1.0).log_prob(high).sum(-1)
    expected = expected + Normal(loc, (log_variance / 2).exp()).log_prob(low).sum(-1)
    torch.testing.assert_close(prior().log_prob(z), expected)

    here_loc, here_log = posterior.heads[0](h).unbind(-2)
    top_loc, top_log = posterior.heads[1](posterior.up[0](h)).unbind(-2)
    a, b = (-here_log).exp(), (-log_variance).exp()
    expected = Normal(top_loc, (top_log / 2).exp()).log_prob(high).sum(-1)
    combined = Normal((a * here_loc + b * loc) / (a + b), (a + b).rsqrt())
    torch.testing.assert_close(posterior.given(h, prior()).log_prob(z), expected + combined.log_prob(low).sum(-1))


def test_the_divergence_is_right_in_the_mean(layers):
    prior, posterior, h = layers
    with torch.no_grad():
        q, p = posterior.given(h[:1].expand(40_000, 6), prior()), prior()
        z = q.rsample()
        plain = q.log_prob(z) - p.log_prob(z)
        rao = Levelwise().between(q, p, z[None])
    error = math.sqrt(float(plain.var() + rao.var()) / 40_000)
    assert abs(float(plain.mean() - rao.mean())) < 4 * error
    assert float(rao.var()) < float(plain.var())  # what it is for


def test_the_divergence_is_that_of_the_levels_at_the_latents_that_were_drawn(layers):
    prior, posterior, h = layers
    q, p = posterior.given(h, prior()), prior()
    z = q.rsample((6,))
    high = z[..., 3:]
    expected = kl_divergence(q.top, p.top).sum(-1)  # the same for every draw
    below = kl_divergence(q.levels[0](high), p.levels[0](high)).sum(-1)
    torch.testing.assert_close(Levelwise().between(q, p, z), expected + below.mean(0))
    lower = torch.cat((z[..., :3] + 1, high), dim=-1)  # of the lowest level nothing depends on the draw
    torch.testing.assert_close(Levelwise().between(q, p, lower), expected + below.mean(0))


def test_levels_are_needed_for_a_divergence_by_level():
    q = Independent(Normal(torch.zeros(3), 1.0), 1)
    with pytest.raises(UserError, match="Levelwise, but the latents of Normal and Normal have no levels"):
        Levelwise().between(q, q, torch.zeros(1, 3))


def test_one_level_is_a_plain_normal():
    torch.manual_seed(0)
    prior, posterior, h = HierarchicalNormal(4, None, [4], 8), LadderNormal(4, 6, [4], 8), torch.randn(5, 6)
    q = posterior.given(h, prior())
    expected = kl_divergence(q.top, Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(Levelwise().between(q, prior(), q.rsample((3,))), expected)


@pytest.mark.parametrize("whose", ["prior", "posterior"])
def test_draws_depend_on_their_seeds_alone(layers, whose):
    prior, posterior, h = layers
    seeds = sample_seeds(0, torch.arange(7))
    with torch.no_grad():
        q = prior() if whose == "prior" else posterior.given(h, prior())
        whole = draw(q, Noise(seeds), 3)
        assert whole.shape == (3, 7, 5)
        for part in torch.arange(7).split([2, 1, 4]):
            own = prior() if whose == "prior" else posterior.given(h[part], prior())
            torch.testing.assert_close(draw(own, Noise(seeds[part]), 3), whole[:, part], rtol=0, atol=1e-12)


def test_draws_are_distributed_as_samples(layers):
    prior, _, _ = layers
    with torch.no_grad():
        # a linear level has a closed form
        network = prior.networks[0]
        network[1] = torch.nn.Identity()
        found = draw(prior(), Noise(sample_seeds(1, torch.arange(50_000))), 1)[0]
        weight = network[2].linear.weight[:3] @ network[0].weight
        bias = network[2].linear.weight[:3] @ network[0].bias + network[2].linear.bias[:3]
    torch.testing.assert_close(found[:, 3:].mean(0), torch.zeros(2).double(), rtol=0, atol=0.02)
    torch.testing.assert_close(found[:, :3].mean(0), bias, rtol=0, atol=0.03)
    cross = (found[:, :3] - bias).T @ found[:, 3:] / len(found)
    torch.testing.assert_close(cross, weight, rtol=0, atol=0.03)


@pytest.mark.parametrize("dims", [[], [2, 2], [5, 0]])
def test_wrong_levels_are_refused(dims):
    with pytest.raises(UserError, match="dims of a ladder"):
        HierarchicalNormal(5, None, dims, 4)


def test_a_posterior_needs_features():
    with pytest.raises(UserError, match="HierarchicalNormal"):
        LadderNormal(5, None, DIMS, 4)
