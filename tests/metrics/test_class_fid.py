import numpy as np
import pytest
import torch
from metrics_fakes import vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import Raw, ReferenceStatistics, frechet_distance, measure_batches
from lightning_gen.metrics.blocks import blocks_of
from lightning_gen.metrics.class_fid import ClassFID


def moments(x):
    x = x.double()
    return x.mean(0), torch.cov(x.T)


def reference(x, y):
    return ReferenceStatistics(*moments(x), len(x), features=x, y=y)


def values(metric, x, y, batch=64):
    batches = [{"x": x[i], "index": i} | ({} if y is None else {"y": y[i]}) for i in torch.arange(len(x)).split(batch)]
    return measure_batches(batches, [metric], num_samples=len(x), device="cpu")


def problem(n, m, d=6, classes=3):
    """Samples and data of different moments in every class."""
    x, data = vectors(n, 0)[:, :d] * 1.2 + 0.2, vectors(m, 1)[:, :d]
    y, labels = torch.arange(n) % classes, torch.arange(m) * classes // m
    return x + y[:, None], y, data + 2 * labels[:, None], labels


def spelled_out(x, y, data, labels):
    return [
        float(frechet_distance(*moments(data[labels == k]), *moments(x[y == k]))) for k in range(int(labels.max()) + 1)
    ]


@pytest.mark.parametrize("batch", [7, 64])
def test_is_the_mean_of_fid_within_classes(batch):
    x, y, data, labels = problem(100, 80)
    metric = ClassFID(Raw(6))
    metric.set_reference(reference(data, labels))
    expected = spelled_out(x, y, data, labels)
    found = values(metric, x, y, batch)
    assert found["cfid_raw"] == pytest.approx(np.mean(expected), rel=1e-6)  # rows are kept in float32
    assert [found[f"cfid_raw_class{k}"] for k in range(3)] == pytest.approx(expected, rel=1e-6)
    assert len(found) == 4  # too few for error bars


def test_fewer_rows_than_features():
    g = torch.Generator().manual_seed(0)
    x, data = torch.randn(20, 30, generator=g), torch.randn(14, 30, generator=g)
    y, labels = torch.arange(20) % 2, torch.arange(14) % 2
    metric = ClassFID(Raw(30))
    metric.set_reference(reference(data, labels))
    with pytest.warns(UserWarning, match="about 10 samples a class is biased upwards.* 30 features"):
        found = values(metric, x, y)
    assert found["cfid_raw"] == pytest.approx(np.mean(spelled_out(x, y, data, labels)), rel=1e-9)
    metric.set_reference(reference(x, y))
    with pytest.warns(UserWarning, match="biased"):
        assert 0 <= values(metric, x, y)["cfid_raw"] < 1e-10


def test_error_bars_leave_out_blocks():
    x, y, data, labels = problem(620, 300)
    metric = ClassFID(Raw(6))
    metric.set_reference(reference(data, labels))
    found = values(metric, x, y)
    block = blocks_of(torch.arange(620), 20)
    left_out = np.array([spelled_out(x[block != b], y[block != b], data, labels) for b in range(20)])
    assert found["cfid_raw_se"] == pytest.approx(left_out.mean(1).std() * 19**0.5, rel=1e-6)
    for k in range(3):
        assert found[f"cfid_raw_class{k}_se"] == pytest.approx(left_out[:, k].std() * 19**0.5, rel=1e-6)
    assert "cfid_raw_se" not in values(metric, x[:199], y[:199])  # fewer than 10 a block
    y[y == 2], y[:2] = 1, 2
    assert "cfid_raw_se" not in values(metric, x, y)  # a class of which a block may hold the last pair
    without, y = ClassFID(Raw(6), blocks=0), torch.arange(620) % 3
    without.set_reference(reference(data, labels))
    assert len(values(without, x, y)) == 4


def test_sees_what_fid_cannot():
    """A model that ignores the class it was asked for."""
    x, y, _, _ = problem(300, 2)
    metric = ClassFID(Raw(6))
    metric.set_reference(reference(x, y))
    right = values(metric, x, y)["cfid_raw"]
    shuffled = y[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    assert right < 1e-9 < 1 < values(metric, x, shuffled)["cfid_raw"]


def test_refusals():
    x, y, data, labels = problem(60, 60)
    metric = ClassFID(Raw(6))
    with pytest.raises(UserError, match="the data have none: use labelled data"):
        metric.set_reference(reference(data, None))
    with pytest.raises(UserError, match="needs at least 2 of the data in each class, but class 2 has 1"):
        metric.set_reference(reference(data[:41], labels[:41]))
    metric.set_reference(reference(data, labels))
    with pytest.raises(UserError, match="the samples have none: measure a model with num_classes"):
        values(metric, x, None)
    with pytest.raises(UserError, match="class 1 has 0: use a larger num_samples"):
        values(metric, x, y * 2 % 3 * (y != 2))
    with pytest.raises(UserError, match="class 3, but the data have only classes 0 to 2"):
        values(metric, x, y + 1)
