"""Quantisers whose codes are not the nearest of some vectors: scalars, signs, and draws."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, kl_divergence

from lightning_gen.distributions.quantisers import FiniteScalarQuantiser, GumbelQuantiser, LookupFreeQuantiser


def transparent(quantiser):
    """Without what stands before the rounding."""
    nn.init.dirac_(quantiser.project.weight)
    nn.init.zeros_(quantiser.project.bias)
    return quantiser


def rows(x):
    """(N, d) as a map (1, d, 1, N)."""
    return x.T[None, :, None]


# -------------------------------------------------------------------- finite scalars


@pytest.mark.parametrize("levels", [(3,), (4, 3), (8, 5, 5, 5), (5, 6, 7)])
def test_codes_and_vectors_are_one_to_one(levels):
    quantiser = FiniteScalarQuantiser(2, levels)
    count = quantiser.num_codes
    assert count == torch.tensor(levels).prod()
    z = quantiser.lookup(torch.arange(count).view(1, 1, 1, count))[0, :, 0].T
    grids = [[(i - n // 2) / (n // 2) for i in range(n)] for n in levels]
    assert {tuple(row) for row in z.tolist()} == set(product(*(torch.tensor(g).tolist() for g in grids)))
    assert z[0].tolist() == [-1.0] * len(levels)
    assert z[1].tolist()[1:] == [-1.0] * (len(levels) - 1)  # the first level is the fastest


@pytest.mark.parametrize("levels", [(3, 4), (8, 5)])
def test_every_code_is_reached_and_comes_back(levels):
    quantiser = transparent(FiniteScalarQuantiser(2, levels))
    axis = torch.linspace(-9, 9, 121)
    h = torch.cartesian_prod(axis, axis)
    made = quantiser(rows(h))
    assert made.codes.unique().tolist() == list(range(quantiser.num_codes))
    assert torch.equal(quantiser.lookup(made.codes), made.z)
    assert made.loss == 0


def test_zero_is_zero_for_odd_and_even_levels_and_the_order_is_kept():
    quantiser = transparent(FiniteScalarQuantiser(1, (8,)))
    torch.testing.assert_close(quantiser.bound(torch.zeros(1)), torch.zeros(1), rtol=0, atol=1e-6)
    v = torch.linspace(-5, 5, 501)
    z = quantiser(rows(v[:, None])).z.flatten()
    assert (z.diff() >= 0).all()
    assert z.unique().tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]
    half = v[z == 0]  # centred between the values around it, where the squashing is nearly straight
    assert half.mean().abs() < 0.02


def test_the_gradient_of_rounding_is_that_of_squashing():
    quantiser = transparent(FiniteScalarQuantiser(1, (5,)))
    h = torch.tensor([[0.3], [-1.2]], requires_grad=True)
    quantiser(rows(h)).z.sum().backward()
    c = 2 * 1.001
    torch.testing.assert_close(h.grad, c * (1 - h.detach().tanh() ** 2) / 2)


# -------------------------------------------------------------------- signs


def test_signs_make_the_number():
    quantiser = transparent(LookupFreeQuantiser(3, num_bits=3))
    made = quantiser(rows(torch.tensor([[-1.0, -2.0, -0.1], [0.5, -1.0, -1.0], [-1.0, 0.2, 3.0]])))
    assert made.codes.flatten().tolist() == [0, 1, 6]
    assert made.z[0, :, 0].T.tolist() == [[-1, -1, -1], [1, -1, -1], [-1, 1, 1]]


def enumerated(v, temperature):
    """The two entropies with a softmax over all codes."""
    codes = torch.tensor(list(product((-1.0, 1.0), repeat=v.shape[1])), dtype=v.dtype)
    q = Categorical(logits=-torch.cdist(v, codes).square() / temperature)
    return q.entropy().mean(), Categorical(q.probs.mean(0)).entropy()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_entropies_are_those_of_all_codes(temperature):
    v = torch.randn(50, 4, dtype=torch.float64)
    quantiser = LookupFreeQuantiser(4, num_bits=4, temperature=temperature)
    for found, expected in zip(quantiser.entropies(v), enumerated(v, temperature), strict=True):
        torch.testing.assert_close(found, expected)


def test_groups_of_bits_bound_the_entropy_of_all():
    v = torch.randn(50, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64)
    whole, grouped = (LookupFreeQuantiser(4, num_bits=4, joint_bits=k).entropies(v)[1] for k in (4, 3))
    assert grouped > whole
    parts = [enumerated(part, 1.0)[1] for part in v.split(3, dim=1)]
    torch.testing.assert_close(grouped, sum(parts))


def test_the_loss_is_the_sum_of_its_parts():
    quantiser = transparent(LookupFreeQuantiser(3, num_bits=3, commitment=0.5, entropy_weight=0.2))
    v = torch.randn(20, 3)
    made = quantiser(rows(v))
    sure, diverse = enumerated(v, 1.0)
    torch.testing.assert_close(made.loss, 0.5 * (v.abs() - 1).square().mean() + 0.2 * (sure - diverse))
    torch.testing.assert_close(made.terms["code_entropy"], sure)
    torch.testing.assert_close(made.terms["codebook_entropy"], diverse)


def test_gradients_stay_finite_where_bits_are_sure():
    quantiser = LookupFreeQuantiser(3, num_bits=3, temperature=0.001)
    h = torch.full((2, 3, 2, 2), 50.0, requires_grad=True)
    quantiser(h).loss.backward()
    assert h.grad.isfinite().all()


# -------------------------------------------------------------------- draws


def test_the_divergence_from_uniform():
    quantiser = transparent(GumbelQuantiser(5, num_codes=5, dim=2, kl_weight=0.3)).eval()
    logits = torch.randn(20, 5)
    made = quantiser(rows(logits))
    kl = kl_divergence(Categorical(logits=logits), Categorical(logits=torch.zeros(5))).mean()
    torch.testing.assert_close(made.terms["code_kl"], kl)
    torch.testing.assert_close(made.loss, 0.3 * kl)
    assert torch.equal(made.codes.flatten(), logits.argmax(1))
    assert torch.equal(made.z[0, :, 0].T, quantiser.vectors[logits.argmax(1)])


def test_draws_of_low_temperature_have_the_frequencies_of_the_distribution():
    torch.manual_seed(0)
    quantiser = transparent(GumbelQuantiser(3, num_codes=3, dim=3, temperature=0.01))
    quantiser.vectors.data = torch.eye(3)
    p = torch.tensor([0.6, 0.3, 0.1])
    z = quantiser(rows(p.log().expand(20_000, 3))).z[0, :, 0].T
    assert (z.amax(1) > 0.99).double().mean() > 0.95
    assert ((z.mean(0) - p).abs() < 4 * (p * (1 - p) / 20_000) ** 0.5 + 2e-3).all()


def test_draws_of_high_temperature_are_mixtures():
    torch.manual_seed(0)
    quantiser = transparent(GumbelQuantiser(3, num_codes=3, dim=3, temperature=100.0))
    quantiser.vectors.data = torch.eye(3)
    z = quantiser(torch.zeros(1, 3, 1, 50)).z
    assert (z - 1 / 3).abs().max() < 0.05
    assert (z - 1 / 3).abs().max() > 1e-4
