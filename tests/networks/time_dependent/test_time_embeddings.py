"""Features of time, and what is made of them."""

import math

import pytest
import torch
from torch.nn.functional import silu

from lightning_gen.errors import UserError
from lightning_gen.networks.time_dependent import GaussianFourier, Sinusoidal
from lightning_gen.networks.time_dependent.embeddings import JointEmbedding, TimeEmbedding


@pytest.mark.parametrize(("scale", "longest"), [(1000.0, 10_000.0), (1.0, 50.0)])
def test_sinusoids_are_those_of_the_formula(scale, longest):
    t = torch.tensor([0.0, 0.37, -1.5, 1.0]).double()
    found = Sinusoidal(6, scale, longest)(t)
    for i, time in enumerate(t.tolist()):
        for k in range(3):
            angle = scale * time / longest ** (k / 2)
            assert found[i, k].item() == pytest.approx(math.cos(angle), abs=1e-9)
            assert found[i, 3 + k].item() == pytest.approx(math.sin(angle), abs=1e-9)


def test_one_pair_is_the_fastest():
    t = torch.tensor([0.3]).double()
    torch.testing.assert_close(Sinusoidal(2, 2.0)(t), torch.tensor([[math.cos(0.6), math.sin(0.6)]]).double())


def test_fourier_features_are_those_of_the_formula():
    torch.manual_seed(0)
    features, t = GaussianFourier(8).double(), torch.tensor([0.2, -1.3]).double()
    found = features(t)
    for i, time in enumerate(t.tolist()):
        for k, frequency in enumerate(features.frequencies.tolist()):
            assert found[i, k].item() == pytest.approx(math.cos(2 * math.pi * frequency * time), abs=1e-9)
            assert found[i, 4 + k].item() == pytest.approx(math.sin(2 * math.pi * frequency * time), abs=1e-9)
    assert "frequencies" in features.state_dict()
    assert GaussianFourier(20_000, 5.0).frequencies.std().item() == pytest.approx(5, rel=0.03)  # 4 deviations


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.6, 1.1)])
def test_times_are_told_apart(scale, low, high):
    t = torch.linspace(low, high, 501)
    features = Sinusoidal(32, scale)(t)
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    assert (distances + torch.eye(501)).min() > 1e-3  # far above float32's 1e-7


def test_half_precision_times_are_computed_in_full():
    t = torch.tensor([0.5, 0.75], dtype=torch.bfloat16)
    found = Sinusoidal(16)(t)
    assert found.dtype == torch.float32
    assert torch.equal(found, Sinusoidal(16)(t.float()))
    assert Sinusoidal(16)(t.double()).dtype == torch.float64


def test_what_layers_see_is_a_perceptron_of_the_features():
    torch.manual_seed(0)
    embedding, t = TimeEmbedding(Sinusoidal, 6, 5, num_classes=3).double(), torch.rand(4).double()
    y, dropped = torch.tensor([0, 1, 2, 2]), torch.tensor([False, False, True, False])
    h = silu(Sinusoidal(6)(t) @ embedding.first.weight.T + embedding.first.bias)
    h = h @ embedding.second.weight.T + embedding.second.bias
    torch.testing.assert_close(
        embedding(t, y, dropped),
        silu(
            h
            + embedding.condition.embed.weight[y].index_fill(0, torch.tensor(2), 0)
            + torch.outer(dropped.double(), embedding.condition.nothing)
        ),
    )
    plain = TimeEmbedding(Sinusoidal, 6, 5).double()
    plain.load_state_dict({k: v for k, v in embedding.state_dict().items() if "condition" not in k})
    torch.testing.assert_close(plain(t), silu(h))


def test_a_condition_may_join_the_features():
    torch.manual_seed(0)
    embedding, t = JointEmbedding(Sinusoidal, 6, 5, num_classes=3).double(), torch.rand(4).double()
    y, dropped = torch.tensor([0, 1, 2, 2]), torch.tensor([False, False, True, False])
    features = Sinusoidal(6)(t) + embedding.condition.embed.weight[y] * ~dropped[:, None]  # none is 0 at the start
    h = silu(features @ embedding.first.weight.T + embedding.first.bias)
    h = silu(h @ embedding.second.weight.T + embedding.second.bias)
    torch.testing.assert_close(embedding(t, y, dropped), h)
    assert embedding.condition.embed.weight.abs().max() < math.sqrt(6 * 3 / (3 + 6))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sinusoidal(3), "Sinusoidal.dim is 3: it must be even"),
        (lambda: GaussianFourier(0), "GaussianFourier.dim is 0"),
        (lambda: Sinusoidal(4, 0.0), r"Sinusoidal.scale is 0.0: it must be above 0"),
        (lambda: Sinusoidal(4, 1.0, 1.0), r"Sinusoidal.longest is 1.0: it must be above 1"),
        (lambda: GaussianFourier(4, -1.0), r"GaussianFourier.scale is -1.0"),
    ],
)
def test_what_is_not_possible_is_refused_of_features(make, words):
    with pytest.raises(UserError, match=words):
        make()
