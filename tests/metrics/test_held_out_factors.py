"""Disentanglement: codes made by hand, and second ways to compute."""

import numpy as np
import pytest
import torch
from held_out_fakes import Data, Encoding
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from lightning_gen.errors import UserError
from lightning_gen.metrics import (
    DCI,
    FactorVAEScore,
    MutualInformationGap,
    SeparatedAttributePredictability,
    measure_held_out,
)
from lightning_gen.metrics.held_out.dci import disentanglement_completeness
from lightning_gen.metrics.held_out.factors import gaps
from lightning_gen.metrics.held_out.mutual_information_gap import binned, mutual_information

SIZES = (3, 4, 2)
EVERY = torch.cartesian_prod(*map(torch.arange, SIZES)).repeat(40, 1)  # 960 rows, factors independent
N = len(EVERY)
NOISE = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))


def metrics():
    return [MutualInformationGap(), FactorVAEScore(num_votes=200), SeparatedAttributePredictability(), DCI(10)]


def scores(latents, *which, factors=EVERY, batch_size=100):
    """Of data whose samples are the latents."""
    data, model = Data(latents, factors=factors), Encoding(torch.Tensor.clone, latent_dim=latents.shape[1])
    return measure_held_out(model, data, which or metrics(), split="test", batch_size=batch_size, seed=0)


def perfect(noise=0.01):
    """One latent a factor, scaled and turned round, and a fourth that is noise."""
    latents = noise * NOISE.clone()
    latents[:, :3] += EVERY * torch.tensor([-1.0, 0.5, 3.0])
    latents[:, 3] = NOISE[:, 3]
    return latents


def test_a_perfect_code():
    values = scores(perfect())
    assert values["mig"] == pytest.approx(1, abs=0.05)  # what noise tells of a factor among 960 rows is taken off
    assert values["factor_vae_score"] == 1
    # the second best is at chance
    assert values["sap"] == pytest.approx(np.mean([1 - 1 / size for size in SIZES]), abs=0.08)
    assert values["dci_disentanglement"] == pytest.approx(1, abs=0.02)
    assert values["dci_completeness"] == pytest.approx(1, abs=0.02)
    assert values["dci_informativeness"] == 1


def test_a_code_of_noise():
    values = scores(NOISE)
    assert 0 <= values["mig"] < 0.05
    assert values["factor_vae_score"] < 0.6  # chance: about a third
    assert 0 <= values["sap"] < 0.08
    assert values["dci_disentanglement"] < 0.05
    assert values["dci_completeness"] < 0.05
    assert values["dci_informativeness"] == pytest.approx(np.mean([1 / size for size in SIZES]), abs=0.08)


def test_a_code_that_is_turned_is_less_disentangled_and_as_informative():
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    straight, turned = scores(perfect()), scores(perfect() @ turn)
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert turned[name] < 0.6 * straight[name]
    assert turned["dci_informativeness"] > 0.9


def test_factors_that_are_told_twice_have_no_gap():
    twice = torch.cat((perfect(0), perfect(0)), dim=1)
    values = scores(twice, MutualInformationGap(), SeparatedAttributePredictability())
    assert values == pytest.approx({"mig": 0, "sap": 0}, abs=1e-12)


def test_values_depend_on_neither_batches_nor_the_numbering_of_factors():
    found = scores(perfect(0.3))
    assert scores(perfect(0.3), batch_size=7) == found
    assert scores(perfect(0.3), factors=EVERY * 7 + 3) == found
    constant = torch.cat((EVERY, torch.full((N, 1), 5)), dim=1)
    assert scores(perfect(0.3), factors=constant) == found  # says nothing


# ---------------------------------------------------------------- second ways


def test_mutual_information_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    a = random.integers(7, size=500)
    b = (a + random.integers(3, size=500)) // 2
    assert mutual_information(a, b) == pytest.approx(mutual_info_score(a, b), rel=1e-12)
    assert mutual_information(b, b) == pytest.approx(entropy(np.bincount(b)), rel=1e-12)


def test_the_gap_by_scikit_learn():
    z, v = perfect(0.4).numpy(), EVERY.numpy()
    edges = [np.histogram_bin_edges(column, 20)[1:-1] for column in z.T]
    cut = np.stack([np.digitize(column, inner) for column, inner in zip(z.T, edges, strict=True)], axis=1)
    told = [sorted(mutual_info_score(cut[:, j], column) for j in range(4))[-2:] for column in v.T]
    expected = np.mean([(best - second) / entropy(np.bincount(c)) for (second, best), c in zip(told, v.T, strict=True)])
    assert scores(perfect(0.4), MutualInformationGap())["mig"] == pytest.approx(expected, rel=1e-6)


def test_bins_are_of_equal_width():
    z = np.array([[0.0, 5.0], [0.25, 5.0], [0.49, 5.0], [0.5, 5.0], [1.0, 5.0]])
    assert binned(z, 4).T.tolist() == [[0, 1, 1, 2, 3], [0, 0, 0, 0, 0]]


def test_disentanglement_and_completeness_by_scipy():
    importance = np.random.default_rng(1).random((5, 3))
    by_latent = [1 - entropy(row, base=3) for row in importance]
    by_factor = [1 - entropy(column, base=5) for column in importance.T]
    expected = np.average(by_latent, weights=importance.sum(axis=1)), np.mean(by_factor)
    assert disentanglement_completeness(importance) == pytest.approx(expected, rel=1e-12)
    assert disentanglement_completeness(np.eye(3)) == pytest.approx((1, 1))
    assert disentanglement_completeness(np.ones((3, 2))) == pytest.approx((0, 0))
    # one latent that matters to one of two factors: that factor is complete, the other is not there
    assert disentanglement_completeness(np.array([[1.0, 0.0], [0.0, 0.0]])) == pytest.approx((1, 0.5))


def test_gaps():
    assert gaps(np.array([[0.1, 0.5], [0.4, 0.5], [0.3, 0.0]])) == pytest.approx([0.1, 0.0])
    assert gaps(np.array([[0.1, 0.5]])) == pytest.approx([0.1, 0.5])


def test_the_score_of_factor_vae_where_a_factor_is_not_told():
    """Votes for two of three factors are right; those for the third go to latents that stand for the others."""
    told = EVERY[:, :2].float()
    assert scores(told, FactorVAEScore(num_votes=2000))["factor_vae_score"] == pytest.approx(2 / 3, abs=0.05)


def test_latents_that_do_not_vary_are_left_out():
    silent = torch.cat((perfect(), 1e-3 * NOISE), dim=1)
    both = FactorVAEScore(), SeparatedAttributePredictability()
    assert scores(silent, *both) == pytest.approx(scores(perfect(), *both), abs=1e-12)
    assert scores(0.001 * NOISE, *both) == {"factor_vae_score": 0, "sap": 0}


# ---------------------------------------------------------------- what is refused


def test_data_without_factors_are_refused():
    model = Encoding(torch.Tensor.clone, latent_dim=4)
    for metric in metrics():
        with pytest.raises(UserError, match=f"{type(metric).__name__} needs data whose factors are known.*Data"):
            metric.check(model, Data(NOISE))
        with pytest.raises(UserError, match="encode samples as vectors, which Linear cannot"):
            metric.check(torch.nn.Linear(1, 1), Data(NOISE, factors=EVERY))


@pytest.mark.parametrize(
    ("latents", "factors", "metric", "words"),
    [
        (NOISE, torch.zeros(N, 2, dtype=torch.int64), MutualInformationGap(), "no factor varies"),
        (NOISE, EVERY[:, :1], DCI(), "two factors that vary, but there are 4 and 1"),
        (NOISE / 0, EVERY, MutualInformationGap(), "NaN or infinite"),
        (NOISE, torch.arange(N)[:, None].repeat(1, 2), FactorVAEScore(), "no two rows share"),
    ],
)
def test_what_cannot_be_measured_is_told(latents, factors, metric, words):
    with pytest.raises(UserError, match=words):
        scores(latents, metric, factors=factors)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MutualInformationGap(1), "bins is 1"),
        (lambda: FactorVAEScore(0), "num_votes is 0"),
        (lambda: FactorVAEScore(rows_a_vote=1), "rows_a_vote is 1"),
        (lambda: FactorVAEScore(threshold=-1), "threshold is -1"),
        (lambda: SeparatedAttributePredictability(-0.1), "threshold is -0.1"),
        (lambda: DCI(0), "num_trees is 0"),
    ],
)
def test_bad_arguments_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()
