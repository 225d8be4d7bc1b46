"""Diffusion: its loss, its denoiser, guidance, samples of known denoisers, and what it refuses."""

from functools import partial

import pytest
import torch
from torch import nn

from lightning_gen.checkpoints import instantiate
from lightning_gen.commands.sampling import Sampling
from lightning_gen.errors import UserError
from lightning_gen.families import Diffusion
from lightning_gen.guidance import ClassifierFree
from lightning_gen.losses.denoising import EDMLoss, MinSNR, SimpleLoss
from lightning_gen.model import GenerativeModel
from lightning_gen.networks.time_dependent import TimeMLP, TimeNetwork
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.preconditioning import EDM, Epsilon, Sample, Velocity
from lightning_gen.samplers.diffusion import DDIM, DDPM, DPMSolverPlusPlus, Heun
from lightning_gen.schedules import ContinuousLinearBeta, LinearBeta, VarianceExploding, ZeroTerminalSNR

ADAM = partial(torch.optim.Adam, lr=1e-3)
KINDS = {"epsilon": Epsilon(), "velocity": Velocity(), "sample": Sample(), "edm": EDM(0.6)}
STD = 0.6


class Tiny(TimeNetwork):
    """A linear network that sees everything it is given."""

    def __init__(self, shape=(2,), num_classes=None):
        super().__init__(shape, num_classes)
        self.mix = nn.Linear(self.sample_shape[-1], self.sample_shape[-1])
        self.classes = nn.Parameter(torch.randn((num_classes or 0) + 1))

    def forward(self, x, t, y=None, dropped=None):
        shift = t
        if y is not None:
            known = self.classes[y]
            shift = shift + (known if dropped is None else torch.where(dropped, self.classes[-1], known))
        return self.mix(x) + shift.view(-1, *[1] * (x.ndim - 1))


class Exact(TimeNetwork):
    """Says what makes a preconditioning denoise data from N(0, STD²) exactly."""

    def __init__(self, schedule, preconditioning, shape=(2,)):
        super().__init__(shape)
        self.schedule, self.preconditioning = schedule, preconditioning
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, t, y=None, dropped=None):
        if isinstance(self.schedule, VarianceExploding):
            t = (4 * t).exp()
        alpha, sigma = (value.view(-1, *[1] * (x.ndim - 1)) for value in self.schedule(t))
        scales = self.preconditioning(alpha, sigma)
        noisy = x / scales.inside
        return (alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * noisy - scales.skip * noisy) / scales.out


def diffusion(network=None, schedule=None, preconditioning=None, loss=None, sampler=None, **options):
    torch.manual_seed(0)
    return Diffusion(
        network or Tiny(),
        schedule or LinearBeta(),
        preconditioning or Epsilon(),
        loss or SimpleLoss(),
        sampler or DDIM(10),
        ADAM,
        **options,
    )


@pytest.fixture
def draws():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(16, 2, generator=generator) for _ in range(2)], torch.rand(16, generator=generator)


# -------------------------------------------------------------------- training


def test_the_loss_of_ddpm(draws):
    (x, epsilon), u = draws
    model, betas = diffusion(), torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    step = (u * 1000).floor().long()
    bars = (1 - betas).cumprod(0)[step][:, None].float()
    said = model.network(bars.sqrt() * x + (1 - bars).sqrt() * epsilon, (step + 1) / 1000)
    expected = (epsilon - said).square().mean(1)
    torch.testing.assert_close(model.losses(x, None, u, epsilon, None), expected, rtol=1e-3, atol=1e-4)


def test_the_loss_of_edm(draws):
    (x, epsilon), u = draws
    model = diffusion(schedule=VarianceExploding(), preconditioning=EDM(0.5), loss=EDMLoss(), sampler=Heun(5))
    sigma = (-1.2 + 1.2 * torch.distributions.Normal(0, 1).icdf(u)).exp()[:, None]
    root = (sigma**2 + 0.25).sqrt()
    noisy = x + sigma * epsilon
    said = model.network(noisy / root, sigma[:, 0].log() / 4)
    denoised = 0.25 / root**2 * noisy + sigma * 0.5 / root * said
    expected = ((root / (sigma * 0.5)) ** 2 * (denoised - x) ** 2).mean(1)
    torch.testing.assert_close(model.losses(x, None, u, epsilon, None), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", [LinearBeta(), VarianceExploding()], ids=["linear", "exploding"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_network_has_a_smaller_loss_than_the_exact_one(kind, schedule):
    exact = Exact(schedule, KINDS[kind])
    model = diffusion(exact, schedule, KINDS[kind], MinSNR(), DDIM(10)).double()
    u = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, epsilon = torch.randn(2, 20_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    least = model.losses(STD * x, None, u, epsilon, None)
    forward = exact.forward
    for shift, slope in ((0.3, 0.0), (-0.3, 0.0), (0.0, 0.3), (0.0, -0.3)):
        exact.forward = lambda x, *rest, shift=shift, slope=slope: forward(x, *rest) + shift + slope * x
        gap = model.losses(STD * x, None, u, epsilon, None) - least
        assert gap.mean() > 3 * gap.std() / 20_000**0.5


def test_gradients_reach_the_network_and_losses_ignore_other_samples(draws):
    (x, epsilon), u = draws
    model = diffusion()
    whole = model.losses(x, None, u, epsilon, None)
    torch.testing.assert_close(model.losses(x[3:5], None, u[3:5], epsilon[3:5], None), whole[3:5])
    whole.mean().backward()
    assert all((p.grad != 0).any() for p in model.network.mix.parameters())


def test_dropped_labels_reach_the_network(draws):
    (x, epsilon), u = draws
    model = diffusion(Tiny(num_classes=3), label_dropout=0.5)
    y, dropped = torch.arange(16) % 3, torch.arange(16) % 2 == 0
    mixed, kept = (model.losses(x, y, u, epsilon, which) for which in (dropped, None))
    torch.testing.assert_close(mixed[~dropped], kept[~dropped])
    assert ((mixed - kept)[dropped].abs() > 1e-6).all()


def test_held_out_losses_do_not_depend_on_the_batch():
    model = diffusion()
    x, index = torch.randn(6, 2), torch.arange(6)
    whole = model.held_out({"x": x, "index": index})["val_loss"]
    parts = [model.held_out({"x": x[rows], "index": index[rows]})["val_loss"] for rows in index.split(4)]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert model.held_out_names == ("val_loss",)


# -------------------------------------------------------------------- the denoiser


@pytest.mark.parametrize(
    "schedule", [LinearBeta(), ContinuousLinearBeta(), VarianceExploding()], ids=["linear", "continuous", "exploding"]
)
def test_all_preconditionings_of_one_denoiser_agree(schedule):
    x = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = schedule.spread(torch.linspace(0, 1, 9, dtype=torch.float64))
    alpha, sigma = (value[:, None] for value in schedule(t))
    expected = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * x
    for kind in KINDS.values():
        model = diffusion(Exact(schedule, kind), schedule, kind).double()
        torch.testing.assert_close(model.field(x, t, None), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_the_exact_network_have_the_variance_of_the_data(kind):
    schedule = LinearBeta()
    for shape, sampler in (((2,), Heun(20)), ((1, 4, 4), DPMSolverPlusPlus(20)), ((3, 2, 2), DDPM(100, 0.0))):
        model = diffusion(Exact(schedule, KINDS[kind], shape), schedule, KINDS[kind], sampler=sampler)
        x = model.sample(500, seeds=sample_seeds(0, torch.arange(500)))
        assert x.shape == (500, *shape)
        assert x.dtype == torch.float32
        assert float(x.std()) == pytest.approx(STD, rel=0.08)


def test_guidance_is_a_step_from_free_to_given():
    model = diffusion(Tiny(num_classes=3), label_dropout=0.1, guidance=ClassifierFree(2.5)).double()
    x, t, y = torch.randn(4, 2).double(), torch.full((4,), 0.5).double(), torch.tensor([0, 1, 2, 1])
    given = model.field(x, t, y)
    free = model.field(x, t, y, torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(model.guided(y)(x, t), free + 2.5 * (given - free))
    assert not torch.allclose(given, free)
    model.guidance = None
    torch.testing.assert_close(model.guided(y)(x, t), given)


def test_guided_samples_are_functions_of_seed_and_class():
    options = {"label_dropout": 0.1, "guidance": ClassifierFree(2.0), "sampler": DDPM(20)}
    model, seeds = diffusion(Tiny(num_classes=3), **options), sample_seeds(0, torch.arange(6))
    y = torch.arange(6) % 3
    whole = model.sample(6, y, seeds=seeds)
    torch.testing.assert_close(model.sample(2, y[2:4], seeds=seeds[2:4]), whole[2:4], rtol=0, atol=1e-5)
    assert not torch.allclose(model.sample(6, (y + 1) % 3, seeds=seeds), whole)


# -------------------------------------------------------------------- samplers


def test_walks_begin_and_end_at_samples():
    model, (a, b) = diffusion(), sample_seeds(0, torch.arange(8)).view(2, 4)
    ends = [model.interpolate(a, b, torch.full((4,), t)) for t in (0.0, 1.0)]
    for found, seeds in zip(ends, (a, b), strict=True):
        torch.testing.assert_close(found, model.sample(4, seeds=seeds), rtol=1e-4, atol=1e-5)
    middle = model.interpolate(a, b, torch.full((4,), 0.5))
    assert ((middle - ends[0]).norm(dim=1) > 1e-3).all()


def test_walks_of_a_stochastic_sampler_keep_the_first_noise():
    model, (a, b) = diffusion(sampler=DDPM(10)), sample_seeds(0, torch.arange(8)).view(2, 4)
    torch.testing.assert_close(model.interpolate(a, b, torch.zeros(4)), model.sample(4, seeds=a))
    first, second = Noise(a), Noise(b)
    z = second.normal(2)
    first.normal(2)
    with torch.no_grad():
        expected = model.sampler(model.guided(None), model.schedule, z, first)
    torch.testing.assert_close(model.interpolate(a, b, torch.ones(4)), expected, rtol=1e-4, atol=1e-5)


def test_walks_keep_the_class_of_their_start():
    model, (a, b) = diffusion(Tiny(num_classes=3)), sample_seeds(0, torch.arange(8)).view(2, 4)
    start = model.draw(4, seeds=a)
    torch.testing.assert_close(model.interpolate(a, b, torch.zeros(4)), start["x"], rtol=1e-4, atol=1e-5)
    end = model.interpolate(a, b, torch.ones(4))
    torch.testing.assert_close(end, model.sample(4, start["y"], seeds=b), rtol=1e-4, atol=1e-5)


def test_another_sampler_takes_the_place_of_the_trained_one():
    model, seeds = diffusion(), sample_seeds(0, torch.arange(5))
    before = model.sample(5, seeds=seeds)
    Sampling({"class_path": "Heun", "init_args": {"steps": 7}}).apply(model)
    assert isinstance(model.sampler, Heun)
    assert not torch.allclose(model.sample(5, seeds=seeds), before)
    assert torch.equal(model.sample(5, seeds=seeds), diffusion(sampler=Heun(7)).sample(5, seeds=seeds))
    with pytest.raises(UserError, match="only 1000 steps"):
        Sampling({"class_path": "DDIM", "init_args": {"steps": 2000}}).apply(model)


# -------------------------------------------------------------------- settings


CONFIG = {
    "class_path": "Diffusion",
    "init_args": {
        "network": {"class_path": "TimeMLP", "init_args": {"width": 8, "depth": 1}},
        "schedule": {"class_path": "CosineBeta", "init_args": {"num_steps": 100}},
        "preconditioning": "Velocity",
        "loss": {"class_path": "MinSNR", "init_args": {"gamma": 3.0}},
        "sampler": {"class_path": "DPMSolverPlusPlus", "init_args": {"steps": 5, "clip": 4.0}},
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}},
    },
}


def test_parts_are_chosen_by_their_names():
    model = instantiate(GenerativeModel, CONFIG)
    assert isinstance(model.network, TimeMLP)
    assert isinstance(model.preconditioning, Velocity)
    assert isinstance(model.denoising_loss, MinSNR)
    assert model.schedule.num_steps == 100
    assert model.sampler.clip == 4.0
    assert model.sample(3).shape == (3, 2)


def test_it_can_be_made_without_memory():
    with torch.device("meta"):
        model = instantiate(GenerativeModel, CONFIG)
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sampler": DDIM(1001)}, "only 1000 steps"),
        ({"schedule": ZeroTerminalSNR(LinearBeta())}, "Epsilon, but ZeroTerminalSNR leaves no signal"),
        ({"guidance": ClassifierFree()}, "unconditional"),
        ({"network": Tiny(num_classes=3), "guidance": ClassifierFree()}, "label_dropout is 0"),
        ({"label_dropout": 0.1}, "unconditional"),
        ({"schedule": VarianceExploding(), "sampler": DDPM()}, "DDPM.steps is unset"),
    ],
)
def test_what_cannot_work_is_refused(options, told):
    with pytest.raises(UserError, match=told):
        diffusion(**options)


def test_velocity_works_without_signal_at_the_end():
    model = diffusion(schedule=ZeroTerminalSNR(LinearBeta()), preconditioning=Velocity())
    assert model.sample(4).isfinite().all()
    loss, _ = model.loss({"x": torch.randn(64, 2)})
    assert loss.isfinite()


def test_reduced_precision_keeps_the_schedule(draws):
    (x, epsilon), u = draws
    model = diffusion(TimeMLP(2, width=16, depth=1), schedule=VarianceExploding(), preconditioning=EDM())
    full = model.losses(x, None, u, epsilon, None)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = model.losses(x, None, u, epsilon, None)
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, full, rtol=0.1, atol=0.05)
