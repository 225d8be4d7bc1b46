"""Parts of a variational autoencoder that do not go together are told of before training."""

from functools import partial

import pytest
from vae_fakes import ADAM, DISCRETE, IMAGE, binary, networks, vae

from lightning_gen.data import Digits, Thresholded
from lightning_gen.distributions import (
    Deterministic,
    DiagonalNormal,
    Horseshoe,
    PiecewiseNormal,
    RectifiedNormal,
    RunningNormal,
    StandardLaplace,
    StandardRectifiedNormal,
    VampPrior,
)
from lightning_gen.errors import UserError
from lightning_gen.families import VAE
from lightning_gen.losses.bounds import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    BetaELBO,
    BetaTC,
    Capacity,
    DReG,
    InfoVAE,
    MonteCarlo,
    StickingTheLanding,
)
from lightning_gen.losses.likelihoods import Bernoulli, Gaussian
from lightning_gen.networks.autoencoders import MLPEncoder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(vae, 10, 4), ("encoder is 4", "decoder's is 10")),
        (partial(vae, prior_features=4), ("prior_features is 4", "num_classes")),
        (partial(vae, latent_dim=0), ("latent_dim is 0",)),
        (partial(vae, 10, prior_features=0), ("prior_features is 0", "at least 1")),
        (partial(vae, 10, prior=DiagonalNormal, prior_features=-2), ("prior_features is -2", "at least 1")),
        (partial(vae, prior=RunningNormal), ("prior is RunningNormal", "VAE does not show it")),
        (partial(vae, posterior=Deterministic), ("posterior is Deterministic", "no density", "DiagonalNormal")),
        (partial(vae, prior=Deterministic), ("prior is Deterministic", "no density", "DiagonalNormal")),
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

    with pytest.raises(UserError, match=r"StudentT .* set model\.init_args\.bound\.init_args\.kl to MonteCarlo"):
        vae(posterior=Student).check_data(binary())
    vae(posterior=Student, bound=ELBO(kl=MonteCarlo())).loss(binary().examples(4))[0].backward()


def test_a_divergence_that_is_infinite_is_refused_however_it_is_estimated():
    for bound in (ELBO(), ELBO(kl=MonteCarlo()), IWAE(3)):
        with pytest.raises(UserError, match=r"RectifiedNormal.* is infinite"):
            vae(posterior=RectifiedNormal, bound=bound).check_data(binary())
        with pytest.raises(UserError, match=r"posterior Horseshoe from a prior Laplace is infinite"):
            vae(posterior=Horseshoe, prior=StandardLaplace, bound=bound).check_data(binary())


RECTIFIED = {"posterior": RectifiedNormal, "prior": StandardRectifiedNormal}


THROUGH_LOG_PROB = [
    IWAE(3),
    MIWAE(2, 2),
    PIWAE(2, 2),
    CIWAE(3),
    StickingTheLanding(),
    DReG(3),
    ELBO(kl=MonteCarlo()),
    BetaTC(),
]


@pytest.mark.parametrize("bound", THROUGH_LOG_PROB, ids=lambda bound: type(bound).__name__)
@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (DISCRETE, ("posterior GumbelSoftmax", "no densities of relaxed points")),
        (RECTIFIED, ("posterior RectifiedNormal", "jump")),
        ({"posterior": PiecewiseNormal, "prior": PiecewiseNormal}, ("posterior PiecewiseNormal", "jump")),
        ({"prior": PiecewiseNormal}, ("prior PiecewiseNormal", "jump")),
    ],
)
def test_bounds_whose_gradient_would_be_wrong_are_refused(layers, words, bound):
    with pytest.raises(UserError) as error:
        vae(bound=bound, **layers).check_data(binary())
    words = (f"model.init_args.bound is {type(bound).__name__}", "ClosedForm", *words)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("layers", [DISCRETE, RECTIFIED, {"posterior": PiecewiseNormal}])
def test_the_same_layers_go_with_a_closed_form(layers):
    for bound in (ELBO(), BetaELBO(free_bits=0.1), Capacity(), InfoVAE()):
        vae(bound=bound, **layers).check_data(binary())


def test_no_estimate_is_advised_where_it_would_be_refused():
    pieces = {"posterior": PiecewiseNormal, "prior": partial(VampPrior, sample_shape=IMAGE, num_components=2)}
    with pytest.raises(UserError, match="no closed form here: choose another posterior or prior"):
        vae(**pieces).check_data(binary())


@pytest.mark.parametrize("bound", [BetaTC, InfoVAE])
def test_batches_of_one_sample_are_refused_before_training(bound):
    with pytest.raises(UserError, match=rf"{bound.__name__} compares the samples of a batch, which has 1 of"):
        vae(bound=bound()).check_data(binary(batch_size=1))
    vae(bound=bound()).check_data(binary(batch_size=2))


def test_a_bound_that_is_no_number_is_told_before_training():
    with pytest.raises(UserError) as error:
        vae(likelihood=Gaussian(1e-30)).check_data(binary())
    words = ("-inf", "likelihood Gaussian", "posterior DiagonalNormal", "prior StandardNormal")
    assert all(word in str(error.value) for word in words), error.value
    model = vae()
    model.posterior.parameters_of.linear.bias.data[:2] = 1e30  # the divergence alone overflows
    model.decoder.layers[0].weight.data.zero_()
    with pytest.raises(UserError, match=r"bound ELBO .* is inf before training"):
        model.check_data(binary())


def test_the_check_talks_to_no_other_process(monkeypatch):
    """Where there are others, a collective would need the model to be on its device already."""
    import torch.distributed as dist

    def refuse(*args, **kwargs):
        raise AssertionError("a collective at set-up")

    for name, fake in (("is_initialized", lambda: True), ("get_world_size", lambda: 2), ("get_rank", lambda: 0)):
        monkeypatch.setattr(dist, name, fake)
    for name in ("all_reduce", "all_gather", "broadcast"):
        monkeypatch.setattr(dist, name, refuse)
    for bound in (BetaTC(), InfoVAE(), Capacity(), BetaELBO(free_bits=1.0)):
        model = vae(bound=bound)
        model.check_data(binary())
        with pytest.raises(AssertionError, match="a collective"):
            model.loss(binary().examples(4))
