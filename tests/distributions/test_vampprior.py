"""The VampPrior: what it is a mixture of, and whose encoder it uses."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch.distributions import kl_divergence

from lightning_gen.distributions import DiagonalNormal, LowRankNormal, VampPrior
from lightning_gen.errors import UserError
from lightning_gen.families import VAE
from lightning_gen.losses.bounds import ELBO, MonteCarlo
from lightning_gen.losses.likelihoods import Bernoulli
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder

SHAPE, D = [1, 3, 3], 2


def make_vae(num_components=4, **encoder):
    decoder = partial(MLPDecoder, sample_dim=SHAPE, width=8, depth=1, **encoder)
    return VAE(
        encoder=MLPEncoder(sample_dim=SHAPE, width=8, depth=1, **encoder),
        decoder=decoder,
        latent_dim=D,
        likelihood=Bernoulli(),
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        prior=partial(VampPrior, sample_shape=SHAPE, num_components=num_components),
    )


def draws(model):
    return model.sample(3, seeds=torch.arange(3))


def shift_encoder(model):
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.add_(0.5)


def test_density_is_the_mean_of_posteriors():
    torch.manual_seed(0)
    model = make_vae(3).double()
    z = torch.randn(5, D).double()
    each = [model.posterior_of(u[None], None).log_prob(z).exp() for u in model.prior.pseudo_inputs]
    torch.testing.assert_close(model.prior_of(None).log_prob(z), torch.stack(each).mean(0).log())


def test_with_one_component_the_divergence_is_that_of_two_normals():
    torch.manual_seed(0)
    model = make_vae(1).double()
    q = model.posterior_of(torch.rand(1, *SHAPE).double() * 2 - 1, None)
    p = model.posterior_of(model.prior.pseudo_inputs, None)
    z = q.sample((40000,))
    ratio = (q.log_prob(z) - model.prior_of(None).log_prob(z)[..., :]).detach()
    assert abs(ratio.mean() - kl_divergence(q, p).item()) < 4 * ratio.std() / len(z) ** 0.5


def test_pseudo_inputs_stay_in_the_range_of_the_data():
    u = VampPrior(D, sample_shape=SHAPE, num_components=50, start_std=3.0).pseudo_inputs
    assert u.min() == -1
    assert u.max() == 1
    assert u.std() > 0.5


def test_gradients_reach_pseudo_inputs_and_encoder():
    model = make_vae()
    model.prior_of(None).log_prob(torch.zeros(D)).backward()
    assert model.prior.free_inputs.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in model.encoder.parameters())


def test_the_encoder_is_registered_once():
    names = make_vae().state_dict()
    assert [name for name in names if name.startswith("prior.")] == ["prior.free_inputs"]
    assert len({id(p) for p in make_vae().parameters()}) == len([name for name in names if "zeros" not in name])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_uses_its_own_encoder(copied):
    torch.manual_seed(0)
    model = make_vae()
    before, twin = draws(model), copied(model)
    assert torch.equal(draws(twin), before)
    shift_encoder(model)
    assert torch.equal(draws(twin), before)
    assert not torch.equal(draws(model), before)
    shift_encoder(twin)
    assert torch.equal(draws(twin), draws(model))


def test_a_model_that_was_never_trained_takes_the_weights_and_samples():
    torch.manual_seed(0)
    model, other = make_vae(), make_vae()
    assert not torch.equal(draws(other), draws(model))
    other.load_state_dict(model.state_dict())
    assert torch.equal(draws(other), draws(model))


def test_the_loss_trains_with_an_estimated_divergence():
    torch.manual_seed(0)
    model = make_vae()
    model.bound = ELBO(kl=MonteCarlo())
    x = torch.where(torch.rand(6, *SHAPE) < 0.5, -1.0, 1.0)
    loss, _ = model.loss({"x": x})
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.bound = ELBO()
    with pytest.raises(UserError, match="MonteCarlo"):
        model.loss({"x": x})


def test_other_posteriors_can_be_mixed():
    torch.manual_seed(0)
    prior, layer = VampPrior(D, sample_shape=[3], num_components=4), LowRankNormal(D, 3, rank=1)
    prior.bind(lambda u: layer(u))
    p, z = prior(), torch.randn(5, D)
    each = torch.stack([layer(u[None]).log_prob(z) for u in prior.pseudo_inputs])
    torch.testing.assert_close(p.log_prob(z), each.exp().mean(0).log())


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"VampPrior.sample_shape is \[1, 3, 3\] but data .* \[1, 4, 4\]"):
        make_vae().prior.check_samples((1, 4, 4))
    with pytest.raises(UserError, match="encodes inputs of its own, which have no classes"):
        draws(make_vae(num_classes=2))
    with pytest.raises(UserError, match="made of a model's posteriors"):
        VampPrior(D, sample_shape=SHAPE)()
    with pytest.raises(UserError, match="num_components is 0"):
        VampPrior(D, sample_shape=SHAPE, num_components=0)
    with pytest.raises(UserError, match="does not depend on features"):
        VampPrior(D, 4, sample_shape=SHAPE)


def test_another_layer_than_the_default_is_not_told():
    layer = DiagonalNormal(D)
    layer.bind(lambda x: layer())
    layer.check_samples((7,))
    assert len(list(layer.state_dict())) == 1
