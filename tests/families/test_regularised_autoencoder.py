import pytest
import torch
from autoencoder_fakes import ADAM, DIGITS, SGD, ByHand, check_sampling, networks, one_step, squared_error
from autoencoder_fakes import pixel_error as error_of

from lightning_gen.distributions import RunningNormal
from lightning_gen.errors import UserError
from lightning_gen.families import RegularisedAutoencoder
from lightning_gen.losses import DecoderGradientPenalty, DecoderSpectralNorm, DecoderWeightDecay
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.noise import Noise, sample_seeds


def build(num_classes=None, optimizer=SGD, width=7, **options):
    return RegularisedAutoencoder(
        *networks(num_classes, width), **{"likelihood": Gaussian(), "optimizer": optimizer} | options
    )


def weight_decay(hand, z):
    return 0.3 * sum(p.square().sum() for name, p in hand.p.items() if name.startswith("decoder."))


def gradient_penalty(hand, z):
    """Its estimate from the same random numbers: through the Jacobian itself."""
    rows = torch.func.vmap(torch.func.jacrev(lambda a: hand.decode(a[None])[0]))(z)
    v = torch.randn(4, 1, 1, 8, 8, dtype=torch.float64).flatten(1)
    return 0.15 * torch.einsum("bij,bi->bj", rows, v).square().sum(1).mean()


@pytest.mark.parametrize(
    ("regulariser", "by_hand"),
    [
        (None, None),
        (DecoderWeightDecay(0.3), weight_decay),
        (DecoderGradientPenalty(0.3), gradient_penalty),
    ],
)
def test_a_step_descends_the_three_terms(regulariser, by_hand, make_trainer):
    model = build(regulariser=regulariser, code_weight=0.2)
    before, batch, found = one_step(model, DIGITS(), make_trainer)
    hand, x = ByHand(before), batch["x"]
    z = hand.code(x)
    size = z.square().sum(1).mean() / 2
    loss = squared_error(x, hand.decode(z)) + 0.2 * size
    if by_hand is not None:
        loss = loss + by_hand(hand, z)
    torch.testing.assert_close(found.detach(), loss.detach())
    hand.update(loss, "encoder.", "posterior.", "decoder.")
    hand.check(model)
    torch.testing.assert_close(model.prior.loc, z.mean(0).detach())
    torch.testing.assert_close(model.prior.covariance, z.T.cov(correction=0).detach())


def test_spectral_normalisation_bounds_the_decoder():
    model = build(regulariser=DecoderSpectralNorm())
    batch = DIGITS().examples(4)
    for _ in range(50):
        _, terms = model.loss(batch)
    assert terms["regulariser"] == 0
    for layer in (model.decoder.layers[0], model.decoder.layers[2]):
        assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("num_classes", [None, 10])
def test_samples_depend_on_their_seeds_alone(num_classes):
    check_sampling(build(num_classes), None if num_classes is None else torch.zeros(6, dtype=torch.int64))


def test_evaluation_leaves_the_density_alone():
    model = build()
    model.eval().loss(DIGITS().examples(8))
    assert model.prior.num_batches == 0
    model.train().loss(DIGITS().examples(8))
    assert model.prior.num_batches == 1


def test_it_learns_and_draws_from_where_codes_are(make_trainer):
    model = build(optimizer=ADAM, width=48, regulariser=DecoderWeightDecay(1e-4), code_decay=0.9)
    before = error_of(model)
    make_trainer(max_steps=200).fit(model, DIGITS(batch_size=32))
    assert error_of(model) < 0.6 * before
    codes = model.encode(DIGITS().examples(1437)["x"])
    drawn = model.draw_latents(Noise(sample_seeds(0, torch.arange(2000))), None)
    spread = codes.std(0)
    assert ((drawn.mean(0) - codes.mean(0)).abs() < 0.5 * spread).all()
    assert ((drawn.std(0) / spread - 1).abs() < 0.5).all()
    torch.testing.assert_close(drawn.T.corrcoef(), codes.T.corrcoef(), rtol=0, atol=0.3)


def test_what_is_out_of_range_is_refused():
    with pytest.raises(UserError, match="code_weight is -1"):
        build(code_weight=-1.0)
    with pytest.raises(UserError, match="decay is 1"):
        build(code_decay=1.0)
    assert isinstance(build().prior, RunningNormal)


def test_samples_have_noise_where_it_is_asked_for():
    """Of a Gaussian of σ = 0.1 about means within the range: its own."""
    noisy, plain = (
        build(likelihood=Gaussian(0.1), sample_noise=noise).sample(100, seeds=torch.arange(100))
        for noise in (True, False)
    )
    inside = plain.abs() < 0.5
    assert float((noisy - plain)[inside].std()) == pytest.approx(0.1, rel=0.1)
    again = build(likelihood=Gaussian(0.1), sample_noise=True).sample(2, seeds=torch.arange(7, 9))
    torch.testing.assert_close(noisy[7:9], again, rtol=0, atol=1e-5)
