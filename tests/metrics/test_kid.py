import json

import numpy as np
import pytest
import torch
from metrics_fakes import Linear, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import Raw, ReferenceStatistics, distances
from lightning_gen.metrics.blocks import blocks_of
from lightning_gen.metrics.kid import KID


def cloud(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * 0.7 + shift


def reference(y):
    return ReferenceStatistics(y.double().mean(0), torch.cov(y.double().T), len(y), features=y)


def values_of(metric, x, y, batch=50):
    metric.set_reference(reference(y))
    metric.begin(len(x))
    for rows in torch.arange(len(x)).split(batch):
        metric.update(x[rows], rows)
    return {name: float(value) for name, value in metric.checked_values().items()}


def enumerated(x, y):
    """The definition, one pair at a time."""
    x, y = x.double().numpy(), y.double().numpy()

    def mean(a, b, skip):
        pairs = [(u, v) for i, u in enumerate(a) for j, v in enumerate(b) if not (skip and i == j)]
        return sum((u @ v / len(u) + 1) ** 3 for u, v in pairs) / len(pairs)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize("tile", [1024, 5])
def test_against_enumeration(tile, monkeypatch):
    monkeypatch.setattr(distances, "TILE", tile)
    for n, m, shift in ((13, 9, 0.0), (2, 30, 2.0), (12, 11, 30.0)):
        x, y = cloud(n, 4, 0, shift), cloud(m, 4, 1, shift)
        assert values_of(KID(Raw(4)), x, y) == pytest.approx({"kid_raw": enumerated(x, y)}, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("tile", [1024, 17])
def test_subsets_are_those_of_torch_fidelity(tile, monkeypatch):
    from torch_fidelity.metric_kid import kid_features_to_metric

    monkeypatch.setattr(distances, "TILE", tile)
    x, y = cloud(90, 6, 0, 0.2), cloud(110, 6, 1)
    theirs = kid_features_to_metric(
        x.double(), y.double(), kid_subsets=7, kid_subset_size=40, rng_seed=2020, verbose=False
    )
    found = values_of(KID(Raw(6), subsets=7, subset_size=40, seed=2020), x, y)
    assert list(found) == ["kid_raw", "kid_raw_std"]
    assert found["kid_raw"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)
    assert found["kid_raw_std"] == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-10)
    other = values_of(KID(Raw(6), subsets=7, subset_size=40, seed=1), x, y)
    assert other["kid_raw"] != pytest.approx(found["kid_raw"], rel=1e-3)


def test_all_pairs_are_one_subset_of_everything():
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = cloud(150, 6, 0, 0.2), cloud(150, 6, 1)
    theirs = kid_features_to_metric(x.double(), y.double(), kid_subsets=1, kid_subset_size=150, verbose=False)
    assert values_of(KID(Raw(6), blocks=0), x, y) == pytest.approx(
        {"kid_raw": theirs["kernel_inception_distance_mean"]}, rel=1e-10
    )


def test_standard_error_against_leaving_blocks_out():
    x, y = cloud(203, 3, 0, 0.3), cloud(70, 3, 1)
    found, block = values_of(KID(Raw(3)), x, y), blocks_of(torch.arange(203), 20)
    others = [values_of(KID(Raw(3), blocks=0), x[block != b], y)["kid_raw"] for b in range(20)]
    assert found["kid_raw_se"] == pytest.approx(np.sqrt(19) * np.std(others), rel=1e-8)
    assert "kid_raw_se" not in values_of(KID(Raw(3)), x[:199], y)


def test_unbiased():
    values = []
    for seed in range(150):
        x, y = cloud(30, 2, seed), cloud(25, 2, 1000 + seed)
        values.append(values_of(KID(Raw(2), blocks=0), x, y)["kid_raw"])
    error = np.std(values) / 150**0.5
    assert abs(np.mean(values)) < 4 * error
    assert error < 0.02  # pairs of a row with itself would add E k(x, x) − E k(x, x′), about 3, times 1/30 + 1/25


def test_the_standard_error_is_the_spread_of_other_draws():
    metric, draws = KID(Raw(2)), []
    metric.set_reference(reference(cloud(300, 2, 999)))
    for seed in range(40):
        metric.begin(200)
        metric.update(cloud(200, 2, seed, 0.4))
        draws.append([float(v) for v in metric.checked_values().values()])
    values, errors = np.array(draws).T
    assert 0.7 < errors.mean() / values.std() < 1.4


def test_batches_order_and_offset_do_not_matter():
    e, data, x = Linear(), vectors(150), vectors(220, 1, 0.3)
    expected = values_of(KID(e), x, e(data).pooled)
    assert set(expected) == {"kid_linear", "kid_linear_se"}
    for batch in (1, 7, 220):
        assert values_of(KID(e), x, e(data).pooled, batch) == pytest.approx(expected, rel=1e-12)
    metric, order = KID(e), torch.randperm(220)
    metric.set_reference(reference(e(data).pooled))
    metric.begin(220)
    metric.update(x[order], order)
    assert {k: float(v) for k, v in metric.checked_values().items()} == pytest.approx(expected, rel=1e-12)


def test_the_reference_alone_is_summed_once():
    class Counting(KID):
        calls = 0

        def kernel(self, x, y):
            self.calls += 1
            return super().kernel(x, y)

    metric, x, y = Counting(Raw(3), blocks=0), cloud(20, 3, 0), cloud(30, 3, 1)
    first = values_of(metric, x, y)
    assert metric.calls == 3
    metric.begin(20)
    metric.update(x)
    assert float(metric.compute()) == first["kid_raw"]
    assert metric.calls == 5
    assert values_of(metric, x, cloud(30, 3, 2)) == values_of(KID(Raw(3), blocks=0), x, cloud(30, 3, 2))


def test_refusals():
    for options, match in (
        ({"subsets": -1}, "subsets is -1"),
        ({"subset_size": 1}, "subset_size is 1"),
        ({"blocks": 1}, "blocks is 1"),
    ):
        with pytest.raises(UserError, match=match):
            KID(Raw(3), **options)
    with pytest.raises(UserError, match="num_samples is 1, but kid_raw needs at least 2"):
        KID(Raw(3)).check(1)
    metric = KID(Raw(3), subsets=5, subset_size=50)
    with pytest.raises(UserError, match="subset_size is 50, but num_samples is 49: set subset_size to 49 or less"):
        metric.check(49)
    with pytest.raises(UserError, match="subset_size is 50, but the number of rows of the reference is 49"):
        metric.set_reference(reference(cloud(49, 3, 0)))
    metric.set_reference(reference(cloud(50, 3, 0)))
    metric.check(50)
    with pytest.raises(UserError, match="made without features"):
        KID(Raw(3)).set_reference(ReferenceStatistics(torch.zeros(3), torch.eye(3), 10))


def test_protocol():
    told = json.loads(json.dumps(KID(Raw(3)).protocol()))
    assert told["kernel"] == "(x.y / d + 1)^3"
    assert told["estimator"] == "unbiased, all pairs"
    assert "subset_size" not in told
    assert "20 blocks" in told["standard_error"]
    told = KID(Raw(3), subsets=5, subset_size=7, seed=2).protocol()
    assert (told["subsets"], told["subset_size"], told["subset_seed"]) == (5, 7, 2)
    assert told["standard_error"] is None


def test_a_position_that_is_given_twice_is_told():
    metric = KID(Linear())
    metric.set_reference(reference(Linear()(vectors(50)).pooled))
    metric.begin(20)
    metric.update(vectors(20), torch.arange(20) % 19)
    with pytest.raises(UserError, match="sample 0 of the set 2 times"):
        metric.compute()
