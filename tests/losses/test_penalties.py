"""Penalties against closed forms."""

import pytest
import torch
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.losses import R1

GAMMA = 3.0


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Linear(nn.Module):
    """D(x) = w·x + b."""

    def __init__(self, size):
        super().__init__()
        self.w = nn.Parameter(random(size))
        self.b = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, y=None):
        return x.flatten(1) @ self.w + self.b


def test_linear_critic():
    critic, x = Linear(6), random(5, 6)
    torch.testing.assert_close(R1(GAMMA)(critic, x, x, None), GAMMA / 2 * critic.w.square().sum())


def test_linear_critic_of_images():
    critic, x = Linear(12), random(5, 3, 2, 2)
    torch.testing.assert_close(R1(GAMMA)(critic, x, x, None), GAMMA / 2 * critic.w.square().sum())


def test_gradient_for_a_linear_critic_is_gamma_w():
    critic, x = Linear(6), random(5, 6)
    gradient, offset = torch.autograd.grad(R1(GAMMA)(critic, x, x, None), (critic.w, critic.b), allow_unused=True)
    torch.testing.assert_close(gradient, GAMMA * critic.w.detach())
    assert offset is None or offset == 0


def quadratic(a):
    return lambda x, y=None: 0.5 * torch.einsum("bi,ij,bj->b", x, a, x)


def test_quadratic_critic():
    root, x = random(4, 4), random(7, 4)
    a = root @ root.T
    expected = torch.stack([GAMMA / 2 * (a @ row).square().sum() for row in x]).mean()
    torch.testing.assert_close(R1(GAMMA)(quadratic(a), x, x, None), expected)


def test_samples_are_independent():
    root, x = random(4, 4), random(6, 4)
    critic, r1 = quadratic(root @ root.T), R1(GAMMA)
    alone = torch.stack([r1(critic, row[None], row[None], None) for row in x])
    torch.testing.assert_close(r1(critic, x, x, None), alone.mean())


def test_only_real_samples_count():
    root, x = random(4, 4), random(6, 4)
    critic, r1 = quadratic(root @ root.T), R1(GAMMA)
    torch.testing.assert_close(r1(critic, x, 100 * x, None), r1(critic, x, x, None), rtol=0, atol=0)


def test_classes_reach_the_critic():
    w = random(3, 4)
    y = torch.tensor([0, 2, 2])
    expected = GAMMA / 2 * w[y].square().sum(1).mean()
    penalty = R1(GAMMA)(lambda x, y: (w[y] * x).sum(1), random(3, 4), random(3, 4), y)
    torch.testing.assert_close(penalty, expected)


def test_the_data_are_left_alone():
    x = random(5, 6)
    R1()(Linear(6), x, x, None).backward()
    assert not x.requires_grad
    assert x.grad is None


def test_second_derivatives_are_right():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 1)).double()
    x = random(2, 3)
    names = [name for name, _ in net.named_parameters()]

    def penalty(*weights):
        def critic(x, y):
            return torch.func.functional_call(net, dict(zip(names, weights, strict=True)), x).squeeze(1)

        return R1(GAMMA)(critic, x, x, None)

    assert torch.autograd.gradcheck(penalty, tuple(p.detach().clone().requires_grad_() for p in net.parameters()))


def test_gamma_scales_the_term():
    critic, x = Linear(6), random(5, 6)
    assert R1(0.0)(critic, x, x, None) == 0
    torch.testing.assert_close(R1(20.0)(critic, x, x, None), 2 * R1(10.0)(critic, x, x, None))


@pytest.mark.parametrize("interval", [0, -1])
def test_interval_below_one_is_refused(interval):
    with pytest.raises(UserError, match=f"interval is {interval}.*at least 1"):
        R1(interval=interval)


def test_negative_gamma_is_refused():
    with pytest.raises(UserError, match="gamma is -1"):
        R1(gamma=-1.0)
