"""Logits and standardisation, and several bijections one after the other."""

from functools import partial

import pytest
import torch
from torch.distributions import AffineTransform, ComposeTransform, SigmoidTransform

from lightning_gen.bijections import MAF, Compose, Logit, Standardise
from lightning_gen.errors import UserError


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.3])
def test_logits_are_torchs(alpha):
    f, x = Logit((4,), alpha=alpha).double(), 2 * torch.rand(50, 4).double() - 1
    expected = ComposeTransform([AffineTransform(0.5, (1 - 2 * alpha) / 2), SigmoidTransform().inv])
    z, log_det = f(x)
    torch.testing.assert_close(z, expected(x))
    torch.testing.assert_close(log_det, expected.log_abs_det_jacobian(x, z).sum(1))


def test_the_edges_have_logits_and_far_noise_has_samples():
    f = Logit((2,), alpha=1e-6)
    edges = torch.tensor([[-1.0, 1.0]])
    z, log_det = f(edges)
    assert z.isfinite().all()
    assert log_det.isfinite().all()
    torch.testing.assert_close(f.inverse(z)[0], edges, rtol=0, atol=1e-6)
    x, log_det = f.inverse(torch.tensor([[-200.0, 200.0]]))
    torch.testing.assert_close(x, edges, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_det, torch.tensor([-400.0 + 2 * 0.6931]), rtol=0, atol=1e-2)


def test_standardised_samples_have_mean_0_and_std_1():
    torch.manual_seed(0)
    x = 3 * torch.randn(10_000, 2, 2) + torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    z, log_det = Standardise((2, 2), mean=[1.0, 2.0, 3.0, 4.0], std=3.0)(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2, 2), rtol=0, atol=0.05)
    torch.testing.assert_close(z.std(0), torch.ones(2, 2), rtol=0, atol=0.05)
    torch.testing.assert_close(log_det, torch.full((10_000,), -4 * torch.tensor(3.0).log().item()))


def test_parts_come_one_after_the_other():
    torch.manual_seed(0)
    factories = [partial(Standardise, std=2.0), partial(MAF, transforms=1, hidden_features=(4,)), Standardise]
    f, x = Compose((3,), 2, factories), torch.randn(5, 3)
    h = torch.randn(5, 2)
    assert [type(step).__name__ for step in f.steps] == ["Standardise", "MAF", "Standardise"]
    assert f.steps[1].num_features == 2
    torch.testing.assert_close(f(x, h)[0], f.steps[1](x / 2, h)[0])


@pytest.mark.parametrize("value", [-1.001, 1.001, float("nan")])
def test_values_without_a_logit_are_told(value):
    x = torch.tensor([[0.0, value]])
    with pytest.raises(UserError, match=r"Logit is of values from -1 to 1, but data has some"):
        Compose((2,), None, [partial(Standardise, std=1.0), Logit]).check(x)
    Logit((2,)).check(torch.tensor([[-1.0, 1.0]]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(Logit, alpha=0.0), "Logit.alpha is 0.0"),
        (partial(Logit, alpha=0.5), "Logit.alpha is 0.5"),
        (partial(Standardise, std=0.0), "Standardise.std is 0"),
        (partial(Standardise, mean=[1.0, 2.0, 3.0]), "Standardise.mean has 3 numbers, but a sample has 2"),
        (partial(Compose, num_features=None, bijections=[]), r"Compose.bijections is \[\]"),
    ],
)
def test_arguments_are_checked(make, words):
    with pytest.raises(UserError, match=words):
        make((2,))
