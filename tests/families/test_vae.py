import math
from functools import partial

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from lightning_gen.checkpoints import instantiate
from lightning_gen.data import Digits, Thresholded
from lightning_gen.distributions import DiagonalNormal
from lightning_gen.errors import UserError
from lightning_gen.families import VAE, LadderVAE
from lightning_gen.losses.bounds import ELBO, IWAE, MonteCarlo
from lightning_gen.losses.likelihoods import Bernoulli
from lightning_gen.model import GenerativeModel
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder
from lightning_gen.noise import Noise, sample_seeds

ADAM = partial(torch.optim.Adam, lr=1e-3)
IMAGE = [1, 8, 8]


def networks(num_classes=None, encoder_classes="same", **options):
    classes = num_classes if encoder_classes == "same" else encoder_classes
    encoder = MLPEncoder(IMAGE, 8, 1, classes)
    return encoder, partial(MLPDecoder, sample_dim=IMAGE, width=8, depth=1, num_classes=num_classes)


def vae(num_classes=None, encoder_classes="same", **options):
    torch.manual_seed(0)
    defaults = {"latent_dim": 2, "likelihood": Bernoulli(), "optimizer": ADAM}
    return VAE(*networks(num_classes, encoder_classes), **defaults | options)


def binary(**options):
    return Thresholded(Digits(image_size=8), **{"batch_size": 8} | options)


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


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(vae, 10, 4), ("encoder is 4", "decoder's is 10")),
        (partial(vae, prior_features=4), ("prior_features is 4", "num_classes")),
        (partial(vae, latent_dim=0), ("latent_dim is 0",)),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, words):
    with pytest.raises(UserError) as error:
        make()
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (vae, lambda: Digits(image_size=8), ("Bernoulli", "17 values", "Thresholded")),
        (vae, lambda: Thresholded(Digits(image_size=16)), ("(1, 8, 8)", "(1, 16, 16)")),
    ],
)
def test_data_that_do_not_fit_are_refused(model, data, words):
    with pytest.raises(UserError) as error:
        model().check_data(data())
    assert all(word in str(error.value) for word in words)


def test_an_encoder_of_another_size_is_named():
    model = VAE(MLPEncoder([1, 9, 9], 8, 1), networks()[1], latent_dim=2, likelihood=Bernoulli(), optimizer=ADAM)
    with pytest.raises(UserError, match=r"model\.init_args\.encoder"):
        model.check_data(binary())


def test_a_divergence_without_closed_form_is_refused_before_training():
    from torch.distributions import Independent, StudentT

    class Student(DiagonalNormal):
        def forward(self, h=None):
            loc, scale = self.parameters_of(h).unbind(-2)
            return Independent(StudentT(4.0, loc, scale.exp()), 1)

    with pytest.raises(UserError, match="MonteCarlo"):
        vae(posterior=Student).check_data(binary())
    vae(posterior=Student, bound=ELBO(kl=MonteCarlo())).loss(binary().examples(4))[0].backward()


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


def test_a_ladder_is_trained_by_any_bound(batch):
    torch.manual_seed(0)
    for bound in (ELBO(), ELBO(2, kl=MonteCarlo())):
        model = LadderVAE(*networks(), latent_dims=[4, 2], likelihood=Bernoulli(), optimizer=ADAM, width=8, bound=bound)
        model.loss(batch)[0].backward()
        assert all(p.grad is not None for p in model.parameters())
        assert model.encode(batch["x"]).shape == (8, 6)
        assert model.reconstruct(batch["x"]).shape == (8, *IMAGE)
        x = model.sample(5, seeds=sample_seeds(0, torch.arange(5)))
        assert x.shape == (5, *IMAGE)


def test_a_divergence_that_is_infinite_is_refused_however_it_is_estimated():
    from lightning_gen.distributions import RectifiedNormal

    for bound in (ELBO(kl=MonteCarlo()), IWAE(3)):
        with pytest.raises(UserError, match="RectifiedNormal"):
            vae(posterior=RectifiedNormal, bound=bound).check_data(binary())


def test_ways_between_discrete_latents_stay_among_probabilities():
    from lightning_gen.distributions import GumbelSoftmax, UniformCategorical

    model = vae(posterior=partial(GumbelSoftmax, num_categories=4), prior=partial(UniformCategorical, num_categories=4))
    a, b = (model.draw_latents(Noise(sample_seeds(k, torch.arange(5))), None) for k in (0, 1))
    z = model.between(a, b, torch.full((5,), 0.3))
    torch.testing.assert_close(z.view(5, 2, 4).sum(-1), torch.ones(5, 2))
    torch.testing.assert_close(z, 0.7 * a + 0.3 * b)
