import pytest
import torch

from lightning_gen.distributions import Deterministic, draw
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise


def test_a_code_is_linear_in_the_features_and_all_there_is():
    layer, h = Deterministic(3, 5), torch.randn(4, 5)
    q, linear = layer(h), layer.parameters_of.linear
    expected = h @ linear.weight.T + linear.bias
    assert (q.batch_shape, q.event_shape) == ((4,), (3,))
    torch.testing.assert_close(q.rsample(), expected)
    torch.testing.assert_close(q.rsample((2,)), expected.expand(2, 4, 3))
    torch.testing.assert_close(layer.mean(q), expected)
    assert q.rsample().requires_grad
    assert not q.sample().requires_grad
    torch.testing.assert_close(draw(q, Noise(torch.arange(4)), 2), expected.expand(2, 4, 3))


def test_without_features_it_is_one_point():
    p = Deterministic(3)()
    assert p.batch_shape == ()
    assert draw(p, Noise(torch.arange(4)), 2).shape == (2, 4, 3)
    assert p.sample((5,)).shape == (5, 3)


def test_there_is_no_density():
    with pytest.raises(UserError, match="have no density"):
        Deterministic(3)().log_prob(torch.zeros(3))
