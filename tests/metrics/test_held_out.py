"""Numbers about held-out rows: against closed forms, and the same for any batch size."""

import inspect
import math

import pytest
import torch
from held_out_fakes import SCALES, SIGMA, Data, Encoding, exact, images, linear_vae, vectors

from lightning_gen.errors import UserError
from lightning_gen.losses import likelihoods
from lightning_gen.metrics import (
    ActiveUnits,
    CodeCost,
    CodeUsage,
    EvidenceLowerBound,
    NegativeLogLikelihood,
    ReconstructionError,
    measure_held_out,
)
from lightning_gen.metrics.blocks import NUM_BLOCKS, blocks_of
from lightning_gen.metrics.held_out import MeanOfRows, protocols_of


def measured(model, data, *metrics, batch_size=64, num_rows=None, split="test", seed=0):
    return measure_held_out(model, data, metrics, split=split, num_rows=num_rows, batch_size=batch_size, seed=seed)


# ---------------------------------------------------------------- likelihoods


@pytest.mark.parametrize("k", [1, 3])
def test_with_the_exact_posterior_every_weight_is_the_likelihood(k):
    x = vectors(50)
    values = measured(linear_vae(), Data(x), NegativeLogLikelihood(k))
    assert values == pytest.approx({f"nll_is{k}_nats": -exact(x).mean().item()}, rel=1e-8)


def test_importance_sampling_corrects_a_posterior_that_is_too_wide():
    x, widened, k = vectors(400), 1.5, 800
    values = measured(linear_vae(widened), Data(x), NegativeLogLikelihood(k))
    # of weights p/q of two normal distributions, E w² = (widened / √(2 widened − 1))²
    deviation = math.sqrt((widened**2 / (2 * widened - 1) - 1) / k / len(x))
    error = values[f"nll_is{k}_nats"] + exact(x).mean().item()
    assert abs(error) < 5 * deviation < 0.005
    one = measured(linear_vae(widened), Data(x), NegativeLogLikelihood(1))["nll_is1_nats"]
    assert one > values[f"nll_is{k}_nats"] + 0.02  # a bound, and a loose one


def test_the_bound_and_its_parts():
    x, widened = vectors(), 1.5
    values = measured(linear_vae(widened), Data(x), EvidenceLowerBound())
    assert list(values) == [
        f"elbo_{part}{se}" for se in ("", "_se") for part in ("nats", "reconstruction_nats", "kl_nats")
    ]
    assert values["elbo_nats"] == pytest.approx(values["elbo_reconstruction_nats"] - values["elbo_kl_nats"], rel=1e-12)
    gap = 2 * 0.5 * (widened - 1 - math.log(widened))
    deviation = (widened - 1) / math.sqrt(len(x))  # of the estimate of that from one latent: Var ½(w − 1)u² twice
    assert exact(x).mean().item() - values["elbo_nats"] == pytest.approx(gap, abs=4 * deviation)
    assert 4 * deviation < gap / 2
    # the divergence from the prior in closed form
    q = linear_vae(widened).posterior_of(x.double(), None).base_dist
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    assert values["elbo_kl_nats"] == pytest.approx(kl.mean().item(), abs=5 / math.sqrt(len(x)))


class Gaussians(Encoding):
    """A model that knows its own density."""

    exact_likelihood = True

    def log_prob(self, x, y=None):
        return torch.distributions.Normal(0.0, 2.0).log_prob(x).flatten(1).sum(dim=1)


def test_exact_likelihoods():
    x = vectors(30)
    model = Gaussians(torch.Tensor.clone, latent_dim=3)
    values = measured(model, Data(x), NegativeLogLikelihood())
    expected = (0.5 * (x / 2).square() + math.log(2) + 0.5 * math.log(2 * math.pi)).sum(dim=1).mean().item()
    assert values == pytest.approx({"nll_nats": expected}, rel=1e-5)
    protocol = protocols_of([NegativeLogLikelihood()], model, Data(x), split="test", num_rows=None, seed=0)
    assert protocol["nll_nats"]["likelihood"] == "Gaussians"
    assert protocol["nll_nats"]["unit"] == "nats a row, of a density with respect to x"


class Coins(Encoding):
    """A model that knows the probability of binary data."""

    discrete = True
    exact_likelihood = True

    def log_prob(self, x, y=None):
        return torch.where(x > 0, math.log(0.25), math.log(0.75)).flatten(1).sum(dim=1)


def test_probabilities_alone_have_bits():
    x = torch.where(vectors(300) > 0.3, 1.0, -1.0)
    model, metrics = Coins(torch.Tensor.clone, latent_dim=3), [NegativeLogLikelihood()]
    values = measured(model, Data(x), *metrics)
    # of a white entry two bits
    white = (x > 0).double().mean().item()
    bits = 2 * white + (1 - white) * (2 - math.log2(3))
    assert values["nll_bits_per_dim"] == pytest.approx(bits, rel=1e-6)
    assert values["nll_nats"] == pytest.approx(3 * math.log(2) * bits, rel=1e-6)
    assert values["nll_bits_per_dim_se"] == pytest.approx(values["nll_nats_se"] / (3 * math.log(2)), rel=1e-9)
    assert len(values) == 4
    protocol = protocols_of(metrics, model, Data(x), split="test", num_rows=None, seed=0)
    assert protocol["nll_nats"]["unit"] == "nats a row, of a probability"


LIKELIHOODS = [
    part
    for name in likelihoods.__all__
    if isinstance(part := getattr(likelihoods, name), type)
    and issubclass(part, likelihoods.Likelihood)
    and not inspect.isabstract(part)
]


@pytest.mark.parametrize("cls", LIKELIHOODS, ids=lambda cls: cls.__name__)
def test_discrete_is_what_adds_up_to_one_over_all_values(cls):
    part = cls(4) if cls is likelihoods.Tokens else cls()
    values = {likelihoods.Tokens: torch.arange(4), likelihoods.Bernoulli: torch.tensor([-1.0, 1.0])}
    x = values.get(cls, torch.linspace(-1, 1, 256))[:, None]
    if cls is not likelihoods.Tokens:
        x = x[:, :, None, None]  # images of one pixel
    parameters = torch.randn(1, part.num_parameters, *x.shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        total = part(parameters.expand(len(x), *parameters.shape[1:]), x).double().exp().sum().item()
    assert part.discrete == (abs(total - 1) < 1e-3), total


@pytest.mark.parametrize(("batch_size", "num_rows"), [(1, 20), (7, 203), (64, 203)])
def test_values_do_not_depend_on_the_batch(batch_size, num_rows):
    metrics = NegativeLogLikelihood(60), EvidenceLowerBound(), ActiveUnits(), ReconstructionError()
    data, model = Data(vectors(203)), linear_vae(1.5)
    values = measured(model, data, *metrics, batch_size=batch_size, num_rows=num_rows)
    assert values == pytest.approx(measured(model, data, *metrics, batch_size=203, num_rows=num_rows), rel=1e-12)
    assert len(values) == (1 + 3 + 1) * (2 if num_rows > 200 else 1) + 1  # means with their standard errors, and units


def test_a_metric_draws_its_own_noise():
    data, model = Data(vectors(20)), linear_vae(1.5)
    alone = measured(model, data, NegativeLogLikelihood(3))
    beside = measured(model, data, EvidenceLowerBound(), NegativeLogLikelihood(3))
    assert alone.items() <= beside.items()
    assert measured(model, data, NegativeLogLikelihood(3), seed=1) != alone
    assert measured(model, data, NegativeLogLikelihood(3)) == alone


def test_rows_are_the_first_of_the_split():
    x = vectors(50)
    values = measured(linear_vae(), Data(x), NegativeLogLikelihood(1), num_rows=20, batch_size=8)
    assert values["nll_is1_nats"] == pytest.approx(-exact(x[:20]).mean().item(), rel=1e-12)


def test_standard_errors_are_those_of_the_mean():
    class First(MeanOfRows):
        prefix, directions = "first", {"first": None}

        def check(self, model, data): ...

        def numbers(self, rows):
            return [rows.x[:, 0]]

    x = vectors(1000)
    values = measured(Encoding(torch.Tensor.clone, latent_dim=3), Data(x), First())
    assert values["first"] == pytest.approx(x[:, 0].double().mean().item(), rel=1e-6)
    # a jackknife over blocks is that of 20 numbers: within a third of the plain formula
    assert values["first_se"] == pytest.approx(x[:, 0].std().item() / math.sqrt(1000), rel=0.34)
    block = blocks_of(torch.arange(1000), NUM_BLOCKS)
    left_out = torch.stack([x[block != b, 0].double().mean() for b in range(NUM_BLOCKS)])
    assert values["first_se"] == pytest.approx(19**0.5 * left_out.std(correction=0).item(), rel=1e-9)
    assert "first_se" not in measured(Encoding(torch.Tensor.clone, latent_dim=3), Data(x), First(), num_rows=199)


# ---------------------------------------------------------------- latents, reconstructions, codes


def test_active_units_are_those_whose_encodings_vary():
    x = vectors(500)
    # far from 0, where float32 squares would lose all digits of the variance
    model = Encoding(lambda x: torch.stack((x[:, 0], 1000 + 0.3 * x[:, 1], 0.05 * x[:, 2], 0 * x[:, 0]), dim=1))
    assert measured(model, Data(x), ActiveUnits()) == {"active_units": 2}
    assert measured(model, Data(x), ActiveUnits(threshold=0.001)) == {"active_units": 3}
    # samples without noise, whose latents are N(0, 1), are encoded a little nearer to 0
    drawn = linear_vae().sample(1000, seeds=torch.arange(1000)).float()
    low, high = sorted((SCALES**2 / (SCALES**2 + SIGMA**2)).square().tolist())
    counts = [
        measured(linear_vae(), Data(drawn), ActiveUnits(t)) for t in (0.8 * low, 1.2 * low, 0.8 * high, 1.2 * high)
    ]
    assert [count["active_units"] for count in counts] == [2, 1, 1, 0]


def test_the_error_of_images_is_in_units_from_black_to_white():
    data = images()
    x = data.x.double() / 255
    model = Encoding(torch.Tensor.clone, lambda z: torch.zeros_like(z), latent_dim=16)  # grey
    value = measured(model, data, ReconstructionError(), batch_size=3)["reconstruction_mse"]
    assert value == pytest.approx((x - 0.5).square().mean().item(), rel=1e-6)
    points = Data(vectors(30))
    value = measured(model, points, ReconstructionError())["reconstruction_mse"]
    assert value == pytest.approx(points.x.square().mean().item(), rel=1e-6)


class Coder(Encoding):
    """Codes that a table has, in levels."""

    def __init__(self, table, num_codes, shapes):
        super().__init__(torch.Tensor.clone)
        self.table, self.num_codes, self.shapes = table, num_codes, shapes

    def code_shapes(self, sample_shape):
        return self.shapes

    def codes(self, x, y=None):
        return self.table[x[:, 0].long()]

    def decode_codes(self, codes, y=None): ...


def test_code_usage():
    x = torch.arange(4.0)[:, None].expand(4, 2)
    table = torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3]])
    values = measured(Coder(table, 8, ((2,),)), Data(x), CodeUsage(), batch_size=3)
    assert values == pytest.approx({"code_usage": 0.5, "code_perplexity": 4.0})
    one = measured(Coder(table * 0 + 5, 8, ((1, 2),)), Data(x), CodeUsage())
    assert one == pytest.approx({"code_usage": 1 / 8, "code_perplexity": 1.0})
    table = torch.tensor([[0, 0, 1], [0, 0, 0], [0, 1, 1], [0, 1, 0]])
    levels = measured(Coder(table, 4, ((1,), (2,))), Data(x), CodeUsage(), batch_size=1)
    assert levels == pytest.approx(
        {
            "code_usage": 0.375,
            "code_perplexity": 1.5,
            "code_usage_level0": 0.25,
            "code_usage_level1": 0.5,
            "code_perplexity_level0": 1.0,
            "code_perplexity_level1": 2.0,
        }
    )


class Priced(Coder):
    """Codes with a table of their costs."""

    def code_nats(self, x, y=None):
        return torch.tensor([0.5, 1.5, 2.0, 6.0], dtype=torch.float64)[x[:, 0].long()]


def test_the_cost_of_codes():
    x = torch.arange(4.0)[:, None].expand(4, 2)
    model = Priced(torch.zeros(4, 1, dtype=torch.int64), 8, ((1,),))
    values = measured(model, Data(x), CodeCost(), batch_size=3)
    assert values == pytest.approx({"code_cost_nats": 2.5, "code_cost_bits_per_dim": 2.5 / 2 / math.log(2)})
    with pytest.raises(UserError, match="compute log p"):  # it is no likelihood of rows
        NegativeLogLikelihood().check(model, Data(x))


# ---------------------------------------------------------------- what is refused, and told


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NegativeLogLikelihood(0), "num_importance_samples is 0"),
        (lambda: ActiveUnits(-1.0), "threshold is -1"),
    ],
)
def test_bad_arguments_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


@pytest.mark.parametrize(
    ("metric", "model", "words"),
    [
        (NegativeLogLikelihood(), linear_vae, "num_importance_samples is not set, but VAE"),
        (NegativeLogLikelihood(5), lambda: Gaussians(torch.Tensor.clone), "is 5, but Gaussians computes .* exactly"),
        (NegativeLogLikelihood(5), lambda: Encoding(torch.Tensor.clone), r"estimate log p\(x\), which Encoding cannot"),
        (NegativeLogLikelihood(), lambda: Encoding(torch.Tensor.clone), r"compute log p\(x\), which Encoding cannot"),
        (EvidenceLowerBound(), lambda: Encoding(torch.Tensor.clone), "bound log p.*which Encoding cannot"),
        (ActiveUnits(), lambda: torch.nn.Linear(1, 1), "ActiveUnits needs a model that can encode.*Linear cannot"),
        (ReconstructionError(), lambda: torch.nn.Linear(1, 1), "reconstruct samples, which Linear cannot"),
        (CodeCost(), linear_vae, "CodeCost needs a model that can say how likely codes are, which VAE cannot"),
        (CodeUsage(), linear_vae, "turn samples into codes, which VAE cannot"),
    ],
)
def test_models_that_cannot_are_refused_in_one_sentence(metric, model, words):
    with pytest.raises(UserError, match=words):
        metric.check(model(), Data(vectors(4)))


def test_one_value_has_one_metric():
    with pytest.raises(UserError, match=r"elbo_nats.* is listed more than once"):
        measured(linear_vae(), Data(vectors(4)), EvidenceLowerBound(), EvidenceLowerBound())


def test_the_protocol_says_what_makes_values_comparable():
    data, model = Data(vectors(30)), linear_vae()
    metrics = [NegativeLogLikelihood(7), EvidenceLowerBound(), ActiveUnits(0.02), ReconstructionError()]
    found = protocols_of(metrics, model, data, split="val", num_rows=20, seed=4)
    assert list(found) == [
        *("nll_is7_nats", "elbo_nats", "elbo_reconstruction_nats", "elbo_kl_nats"),
        *("active_units", "reconstruction_mse"),
    ]
    nll = found["nll_is7_nats"]
    assert nll["rows"] == {"split": "val", "limit": 20, "fingerprint": data.fingerprint("val", 20), "num": 20}
    assert (nll["importance_samples"], nll["seed"], nll["likelihood"], nll["entries"]) == (7, 4, "Gaussian", 3)
    assert [how["higher_is_better"] for how in found.values()] == [False, True, None, None, None, False]
    assert found["active_units"]["threshold"] == 0.02
    assert found["reconstruction_mse"]["unit"] == "entries as they are"
