"""Error bars: blocks are balanced, the jackknife equals brute force, intervals cover, bias goes."""

import pytest
import torch
from metrics_fakes import Linear, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, InceptionScore, Raw, ReferenceStatistics, frechet_distance
from lightning_gen.metrics.blocks import STUDENT_95, bias, blocks_of, enough, standard_error


def test_blocks_are_balanced_whatever_the_order_of_classes():
    index = torch.arange(2000)
    block = blocks_of(index, 20)
    assert block.bincount().tolist() == [100] * 20
    for y in (index % 10, index // 200, index % 20, index % 7):  # classes in turn, or sorted
        counts = torch.stack([y[block == b].bincount(minlength=int(y.max()) + 1) for b in range(20)])
        mean = counts.double().mean(0)  # of each class in a block, where index mod 20 alone would give all or none
        assert ((counts - mean).abs() <= 4.5 * mean.sqrt()).all()
    assert torch.equal(blocks_of(torch.tensor([1999, 3]), 20), block[[1999, 3]])


def test_jackknife_of_a_mean_and_of_a_variance():
    x = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups = x.view(20, 20)
    means = torch.stack([groups[torch.arange(20) != b].mean() for b in range(20)])
    # for a mean: the standard error of 20 independent block means; and no bias
    assert float(standard_error(means)) == pytest.approx(float(groups.mean(1).std() / 20**0.5), rel=1e-12)
    assert float(bias(x.mean(), means)) == pytest.approx(0, abs=1e-14)
    # the variance over N instead of N − 1 has a bias of −Var(mean), which is what the jackknife finds
    biased = torch.stack([groups[torch.arange(20) != b].var(correction=0) for b in range(20)])
    found = bias(x.var(correction=0), biased)
    assert float(found) == pytest.approx(-(float(standard_error(means)) ** 2), rel=1e-9)


def points(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def fid_values(x, reference, **options):
    metric = FID(Raw(x.shape[1]), **options)
    metric.set_reference(reference)
    metric.begin(len(x))
    metric.update(x)
    return {name: float(value) for name, value in metric.checked_values().items()}


def moments(x):
    x = x.double()
    return x.mean(0), torch.cov(x.T)


def test_fid_against_brute_force():
    x, data = points(400, 3, 0) * 1.3, points(500, 3, 1)
    reference = ReferenceStatistics(*moments(data), 500)
    found = fid_values(x, reference)
    value = frechet_distance(*moments(x), reference.mean, reference.cov)
    block = blocks_of(torch.arange(400), 20)
    others = torch.stack([frechet_distance(*moments(x[block != b]), reference.mean, reference.cov) for b in range(20)])
    assert found["fid_raw"] == pytest.approx(float(value), rel=1e-10)
    assert found["fid_raw_jackknife"] == pytest.approx(float(20 * value - 19 * others.mean()), rel=1e-8)
    assert found["fid_raw_se"] == pytest.approx(float((19 * others.var(correction=0)).sqrt()), rel=1e-8)


def test_intervals_of_fid_cover_and_its_jackknife_is_unbiased():
    """Replicates of Gaussians whose distance is known."""
    d, n, replicates = 4, 500, 300
    scale, shift = torch.tensor([1.3, 0.8, 1.0, 1.1], dtype=torch.float64), 0.2
    truth = d * shift**2 + float((scale - 1).square().sum())
    reference = ReferenceStatistics(torch.zeros(d).double(), torch.eye(d).double(), 10**9)
    x = torch.randn(replicates, n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale + shift
    found = [fid_values(each.float(), reference) for each in x]
    plain, corrected, error = (
        torch.tensor([values[name] for values in found]) for name in ("fid_raw", "fid_raw_jackknife", "fid_raw_se")
    )
    covered = float(((corrected - truth).abs() <= STUDENT_95 * error).float().mean())
    assert 0.91 <= covered <= 0.985  # 95 %, three standard deviations of 300 draws
    sampling_error = float(corrected.std() / replicates**0.5)
    assert abs(float(corrected.mean()) - truth) < 3 * sampling_error
    assert float(plain.mean()) - truth > 5 * sampling_error  # without the correction the bias shows
    assert float(error.mean()) == pytest.approx(float(corrected.std()), rel=0.15)


def test_intervals_of_the_inception_score_cover():
    n, replicates = 600, 120
    e = Linear()
    truth_set = e(vectors(200_000, 1)).logits.double().softmax(1)
    marginal = truth_set.mean(0)
    truth = float((truth_set * (truth_set.log() - marginal.log())).sum(1).mean().exp())
    covered = 0
    for r in range(replicates):
        metric = InceptionScore(e, splits=1)
        metric.begin(n)
        metric.update(vectors(n, 100 + r))
        values = metric.checked_values()
        covered += abs(float(values["is_linear"]) - truth) <= STUDENT_95 * float(values["is_linear_se"])
    assert 0.88 <= covered / replicates <= 1.0


def test_small_sets_and_blocks_of_zero_have_no_error_bars():
    reference = ReferenceStatistics(*moments(points(100, 3, 1)), 100)
    assert list(fid_values(points(199, 3, 0), reference)) == ["fid_raw"]
    assert list(fid_values(points(400, 3, 0), reference, blocks=0)) == ["fid_raw"]
    assert list(fid_values(points(200, 3, 0), reference)) == ["fid_raw", "fid_raw_jackknife", "fid_raw_se"]
    assert enough(200, 20)
    assert not enough(1000, 0)
    for blocks in (-1, 1):
        with pytest.raises(UserError, match=f"blocks is {blocks}"):
            FID(Raw(), blocks=blocks)


def test_error_bars_do_not_change_the_value():
    x, reference = points(1500, 3, 0), ReferenceStatistics(*moments(points(100, 3, 1)), 100)
    found = [fid_values(x, reference, blocks=blocks)["fid_raw"] for blocks in (0, 2, 20)]
    assert found == pytest.approx([found[0]] * 3, rel=1e-12)


def test_states_take_no_memory_before_the_first_sample_and_after_release():
    metric = FID(Raw(64))
    metric.set_reference(ReferenceStatistics(torch.zeros(64).double(), torch.eye(64).double(), 100))
    assert metric.feature_square.shape == (20, 64, 64)
    metric.release()
    assert metric.feature_square.untyped_storage().nbytes() == 8
    metric.update(points(300, 64, 0))
    metric.flush()
    assert metric.feature_square.untyped_storage().nbytes() == 8 * 20 * 64 * 64
    value = float(metric.compute())
    metric.release()
    metric.begin(300)
    metric.update(points(300, 64, 0))
    assert float(metric.compute()) == value
