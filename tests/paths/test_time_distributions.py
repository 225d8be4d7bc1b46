"""Times of training against the distributions they are drawn from."""

import pytest
import scipy.stats
import torch

from lightning_gen.errors import UserError
from lightning_gen.paths import LogitNormalTimes, UniformTimes

U = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)


def test_uniform_times_are_the_numbers():
    assert UniformTimes()(U) is U


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.7, 0.4)])
def test_the_logits_of_logit_normal_times_are_normal(mean, std):
    times = LogitNormalTimes(mean, std)(U)
    found = scipy.stats.norm.cdf(torch.logit(times).numpy(), mean, std)
    torch.testing.assert_close(torch.from_numpy(found), U)


def test_the_smallest_and_largest_numbers_have_times():
    u = torch.tensor([torch.finfo(torch.float32).tiny, 1 - 2**-24])
    times = LogitNormalTimes()(u)
    assert ((times >= 0) & (times <= 1)).all()


def test_a_std_of_zero_is_refused():
    with pytest.raises(UserError, match="std is 0"):
        LogitNormalTimes(std=0)
