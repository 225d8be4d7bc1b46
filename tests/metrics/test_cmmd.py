import json

import numpy as np
import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.metrics import Raw, ReferenceStatistics, distances
from lightning_gen.metrics.blocks import blocks_of
from lightning_gen.metrics.cmmd import CMMD


def cloud(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def values_of(metric, x, y):
    metric.set_reference(ReferenceStatistics(y.double().mean(0), torch.cov(y.double().T), len(y), features=y))
    metric.begin(len(x))
    metric.update(x)
    return {name: float(value) for name, value in metric.checked_values().items()}


def spelled_out(x, y, sigma=10.0, scale=1000.0):
    """The definition in numpy, from differences."""
    x, y = (t.double().numpy() for t in (x, y))
    x, y = (t / np.linalg.norm(t, axis=1, keepdims=True) for t in (x, y))

    def mean(a, b):
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(2) / (2 * sigma**2)).mean()

    return scale * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


@pytest.mark.parametrize("tile", [1024, 13])
def test_against_the_definition(tile, monkeypatch):
    monkeypatch.setattr(distances, "TILE", tile)
    x, y = cloud(60, 5, 0, 0.5), cloud(45, 5, 1)
    assert values_of(CMMD(Raw(5)), x, y)["cmmd_raw"] == pytest.approx(spelled_out(x, y), rel=1e-9)
    found = values_of(CMMD(Raw(5), sigma=0.3, scale=2.0), x, y)
    assert found["cmmd_raw"] == pytest.approx(spelled_out(x, y, 0.3, 2.0), rel=1e-11)


def test_of_orthogonal_directions():
    """Two points a set: k is 1 with itself, e^(−1/σ²) between any two others."""
    x, y = torch.eye(4)[:2] * 3, torch.eye(4)[2:] * 7
    far = np.exp(-1 / 4)
    # (1 + k)/2 within each, k between
    assert values_of(CMMD(Raw(4), sigma=2.0), x, y)["cmmd_raw"] == pytest.approx(1000 * (1 - far), rel=1e-12)


def test_directions_alone_matter_and_a_set_is_at_0_from_itself():
    x, y = cloud(40, 5, 0), cloud(50, 5, 1)
    lengths = torch.rand(40, 1, generator=torch.Generator().manual_seed(2)) + 0.5
    expected = values_of(CMMD(Raw(5)), x, y)["cmmd_raw"]
    assert expected > 1e-3
    assert values_of(CMMD(Raw(5)), x * lengths, y)["cmmd_raw"] == pytest.approx(expected, rel=1e-6)
    assert abs(values_of(CMMD(Raw(5)), x, x * 2)["cmmd_raw"]) < 1e-10
    assert np.isfinite(values_of(CMMD(Raw(5)), torch.zeros(3, 5), y)["cmmd_raw"])


def test_the_bias_is_as_told():
    """Two sets of one distribution: scale (1 − E k)(1/N + 1/M)."""
    values, y = [], [cloud(50, 3, 1000 + seed) for seed in range(40)]
    for seed in range(40):
        values.append(values_of(CMMD(Raw(3), blocks=0), cloud(25, 3, seed), y[seed])["cmmd_raw"])
    # directions in space are uniform, so 1 − E k ≈ E‖x − y‖²/2σ² = 2 / 200
    expected = 1000 * 0.01 * (1 / 25 + 1 / 50)
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / 40**0.5 + 0.01 * expected)


def test_standard_error_against_leaving_blocks_out():
    x, y = cloud(204, 3, 0, 0.3), cloud(70, 3, 1)
    found, block = values_of(CMMD(Raw(3)), x, y), blocks_of(torch.arange(204), 20)
    assert list(found) == ["cmmd_raw", "cmmd_raw_se"]
    others = [spelled_out(x[block != b], y) for b in range(20)]
    assert found["cmmd_raw_se"] == pytest.approx(np.sqrt(19) * np.std(others), rel=1e-8)


def test_refusals_and_protocol():
    with pytest.raises(UserError, match=r"CMMD: sigma is 0, but must be above 0"):
        CMMD(Raw(3), sigma=0)
    with pytest.raises(UserError, match=r"CMMD: scale is -1, but must be above 0"):
        CMMD(Raw(3), scale=-1)
    told = json.loads(json.dumps(CMMD(Raw(3)).protocol()))
    assert (told["sigma"], told["scale"]) == (10.0, 1000.0)
    assert "V-statistic" in told["estimator"]
    assert "L2-normalised" in told["kernel"]
