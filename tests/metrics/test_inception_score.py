import numpy as np
import pytest
import torch
from metrics_fakes import Linear, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import InceptionScore, Raw


def score(x, batch=64, **options):
    metric = InceptionScore(Linear(), **options)
    metric.begin(len(x))
    for b in x.split(batch):
        metric.update(b)
    return metric


def spelled_out(logits, splits, seed):
    """The definition in numpy: permute, cut, and average exp of the mean divergence from the marginal."""
    logits = logits.double().numpy()
    n = len(logits)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    position = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    scores = []
    for s in range(splits):
        part = p[[i for i in range(n) if position[i] * splits // n == s]]
        marginal = part.mean(0)
        scores.append(np.exp(np.mean(np.sum(part * (np.log(part) - np.log(marginal)), axis=1))))
    return np.mean(scores), np.std(scores)


@pytest.mark.parametrize(("n", "splits", "seed"), [(200, 10, 0), (101, 10, 3), (57, 1, 1), (10, 10, 0)])
def test_against_the_definition(n, splits, seed):
    x = vectors(n)
    mean, std = spelled_out(Linear()(x).logits, splits, seed)
    values = score(x, splits=splits, seed=seed).checked_values()
    assert float(values["is_linear"]) == pytest.approx(mean, rel=1e-12)
    assert float(values["is_linear_std"]) == pytest.approx(std, abs=1e-12)


def test_against_torch_fidelity():
    from torch_fidelity.metric_isc import isc_features_to_metric

    x = vectors(200)
    position = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    theirs = isc_features_to_metric(Linear()(x).logits[position.argsort()], splits=10, shuffle=False)
    values = score(x).checked_values()
    assert float(values["is_linear"]) == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert float(values["is_linear_std"]) == pytest.approx(theirs["inception_score_std"], rel=1e-9)


def test_batch_size_and_order_do_not_matter():
    x = vectors(101)
    value = float(score(x).compute())
    for batch in (1, 7, 101):
        assert float(score(x, batch).compute()) == pytest.approx(value, rel=1e-12)
    metric, order = InceptionScore(Linear()), torch.randperm(101)
    metric.begin(101)
    metric.update(x[order], order)
    assert float(metric.compute()) == pytest.approx(value, rel=1e-12)


def test_bounds():
    class Sure(Linear):
        def extract(self, x):
            features = super().extract(x)
            return type(features)(features.pooled, 1e4 * torch.nn.functional.one_hot(x[:, 0].long(), 5).float())

    for classes, expected in ((torch.arange(100) % 5, 5.0), (torch.zeros(100), 1.0)):
        metric = InceptionScore(Sure(), splits=1)
        metric.begin(100)
        metric.update(classes[:, None].expand(-1, 6).float())
        assert float(metric.compute()) == pytest.approx(expected, rel=1e-12)


def test_refusals():
    with pytest.raises(UserError, match="extractor 'raw' gives none"):
        InceptionScore(Raw())
    with pytest.raises(UserError, match="splits is 0"):
        InceptionScore(Linear(), splits=0)
    with pytest.raises(UserError, match="num_samples is 9, but is_linear needs at least 10"):
        InceptionScore(Linear()).check(9)
    with pytest.raises(UserError, match="begin"):
        InceptionScore(Linear()).update(vectors(3))
    metric = InceptionScore(Linear())
    metric.begin(10)
    metric.update(vectors(12))
    with pytest.raises(UserError, match=r"told of 10 samples and got sample 1[01]"):
        metric.flush()
