import pytest
import torch

from lightning_gen.distributions import RunningNormal
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise, sample_seeds


def observe(layer, z):
    layer.observe(z.mean(0), z.T @ z / len(z))


def test_the_first_batches_weigh_the_same():
    torch.manual_seed(0)
    layer, z = RunningNormal(3, decay=0.9).double(), torch.randn(5, 8, 3, dtype=torch.float64) * 2 + 5
    assert torch.equal(layer.covariance, torch.eye(3, dtype=torch.float64))
    for part in z:
        observe(layer, part)
    torch.testing.assert_close(layer.loc, z.flatten(0, 1).mean(0))
    torch.testing.assert_close(layer.covariance, z.flatten(0, 1).T.cov(correction=0))


def test_later_batches_replace_earlier_ones():
    torch.manual_seed(0)
    layer, z = RunningNormal(2, decay=0.75).double(), torch.randn(9, 8, 2, dtype=torch.float64) * 2 + 5
    weights = torch.zeros(9, dtype=torch.float64)
    for t, part in enumerate(z):
        observe(layer, part)
        share = max(0.25, 1 / (t + 1))
        weights = weights * (1 - share)
        weights[t] = share
    mean = torch.einsum("t,tbd->d", weights, z) / 8
    second = torch.einsum("t,tbd,tbe->de", weights, z, z) / 8
    torch.testing.assert_close(layer.loc, mean)
    torch.testing.assert_close(layer.covariance, second - mean.outer(mean))


def test_draws_and_density_are_of_that_normal_distribution():
    torch.manual_seed(0)
    layer, codes = RunningNormal(2), torch.randn(500, 2) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]]) + 3
    observe(layer, codes)
    drawn, n = layer.draw(Noise(sample_seeds(0, torch.arange(20000)))), 20000
    torch.testing.assert_close(drawn.mean(0), layer.loc, rtol=0, atol=5 * 2.3 / n**0.5)
    torch.testing.assert_close(drawn.T.cov(), layer.covariance, rtol=0, atol=5 * 2**0.5 * 5.3 / n**0.5)
    expected = torch.distributions.MultivariateNormal(layer.loc, layer.covariance)
    torch.testing.assert_close(layer().log_prob(codes), expected.log_prob(codes), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("codes", [torch.linspace(-1, 1, 9)[:, None] * torch.tensor([1.0, 2.0, 0.0]), torch.ones(4, 3)])
def test_codes_in_a_plane_are_no_harm(codes):
    layer = RunningNormal(3)
    observe(layer, codes)
    drawn = layer.draw(Noise(torch.arange(50)))
    assert drawn.isfinite().all()
    torch.testing.assert_close(drawn[:, 2], codes[:1, 2].expand(50), rtol=0, atol=1e-3)
    assert layer().log_prob(drawn).isfinite().all()


def test_arguments_out_of_range_are_refused():
    with pytest.raises(UserError, match="decay is -1"):
        RunningNormal(2, decay=-1)
    with pytest.raises(UserError, match="does not depend on features"):
        RunningNormal(2, 3)
