"""Flow matching against Gaussian data, whose velocity, samples and density are known."""

from functools import partial

import pytest
import torch
from flow_fakes import GaussianField, Table
from torch import nn

from lightning_gen.abilities import BoundsLikelihood, HasLikelihood, Interpolates, Reconstructs
from lightning_gen.callbacks import Evaluation
from lightning_gen.data import Digits, Moons2D, Ring2D
from lightning_gen.dequantisation import Dequantisation, UniformDequantisation
from lightning_gen.errors import UserError
from lightning_gen.families import FlowMatching
from lightning_gen.guidance import ClassifierFree
from lightning_gen.latents import slerp
from lightning_gen.metrics import NegativeLogLikelihood
from lightning_gen.networks.time_dependent import TimeMLP
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.paths import (
    ConditionalOptimalTransport,
    LogitNormalTimes,
    MinibatchOptimalTransport,
    VariancePreserving,
    VariancePreservingDiffusion,
)
from lightning_gen.solvers import RK4, DormandPrince, Euler, Heun, HutchinsonDivergence, Midpoint

ADAM = partial(torch.optim.Adam, lr=1e-2)
PATHS = [ConditionalOptimalTransport(), ConditionalOptimalTransport(0.1), VariancePreserving()]
TIGHT = DormandPrince(1e-9, 1e-9)


def seeds(n, seed=0):
    return sample_seeds(seed, torch.arange(n))


def gaussian(path=None, shape=(2,), classes=None, shift=None, std=0.3, **options):
    path = path or ConditionalOptimalTransport()
    options = {"sampler": TIGHT, "likelihood_solver": TIGHT} | options
    field = GaussianField(path, shape, std=std, shift=shift, num_classes=classes)
    return FlowMatching(field, ADAM, path=path, **options).double()


def moments(path, z, mean=0.5, std=0.3):
    """Where the field of `GaussianField` carries noise: its flow is affine, so that it goes by standard deviations."""
    (first, before), (alpha, sigma) = (path.scales(torch.tensor(t, dtype=torch.float64)) for t in (0.0, path.end))
    deviation = [(a**2 * std**2 + s**2).sqrt() for a, s in ((first, before), (alpha, sigma))]
    return alpha * mean + deviation[1] / deviation[0] * (z - first * mean)


# -------------------------------------------------------------------- samples


@pytest.mark.parametrize("path", [*PATHS, VariancePreservingDiffusion()])
def test_samples_are_where_the_exact_field_leads(path):
    model = gaussian(path)
    z = Noise(seeds(64)).normal(2, dtype=torch.float64)
    torch.testing.assert_close(model.sample(64, seeds=seeds(64)), moments(path, z), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "order"), [(Euler, 1), (Midpoint, 2), (Heun, 2), (RK4, 4)])
def test_each_solvers_error_falls_with_its_order(kind, order):
    model, errors = gaussian(VariancePreserving()), []
    z = Noise(seeds(16)).normal(2, dtype=torch.float64)
    for steps in (20, 40):
        model.sampler = kind(steps)
        errors.append((model.sample(16, seeds=seeds(16)) - moments(model.path, z)).abs().max())
        assert model.evaluations == model.sampler.num_evaluations
    assert torch.log2(errors[0] / errors[1]).item() == pytest.approx(order, abs=0.3)


def test_samples_have_the_datas_moments():
    x = gaussian().sample(20_000, seeds=seeds(20_000))
    assert x.mean(0) == pytest.approx(torch.tensor([0.5, 0.5]).numpy(), abs=5 * 0.3 / 20_000**0.5)
    assert x.std(0) == pytest.approx(torch.tensor([0.3, 0.3]).numpy(), rel=0.03)


@pytest.mark.parametrize("sampler", [Euler(5), DormandPrince()])
def test_a_sample_depends_on_its_seed_alone(sampler):
    torch.manual_seed(0)
    model = FlowMatching(TimeMLP(2, width=8, depth=1), ADAM, sampler=sampler).double()
    whole = model.sample(6, seeds=seeds(6))
    parts = torch.cat([model.sample(len(part), seeds=part) for part in seeds(6).split([1, 3, 2])])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


def test_classes_and_guidance_move_the_mean():
    model = gaussian(classes=3, shift=1.0, label_dropout=0.1)
    y = torch.tensor([0, 1, 2, 2])
    plain = model.sample(4, y, seeds=seeds(4))
    noise = Noise(seeds(4))
    noise.integers(3)  # the classes', drawn first
    z = noise.normal(2, dtype=torch.float64)
    torch.testing.assert_close(plain, moments(model.path, z) + y[:, None], rtol=0, atol=1e-6)
    model.guidance = ClassifierFree(2.5)
    guided = model.sample(4, y, seeds=seeds(4))
    torch.testing.assert_close(guided, moments(model.path, z) + 2.5 * y[:, None], rtol=0, atol=1e-6)


def test_noise_and_samples_go_both_ways():
    model = gaussian(VariancePreserving(), shape=(1, 2, 2))
    x = model.sample(5, seeds=seeds(5))
    z = Noise(seeds(5)).normal(1, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(model.encode(x), z, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.decode(z), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.reconstruct(x), x, rtol=0, atol=1e-6)
    assert isinstance(model, Reconstructs)


def test_walks_go_along_great_circles_of_noise():
    model, t = gaussian(), torch.tensor([0.0, 0.3, 1.0])
    found = model.interpolate(seeds(3), seeds(3, 1), t)
    a, b = (Noise(seeds(3, seed)).normal(2, dtype=torch.float64) for seed in (0, 1))
    torch.testing.assert_close(found, model.decode(slerp(a, b, t)))
    torch.testing.assert_close(found[0], model.sample(1, seeds=seeds(1))[0])
    assert isinstance(model, Interpolates)


# -------------------------------------------------------------------- the density


def normal(x, mean=0.5, std=0.3):
    return torch.distributions.Normal(mean, std).log_prob(x).flatten(1).sum(1)


@pytest.mark.parametrize("path", [ConditionalOptimalTransport(), VariancePreserving()])
@pytest.mark.parametrize("shape", [(2,), (1, 2, 3)])
def test_the_density_of_the_exact_field_is_the_datas(path, shape):
    model = gaussian(path, shape)
    x = 0.5 + 0.6 * torch.randn(9, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), normal(x), rtol=0, atol=1e-5)


def test_the_density_of_a_path_that_leaves_noise_is_that_of_its_end():
    path = ConditionalOptimalTransport(0.1)
    x = torch.randn(9, 2, dtype=torch.float64)
    expected = normal(x, std=(0.3**2 + 0.1**2) ** 0.5)
    torch.testing.assert_close(gaussian(path).log_prob(x), expected, rtol=0, atol=1e-5)


def test_the_diffusion_path_comes_near():
    model = gaussian(VariancePreservingDiffusion())
    x = 0.5 + 0.3 * torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), normal(x), rtol=0, atol=0.03)


def test_the_default_tolerance_is_enough():
    model = gaussian(likelihood_solver=None).float()
    x = 0.5 + 0.6 * torch.randn(50, 2)
    torch.testing.assert_close(model.log_prob(x).float(), normal(x), rtol=0, atol=1e-3)


def test_the_density_of_any_field_sums_to_one():
    torch.manual_seed(3)
    model = FlowMatching(TimeMLP(1, width=8, depth=1), ADAM)
    nn.init.normal_(model.network.exit.weight, std=0.5)
    x = torch.linspace(-9, 9, 600)[:, None]
    density = model.log_prob(x).exp()
    assert (density.sum() * (18 / 599)).item() == pytest.approx(1, abs=1e-3)
    assert model.evaluations > 20
    drawn = model.sample(4000, seeds=seeds(4000))
    mean = (density * x[:, 0]).sum() * (18 / 599)
    assert abs(drawn.mean() - mean) < 5 * drawn.std() / 4000**0.5


def test_densities_are_those_of_the_class_and_without_guidance():
    model = gaussian(classes=2, shift=1.0, label_dropout=0.1, guidance=ClassifierFree(3.0))
    x, y = torch.randn(4, 2, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(model.log_prob(x, y), normal(x - y[:, None]), rtol=0, atol=1e-5)


def test_densities_can_be_had_where_nothing_is_differentiated():
    model, x = gaussian(), torch.randn(3, 2, dtype=torch.float64)
    with torch.inference_mode():
        found = model.log_prob(x * 1)
    torch.testing.assert_close(found, normal(x), rtol=0, atol=1e-5)
    assert not model.log_prob(x).requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.log_prob(x), found)


def test_an_estimate_has_the_density_as_its_mean():
    torch.manual_seed(0)
    model = FlowMatching(
        TimeMLP(3, width=16, depth=1), ADAM, divergence=HutchinsonDivergence(), likelihood_solver=RK4(8)
    )
    nn.init.normal_(model.network.exit.weight)
    assert isinstance(model, BoundsLikelihood)
    assert not model.exact_likelihood
    assert not model.discrete
    x = torch.randn(1, 3).expand(3000, 3)
    found = model.log_likelihood(x, None, Noise(seeds(3000)), 1)
    torch.testing.assert_close(found[2:3], model.log_likelihood(x[:1], None, Noise(seeds(3)[2:]), 1))
    model.divergence = FlowMatching(TimeMLP(3, width=8, depth=1), ADAM).divergence
    assert found.std() > 1e-3
    assert abs(found.mean() - model.log_prob(x[:1])) < 5 * found.std() / 3000**0.5


@pytest.mark.parametrize("k", [1, 2000])
def test_probabilities_of_levels_are_bounded(k):
    # the exact density of N(0.5, 0.3²): a level has the mass of its bin
    model = gaussian(shape=(1,), dequantisation=UniformDequantisation(5))
    assert isinstance(model, HasLikelihood)
    assert isinstance(model, BoundsLikelihood)
    assert model.discrete
    assert not model.exact_likelihood
    model.likelihood_solver = RK4(20)
    x = torch.tensor([[0.5], [1.0]], dtype=torch.float64)  # levels 3 and 4
    cdf = torch.distributions.Normal(0.5, 0.3).cdf
    exact = (cdf(torch.tensor([0.6, 1.0])) - cdf(torch.tensor([0.2, 0.6]))).log()
    if k == 1:
        many = x.repeat(2000, 1)
        found = model.log_likelihood(many, None, Noise(seeds(4000)), 1).view(2000, 2).mean(0)
        assert (found < exact).all()
    else:
        found = model.log_likelihood(x.repeat_interleave(k, 0), None, Noise(seeds(2 * k)), 1).view(2, k)
        found = found.logsumexp(1) - torch.tensor(float(k)).log()
        torch.testing.assert_close(found.float(), exact, rtol=0, atol=0.05)
    with pytest.raises(UserError, match="bounds log p"):
        model.log_prob(x)


def test_samples_of_discrete_data_have_their_levels():
    model = gaussian(shape=(1, 2, 2), std=0.6, dequantisation=UniformDequantisation(5))
    x = model.sample(50, seeds=seeds(50))
    levels = torch.linspace(-1, 1, 5, dtype=torch.float64)
    assert torch.equal(x.unique(), levels)
    assert torch.equal(model.reconstruct(x), x)


def test_several_estimates_are_no_bound():
    model = gaussian(divergence=HutchinsonDivergence())
    x = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(UserError, match="num_importance_samples is 2"):
        model.log_likelihood(x, None, Noise(seeds(2)), 2)
    with pytest.raises(UserError, match="only estimates"):
        model.log_prob(x)
    with pytest.raises(UserError, match="ask for log_prob"):
        gaussian().log_likelihood(x, None, Noise(seeds(2)), 1)


def test_a_tolerance_that_cannot_be_met_is_told():
    model = gaussian(sampler=DormandPrince(1e-13, 1e-13, max_steps=10))
    with pytest.raises(UserError, match=r"DormandPrince.rtol is 1e-13 and atol 1e-13.*max_steps = 10"):
        model.sample(3, seeds=seeds(3))


# -------------------------------------------------------------------- training


def test_the_loss_is_that_of_the_paper():
    torch.manual_seed(0)
    model = FlowMatching(TimeMLP(2, width=8, depth=1), ADAM, time_distribution=LogitNormalTimes()).double()
    x, epsilon = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    u = torch.rand(5, dtype=torch.float64)
    t = torch.sigmoid(torch.distributions.Normal(0, 1).icdf(u))
    v = model.network(t[:, None] * x + (1 - t[:, None]) * epsilon, t)
    expected = (v - (x - epsilon)).square().mean(1)
    torch.testing.assert_close(model.losses(x, None, u, epsilon, None), expected)


def test_the_least_loss_is_at_the_exact_field():
    # 20,000 draws: no field that differs a little has a smaller one
    model = gaussian(VariancePreserving())
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + 0.3 * torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    epsilon = torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    u = torch.rand(20_000, generator=generator, dtype=torch.float64)
    least = model.losses(x, None, u, epsilon, None).detach()
    for name, value in (("std", 0.2), ("std", 0.4), ("mean", torch.tensor(0.3)), ("mean", torch.tensor(0.7))):
        other = gaussian(VariancePreserving())
        setattr(other.network, name, nn.Parameter(value) if name == "mean" else value)
        excess = other.losses(x, None, u, epsilon, None).detach() - least
        assert excess.mean() > 4 * excess.std() / 20_000**0.5, (name, value)


def test_training_finds_the_conditional_mean(make_trainer):
    # a constant velocity: the mean of x₁ − x₀ is the mean of the data
    model = FlowMatching(Table((2,)), partial(torch.optim.Adam, lr=0.05), sampler=Euler(2))
    data = Ring2D(num_samples=4096, modes=1, radius=2.0, std=0.1, batch_size=512)
    make_trainer(max_steps=120).fit(model, data)
    assert model.network.value.item() == pytest.approx(1.0, abs=0.1)  # of (2, 0)


def test_coupled_noise_is_what_is_learnt_from(monkeypatch):
    model = FlowMatching(TimeMLP(2, width=8, depth=1), ADAM, coupling=MinibatchOptimalTransport())
    x, seen = torch.randn(16, 2), {}
    monkeypatch.setattr(model, "losses", lambda x, y, u, epsilon, dropped: seen.update(x=x, noise=epsilon) or u)
    model.loss({"x": x})
    again = MinibatchOptimalTransport()(seen["noise"], x, None)
    assert torch.equal(again, seen["noise"])
    torch.manual_seed(0)
    model.loss({"x": x})
    first = seen["noise"]
    torch.manual_seed(0)
    model.loss({"x": x.flip(0)})
    assert torch.equal(first.flip(0), seen["noise"])


def test_a_loss_of_single_samples_is_told_where_it_says_something(make_trainer):
    plain = FlowMatching(TimeMLP(2, width=8, depth=1), ADAM)
    coupled = FlowMatching(TimeMLP(2, width=8, depth=1), ADAM, coupling=MinibatchOptimalTransport())
    data = Moons2D(num_samples=64, num_val=37, batch_size=8)
    found = [make_trainer(limit_val_batches=1.0).validate(plain, data, verbose=False)[0]["val_loss"] for _ in range(2)]
    assert found[0] == found[1]
    other = Moons2D(num_samples=64, num_val=37, batch_size=37)
    again = make_trainer(limit_val_batches=1.0).validate(plain, other, verbose=False)[0]["val_loss"]
    assert again == pytest.approx(found[0], rel=1e-5)
    assert make_trainer(limit_val_batches=1.0).validate(coupled, data, verbose=False) == [{}]


def test_discrete_data_are_dequantised_for_training(monkeypatch):
    options = {"dequantisation": UniformDequantisation(17)}
    model = FlowMatching(TimeMLP([1, 8, 8], width=8, depth=1), ADAM, **options)
    data, seen = Digits(image_size=8, batch_size=8), []
    model.check_data(data)
    monkeypatch.setattr(model, "losses", lambda x, y, u, epsilon, dropped: seen.append(x) or u)
    x = data.examples(8)["x"]
    model.loss({"x": x})
    model.held_out({"x": x, "index": torch.arange(8)})
    model.held_out({"x": x[3:], "index": torch.arange(3, 8)})
    for values in seen[:2]:
        assert ((values != x).float().mean() > 0.9).all()
        torch.testing.assert_close(
            model.dequantisation.quantise(values), model.dequantisation.quantise(model.dequantisation.middles(x))
        )
    assert torch.equal(seen[1][3:], seen[2])


def test_evaluation_measures_points(make_trainer):
    model = gaussian(likelihood_solver=None).float()
    data = Ring2D(num_samples=32, num_val=64, modes=1, radius=0.5, std=0.3, batch_size=16)
    evaluation = Evaluation(metrics=[], held_out=[NegativeLogLikelihood()])
    values = evaluation.measure(model, data)
    rows = data.split("test")[torch.arange(64)]["x"]
    expected = -normal(rows.double(), torch.tensor([0.5, 0.5]), 0.3).mean().item()
    assert values["nll_nats"] == pytest.approx(expected, abs=1e-3)


# -------------------------------------------------------------------- bad input


class Learnt(Dequantisation):
    def __init__(self):
        super().__init__(17)
        self.weight = nn.Parameter(torch.zeros(1))

    def offsets(self, x, noise):
        raise AssertionError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dequantisation": Learnt()}, "UniformDequantisation"),
        ({"label_dropout": 0.1}, "label_dropout is 0.1"),
        ({"label_dropout": 1.0}, "label_dropout is 1.0"),
        ({"guidance": ClassifierFree()}, "ClassifierFree"),
    ],
)
def test_bad_arguments_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        FlowMatching(TimeMLP(2, width=8, depth=1), ADAM, **options)


@pytest.mark.parametrize(
    ("shape", "levels", "data", "words"),
    [
        ([1, 8, 8], 16, Digits(image_size=8), "16 levels"),
        ([1, 8, 8], 17, Moons2D(), r"\(2,\)"),
    ],
)
def test_data_of_another_kind_are_refused(shape, levels, data, words):
    model = FlowMatching(TimeMLP(shape, width=8, depth=1), ADAM, dequantisation=UniformDequantisation(levels))
    with pytest.raises(UserError, match=words):
        model.check_data(data)


def test_a_numbers_protocol_tells_how_the_density_was_computed():
    data = Ring2D(num_samples=8, num_val=8)
    model = gaussian(likelihood_solver=RK4(7), divergence=HutchinsonDivergence(2))
    found = NegativeLogLikelihood(1).protocol(model, data)
    assert found["likelihood_solver"] == "RK4(steps=7)"
    assert found["divergence"] == "HutchinsonDivergence(num_probes=2)"
    exact = NegativeLogLikelihood().protocol(
        gaussian(likelihood_solver=DormandPrince(), dequantisation=UniformDequantisation(17)), data
    )
    assert exact["likelihood_solver"] == "DormandPrince(rtol=1e-05, atol=1e-05, max_steps=1000)"
    assert exact["divergence"] == "ExactDivergence()"
    assert exact["dequantisation"] == "UniformDequantisation"
