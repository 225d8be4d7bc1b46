from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import torch
from metrics_fakes import Linear, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, Raw, ReferenceStatistics, frechet_distance


def moments(x):
    x = x.double()
    return x.mean(0), torch.cov(x.T)


def cloud(n, d, seed, shift=0.0):
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=g, dtype=torch.float64)
    return torch.randn(n, d, generator=g, dtype=torch.float64) @ mix + shift


def textbook(m1, c1, m2, c2):
    root = scipy.linalg.sqrtm(c1.numpy() @ c2.numpy())
    return float(((m1 - m2) ** 2).sum() + c1.trace() + c2.trace() - 2 * np.trace(root).real)


def test_against_scipy_sqrtm():
    a, b = moments(cloud(500, 24, 0)), moments(cloud(400, 24, 1, 0.3))
    assert float(frechet_distance(*a, *b)) == pytest.approx(textbook(*a, *b), rel=1e-9)


def test_closed_form_of_commuting_gaussians():
    g = torch.Generator().manual_seed(0)
    v = torch.linalg.qr(torch.randn(12, 12, generator=g, dtype=torch.float64)).Q
    l1, l2 = torch.rand(2, 12, generator=g, dtype=torch.float64) + 0.1
    m1, m2 = torch.randn(2, 12, generator=g, dtype=torch.float64)
    expected = (m1 - m2).square().sum() + (l1.sqrt() - l2.sqrt()).square().sum()
    found = frechet_distance(m1, v * l1 @ v.T, m2, v * l2 @ v.T)
    assert float(found) == pytest.approx(float(expected), rel=1e-10)


def test_symmetric_and_invariant_under_rotation():
    a, b = moments(cloud(300, 16, 0)), moments(cloud(200, 16, 1))
    q = torch.linalg.qr(cloud(16, 16, 2)).Q
    turned = [(q @ m, q @ c @ q.T) for m, c in (a, b)]
    value = float(frechet_distance(*a, *b))
    assert float(frechet_distance(*b, *a)) == pytest.approx(value, rel=1e-12)
    assert float(frechet_distance(*turned[0], *turned[1])) == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize("n", [10, 500])
def test_of_a_set_with_itself(n):
    m, c = moments(cloud(n, 64, 0, shift=30.0) * torch.logspace(0, -6, 64, dtype=torch.float64))
    assert 0 <= float(frechet_distance(m, c, m, c)) < 1e-9 * float(c.trace())


def test_rank_deficient_against_singular_values_of_the_samples():
    x, y = cloud(20, 64, 0), cloud(12, 64, 1)
    (m1, c1), (m2, c2) = moments(x), moments(y)
    fx, fy = (x - m1) / 19**0.5, (y - m2) / 11**0.5
    trace = torch.linalg.svdvals(fx @ fy.T).sum()
    expected = (m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * trace
    assert float(frechet_distance(m1, c1, m2, c2)) == pytest.approx(float(expected), rel=1e-10)


def test_constant_features():
    zero, m = torch.zeros(3, 3), torch.tensor([1.0, 2.0, 2.0])
    assert float(frechet_distance(torch.zeros(3), zero, m, zero)) == pytest.approx(9.0)


def test_against_other_implementations():
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    x, y = cloud(400, 20, 0), cloud(400, 20, 1)
    found = float(frechet_distance(*moments(x), *moments(y)))
    stats = [fid_features_to_statistics(t) for t in (x, y)]
    assert found == pytest.approx(fid_statistics_to_metric(*stats, verbose=False)[KEY_METRIC_FID], rel=1e-6)
    (m1, c1), (m2, c2) = moments(x), moments(y)
    assert found == pytest.approx(float(_compute_fid(m1, c1, m2, c2)), rel=1e-6)


def fid_of(extractor, reference, x, batch=50):
    metric = FID(extractor)
    metric.set_reference(ReferenceStatistics(*moments(extractor(reference).pooled), len(reference)))
    metric.begin(len(x))
    for b in x.split(batch):
        metric.update(b)
    return metric.compute()


def test_metric_equals_function_and_ignores_batch_size():
    e, data, x = Linear(), vectors(300), vectors(200, 1, 0.3)
    expected = frechet_distance(*moments(e(data).pooled), *moments(e(x).pooled))
    for batch in (1, 7, 200):
        value = fid_of(e, data, x, batch)
        assert value.dtype == torch.float64
        assert float(value) == pytest.approx(float(expected), rel=1e-10)


def test_large_offset_costs_no_accuracy():
    # dyadic, so that adding 4096 is exact in the extractor's float32
    def points(seed):
        return (torch.randn(400, 2, generator=torch.Generator().manual_seed(seed)) * 256).round() / 256

    near = float(fid_of(Raw(), points(0), points(1)))
    far = float(fid_of(Raw(), points(0) + 4096, points(1) + 4096))
    assert far == pytest.approx(near, rel=1e-9)


def test_too_few_samples_is_told_before_sampling():
    metric = FID(Linear(d=8))
    with pytest.raises(UserError, match="num_samples is 1, but fid_linear needs at least 2"):
        metric.check(1)
    with pytest.warns(UserWarning, match="biased upwards.* the 8 features"):
        metric.check(8)
    metric.check(9)
    with pytest.raises(UserError, match="of 8 samples is biased upwards"):
        FID(Linear(d=8), on_few_samples="stop").check(8)
    with pytest.raises(UserError, match="on_few_samples is 'raise'"):
        FID(Linear(d=8), on_few_samples="raise")


def test_too_few_samples_are_told_how_much_of_the_value_is_bias():
    x, data = cloud(250, 300, 0).float(), cloud(2000, 300, 0).float()
    metric = FID(Raw(300))
    metric.set_reference(ReferenceStatistics(*moments(data), 2000))
    with pytest.warns(UserWarning, match="biased upwards"):
        metric.begin(250)
    metric.update(x)
    with pytest.warns(UserWarning, match=r"too high by about [\d.e+]+, as the jackknife"):
        metric.compute()


def test_reference_must_exist_and_fit():
    metric = FID(Linear(d=8))
    with pytest.raises(UserError, match="no reference"):
        metric.update(vectors(10))
    with pytest.raises(UserError, match="has 8 features"):
        metric.set_reference(ReferenceStatistics(torch.zeros(3), torch.eye(3), 10))
    other = {"extractor": Linear(d=8, seed=1).protocol()}
    with pytest.raises(UserError, match="another extractor"):
        metric.set_reference(ReferenceStatistics(torch.zeros(8), torch.eye(8), 10, other))


def test_number_of_samples_must_be_as_announced():
    e, data = Linear(), vectors(50)
    metric = FID(e)
    metric.set_reference(ReferenceStatistics(*moments(e(data).pooled), 50))
    metric.begin(20)
    metric.update(vectors(19))
    with pytest.raises(UserError, match="told of 20 samples and saw 19"):
        metric.compute()


def test_fid_of_digits_grows_with_noise(tmp_path):
    from lightning_gen.data import Digits
    from lightning_gen.metrics import DigitsClassifier

    data, metric = Digits(image_size=32), FID(DigitsClassifier())
    metric.fit_reference(data, split="train", cache_dir=tmp_path)
    x = torch.cat([b["x"] for b in data.rows("val")]).float()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    values = []
    for sigma in (0, 24, 48, 96):
        metric.begin(len(x))
        metric.update((x + sigma * noise).round().clamp(0, 255).to(torch.uint8))
        values.append(float(metric.compute()))
    assert all(a < 0.8 * b for a, b in pairwise(values)), values
