import math
from functools import partial

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from vae_fakes import DISCRETE, IMAGE, binary, vae

from lightning_gen.checkpoints import instantiate
from lightning_gen.distributions import (
    DiagonalNormal,
)
from lightning_gen.losses.bounds import (
    MonteCarlo,
)
from lightning_gen.losses.likelihoods import Bernoulli
from lightning_gen.model import GenerativeModel
from lightning_gen.noise import Noise, sample_seeds


@pytest.fixture
def batch():
    return binary().examples(8)


def test_the_loss_is_the_negative_bound(batch):
    model = vae().double()
    batch["x"] = batch["x"].double()
    torch.manual_seed(3)
    loss, terms = model.loss(batch)
    torch.manual_seed(3)
    h = model.encoder.layers(batch["x"].flatten(1))
    parameters = model.posterior.parameters_of.linear
    loc, log_variance = (h @ parameters.weight.T + parameters.bias).chunk(2, dim=1)
    z = loc + (log_variance / 2).exp() * torch.randn(1, 8, 2, dtype=torch.float64)[0]
    logits = model.decoder.layers(z)
    bits = (batch["x"].flatten(1) + 1) / 2
    reconstruction = -binary_cross_entropy_with_logits(logits, bits, reduction="sum") / 8
    kl = 0.5 * (loc.square() + log_variance.exp() - 1 - log_variance).sum() / 8
    torch.testing.assert_close(loss, kl - reconstruction)
    torch.testing.assert_close(terms["elbo"], reconstruction - kl)
    torch.testing.assert_close(terms["kl"], kl)


def test_a_batch_twice_is_no_larger_loss(batch):
    model = vae()
    model.posterior.parameters_of.linear.bias.data[2:] = -40.0  # no noise
    model.posterior.bounds = (-40.0, 0.0)
    model.posterior.parameters_of.linear.weight.data[2:] = 0.0
    once = model.loss(batch)[0]
    twice = model.loss({name: torch.cat((value, value)) for name, value in batch.items()})[0]
    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("num", [1, 7, 120])
def test_the_estimate_of_the_likelihood_is_that_of_its_draws(batch, num):
    model, x = vae().double(), batch["x"].double()
    found = model.log_likelihood(x, None, Noise(sample_seeds(0, torch.arange(8))), num)
    assert found.shape == (8,)
    for part in torch.arange(8).split([3, 1, 4]):
        again = model.log_likelihood(x[part], None, Noise(sample_seeds(0, part)), num)
        torch.testing.assert_close(again, found[part], rtol=1e-12, atol=0)
    if num == 1:
        terms = model.elbo_terms(x, None, Noise(sample_seeds(0, torch.arange(8))))
        torch.testing.assert_close(terms["elbo"], found)
        torch.testing.assert_close(terms["reconstruction"] - terms["kl"], found)


def test_the_estimate_is_the_integral(batch):
    """Of two latents, by quadrature."""
    model, x = vae().double(), batch["x"][:2].double()
    found = model.log_likelihood(x, None, Noise(sample_seeds(0, torch.arange(2))), 20_000)
    axis = torch.linspace(-7, 7, 281).double()
    z = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        joint = (
            model.log_likelihood_of(z[:, None].expand(-1, 2, -1), x, None) + model.prior_of(None).log_prob(z)[:, None]
        )
    expected = joint.logsumexp(0) + 2 * math.log(14 / 280)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_what_is_decoded_is_the_mean(batch):
    model = vae(likelihood=Bernoulli())
    z = model.encode(batch["x"])
    assert z.shape == (8, 2)
    x = model.decode(z)
    assert x.shape == (8, *IMAGE)
    with torch.no_grad():
        torch.testing.assert_close(x, 2 * model.decoder(z)[:, 0].sigmoid() - 1)
    torch.testing.assert_close(model.reconstruct(batch["x"]), x)


def test_a_conditional_model_uses_the_class(batch):
    model = vae(num_classes=10, prior=DiagonalNormal, prior_features=4)
    seeds = sample_seeds(0, torch.arange(10))
    assert not torch.allclose(
        model.sample(10, torch.arange(10), seeds=seeds), model.sample(10, torch.arange(10).flip(0), seeds=seeds)
    )
    assert model.prior_of(torch.arange(3)).batch_shape == (3,)
    loss, _ = model.loss(batch)
    loss.backward()
    assert model.prior_embedding.weight.grad.abs().sum() > 0
    assert model.encoder.layers[0].weight.grad[:, -10:].abs().sum() > 0


def test_the_encoder_may_leave_the_class_aside(batch):
    vae(num_classes=10, encoder_classes=None).loss(batch)[0].backward()


def test_yaml_needs_class_names_alone():
    settings = {
        "class_path": "VAE",
        "init_args": {
            "encoder": {"class_path": "MLPEncoder", "init_args": {"sample_dim": IMAGE}},
            "decoder": {"class_path": "MLPDecoder", "init_args": {"sample_dim": IMAGE}},
            "latent_dim": 3,
            "likelihood": "Bernoulli",
            "bound": {"class_path": "ELBO", "init_args": {"num_samples": 2, "kl": "MonteCarlo"}},
            "posterior": {"class_path": "DiagonalNormal", "init_args": {"max_log_variance": 1.0}},
            "prior": "StandardNormal",
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}},
        },
    }
    model = instantiate(GenerativeModel, settings)
    assert model.posterior.bounds == (-20.0, 1.0)
    assert isinstance(model.bound.kl, MonteCarlo)
    model.check_data(binary())


def test_few_latents_are_decoded_at_a_time(batch, monkeypatch):
    from lightning_gen import variational

    model, x, rows = vae().double(), batch["x"].double(), []
    noise = partial(Noise, sample_seeds(0, torch.arange(8)))
    whole = model.log_likelihood(x, None, noise(), 120)
    model.decoder.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    monkeypatch.setattr(variational, "_ROWS", 30)
    torch.testing.assert_close(model.log_likelihood(x, None, noise(), 120), whole, rtol=1e-12, atol=0)
    assert max(rows) == 24  # whole draws of 8 samples
    assert sum(rows) == 8 * 120
    monkeypatch.setattr(variational, "_ROWS", 5)  # fewer than samples: one draw at a time
    torch.testing.assert_close(model.log_likelihood(x, None, noise(), 7), model.log_likelihood(x, None, noise(), 7))


def test_samples_have_noise_where_it_is_asked_for(batch):
    model, plain = vae(sample_noise=True), vae()
    seeds = sample_seeds(0, torch.arange(64))
    x = model.sample(64, seeds=seeds)
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    for part in torch.arange(64).split([3, 40, 21]):
        assert torch.equal(model.sample(len(part), seeds=seeds[part]), x[part])
    many = torch.stack([model.sample(64, seeds=sample_seeds(k, torch.arange(64))) for k in range(60)]).mean((0, 1))
    means = torch.stack([plain.sample(64, seeds=sample_seeds(k, torch.arange(64))) for k in range(60)]).mean((0, 1))
    assert (many - means).abs().max() < 5 / (64 * 60) ** 0.5
    torch.testing.assert_close(model.reconstruct(batch["x"]), plain.reconstruct(batch["x"]))
    assert len(model.reconstruct(batch["x"]).unique()) > 100


def test_ways_between_discrete_latents_stay_among_probabilities():
    model = vae(**DISCRETE)
    a, b = (model.draw_latents(Noise(sample_seeds(k, torch.arange(5))), None) for k in (0, 1))
    z = model.between(a, b, torch.full((5,), 0.3))
    torch.testing.assert_close(z.view(5, 2, 4).sum(-1), torch.ones(5, 2))
    torch.testing.assert_close(z, 0.7 * a + 0.3 * b)
