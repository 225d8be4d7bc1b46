import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from lightning_gen.data import Grid2D, Moons2D, Ring2D
from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, ModeCoverage, Raw, ReferenceStatistics, measure_batches, protocols
from lightning_gen.metrics.blocks import blocks_of

CENTRES = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


def reference(x, y):
    return ReferenceStatistics(x.double().mean(0), torch.cov(x.double().T), len(x), features=x, y=y)


def crosses(counts=(4, 8, 12)):
    """Around each centre as many points as told, a quarter each 1 to the left, right, above and below."""
    step = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    x = torch.cat([CENTRES[k] + step.repeat(n // 4, 1) for k, n in enumerate(counts)])
    return x, torch.arange(3).repeat_interleave(torch.tensor(counts))


SIGMA = math.sqrt(24 / (2 * (24 - 3)))  # Σ‖x − c‖² = 24 points of distance 1; two coordinates, three centres taken


def fitted(x, y, **options):
    metric = ModeCoverage(Raw(), **options)
    metric.set_reference(reference(x, y))
    return metric


def values(metric, x, batch=64):
    batches = [{"x": x[i], "index": i} for i in torch.arange(len(x)).split(batch)]
    return measure_batches(batches, [metric], num_samples=len(x), device="cpu")


def around(centre, distance, angle=1.0):
    return CENTRES[centre] + distance * torch.tensor([math.cos(angle), math.sin(angle)])


def test_counts_by_hand():
    just_in, just_out = 3 * SIGMA - 1e-4, 3 * SIGMA + 1e-4
    x = torch.stack(
        [around(0, 0.1), around(0, just_in, 2.0), around(0, just_in, 4.0), around(2, 0.0), around(1, just_out, 3.0)]
        + [torch.tensor([50.0, 50.0])] * 3
    )
    found = values(fitted(*crosses()), x)
    assert found == {
        "modes_raw": 2.0,
        "high_quality_raw": 4 / 8,
        "kl_raw": pytest.approx(entropy([3, 0, 1], [4, 8, 12]), rel=1e-12),
    }


def test_a_sample_that_lies_between_two_modes_covers_both_but_counts_once():
    y = torch.arange(2).repeat_interleave(12)
    step = crosses()[0][-12:] - CENTRES[2]
    metric = fitted(torch.cat([step, step + torch.tensor([3.0, 0.0])]), y)  # σ = √(24/44), 3σ = 2.2
    found = values(metric, torch.tensor([[1.4, 0.0], [1.4, 0.0]]))
    assert (found["modes_raw"], found["high_quality_raw"]) == (2.0, 1.0)
    assert found["kl_raw"] == pytest.approx(math.log(2))  # all belong to the nearest


def test_where_no_sample_is_near_a_mode():
    found = values(fitted(*crosses()), torch.full((5, 2), 30.0))
    assert found == {"modes_raw": 0.0, "high_quality_raw": 0.0, "kl_raw": pytest.approx(math.log(24 / 4))}
    assert found["kl_raw"] == pytest.approx(entropy([1, 0, 0], [4, 8, 12]))


@pytest.mark.parametrize(("data", "modes"), [(Ring2D(num_samples=20_000), 8), (Grid2D(num_samples=20_000), 25)])
def test_the_data_themselves_are_covered(data, modes, tmp_path):
    metric = ModeCoverage(Raw())
    metric.fit_reference(data, cache_dir=tmp_path)
    centres, sigma, share = metric._modes
    assert sigma == pytest.approx(data.std, rel=5 / math.sqrt(2 * 40_000))
    assert (centres - data.means).abs().max() < 6 * data.std / math.sqrt(20_000 / modes)
    assert torch.allclose(share.float(), torch.full((modes,), 1 / modes), atol=5 * math.sqrt(1 / modes / 20_000))
    found = values(metric, data.split("test").tensors["x"][:2500], batch=999)
    assert found["modes_raw"] == modes
    inside = 1 - math.exp(-4.5)
    assert found["high_quality_raw"] == pytest.approx(inside, abs=5 * math.sqrt(inside * (1 - inside) / 2500))
    expected = (modes - 1) / 2 / 2500
    assert 0 < found["kl_raw"] < expected + 5 * math.sqrt(2 * (modes - 1)) / 2 / 2500
    one = values(
        metric, data.means[3] + 2 * data.std * torch.randn(2500, 2, generator=torch.Generator().manual_seed(0))
    )
    assert one["modes_raw"] == 1
    # of twice the deviation, 1 − e^(−9/8) lie within
    assert one["high_quality_raw"] == pytest.approx(1 - math.exp(-9 / 8), abs=0.05)
    assert one["kl_raw"] == pytest.approx(math.log(modes), abs=0.2)


def test_error_bars_leave_out_blocks():
    x = CENTRES[torch.randint(3, (400,), generator=torch.Generator().manual_seed(0))]
    x = x + 1.5 * torch.randn(400, 2, generator=torch.Generator().manual_seed(1))
    metric = fitted(*crosses())
    found = values(metric, x, batch=7)
    distance = (x[:, None] - CENTRES).norm(dim=2).numpy()
    inside, nearest, block = distance.min(1) <= 3 * SIGMA, distance.argmin(1), blocks_of(torch.arange(400)).numpy()

    def by_hand(keep):
        return inside[keep].mean(), entropy(np.bincount(nearest[keep & inside], minlength=3), [4, 8, 12])

    assert [found["high_quality_raw"], found["kl_raw"]] == pytest.approx(by_hand(block >= 0), rel=1e-12)
    errors = np.array([by_hand(block != b) for b in range(20)]).std(0) * 19**0.5
    assert [found["high_quality_raw_se"], found["kl_raw_se"]] == pytest.approx(errors, rel=1e-9)
    assert set(found) == {"modes_raw", "high_quality_raw", "kl_raw", "high_quality_raw_se", "kl_raw_se"}
    assert len(values(fitted(*crosses(), blocks=0), x)) == 3


def test_another_reference_means_other_modes():
    metric = fitted(*crosses())
    values(metric, CENTRES)
    x, y = crosses()
    metric.set_reference(reference(x[y < 2], y[y < 2]))
    assert values(metric, CENTRES)["modes_raw"] == 2


def test_every_value_has_its_direction():
    metric = fitted(*crosses())
    told = protocols([metric, FID(Raw())], num_samples=2500, seed=0)
    assert {name: how["higher_is_better"] for name, how in told.items()} == {
        "modes_raw": True,
        "high_quality_raw": True,
        "kl_raw": False,
        "fid_raw": False,
    }
    assert (told["kl_raw"]["modes"], told["kl_raw"]["num_samples"]) == (3, 2500)
    assert told["kl_raw"]["sigma"] == pytest.approx(SIGMA)


def test_refusals(tmp_path):
    x, y = crosses()
    metric = ModeCoverage(Raw())
    with pytest.raises(UserError, match="modes_raw works on classes, one a sample, but the data have none"):
        metric.set_reference(reference(x, None))
    with pytest.raises(UserError, match="the data have none: use labelled data"):
        metric.fit_reference(Moons2D(num_samples=50), cache_dir=tmp_path)
    with pytest.raises(UserError, match="at least 2 of the data in each class, but class 0 has 1"):
        metric.set_reference(reference(x[3:], y[3:]))
    with pytest.raises(UserError, match="has no reference"):
        metric.update(x)
