import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.metrics import Raw, ReferenceStatistics, distances, precision_recall
from lightning_gen.metrics.blocks import blocks_of
from lightning_gen.metrics.precision_recall import DensityCoverage, PrecisionRecall

NAMES = ("precision", "recall", "density", "coverage")


def cloud(n, d, seed, shift=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + shift


def values_of(metric, x, y, batch=None):
    metric.set_reference(ReferenceStatistics(y.double().mean(0), torch.eye(y.shape[1]), len(y), features=y))
    metric.begin(len(x))
    for rows in torch.arange(len(x)).split(batch or len(x)):
        metric.update(x[rows], rows)
    return {name.replace("_raw", ""): float(value) for name, value in metric.checked_values().items()}


def all_four(x, y, k, **options):
    e = Raw(x.shape[1])
    return values_of(PrecisionRecall(e, k=k, **options), x, y) | values_of(DensityCoverage(e, k=k, **options), x, y)


def enumerated(x, y, k):
    """The definitions, one pair at a time, in whole numbers where features are."""
    x, y = ([tuple(map(float, row)) for row in t] for t in (x, y))

    def squared(a, b):
        return sum((u - v) ** 2 for u, v in zip(a, b, strict=True))

    def radius(points, i):
        return sorted(squared(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]

    fake, real = [radius(x, i) for i in range(len(x))], [radius(y, i) for i in range(len(y))]
    between = np.array([[squared(b, a) for a in x] for b in y])
    return {
        "precision": (between <= np.array(real)[:, None]).any(0).mean(),
        "recall": (between <= np.array(fake)[None]).any(1).mean(),
        "density": (between < np.array(real)[:, None]).sum() / len(x) / k,
        "coverage": (between < np.array(real)[:, None]).any(1).mean(),
    }


@pytest.mark.parametrize("tile", [1024, 23])
@pytest.mark.parametrize(
    ("n", "m", "d", "k", "shift"), [(150, 90, 3, 3, 0.5), (230, 310, 16, 5, 0.2), (80, 80, 2, 1, 1)]
)
def test_against_prdc(tile, n, m, d, k, shift, monkeypatch):
    prdc = pytest.importorskip("prdc")
    monkeypatch.setattr(distances, "TILE", tile)
    x, y = cloud(n, d, 0, shift), cloud(m, d, 1)
    theirs = prdc.compute_prdc(y.double().numpy(), x.double().numpy(), k)
    found = all_four(x, y, k)
    assert {name: found[name] for name in NAMES} == pytest.approx(theirs, rel=1e-12)
    assert all(found[name] > 0 for name in NAMES)
    assert found["precision"] < 1


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_against_torch_fidelity(k):
    from torch_fidelity.metric_prc import prc_features_to_metric

    x, y = cloud(150, 4, 0, 0.7), cloud(120, 4, 1)
    options = {"prc_neighborhood": k, "prc_batch_size": 64, "save_cpu_ram": False, "verbose": False}
    theirs = prc_features_to_metric(x.double(), y.double(), **options)
    found = values_of(PrecisionRecall(Raw(4), k=k), x, y, batch=31)
    assert found["precision"] == pytest.approx(theirs["precision"], rel=1e-6)  # theirs are means in float32
    assert found["recall"] == pytest.approx(theirs["recall"], rel=1e-6)


@pytest.mark.parametrize("offset", [0, 4096])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_ties_on_a_grid_against_enumeration(k, offset):
    """Many distances are equal, rows too: surfaces count for precision and recall only; far from 0 as near it."""
    g = torch.Generator().manual_seed(k)
    x, y = (torch.randint(0, high, (n, 2), generator=g).float() for n, high in ((60, 9), (50, 7)))
    found = all_four(x + offset, y + offset, k)
    assert {name: found[name] for name in NAMES} == pytest.approx(enumerated(x, y, k), rel=1e-12)


def test_a_large_constant_feature_changes_nothing():
    """‖x‖² + ‖y‖² − 2xᵀy about 0 would lose what rows differ by, in float64 too."""
    x, y = cloud(150, 3, 0, 0.5e-3, 1e-3), cloud(90, 3, 1, 0.0, 1e-3)
    x_far, y_far = (torch.cat((t, torch.full((len(t), 1), 1e6)), dim=1) for t in (x, y))
    assert all_four(x_far, y_far, 3) == all_four(x, y, 3)


def test_surfaces():
    y, x = torch.tensor([[0.0], [10.0], [20.0]]), torch.tensor([[30.0], [40.0]])
    expected = {"precision": 1 / 2, "recall": 1 / 3, "density": 0.0, "coverage": 0.0}
    assert all_four(x, y, 1) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [0.6, 1.0, 30.0])
@pytest.mark.parametrize("pairs", [2**18, 50])
def test_standard_errors_against_leaving_blocks_out(scale, pairs, monkeypatch):
    """With scale 30, balls of samples hold all real rows; with 0.6, few."""
    monkeypatch.setattr(precision_recall, "_PAIRS", pairs)
    monkeypatch.setattr(distances, "TILE", 64)
    x, y, k = cloud(206, 2, 0, 0.4, scale), cloud(90, 2, 1), 3
    found, block = all_four(x, y, k), blocks_of(torch.arange(206), 20)
    others = [all_four(x[block != b], y, k, blocks=0) for b in range(20)]
    assert set(others[0]) == set(NAMES)
    for name in NAMES:
        left_out = [other[name] for other in others]
        assert found[f"{name}_se"] == pytest.approx(np.sqrt(19) * np.std(left_out), rel=1e-9, abs=1e-12)
        if scale == 1.0:
            assert found[f"{name}_se"] > 0
    assert set(all_four(x[:199], y, k)) == set(NAMES)


def test_no_standard_error_where_a_block_takes_the_neighbours():
    x, y = cloud(20, 2, 0), cloud(30, 2, 1)
    assert "precision_se" in values_of(PrecisionRecall(Raw(), k=8, blocks=2), x, y)
    assert "precision_se" not in values_of(PrecisionRecall(Raw(), k=9, blocks=2), x, y)


def test_expectation_for_samples_like_the_data():
    """Naeem et al., equations 5 and 6: E density = 1, and coverage that of k nearest of M + N − 1 all being real."""
    n, m, k, found = 60, 80, 5, []
    for seed in range(60):
        found.append(values_of(DensityCoverage(Raw(), k=k, blocks=0), cloud(n, 2, seed), cloud(m, 2, 1000 + seed)))
    density, coverage = (np.array([f[name] for f in found]) for name in ("density", "coverage"))
    expected = 1 - np.prod([(m - 1 - i) / (n + m - 1 - i) for i in range(k)])
    assert abs(density.mean() - 1) < 4 * density.std() / 60**0.5
    assert abs(coverage.mean() - expected) < 4 * coverage.std() / 60**0.5
    assert coverage.std() / 60**0.5 < 0.01


def test_what_they_are_for():
    y = cloud(400, 2, 0)
    wide, narrow, away = cloud(400, 2, 1, scale=3.0), cloud(400, 2, 1, scale=0.2), cloud(400, 2, 1, 50.0)
    four = {name: all_four(x, y, 3) for name, x in (("wide", wide), ("narrow", narrow), ("away", away))}
    assert four["wide"]["precision"] < 0.7 < 0.9 < four["wide"]["recall"]
    assert four["narrow"]["recall"] < 0.3 < 0.9 < four["narrow"]["precision"]
    assert four["narrow"]["coverage"] < 0.3 < 0.9 < four["narrow"]["density"]
    assert [four["away"][name] for name in NAMES] == [0, 0, 0, 0]
    values = [values_of(DensityCoverage(Raw()), cloud(400, 2, 1, shift), y)["coverage"] for shift in (0, 1, 2, 3)]
    assert all(a > b for a, b in pairwise(values))


def test_the_radii_of_the_data_are_found_once_and_anew_for_other_data():
    metric, x, y = PrecisionRecall(Raw()), cloud(60, 2, 0), cloud(50, 2, 1)
    first = values_of(metric, x, y)
    radii = metric.real_rows()[1]
    metric.begin(60)
    metric.update(x)
    assert float(metric.compute()) == first["precision"]
    assert metric.real_rows()[1] is radii
    assert values_of(metric, x, y * 0.3) == values_of(PrecisionRecall(Raw()), x, y * 0.3)


def test_refusals_and_protocol():
    with pytest.raises(UserError, match="DensityCoverage: k is 0"):
        DensityCoverage(Raw(), k=0)
    with pytest.raises(UserError, match="num_samples is 3, but precision_raw needs at least 4"):
        PrecisionRecall(Raw()).check(3)
    with pytest.raises(UserError, match="reference of density_raw holds 5 rows, but k=5 needs more"):
        values_of(DensityCoverage(Raw()), cloud(9, 2, 0), cloud(5, 2, 0))
    assert values_of(DensityCoverage(Raw()), cloud(1, 2, 0), cloud(6, 2, 0))["coverage"] >= 0
    told = json.loads(json.dumps(PrecisionRecall(Raw()).protocol()))
    assert told["values"] == ["precision_raw", "recall_raw"]
    assert (told["k"], told["inside"]) == (3, "distance <= radius")
    told = DensityCoverage(Raw()).protocol()
    assert told["values"] == ["density_raw", "coverage_raw"]
    assert (told["k"], told["inside"]) == (5, "distance < radius")
