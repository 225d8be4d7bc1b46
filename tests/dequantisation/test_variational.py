"""Variational dequantisation: its density, its bound on spaces where P(x) is known, and what training gains."""

from functools import partial

import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Normal

from lightning_gen.bijections import IAF, RealNVP
from lightning_gen.dequantisation import UniformDequantisation, VariationalDequantisation
from lightning_gen.errors import UserError
from lightning_gen.networks.autoencoders import MLPEncoder
from lightning_gen.noise import Noise, sample_seeds

LEVELS = 4
FLOW = partial(RealNVP, transforms=2, hidden_features=(8,))


def made(shape=(2,), flow=FLOW, scale=0.0):
    torch.manual_seed(0)
    q = VariationalDequantisation(shape, MLPEncoder(list(shape), width=8, depth=1), LEVELS, flow)
    with torch.no_grad():
        for p in q.parameters():
            p.add_(scale * torch.randn_like(p))
    return q


def samples(num, shape=(2,)):
    """In model form, from the four levels."""
    torch.manual_seed(1)
    return torch.randint(LEVELS, (num, *shape)) * (2 / (LEVELS - 1)) - 1


def log_p(v):
    """A density of values that is far from flat in a bin."""
    return Normal(0.2, 0.3).log_prob(v).flatten(1).sum(1)


def log_probability(x):
    """Log ∫ p(v) dv over the bin of each sample, exactly."""
    k = ((x + 1) * (LEVELS - 1) / 2).round()
    edges = [Normal(0.2, 0.3).cdf((k + offset) * (2 / LEVELS) - 1) for offset in (0, 1)]
    return (edges[1] - edges[0]).log().flatten(1).sum(1)


@pytest.mark.parametrize("flow", [FLOW, partial(IAF, transforms=2, hidden_features=(8,))])
def test_its_density_is_that_of_the_flow_read_backwards(flow):
    q, x = made((1, 2, 2), flow, 0.3).double(), samples(5, (1, 2, 2)).double()
    v, log_q = q(x)
    u = ((v + 1) * (LEVELS / 2)) % 1
    epsilon, log_det = q.flow(u.logit(), q.encoder(x))
    logistic = (epsilon.sigmoid() * (-epsilon).sigmoid()).log().flatten(1).sum(1)
    expected = logistic + log_det - (u * (1 - u)).log().flatten(1).sum(1) + 4 * torch.tensor(LEVELS / 2).log()
    torch.testing.assert_close(log_q, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_weights_average_to_the_probability_and_their_logarithms_bound_it(scale):
    q, n = made(scale=scale), 40_000
    for x in samples(3).split(1):
        with torch.no_grad():
            v, log_q = q(x.expand(n, 2))
        log_weight = log_p(v) - log_q
        exact = log_probability(x)
        ratio = (log_weight - exact).exp()
        assert (ratio.mean() - 1).abs() < 5 * ratio.std() / n**0.5
        assert log_weight.mean() < exact + 5 * log_weight.std() / n**0.5
        assert torch.equal(q.quantise(v), q.quantise(v[:1]).expand(n, 2))  # in the bin of x
        torch.testing.assert_close(q.quantise(v[:1]), x)


def test_at_first_it_is_nearly_uniform():
    q, x = made(), samples(4000)
    v, log_q = q(x)
    u = ((v + 1) * (LEVELS / 2)) % 1
    torch.testing.assert_close(
        log_q, torch.full_like(log_q, 2 * torch.tensor(LEVELS / 2).log().item()), rtol=0, atol=0.1
    )
    assert kstest(u[:, 0].detach().numpy(), "uniform").pvalue > 1e-3


def test_training_tightens_the_bound():
    q, x = made(), samples(256)
    adam = torch.optim.Adam(q.parameters(), lr=0.02)
    for _ in range(150):
        v, log_q = q(x)
        loss = (log_q - log_p(v)).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    noise, many = Noise(sample_seeds(0, torch.arange(8192))), x.repeat(32, 1)
    bounds = [log_p(v) - log_q for v, log_q in (q.draw(many, noise), UniformDequantisation(LEVELS).draw(many, noise))]
    exact = log_probability(many)
    gaps = [(exact - bound).mean().item() for bound in bounds]
    assert -0.02 < gaps[0] < 0.3 * gaps[1]


def test_gradients_reach_every_parameter():
    q, x = made(scale=0.1), samples(64)
    v, log_q = q(x)
    (log_q - log_p(v)).mean().backward()
    for name, p in q.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_a_draw_depends_on_its_own_stream_alone():
    q, x, seeds = made(scale=0.3), samples(5), sample_seeds(0, torch.arange(5))
    whole = q.draw(x, Noise(seeds))
    parts = [q.draw(rows, Noise(part)) for rows, part in zip(x.split([1, 4]), seeds.split([1, 4]), strict=True)]
    for found, expected in zip(map(torch.cat, zip(*parts, strict=True)), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_densities_have_32_bits():
    q, x, noise = made(scale=0.3), samples(5), Noise(sample_seeds(0, torch.arange(5)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        v, log_q = q.draw(x, noise)
    assert v.dtype == log_q.dtype == torch.float32


def test_unfit_data_are_told():
    q = made()
    with pytest.raises(UserError, match=r"VariationalDequantisation.sample_shape is \[2\] but data.*\[3\]"):
        q.check(samples(2, (3,)))
    with pytest.raises(UserError, match="VariationalDequantisation has 4 levels"):
        q.check(torch.full((2, 2), 0.5))
    with pytest.raises(UserError, match="num_classes of the encoder of VariationalDequantisation is 10"):
        VariationalDequantisation([2], MLPEncoder(2, 4, 1, num_classes=10))
