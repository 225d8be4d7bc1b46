import pytest
import torch
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.losses import DecoderGradientPenalty, DecoderSpectralNorm, DecoderWeightDecay


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def test_weight_decay_is_the_sum_of_squares(decoder):
    expected = 0.2 * float(torch.cat([p.detach().flatten() for p in decoder.parameters()]).square().sum())
    assert float(DecoderWeightDecay(0.2)(decoder, decoder, torch.zeros(2, 3)).detach()) == pytest.approx(expected)


def test_the_gradient_penalty_is_the_squared_norm_of_the_jacobian(decoder):
    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    jacobian = torch.func.vmap(torch.func.jacrev(decoder))(z.detach())
    expected = 0.1 * jacobian.square().sum((1, 2)).mean()
    many = z.repeat(20000, 1)
    torch.manual_seed(1)
    found = DecoderGradientPenalty(0.2)(decoder, decoder, many)
    singular = torch.linalg.svdvals(jacobian)  # the variance of |J'v|^2 is twice the sum of their fourth powers
    error = 0.1 * (2 * singular.pow(4).sum(1).mean() / 40000).sqrt().detach()
    assert abs(float((found - expected).detach())) < 4 * float(error)
    found.backward()
    assert decoder[0].weight.grad.abs().sum() > 0
    assert z.grad.abs().sum() > 0


def test_spectral_normalisation_changes_the_network(decoder):
    regulariser = DecoderSpectralNorm()
    assert float(torch.linalg.matrix_norm(decoder[2].weight.detach(), 2)) != pytest.approx(1, abs=0.05)
    regulariser.prepare(decoder)
    for _ in range(30):
        decoder(torch.zeros(1, 3, dtype=torch.float64))
    assert float(torch.linalg.matrix_norm(decoder[2].weight.detach(), 2)) == pytest.approx(1, abs=1e-2)
    assert regulariser(decoder, decoder, torch.zeros(2, 3)) == 0


@pytest.mark.parametrize("cls", [DecoderWeightDecay, DecoderGradientPenalty])
def test_negative_weights_are_refused(cls):
    with pytest.raises(UserError, match="weight is -1"):
        cls(-1.0)
