"""Likelihoods of levels: every one sums to one, and is stable where logistic functions saturate."""

from math import log

import numpy as np
import pytest
import torch
from scipy import stats

from lightning_gen.data import Digits
from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import (
    Categorical,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    Tokens,
    discretised,
)
from lightning_gen.noise import Noise, sample_seeds


def noise(n):
    return Noise(sample_seeds(0, torch.arange(n)))


def grid(levels):
    return torch.linspace(-1, 1, levels, dtype=torch.float64)


def probabilities(likelihood, outputs, levels):
    """(N, L) of every level, of outputs (N, P) of one entry."""
    columns = [likelihood(outputs[..., None], torch.full((len(outputs), 1), x)) for x in grid(levels).tolist()]
    return torch.stack(columns, 1).exp()


def random(likelihood, n, scale=1.0):
    g = torch.Generator().manual_seed(0)
    return scale * torch.randn(n, likelihood.num_parameters, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("build", [DiscretisedLogistic, DiscretisedLogisticMixture, Categorical])
def test_every_level_together_sums_to_one(build, levels):
    likelihood = build(levels)
    p = probabilities(likelihood, random(likelihood, 6), levels)
    torch.testing.assert_close(p.sum(1), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("log_scale", [-30.0, -7.0, -3.0, 0.0, 4.0])
def test_logistic_sums_to_one_at_the_edges(log_scale):
    means = torch.tensor([-1.0, 1.0, -1.5, 3.0, 0.0, 0.123], dtype=torch.float64)
    outputs = torch.stack((means, torch.full_like(means, log_scale)), 1)
    likelihood = DiscretisedLogistic(256, min_log_scale=-50.0 if log_scale == -7 else -7.0)
    for precise, tolerance in ((outputs, 1e-12), (outputs.float(), 1e-4)):
        p = probabilities(likelihood, precise, 256)
        torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]), rtol=0, atol=tolerance)


def test_logistic_is_the_difference_of_distribution_functions():
    likelihood = DiscretisedLogistic(17, min_log_scale=-50.0)
    means, scales = np.array([0.2, -1.0, 1.3]), np.array([0.1, 0.5, 0.05])
    p = probabilities(likelihood, torch.tensor(np.stack((means, np.log(scales)), 1)), 17)
    edges = np.concatenate(([-np.inf], np.linspace(-1, 1, 17)[:-1] + 1 / 16, [np.inf]))
    expected = np.diff(stats.logistic.cdf(edges, means[:, None], scales[:, None]), axis=1)
    np.testing.assert_allclose(p.numpy(), expected, rtol=1e-6, atol=1e-12)


def test_logistic_is_finite_where_both_distribution_functions_are_one():
    likelihood = DiscretisedLogistic(256, min_log_scale=-50.0)
    outputs = torch.tensor([[[1.0], [-7.0]]], requires_grad=True)
    x = torch.tensor([[11 / 255.0]])
    found = likelihood(outputs, x)
    # far below the mean σ(u) is e^u: log(e^u − e^v) with u, v the edges of the bin
    u, v = ((11 / 255 + s / 255 - 1) * np.exp(7) for s in (1, -1))
    assert found.item() == pytest.approx(u + np.log1p(-np.exp(v - u)), rel=1e-5)
    found.sum().backward()
    assert outputs.grad[0, 0].item() == pytest.approx(-np.exp(7), rel=1e-5)  # towards x
    assert outputs.grad.isfinite().all()


def test_a_mixture_is_the_sum_of_its_components():
    mixture, single = DiscretisedLogisticMixture(17, 3), DiscretisedLogistic(17)
    outputs = random(mixture, 5)
    logits, means, log_scales = outputs.split(3, 1)
    each = [probabilities(single, torch.stack((means[:, m], log_scales[:, m]), 1), 17) for m in range(3)]
    expected = sum(logits.softmax(1)[:, m, None] * each[m] for m in range(3))
    torch.testing.assert_close(probabilities(mixture, outputs, 17), expected)


def test_entries_are_summed_and_have_their_own_outputs():
    for likelihood in (DiscretisedLogistic(17), DiscretisedLogisticMixture(17, 2), Categorical(17)):
        g = torch.Generator().manual_seed(0)
        outputs = torch.randn(4, likelihood.num_parameters, 3, 2, 2, generator=g, dtype=torch.float64)
        x = grid(17)[torch.randint(17, (4, 3, 2, 2), generator=g)]
        singly = likelihood(outputs.flatten(2).movedim(2, 1).flatten(0, 1)[..., None], x.reshape(-1, 1))
        torch.testing.assert_close(likelihood(outputs, x), singly.view(4, 12).sum(1))


@pytest.mark.parametrize("build", [DiscretisedLogistic, DiscretisedLogisticMixture, Categorical])
def test_means_and_draws_are_those_of_the_enumeration(build):
    levels, n = 9, 6000
    likelihood = build(levels)
    outputs = random(likelihood, 3)
    p = probabilities(likelihood, outputs, levels)
    torch.testing.assert_close(likelihood.mean(outputs[..., None])[:, 0], p @ grid(levels))
    for row, exact in zip(outputs, p, strict=True):
        draws = likelihood.draw(row[None, :, None].expand(n, -1, -1), noise(n)).flatten()
        k = ((draws + 1) * (levels - 1) / 2).round().long()
        torch.testing.assert_close(grid(levels)[k], draws)
        counts, expected = torch.bincount(k, minlength=levels).numpy(), n * exact.numpy()
        often = expected > 5
        counts, expected = (np.append(v[often], v[~often].sum() + 1e-9) for v in (counts, expected))
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 0.001


@pytest.mark.parametrize("most", [1, 40, 2**17])
def test_means_are_the_same_in_parts_and_whatever_the_batch(most, monkeypatch):
    monkeypatch.setattr(discretised, "_NUMBERS_A_SAMPLE", most)
    likelihood = DiscretisedLogisticMixture(256, 3)
    g = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 9, 2, 3, generator=g, dtype=torch.float64, requires_grad=True)
    found = likelihood.mean(outputs)
    x = grid(256).view(256, 1, 1, 1).expand(256, 4, 2, 3)
    entries = outputs.flatten(2).movedim(2, 1).flatten(0, 1)[..., None]
    each = torch.stack([likelihood(entries, v.reshape(-1, 1)) for v in x])
    torch.testing.assert_close(found, (each.exp() * grid(256)[:, None]).sum(0).view(4, 2, 3))
    (gradient,) = torch.autograd.grad(found.sum(), outputs)
    assert gradient.isfinite().all()
    alone = torch.cat([likelihood.mean(row[None]) for row in outputs.float()])
    torch.testing.assert_close(likelihood.mean(outputs.float()), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("build", [DiscretisedLogistic, DiscretisedLogisticMixture, Categorical])
def test_a_draw_of_levels_depends_on_its_own_stream_alone(build):
    likelihood = build(17)
    outputs = torch.randn(5, likelihood.num_parameters, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    seeds = sample_seeds(0, torch.arange(5))
    alone = torch.cat([likelihood.draw(outputs[i : i + 1], Noise(seeds[i : i + 1])) for i in range(5)])
    assert torch.equal(likelihood.draw(outputs, noise(5)), alone)
    assert likelihood.check(alone) is None


def test_half_precision_outputs_have_full_nats():
    for likelihood in (DiscretisedLogistic(), DiscretisedLogisticMixture(), Categorical()):
        outputs = random(likelihood, 3)[..., None].bfloat16()
        found = likelihood(outputs, torch.zeros(3, 1))
        assert found.dtype == torch.float32
        torch.testing.assert_close(
            found.double(), likelihood(outputs.double(), torch.zeros(3, 1)), rtol=1e-5, atol=1e-4
        )


def test_digits_have_seventeen_levels_as_bytes():
    x = Digits(image_size=8).examples()["x"]
    for likelihood in (DiscretisedLogistic(17), DiscretisedLogisticMixture(17), Categorical(17)):
        likelihood.check(x)
    for levels in (16, 18, 33, 128, 256):
        with pytest.raises(UserError, match=rf"Categorical has {levels} levels .*(17|set its levels to)"):
            Categorical(levels).check(x)
    Categorical(256).check(x[:10])  # too few to tell
    Categorical(256).check(torch.randint(256, (64, 1, 2, 2)) / 127.5 - 1)
    # a byte stands for the level that it was rounded from
    k = torch.arange(17)
    rounded = (k * 255 / 16).round() / 127.5 - 1
    outputs = torch.randn(17, 17, 1)
    torch.testing.assert_close(Categorical(17)(outputs, rounded[:, None]), outputs.log_softmax(1)[k, k, 0])


@pytest.mark.parametrize(
    ("x", "levels", "message"),
    [
        (grid(256), 17, "has 17 levels from -1 to 1, but data has 256 values from -1 to 1"),
        (torch.tensor([0.0, 3.0]), 256, "2 values from 0 to 3"),
        (torch.tensor([-1.0, 0.00123, 1.0]), 256, "3 values from -1 to 1, among them 0.00123"),
        (torch.tensor([-1.0, float("nan")]), 256, "1 values that are NaN"),
    ],
)
def test_values_between_levels_are_described(x, levels, message):
    for build in (DiscretisedLogistic, DiscretisedLogisticMixture, Categorical):
        with pytest.raises(UserError, match=message):
            build(levels).check(x[None])


def test_exact_levels_of_any_number_fit():
    for levels in (2, 5, 17, 256, 1000):
        Categorical(levels).check(grid(levels)[None].float())


def test_tokens_are_a_categorical_of_integers():
    outputs = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    x = torch.randint(5, (4, 6), generator=torch.Generator().manual_seed(1))
    expected = torch.distributions.Categorical(logits=outputs.movedim(1, 2)).log_prob(x).sum(1)
    for tokens in (x, x.float(), x.int()):
        torch.testing.assert_close(Tokens(5)(outputs, tokens), expected)
    torch.testing.assert_close(Categorical(5)(outputs, x), expected)
    torch.testing.assert_close(Categorical(5)(outputs, x * 0.5 - 1), expected)
    Tokens(5).check(x)
    Categorical(5).check(x)
    drawn = Tokens(5).draw(outputs[:1].expand(4000, -1, -1), noise(4000))
    assert drawn.dtype == torch.int64
    share = torch.nn.functional.one_hot(drawn, 5).float().mean(0)
    torch.testing.assert_close(share, outputs[0].softmax(0).T, rtol=0, atol=2 / 4000**0.5)
    assert torch.equal(Tokens(5).mean(outputs), outputs.argmax(1))
    for likelihood in (Tokens(5), Categorical(5)):
        with pytest.raises(UserError, match=r"whole numbers from 0 to 4.* 2 values from 0 to 5"):
            likelihood.check(torch.tensor([[0, 5]]))
    with pytest.raises(UserError, match="whole numbers"):
        Tokens(5).check(torch.tensor([[0.5, 1.0]]))


def test_uniform_outputs_cost_log_levels():
    outputs = torch.zeros(2, 256, 3)
    torch.testing.assert_close(Categorical()(outputs, torch.ones(2, 3)), torch.full((2,), -3 * log(256)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DiscretisedLogistic(1), "DiscretisedLogistic.levels is 1"),
        (lambda: DiscretisedLogisticMixture(17, 0), "DiscretisedLogisticMixture.num_components is 0"),
        (lambda: Categorical(0), "Categorical.levels is 0"),
        (lambda: Tokens(1), "Tokens.num_tokens is 1"),
    ],
)
def test_too_few_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()
