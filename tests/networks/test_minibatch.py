"""Minibatch standard deviation against explicit loops over groups and parts of channels."""

import numpy as np
import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.networks.minibatch import MinibatchStd


@pytest.mark.parametrize("shape", [(6, 4, 3, 2), (6, 4)], ids=str)
@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize(("group_size", "size"), [(2, 2), (3, 3), (4, 3), (5, 3), (6, 6), (32, 6), (1, 1)])
def test_it_is_the_mean_deviation_of_a_group(shape, num_channels, group_size, size):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    found = MinibatchStd(group_size, num_channels)(x)
    assert torch.equal(found[:, :4], x)
    expected = np.zeros((6, num_channels, *shape[2:]))
    width = 4 // num_channels
    for start in range(0, 6, size):
        for part in range(num_channels):
            group = x[start : start + size, part * width : (part + 1) * width].numpy()
            expected[start : start + size, part] = np.sqrt(group.var(axis=0) + 1e-8).mean()
    np.testing.assert_allclose(found[:, 4:].numpy(), expected)


def test_a_batch_of_one_and_a_prime_batch_work():
    for count in (1, 7):
        x = torch.randn(count, 3, 2, 2)
        torch.testing.assert_close(MinibatchStd(4)(x)[:, 3:], torch.full((count, 1, 2, 2), 1e-4))


def test_groups_do_not_depend_on_how_a_batch_is_split():
    x = torch.randn(8, 3, 2, 2)
    halves = [MinibatchStd(4)(half) for half in x.chunk(2)]
    torch.testing.assert_close(MinibatchStd(4)(x), torch.cat(halves))


def test_equal_samples_have_gradients_and_second_ones():
    x = torch.ones(4, 2, 2, 2, dtype=torch.float64)
    x = torch.cat((x, torch.randn_like(x))).requires_grad_()
    (gradient,) = torch.autograd.grad(MinibatchStd(4)(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert gradient.isfinite().all()
    assert x.grad.isfinite().all()
    assert torch.autograd.gradgradcheck(MinibatchStd(4), torch.randn(4, 2, 2, dtype=torch.float64).requires_grad_())


@pytest.mark.parametrize("key", ["group_size", "num_channels"])
def test_counts_below_one_are_refused(key):
    with pytest.raises(UserError, match=f"MinibatchStd.{key} is 0"):
        MinibatchStd(**{key: 0})
