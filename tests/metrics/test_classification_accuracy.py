import numpy as np
import pytest
import torch
from metrics_fakes import Table, vectors
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.metrics import Raw, ReferenceStatistics, measure_batches
from lightning_gen.metrics.classification_accuracy import ClassificationAccuracy


class Labelled(Table):
    """Points around a centre for each class, in splits that differ."""

    def __init__(self, splits=("train", "val"), noise=1.0):
        super().__init__(vectors(0))
        self.splits, self.noise = splits, noise

    def all_of(self, split):
        n, seed = {"train": (300, 1), "val": (200, 2), "test": (240, 3)}[split]
        return clouds(n, seed, self.noise)

    def rows(self, split="train", rank=0, world_size=1, batch_size=256, limit=None):
        self.reads += 1
        x, y = (part[:limit][rank::world_size] for part in self.all_of(split))
        yield {"x": x, "y": y}

    def fingerprint(self, split, limit=None):
        return f"{split}{limit}{self.noise}"


def clouds(n, seed, noise=1.0):
    y = torch.arange(n) % 3
    return vectors(n, seed)[:, :2] * noise + 2 * F.one_hot(y, 3)[:, :2], y


def values(metric, x, y, batch=64):
    batches = [{"x": x[i], "index": i} | ({} if y is None else {"y": y[i]}) for i in torch.arange(len(x)).split(batch)]
    return measure_batches(batches, [metric], num_samples=len(x), device="cpu")


def fitted(data, tmp_path, **options):
    metric = ClassificationAccuracy(Raw(), **options)
    metric.fit_reference(data, cache_dir=tmp_path)
    return metric


def probe(x, y, l2=1e-3):
    """The same minimum by torch: mean cross-entropy + ½ l2 ‖W‖² on standardised features."""
    mean, std = x.double().mean(0), x.double().std(0, correction=0)
    w = torch.zeros(3, x.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy((x.double() - mean) / std @ w.T + b, y) + 0.5 * l2 * w.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return lambda t: (((t.double() - mean) / std) @ w.T + b).argmax(1)


def test_against_the_definition(tmp_path):
    data, (x, y) = Labelled(), clouds(400, 5, 1.5)
    metric = fitted(data, tmp_path)
    found = values(metric, x, y)
    (train_x, train_y), (val_x, val_y) = data.all_of("train"), data.all_of("val")
    expected = {
        "gan_train_raw": float((probe(x, y)(val_x) == val_y).double().mean()),
        "gan_test_raw": float((probe(train_x, train_y)(x) == y).double().mean()),
        "real_accuracy_raw": float((probe(train_x, train_y)(val_x) == val_y).double().mean()),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.0051), name  # one point that lies on the border
    # blocks of a mean over 400 or 200 independent points: the binomial standard error
    for name, n in (("gan_train_raw", 200), ("gan_test_raw", 400), ("real_accuracy_raw", 200)):
        assert found[f"{name}_se"] == pytest.approx((found[name] * (1 - found[name]) / n) ** 0.5, rel=0.5)
    assert values(metric, x, y, batch=7) == found
    held_out = metric.protocol()["held_out"]
    assert held_out["split"] == "val"
    assert held_out["num"] == 200


def test_what_the_two_accuracies_tell_apart(tmp_path):
    metric = fitted(Labelled(noise=0.8), tmp_path)
    (x, y), ceiling = clouds(300, 6, 0.8), None
    good = values(metric, x, y)
    ceiling = good["real_accuracy_raw"]
    assert abs(good["gan_train_raw"] - ceiling) < 0.06
    wrong = values(metric, x, y[torch.randperm(300, generator=torch.Generator().manual_seed(0))])
    assert wrong["gan_test_raw"] < 0.5  # not of their classes
    assert wrong["gan_train_raw"] < 0.6 < ceiling
    # of their classes, but off to one side: they are recognised, and teach another border
    centre = 2 * F.one_hot(y, 3)[:, :2].float()
    narrow = values(metric, centre + 0.01 * (x - centre) + torch.tensor([1.0, 0.0]) * (y == 0)[:, None], y)
    assert narrow["gan_test_raw"] == 1
    assert narrow["gan_train_raw"] < good["gan_train_raw"]
    assert wrong["real_accuracy_raw"] == narrow["real_accuracy_raw"] == ceiling


@pytest.mark.parametrize(
    ("splits", "held_out"), [(("train", "val", "test"), "test"), (("train", "val"), "val"), (("train",), None)]
)
def test_what_is_held_out(splits, held_out, tmp_path):
    metric = fitted(Labelled(splits), tmp_path)
    found = metric.protocol()["held_out"]
    if held_out is None:
        assert found == "none: tested on the reference itself"
        assert np.isfinite(values(metric, *clouds(60, 7))["gan_train_raw"])
    else:
        assert found["split"] == held_out
    plain = Table(vectors(0))
    plain.rows, plain.fingerprint = Labelled().rows, Labelled().fingerprint  # a source that knows of no splits
    assert fitted(plain, tmp_path).protocol()["held_out"].startswith("none")


def test_the_reference_is_never_its_own_test(tmp_path):
    metric = ClassificationAccuracy(Raw())
    metric.fit_reference(Labelled(("train", "val", "test")), split="test", num=50, cache_dir=tmp_path)
    assert metric.protocol()["held_out"]["split"] == "val"
    assert metric.protocol()["held_out"]["num"] == 200  # num limits the reference alone


def test_refusals(tmp_path):
    with pytest.raises(UserError, match="l2 is 0, but must be above 0"):
        ClassificationAccuracy(Raw(), l2=0)
    metric = ClassificationAccuracy(Raw())
    x, y = clouds(60, 0)
    gaussian = x.double().mean(0), torch.cov(x.T.double()), 60
    with pytest.raises(UserError, match="the data have none: use labelled data"):
        metric.set_reference(ReferenceStatistics(*gaussian, features=x))
    with pytest.raises(UserError, match="at least 2 classes to tell apart"):
        metric.set_reference(ReferenceStatistics(*gaussian, features=x, y=y * 0))
    metric.set_reference(ReferenceStatistics(*gaussian, features=x, y=y))
    with pytest.raises(UserError, match="made without features"):
        metric.set_held_out(ReferenceStatistics(*gaussian, y=y))
    with pytest.raises(UserError, match="the samples have none"):
        values(metric, x, None)
    with pytest.raises(UserError, match="samples of at least 2 classes"):
        values(metric, x, y * 0)
