import pytest
import torch
from torch.distributions import kl_divergence
from vae_fakes import ADAM, IMAGE, binary, networks

from lightning_gen.errors import UserError
from lightning_gen.families import LadderVAE
from lightning_gen.losses.bounds import (
    ELBO,
    IWAE,
    PIWAE,
    BetaELBO,
    DReG,
    Levelwise,
    MonteCarlo,
    StickingTheLanding,
)
from lightning_gen.losses.likelihoods import Bernoulli
from lightning_gen.noise import sample_seeds


@pytest.fixture
def batch():
    return binary().examples(8)


def ladder(bound=None, **options):
    options = {"latent_dims": [4, 2], "likelihood": Bernoulli(), "optimizer": ADAM, "width": 8} | options
    return LadderVAE(*networks(), bound=bound, **options)


def test_the_divergence_of_a_ladder_is_of_the_latents_that_are_decoded(batch):
    torch.manual_seed(0)
    model, decoded = ladder().double(), []
    model.decoder.register_forward_pre_hook(lambda module, args: decoded.append(args[0]))
    torch.manual_seed(3)
    _, terms = model.loss({"x": batch["x"].double()})
    torch.manual_seed(3)
    inference = model.inference(batch["x"].double(), None)
    q, p = inference.posterior, inference.prior
    high = q.top.loc + q.top.scale * torch.randn(1, 8, 2, dtype=torch.float64)[0]
    low, prior = q.levels[0](high), p.levels[0](high)
    torch.testing.assert_close(decoded[0], low.loc + low.scale * torch.randn(1, 8, 4, dtype=torch.float64)[0])
    expected = kl_divergence(q.top, p.top).sum() + kl_divergence(low, prior).sum()
    torch.testing.assert_close(terms["kl"], expected / 8)


def test_what_a_ladder_cannot_do_is_refused():
    with pytest.raises(UserError, match=r"bound\.init_args\.kl to Levelwise"):
        ladder(ELBO()).check_data(binary())
    with pytest.raises(UserError, match="bound is PIWAE"):
        ladder(PIWAE(2, 2))


def test_a_ladder_is_trained_by_any_bound(batch):
    torch.manual_seed(0)
    for bound in (None, ELBO(2, kl=MonteCarlo()), BetaELBO(kl=Levelwise()), IWAE(2), DReG(2), StickingTheLanding()):
        model = ladder(bound)
        model.check_data(binary())
        model.loss(batch)[0].backward()
        assert all(p.grad is not None for p in model.parameters())
        assert model.encode(batch["x"]).shape == (8, 6)
        assert model.reconstruct(batch["x"]).shape == (8, *IMAGE)
        x = model.sample(5, seeds=sample_seeds(0, torch.arange(5)))
        assert x.shape == (5, *IMAGE)


def test_samples_of_a_ladder_have_noise_where_it_is_asked_for():
    seeds = sample_seeds(0, torch.arange(4))
    assert set(ladder(sample_noise=True).sample(4, seeds=seeds).unique().tolist()) == {-1.0, 1.0}
    assert len(ladder().sample(4, seeds=seeds).unique()) > 2
