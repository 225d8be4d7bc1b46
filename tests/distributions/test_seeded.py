"""Draws by seed: each stream's own, whatever is beside it, and of the right distribution."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch.distributions import (
    Beta,
    Categorical,
    ExpTransform,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
    RelaxedOneHotCategorical,
    TransformedDistribution,
)

from lightning_gen.distributions import (
    AutoregressiveFlow,
    DiagonalLaplace,
    DiagonalNormal,
    FullNormal,
    GumbelSoftmax,
    InverseAutoregressiveFlow,
    LowRankNormal,
    NormalMixture,
    RealNVPFlow,
    StandardLaplace,
    StandardNormal,
    StraightThroughCategorical,
    UniformCategorical,
    VampPrior,
    draw,
)
from lightning_gen.distributions.categorical import OneHots
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise, sample_seeds

D, F, N, NUM = 2, 3, 6, 4

TORCHS = {
    "normal": (lambda a, b, s: Independent(Normal(a, s), 1)),
    "laplace": (lambda a, b, s: Independent(Laplace(a, s), 1)),
    "full": (
        lambda a, b, s: MultivariateNormal(
            a, scale_tril=torch.diag_embed(s) + (b[..., None] * a[..., None, :]).tril(-1)
        )
    ),
    "low rank": (lambda a, b, s: LowRankMultivariateNormal(a, b.unsqueeze(-1), s)),
    "one-hot": (lambda a, b, s: OneHotCategorical(logits=a)),
    "straight-through": (lambda a, b, s: OneHotCategoricalStraightThrough(logits=a)),
    "relaxed": (lambda a, b, s: RelaxedOneHotCategorical(torch.tensor(0.7, dtype=a.dtype), logits=a)),
    "transformed": (lambda a, b, s: Independent(TransformedDistribution(Normal(a, s), [ExpTransform()]), 1)),
    "mixture of normals": (
        lambda a, b, s: MixtureSameFamily(
            Categorical(logits=a), Independent(Normal(torch.stack((a, b), -2), torch.stack((s, s / 2), -2)), 1)
        )
    ),
    "mixture of Laplaces": (
        lambda a, b, s: MixtureSameFamily(
            Categorical(logits=a), Independent(Laplace(torch.stack((a, b), -2), torch.stack((s, s / 2), -2)), 1)
        )
    ),
    "mixture with covariances": (
        lambda a, b, s: MixtureSameFamily(
            Categorical(logits=a),
            MultivariateNormal(torch.stack((a, b), -2), scale_tril=torch.diag_embed(torch.stack((s, s / 2), -2))),
        )
    ),
}
FLOWS = {kind.__name__: kind for kind in (AutoregressiveFlow, RealNVPFlow, InverseAutoregressiveFlow)}
LAYERS = FLOWS | {
    kind.__name__: kind
    for kind in (
        DiagonalNormal,
        LowRankNormal,
        FullNormal,
        DiagonalLaplace,
        NormalMixture,
        GumbelSoftmax,
        StraightThroughCategorical,
    )
}
FIXED = {kind.__name__: kind for kind in (StandardNormal, StandardLaplace, UniformCategorical)}
NAMES = [*TORCHS, *LAYERS]


def made(name, batch=0, dtype=torch.float32):
    """A distribution with random parameters, of batch shape (batch,) or ()."""
    torch.manual_seed(0)
    if name in FIXED:
        return FIXED[name](D).to(dtype)()
    if name in TORCHS:
        a, b = torch.randn(2, *([batch] if batch else []), D, dtype=dtype)
        return TORCHS[name](a, b, 0.5 + a.abs())
    layer = LAYERS[name](D, F if batch else None).to(dtype)
    for p in layer.parameters():
        torch.nn.init.normal_(p, 0.0, 0.5)
    return layer(torch.randn(batch, F, dtype=dtype) if batch else None)


def of_rows(name, rows):
    """The distribution of some of the rows of a batch, in that order."""
    torch.manual_seed(0)
    if name in TORCHS:
        a, b = torch.randn(2, N, D)
        return TORCHS[name](a[rows], b[rows], 0.5 + a[rows].abs())
    layer = LAYERS[name](D, F)
    for p in layer.parameters():
        torch.nn.init.normal_(p, 0.0, 0.5)
    # the same numbers whatever rows are beside: a matrix product would differ in its rounding
    h = torch.randn(N, F)
    linear = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    for module in linear:
        module.forward = lambda x, m=module: (x.unsqueeze(-2) * (m.weight * getattr(m, "mask", 1))).sum(-1) + m.bias
    return layer(h[rows])


def noise(rows=None):
    seeds = sample_seeds(5, torch.arange(N))
    return Noise(seeds if rows is None else seeds[rows])


def event_of(distribution):
    return tuple(distribution.event_shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, N])
@pytest.mark.parametrize("name", [*NAMES, *FIXED])
def test_shape_and_type(name, batch, dtype):
    if name in FIXED:
        batch = 0
    distribution = made(name, batch, dtype)
    z = draw(distribution, noise(), NUM)
    assert z.shape == (NUM, N, *event_of(distribution))
    assert z.dtype == dtype
    assert z.isfinite().all()
    empty = made(name, 0, dtype)
    assert draw(empty, Noise(torch.empty(0, dtype=torch.int64)), NUM).shape == (NUM, 0, *event_of(distribution))


@pytest.mark.parametrize("name", [*NAMES, *FIXED])
def test_streams_of_a_prior_are_their_own(name):
    p = made(name)
    whole = draw(p, noise(), NUM).detach()
    parts = [torch.tensor([4]), torch.tensor([5, 0, 3]), torch.tensor([2, 1])]
    for rows in parts:
        part = draw(p, noise(rows), NUM).detach()
        if name in FLOWS:  # matrix products of the networks round as they like
            torch.testing.assert_close(part, whole[:, rows])
        else:
            assert torch.equal(part, whole[:, rows])


@pytest.mark.parametrize("name", NAMES)
def test_streams_of_a_posterior_are_their_own(name):
    whole = draw(of_rows(name, torch.arange(N)), noise(), NUM)
    for rows in (torch.tensor([4]), torch.tensor([5, 0, 3]), torch.tensor([2, 1])):
        assert torch.equal(draw(of_rows(name, rows), noise(rows), NUM), whole[:, rows])


@pytest.mark.parametrize("name", [*NAMES, *FIXED])
def test_draws_have_the_distribution_and_are_independent(name):
    distribution, many = made(name), 3000
    z = draw(distribution, Noise(sample_seeds(1, torch.arange(many))), 2).detach()
    torchs = distribution.sample((2 * many,))
    ours = z.flatten(0, 1)
    assert all(ks_2samp(ours[:, k], torchs[:, k], method="asymp").pvalue > 1e-5 for k in range(ours.shape[1]))
    for of in (lambda x: x[:, 0] * x[:, 1], lambda x: x[:, 0] - x[:, 1]):  # coordinates together
        assert ks_2samp(of(ours), of(torchs), method="asymp").pvalue > 1e-5
    first, second = (_ranks(part, seed) for seed, part in enumerate(z))
    assert (np.abs(first.T @ second) < 4.5 * many**0.5).all()  # correlations between the draws of a stream


def _ranks(values, seed):
    """(n, d) to standardised ranks, ties (of one-hot vectors) broken by chance."""
    values = values.numpy() + 1e-9 * np.random.default_rng(seed).random(values.shape)
    ranks = values.argsort(0).argsort(0) - (len(values) - 1) / 2
    return ranks / ranks.std(0)


HARD = ("one-hot", "straight-through", "StraightThroughCategorical")
GRADIENTS = [name for name in NAMES if name not in HARD and not name.startswith("mixture")]


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_the_distribution_function(name):
    """A draw is a function of parameters at fixed noise: its derivative is that of the difference quotient."""
    torch.manual_seed(0)
    a, b = torch.randn(2, N, D, dtype=torch.float64)
    h = torch.randn(N, F, dtype=torch.float64)
    layer = None if name in TORCHS else LAYERS[name](D, F).double()
    if layer is not None:
        for p in layer.parameters():
            torch.nn.init.normal_(p, 0.0, 0.5)

    def value(t):
        if layer is None:
            return draw(TORCHS[name](a + t, b - t, 0.5 + (a + t).abs()), noise(), NUM)
        return draw(layer(h + t), noise(), NUM)

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    weights = torch.randn_like(value(t.detach()))
    (found,) = torch.autograd.grad((weights * value(t)).sum(), t)
    if name == "NormalMixture":  # its draws jump between components: compared with quadrature in test_mixture
        assert found != 0
        return
    step = 1e-5
    quotient = (weights * (value(t.detach() + step) - value(t.detach() - step))).sum() / (2 * step)
    torch.testing.assert_close(found, quotient.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("straight", [OneHotCategoricalStraightThrough, OneHots])
def test_gradients_of_hard_draws_are_those_of_the_probabilities(straight):
    torch.manual_seed(0)
    logits = torch.randn(N, 1, 3, requires_grad=True)
    q = straight(logits=logits if straight is OneHots else logits.squeeze(1))
    z = draw(q, noise(), NUM)
    assert ((z == 0) | (z == 1)).all()
    weights = torch.randn_like(z)
    (found,) = torch.autograd.grad((weights * z).sum(), logits)
    (expected,) = torch.autograd.grad((weights * logits.softmax(-1).squeeze(1)).sum(), logits)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["mixture of normals", "mixture with covariances"])
def test_mixtures_that_cannot_be_reparameterised_have_no_gradient(name):
    a, b = torch.randn(2, N, D, requires_grad=True)
    assert not draw(TORCHS[name](a, b, a.exp()), noise(), NUM).requires_grad


def test_streams_go_on():
    stream = noise()
    assert not torch.equal(draw(made("normal"), stream, 1), draw(made("normal"), stream, 1))


def test_flows_of_zukos_own():
    import zuko

    torch.manual_seed(0)
    layer = zuko.flows.MAF(D, F, transforms=2, hidden_features=[8]).double()
    h = torch.randn(N, F).double()
    z, stream = draw(layer(h), noise(), NUM), noise()
    torch.testing.assert_close(layer(h).transform(z), stream.normal(NUM, D, dtype=torch.float64).transpose(0, 1))


def test_a_mixture_of_encoded_inputs():
    prior, layer = VampPrior(D, sample_shape=[F], num_components=3), DiagonalNormal(D, F)
    prior.bind(lambda u: layer(u))
    whole = draw(prior(), noise(), NUM)
    assert whole.shape == (NUM, N, D)
    rows = torch.tensor([3, 1])
    assert torch.equal(draw(prior(), noise(rows), NUM), whole[:, rows])


def test_whole_numbers():
    probs = torch.tensor([0.5, 0.2, 0.3])
    z = draw(Categorical(probs), Noise(sample_seeds(0, torch.arange(4000))), 2)
    assert z.shape == (2, 4000)
    frequency = torch.bincount(z.flatten(), minlength=3) / z.numel()
    assert ((frequency - probs).abs() < 4.5 * (probs * (1 - probs) / z.numel()).sqrt()).all()


def test_further_dimensions_of_the_batch():
    torch.manual_seed(0)
    loc = torch.randn(N, 3, D)
    for distribution in (
        Normal(loc, 1.0),
        Independent(Laplace(loc, 1.0), 1),
        MultivariateNormal(loc, torch.eye(D)),
        MixtureSameFamily(
            Categorical(torch.ones(N, 3, 2)), Independent(Normal(loc.unsqueeze(-2).expand(-1, -1, 2, -1), 1.0), 1)
        ),
    ):
        assert draw(distribution, noise(), NUM).shape == (NUM, N, 3, D)


def test_uniform_numbers_at_the_edge_stay_finite():
    """The largest 24-bit number and a half rounds to one in float32, where inverse distributions are infinite."""

    class Edge(Noise):
        def bits(self, count):
            return torch.full((len(self), count), 2**32 - 1)

    for name in ("laplace", "one-hot", "relaxed"):
        assert draw(made(name), Edge(torch.arange(2)), 1).isfinite().all()


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(UserError, match="Beta cannot be sampled by seed"):
        draw(Beta(torch.tensor(1.0), torch.tensor(2.0)), noise(), 1)
    with pytest.raises(ValueError, match="for 6 streams"):
        draw(Normal(torch.zeros(5, D), 1.0), noise(), 1)
