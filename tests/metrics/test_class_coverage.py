import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from lightning_gen.errors import UserError
from lightning_gen.metrics import ClassCoverage, FeatureExtractor, Features, Raw, measure_batches, protocols
from lightning_gen.metrics.blocks import blocks_of


class Named(FeatureExtractor):
    """Numbers (B, 1) that are classes themselves; `k` logits, not normalised."""

    def __init__(self, k: int = 4) -> None:
        super().__init__()
        self.name, self.num_features, self.num_logits = "named", 1, k

    def stored(self, x):
        return x

    def extract(self, x):
        return Features(x, 3.0 * torch.nn.functional.one_hot(x[:, 0].long(), self.num_logits) - 1)

    def protocol(self):
        return {"extractor": self.name}


def values(metric, classes, batch=64):
    x = torch.as_tensor(classes, dtype=torch.float32)[:, None]
    batches = [{"x": x[i], "index": i} for i in torch.arange(len(x)).split(batch)]
    return measure_batches(batches, [metric], num_samples=len(x), device="cpu")


def test_counts_by_hand():
    found = values(ClassCoverage(Named()), [2, 0, 2, 2, 3, 0])
    assert found == {
        "class_modes_named": 3.0,
        "class_kl_named": pytest.approx(entropy([2, 0, 3, 1], [1, 1, 1, 1]), rel=1e-12),
    }
    assert values(ClassCoverage(Named()), [1] * 5)["class_kl_named"] == pytest.approx(math.log(4))
    assert values(ClassCoverage(Named()), [0, 1, 2, 3])["class_kl_named"] == pytest.approx(0, abs=1e-15)


def test_shares_of_the_data_can_be_given():
    shares = [1.0, 2.0, 4.0, 1.0]
    found = values(ClassCoverage(Named(), proportions=shares), [2, 0, 2, 2, 3, 0])
    assert found["class_kl_named"] == pytest.approx(entropy([2, 0, 3, 1], shares), rel=1e-12)
    assert values(ClassCoverage(Named(), shares), [0, 1, 1, 2, 2, 2, 2, 3])["class_kl_named"] == pytest.approx(
        0, abs=1e-15
    )


def test_error_bars_leave_out_blocks():
    classes = np.random.default_rng(0).choice(4, 400, p=[0.4, 0.3, 0.2, 0.1])
    block = blocks_of(torch.arange(400)).numpy()

    def by_hand(keep):
        return entropy(np.bincount(classes[keep], minlength=4), [1] * 4)

    found = values(ClassCoverage(Named()), classes, batch=7)
    whole, left_out = by_hand(block >= 0), np.array([by_hand(block != b) for b in range(20)])
    assert found == {
        "class_modes_named": 4.0,
        "class_kl_named": pytest.approx(whole, rel=1e-12),
        "class_kl_named_jackknife": pytest.approx(whole - 19 * (left_out.mean() - whole), rel=1e-9),
        "class_kl_named_se": pytest.approx(left_out.std() * 19**0.5, rel=1e-9),
    }


def test_the_jackknife_takes_the_bias_of_few_samples_away():
    """The shares of N even draws from K classes diverge by about (K − 1) / 2N from even ones."""
    classes = np.random.default_rng(1).integers(100, size=2600)
    found = values(ClassCoverage(Named(100)), classes)
    bias = 99 / 2 / 2600
    assert found["class_kl_named"] == pytest.approx(bias, abs=5 * math.sqrt(2 * 99) / 2 / 2600)
    assert abs(found["class_kl_named_jackknife"]) < bias / 2


def test_protocol_and_directions():
    told = protocols([ClassCoverage(Named())], num_samples=26_000, seed=0)
    assert {name: how["higher_is_better"] for name, how in told.items()} == {
        "class_modes_named": True,
        "class_kl_named": False,
    }
    assert told["class_kl_named"]["proportions"] == "uniform over 4 classes"


def test_refusals():
    with pytest.raises(UserError, match="ClassCoverage needs logits, but extractor 'raw' gives none"):
        ClassCoverage(Raw())
    for wrong in ([1.0, 1.0], [1.0, 1.0, 0.0, 1.0], [1.0, 1.0, -1.0, 1.0], []):
        with pytest.raises(UserError, match=r"ClassCoverage\.proportions is \[.*it must hold 4 numbers above 0"):
            ClassCoverage(Named(), wrong)
