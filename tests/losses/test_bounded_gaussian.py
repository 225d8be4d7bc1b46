import pytest
import torch
from torch.distributions import Normal

from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import BoundedGaussian
from lightning_gen.noise import Noise


def test_it_is_a_normal_distribution_around_the_tangent():
    torch.manual_seed(0)
    likelihood, outputs, x = BoundedGaussian(0.3), 3 * torch.randn(4, 1, 1, 2, 2), torch.rand(4, 1, 2, 2) * 2 - 1
    mean = outputs[:, 0].tanh()
    torch.testing.assert_close(likelihood(outputs, x), Normal(mean, 0.3).log_prob(x).sum((1, 2, 3)))
    torch.testing.assert_close(likelihood.mean(outputs), mean)
    drawn = likelihood.draw(outputs.double()[:1].expand(20000, 1, 1, 2, 2), Noise(torch.arange(20000)))
    inside = Normal(mean[0].double(), 0.3).cdf(torch.zeros(1, 2, 2, dtype=torch.float64))
    torch.testing.assert_close((drawn < 0).double().mean(0), inside, rtol=0, atol=5 * 0.5 / 20000**0.5)
    assert drawn.abs().max() <= 1


def test_its_mean_has_a_gradient_everywhere():
    outputs = torch.tensor([-3.0, 3.0]).reshape(2, 1, 1, 1, 1).requires_grad_(True)
    BoundedGaussian().mean(outputs).sum().backward()
    assert (outputs.grad > 1e-3).all()


def test_other_ranges_are_refused():
    likelihood = BoundedGaussian()
    likelihood.check(torch.tensor([[-1.0, 1.0]]))
    with pytest.raises(UserError, match="values from -1 to 2"):
        likelihood.check(torch.tensor([[-1.0, 2.0]]))
