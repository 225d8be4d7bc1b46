import numpy as np
import pytest
import torch
from metrics_fakes import Linear, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, Raw, ReferenceStatistics, frechet_distance
from lightning_gen.metrics.blocks import STUDENT_95, blocks_of
from lightning_gen.metrics.fid_infinity import FIDInfinity, intercept


def values(metric, x, reference, batch=500):
    metric.set_reference(reference)
    metric.begin(len(x))
    for part in x.split(batch):
        metric.update(part)
    return {name: float(value) for name, value in metric.checked_values().items()}


def moments(x):
    x = x.double()
    return x.mean(0), torch.cov(x.T)


def gaussian(d):
    return ReferenceStatistics(torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64), 1000)


def test_the_line_against_numpy():
    x, y = torch.rand(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at_zero = np.polyfit(x, y, 1)[1]
    assert float(intercept(x, y)) == pytest.approx(at_zero, rel=1e-12)
    assert torch.allclose(intercept(x[:, None], torch.stack([y, 2 * y], 1)), torch.tensor([1, 2.0]).double() * at_zero)


def without(x, block, b):
    keep = block != b
    return x[keep], block[keep]


def spelled_out(x, block, parts, reference):
    """The definition: cut, average over parts, draw a line."""
    sizes, distances = [], []
    for k in parts:
        cuts = [x[block * k // 20 == j] for j in range(k)]
        sizes.append(np.mean([1 / len(cut) for cut in cuts]))
        distances.append(
            np.mean([float(frechet_distance(reference.mean, reference.cov, *moments(cut))) for cut in cuts])
        )
    return np.polyfit(sizes, distances, 1)[1]


def test_against_the_definition():
    x, reference = vectors(407)[:, :3] * 1.2 + 0.1, gaussian(3)
    block = blocks_of(torch.arange(407), 20)
    found = values(FIDInfinity(Raw(3)), x, reference)
    assert found["fid_infinity_raw"] == pytest.approx(spelled_out(x, block, (1, 2, 4, 5), reference), rel=1e-10)
    left_out = [spelled_out(*without(x, block, b), (1, 2, 4, 5), reference) for b in range(20)]
    assert found["fid_infinity_raw_se"] == pytest.approx(np.std(left_out) * 19**0.5, rel=1e-7)
    two = values(FIDInfinity(Raw(3), points=2), x, reference)["fid_infinity_raw"]
    assert two == pytest.approx(spelled_out(x, block, (1, 2), reference), rel=1e-10)


def test_nearer_to_the_truth_than_fid_and_its_interval_covers():
    d, n, shift, scale = 24, 800, 0.1, 1.1
    reference, truth = gaussian(d), d * (shift**2 + (scale - 1) ** 2)
    g = torch.Generator().manual_seed(0)
    plain, found, errors = [], [], []
    for _ in range(40):
        x = torch.randn(n, d, generator=g) * scale + shift
        plain.append(values(FID(Raw(d), blocks=0), x, reference)["fid_raw"])
        value = values(FIDInfinity(Raw(d)), x, reference)
        found.append(value["fid_infinity_raw"])
        errors.append(value["fid_infinity_raw_se"])
    plain, found, errors = (np.array(each) - over for each, over in ((plain, truth), (found, truth), (errors, 0)))
    noise = found.std() / len(found) ** 0.5
    assert plain.mean() > 5 * noise  # FID is biased upwards, by more than this test's noise
    assert abs(found.mean()) < 3 * noise
    assert (np.abs(found) < np.abs(plain)).mean() > 0.8
    assert np.mean(np.abs(found) < STUDENT_95 * errors) >= 0.85
    assert errors.mean() == pytest.approx(found.std(), rel=0.3)


def test_batches_and_order_do_not_matter():
    x, reference = vectors(301)[:, :3], gaussian(3)
    whole = values(FIDInfinity(Raw(3)), x, reference)
    assert values(FIDInfinity(Raw(3)), x, reference, batch=7) == pytest.approx(whole, rel=1e-9)
    metric, order = FIDInfinity(Raw(3)), torch.randperm(301, generator=torch.Generator().manual_seed(0))
    metric.set_reference(reference)
    metric.begin(301)
    metric.update(x[order], order)
    assert float(metric.compute()) == pytest.approx(whole["fid_infinity_raw"], rel=1e-9)
    assert "N/5" in metric.protocol()["extrapolation"]


def test_refusals():
    for options in ({"points": 1}, {"points": 6}, {"blocks": 0}, {"blocks": 19}):
        with pytest.raises(UserError, match="points is"):
            FIDInfinity(Linear(), **options)
    with pytest.raises(UserError, match="num_samples is 199, but fid_infinity_linear needs at least 200"):
        FIDInfinity(Linear()).check(199)
    FIDInfinity(Linear(d=8)).check(200)
    with pytest.warns(UserWarning, match="parts of 40 samples.*above 200"):
        FIDInfinity(Linear(d=40)).check(200)
