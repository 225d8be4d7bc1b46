import json

import numpy as np
import pytest
import torch
from metrics_fakes import Linear, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import Raw, ReferenceStatistics, distances
from lightning_gen.metrics.blocks import blocks_of
from lightning_gen.metrics.memorisation import Memorisation


def cloud(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def reference(y, **protocol):
    return ReferenceStatistics(torch.zeros(y.shape[1]), torch.eye(y.shape[1]), len(y), protocol, features=y)


def run(metric, x):
    metric.begin(len(x))
    metric.update(x)
    return {name: float(value) for name, value in metric.checked_values().items()}


def fitted(train, held_out=None, **options):
    metric = Memorisation(Raw(train.shape[1]), **options)
    metric.set_reference(reference(train, split="train"))
    if held_out is not None:
        metric.set_held_out(reference(held_out))
    return metric


def enumerated(x, train, held_out):
    """The definitions in numpy, from differences."""
    x, train, held_out = (t.double().numpy() for t in (x, train, held_out))

    def between(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(2))

    own = between(train, train)
    np.fill_diagonal(own, np.inf)
    near = between(x, train)
    row = near.argmin(1)
    authentic = near.min(1) > own.min(1)[row]
    return 100 * authentic.mean(), near.min(1).mean() / between(x, held_out).min(1).mean(), row, near.min(1)


@pytest.mark.parametrize("tile", [1024, 19])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_against_enumeration(tile, shift, monkeypatch):
    monkeypatch.setattr(distances, "TILE", tile)
    train, held_out, x = cloud(80, 3, 0, shift), cloud(80, 3, 1, shift), cloud(50, 3, 2, shift)
    metric = fitted(train, held_out, pairs=50)
    found = run(metric, x)
    authpct, ratio, row, distance = enumerated(x, train, held_out)
    assert 10 < authpct < 90
    assert found == pytest.approx({"authpct_raw": authpct, "nn_ratio_raw": ratio}, rel=1e-12)
    pairs = sorted(metric.nearest_pairs(), key=lambda pair: pair["sample"])
    assert [pair["row"] for pair in pairs] == row.tolist()
    assert [pair["distance"] for pair in pairs] == pytest.approx(distance.tolist(), rel=1e-12)


def test_copies():
    train, held_out = cloud(120, 4, 0, 4096.0), cloud(120, 4, 1, 4096.0)
    metric, rows = fitted(train, held_out, pairs=5), torch.arange(30) * 3
    assert run(metric, train[rows]) == {"authpct_raw": 0.0, "nn_ratio_raw": 0.0}
    expected = [{"sample": i, "row": 3 * i, "split": "train", "distance": 0.0, "relative": 0.0} for i in range(5)]
    assert metric.nearest_pairs() == expected


def test_pairs_are_ordered_by_relative_distance_and_rows_held_twice_come_last_or_first():
    train = torch.tensor([[0.0, 0], [0, 8], [50, 0], [50, 2], [90, 90], [90, 90]])
    x = torch.tensor([[0.0, 3], [50, -1.5], [90, 91], [90, 90], [0, -6]])
    metric = fitted(train)
    assert run(metric, x) == {"authpct_raw": 20.0}  # [90, 91] alone: its nearest row is 0 from another
    pairs = [(pair["sample"], pair["row"], pair["distance"], pair["relative"]) for pair in metric.nearest_pairs()]
    assert pairs[1:4] == [(0, 0, 3.0, 3 / 8), (1, 2, 1.5, 0.75), (4, 0, 6.0, 0.75)]
    assert pairs[0][0] == 3
    assert pairs[0][1] in (4, 5)
    assert pairs[0][2:] == (0.0, 0.0)
    assert pairs[4][0] == 2
    assert pairs[4][2:] == (1.0, None)
    assert metric.details() == {"neighbours": metric.nearest_pairs()}
    json.dumps(metric.details(), allow_nan=False)


def test_authentic_is_strict():
    train, x = torch.tensor([[0.0, 0], [0, 4]]), torch.tensor([[4.0, 0], [4.5, 0]])
    assert run(fitted(train), x) == {"authpct_raw": 50.0}


def test_standard_errors_against_leaving_blocks_out():
    train, held_out, x = cloud(90, 3, 0), cloud(90, 3, 1), cloud(207, 3, 2)
    found, block = run(fitted(train, held_out), x), blocks_of(torch.arange(207), 20)
    others = [run(fitted(train, held_out, blocks=0), x[block != b]) for b in range(20)]
    for name in ("authpct_raw", "nn_ratio_raw"):
        left_out = [other[name] for other in others]
        assert found[f"{name}_se"] == pytest.approx(np.sqrt(19) * np.std(left_out), rel=1e-9)


def test_the_ratio_is_about_1_for_fresh_samples_though_training_rows_are_many():
    train, held_out, x = cloud(3000, 2, 0), cloud(300, 2, 1), cloud(1000, 2, 2)
    found = run(fitted(train, held_out), x)
    assert abs(found["nn_ratio_raw"] - 1) < 0.1
    assert enumerated(x, train, held_out)[1] < 0.5  # as it would be with all of them
    assert run(fitted(train, held_out), x) == found
    # held-out rows that are more than training rows are cut, too
    assert run(fitted(held_out, train), x)["nn_ratio_raw"] == pytest.approx(1 / found["nn_ratio_raw"], rel=1e-12)
    half = torch.cat((x[:500], train[:500]))
    assert run(fitted(train, held_out), half)["authpct_raw"] < 0.6 * found["authpct_raw"]


class Splits:
    def __init__(self, **splits):
        self.x, self.asked = splits, []

    @property
    def splits(self):
        return tuple(self.x)

    def rows(self, split, rank=0, world_size=1, batch_size=256, limit=None):
        self.asked.append((split, limit))
        for x in self.x[split][:limit][rank::world_size].split(batch_size):
            yield {"x": x}

    def fingerprint(self, split, limit=None):
        return f"{split} {limit} {float(self.x[split].sum())}"


def test_training_and_held_out_rows_come_from_their_splits(tmp_path):
    e, train, val, test = Linear(), vectors(60), vectors(40, 1), vectors(30, 2)
    x, options = vectors(25, 3), {"cache_dir": tmp_path, "needs": {"moments", "features"}}
    expected = {}
    for name, held_out in (("test", test), ("val", val), (None, None)):
        metric = Memorisation(e)
        metric.set_reference(reference(e(train).pooled))
        if held_out is not None:
            metric.set_held_out(reference(e(held_out).pooled))
        expected[name] = run(metric, x)
    assert "nn_ratio_linear" not in expected[None]
    metric = Memorisation(e)
    for splits, held_out in (
        ({"train": train, "val": val, "test": test}, "test"),
        ({"train": train, "val": val}, "val"),
        ({"train": train}, None),
    ):
        data = Splits(**splits)
        metric.fit_reference(data, **options)
        assert run(metric, x) == pytest.approx(expected[held_out], rel=1e-12)
        told = json.loads(json.dumps(metric.protocol()))
        assert told["reference"]["split"] == "train"
        assert told.get("held_out", {}).get("split") == held_out
        assert len(told["values"]) == (1 if held_out is None else 2)
        assert metric.nearest_pairs()[0]["split"] == "train"
    metric.fit_reference(Splits(everything=train), split="everything", **options)
    assert run(metric, x) == pytest.approx(expected[None], rel=1e-12)
    data = Splits(train=train, test=test)
    metric.fit_reference(data, split="test", num=20, cache_dir=tmp_path / "other")
    assert data.asked == [("train", 20), ("test", 20)]
    assert (metric.protocol()["reference"]["num"], metric.protocol()["held_out"]["num"]) == (20, 20)


def test_a_second_set_and_a_second_reference():
    train, other, x = cloud(70, 2, 0), cloud(70, 2, 1), cloud(40, 2, 2)
    metric = fitted(train)
    with torch.inference_mode():
        first = run(metric, x)
    assert run(metric, x[:20]) == run(fitted(train), x[:20])
    assert run(metric, torch.cat((x, other))) == run(fitted(train), torch.cat((x, other)))
    assert run(metric, x) == first
    metric.set_reference(reference(other))
    assert metric.details() == {}
    assert run(metric, x) == run(fitted(other), x)
    assert run(metric, x) != first


def test_refusals():
    with pytest.raises(UserError, match="Memorisation: pairs is -1"):
        Memorisation(Raw(), pairs=-1)
    with pytest.raises(UserError, match="has seen no set yet"):
        Memorisation(Raw()).nearest_pairs()
    with pytest.raises(UserError, match="without features"):
        Memorisation(Raw()).set_held_out(ReferenceStatistics(torch.zeros(2), torch.eye(2), 9))
    with pytest.raises(UserError, match="another extractor"):
        Memorisation(Raw()).set_held_out(reference(cloud(9, 2, 0), extractor=Raw(3).protocol()))
