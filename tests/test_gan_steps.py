"""One step is one update of the generator, and each update is what the equations say."""

import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from lightning_gen.callbacks import FiniteGuard, Throughput
from lightning_gen.data import Ring2D
from lightning_gen.errors import UserError
from lightning_gen.families import GAN
from lightning_gen.losses import R1, NonSaturating
from lightning_gen.losses.penalties import Penalty
from lightning_gen.networks import MLPDiscriminator, MLPGenerator
from lightning_gen.strategies import FlatReduceStrategy

SGD = partial(torch.optim.SGD, lr=0.1)


class Spy(Callback):
    """Notes, step by step, the rows of the batch and the terms."""

    def __init__(self):
        self.rows, self.terms, self.steps = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.rows.append(len(batch["x"]))
        self.terms.append({key: value.item() for key, value in outputs.items()})
        self.steps.append(trainer.global_step)


class Recorder(DummyLogger):
    """Notes what is logged, and at which step."""

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, set(metrics)))


class Constant(Penalty):
    """A penalty c·b of the discriminator's last bias b: its gradient is known."""

    name = "constant"

    def __init__(self, bias, value=1.0, interval=1):
        super().__init__(interval)
        self.biases, self.value = [bias], value  # in a list: the parameter is the discriminator's

    def forward(self, turn):
        return self.value * self.biases[0].sum()


class Zero(NonSaturating):
    """A loss without a gradient for the discriminator, so that only penalties move it."""

    def discriminator(self, real, fake):
        return 0.0 * (real.mean() + fake.mean())


def updates(optimizer):
    return {int(state["step"]) for state in optimizer.state.values()}


# -------------------------------------------------------------------- what counts as a step


@pytest.mark.filterwarnings(
    "ignore:.*manual optimization and every_n_train_steps.*", "ignore:.*smaller than the logging interval.*"
)
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_steps_are_the_generators(n, accumulate, make_gan, make_ring, make_trainer, tmp_path):
    # Lightning counts every optimiser's step, unless told otherwise
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=4, gamma=0.5)
    gan = make_gan(
        num_critic_steps=n,
        accumulate_grad_batches=accumulate,
        generator_scheduler=schedule,
        discriminator_scheduler=schedule,
    )
    spy, logger = Spy(), Recorder()
    saver = ModelCheckpoint(tmp_path / "saved", filename="{step}", every_n_train_steps=4, save_top_k=-1)
    trainer = make_trainer(spy, saver, max_steps=10, logger=logger, log_every_n_steps=3)
    trainer.fit(gan, make_ring())
    assert trainer.global_step == 10
    assert spy.steps == list(range(1, 11))
    assert spy.rows == [8 * n * accumulate] * 10
    assert sorted(path.stem for path in (tmp_path / "saved").iterdir()) == ["step=4", "step=8"]
    assert torch.load(tmp_path / "saved" / "step=4.ckpt", weights_only=True)["global_step"] == 4
    generator_optimizer, discriminator_optimizer = trainer.optimizers
    assert updates(generator_optimizer) == {10}
    assert updates(discriminator_optimizer) == {10 * n}
    assert [config.scheduler.last_epoch for config in trainer.lr_scheduler_configs] == [10, 10]
    assert [o.param_groups[0]["lr"] for o in trainer.optimizers] == [1e-3 / 4] * 2
    logged = [(step, names) for step, names in logger.logged if "g_loss" in names]
    assert [step for step, _ in logged] == [2, 5, 8]  # counted from 0
    assert all(names >= {"d_loss", "d_real", "d_fake"} for _, names in logged)


def test_data_are_used_once_an_epoch(make_gan, make_ring, make_trainer):
    seen = []
    gan = make_gan(num_critic_steps=2, accumulate_grad_batches=2)
    critic, players = gan.discriminator_loss, gan.generator_loss
    gan.discriminator_loss = lambda batch, update: (seen.append(batch["x"]), critic(batch, update))[1]
    gan.generator_loss = lambda batch: (generated.append(batch["x"]), players(batch))[1]
    generated = []
    trainer = make_trainer(max_steps=5)
    trainer.fit(gan, make_ring())  # 160 points: 5 steps of 2 × 2 batches of 8
    assert [len(x) for x in seen] == [8] * 20
    assert torch.cat(seen).unique(dim=0).shape[0] == 160
    assert [len(x) for x in generated] == [8] * 10


def test_a_batch_that_cannot_be_shared_is_refused(make_gan):
    gan = make_gan(num_critic_steps=3)
    with pytest.raises(UserError, match=r"10 rows.*3 critic steps.*multiple of 3"):
        gan.split_step({"x": torch.zeros(10, 2)})


def test_rows_are_shared_in_order_with_their_classes(make_gan):
    gan = make_gan(num_critic_steps=2, accumulate_grad_batches=3)
    x, y = torch.arange(24.0).reshape(12, 2), torch.arange(12)
    parts = gan.split_step({"x": x, "y": y})
    assert [len(batches) for batches in parts] == [3, 3]
    flat = [batch for batches in parts for batch in batches]
    assert torch.equal(torch.cat([batch["x"] for batch in flat]), x)
    assert torch.equal(torch.cat([batch["y"] for batch in flat]), y)


@pytest.mark.parametrize("key", ["num_critic_steps", "accumulate_grad_batches"])
def test_counts_below_one_are_refused(key, make_gan):
    with pytest.raises(UserError, match=f"model.init_args.{key} is 0.*at least 1"):
        make_gan(**{key: 0})


def test_gradient_clip_val_must_be_positive(make_gan):
    with pytest.raises(UserError, match="gradient_clip_val is -1"):
        make_gan(gradient_clip_val=-1.0)


def test_settings_that_an_optimiser_refuses_are_told(make_gan, make_ring, make_trainer):
    gan = make_gan(generator_optimizer=partial(torch.optim.Adam, lr=-1.0))
    with pytest.raises(UserError, match=r"refuses its init_args \(Invalid learning rate: -1.0\)"):
        make_trainer(max_steps=1).fit(gan, make_ring())


def test_networks_of_different_classes_are_refused(make_gan):
    with pytest.raises(UserError, match=r"generator.init_args.num_classes is 3 .*discriminator.* None"):
        make_gan(generator=MLPGenerator(num_classes=3))


# -------------------------------------------------------------------- what an update is


def reference_step(gan, batch, n, lr):
    """The same step written out, on a copy of the networks in plain torch, with the same noise."""
    generator, discriminator, latent = gan.generator, gan.discriminator, gan.generator.latent_dim

    def score(x):
        return discriminator(x).scores

    for x in batch.chunk(n):
        fake = generator(torch.randn(len(x), latent)).detach()
        loss = -score(x).sigmoid().log().mean() - (1 - score(fake).sigmoid()).log().mean()
        for p, g in zip(
            discriminator.parameters(), torch.autograd.grad(loss, list(discriminator.parameters())), strict=True
        ):
            p.data -= lr * g
    loss = -score(generator(torch.randn(len(x), latent))).sigmoid().log().mean()
    for p, g in zip(generator.parameters(), torch.autograd.grad(loss, list(generator.parameters())), strict=True):
        p.data -= lr * g


@pytest.mark.parametrize("n", [1, 3])
def test_a_step_is_the_two_equations(n, make_gan, make_ring, make_trainer):
    make = partial(make_gan, num_critic_steps=n, generator_optimizer=SGD, discriminator_optimizer=SGD)
    gan, twin = make(), make()

    class Replay(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            pl_module.on_train_batch_start(batch, batch_idx)
            reference_step(twin, batch["x"], n, 0.1)

    make_trainer(Replay(), max_steps=3).fit(gan, make_ring())
    for (name, p), q in zip(gan.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name)


def test_critic_phase_keeps_gradients_off_the_generator(make_gan, make_ring, make_trainer):
    gan, scored, checked = make_gan(penalties=[R1()]), [], []
    gan.discriminator.register_forward_pre_hook(lambda _, inputs: scored.append(inputs[0]))
    original = gan.discriminator_loss

    def discriminator_loss(batch, update):
        scored.clear()
        loss, terms = original(batch, update)
        fake = scored[1]
        assert fake.grad_fn is None
        assert not torch.equal(fake, batch["x"])
        networks = [list(n.parameters()) for n in (gan.generator, gan.discriminator)]
        found = [torch.autograd.grad(loss, n, allow_unused=True, retain_graph=True) for n in networks]
        assert all(g is None for g in found[0])
        assert all(g is not None for g in found[1])
        checked.append(update)
        return loss, terms

    class Detached(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, *_):
            assert not any(value.requires_grad for value in outputs.values())

    gan.discriminator_loss = discriminator_loss
    make_trainer(Detached(), max_steps=2).fit(gan, make_ring())
    assert checked == [0, 1]


def test_generator_phase_keeps_gradients_off_the_discriminator(make_gan, make_ring, make_trainer):
    found = []

    class Look(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            mine = optimizer is trainer.optimizers[0]
            found.append((mine, [p.requires_grad for p in pl_module.discriminator.parameters()]))
            if mine:  # what is left in the discriminator is of its own last update
                now = [p.grad.clone() for p in pl_module.discriminator.parameters()]
                assert all(torch.equal(a, b) for a, b in zip(now, self.critic, strict=True))

    look = Look()
    gan = make_gan()
    original = gan.generator_loss

    def generator_loss(batch):
        look.critic = [p.grad.clone() for p in gan.discriminator.parameters()]
        assert not any(p.requires_grad for p in gan.discriminator.parameters())
        return original(batch)

    gan.generator_loss = generator_loss
    make_trainer(look, max_steps=2).fit(gan, make_ring())
    assert sum(mine for mine, _ in found) == 2
    assert all(p.requires_grad for p in gan.discriminator.parameters())


def test_weights_frozen_by_the_user_stay_frozen(make_gan, make_ring, make_trainer):
    gan = make_gan()
    first = next(gan.discriminator.parameters()).requires_grad_(False)
    before = first.clone()
    make_trainer(max_steps=2).fit(gan, make_ring())
    assert not first.requires_grad
    assert torch.equal(first, before)


# -------------------------------------------------------------------- penalties


@pytest.mark.parametrize(("n", "interval"), [(1, 1), (1, 3), (2, 3), (2, 4), (5, 16)])
def test_lazy_penalties_are_due_every_interval_of_updates(n, interval, make_gan, make_ring, make_trainer):
    gan = make_gan(num_critic_steps=n, discriminator_optimizer=SGD, loss=Zero())
    bias = list(gan.discriminator.parameters())[-1]
    gan.penalties.append(Constant(bias, 0.5, interval))
    due, original = [], gan.discriminator_loss

    def discriminator_loss(batch, update):
        loss, terms = original(batch, update)
        due.append("constant" in terms)
        return loss, terms

    gan.discriminator_loss = discriminator_loss
    before = bias.item()
    make_trainer(max_steps=6).fit(gan, make_ring())
    expected = [update % interval == 0 for update in range(6 * n)]
    assert due == expected
    assert bias.item() == pytest.approx(before - 0.1 * 0.5 * interval * sum(expected))


def test_the_logged_penalty_is_not_multiplied(make_gan, make_ring, make_trainer):
    gan, checked = make_gan(), []
    bias = list(gan.discriminator.parameters())[-1]
    with torch.no_grad():
        bias.fill_(2.0)
    gan.penalties.append(Constant(bias, 0.5, 8))
    original = gan.discriminator_loss

    def discriminator_loss(batch, update):
        loss, terms = original(batch, update)
        assert terms["constant"].item() == 1.0
        assert loss.item() == pytest.approx(terms["d_loss"].item() + 8)
        checked.append(update)
        return loss, terms

    gan.discriminator_loss = discriminator_loss
    make_trainer(max_steps=1).fit(gan, make_ring())
    assert checked == [0]


def test_updates_are_counted_on_after_a_resume(make_gan, make_ring, make_trainer, tmp_path):
    first = make_gan(num_critic_steps=2)
    trainer = make_trainer(max_steps=3)
    trainer.fit(first, make_ring())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    gan, counted = make_gan(num_critic_steps=2), []
    original = gan.discriminator_loss
    gan.discriminator_loss = lambda batch, update: (counted.append(update), original(batch, update))[1]
    make_trainer(max_steps=5).fit(gan, make_ring(), ckpt_path=tmp_path / "a.ckpt")
    assert counted == [6, 7, 8, 9]


# -------------------------------------------------------------------- accumulation and clipping


def gradients(accumulate, batch_size, make_trainer, clip=None):
    """Both networks' gradients in the first step of a float64 model whose latents are a function of the data."""

    class Deterministic(GAN):
        def _latents(self, real):
            return real.flatten(1).repeat(1, 2).sin()

    class Keep(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            kept.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    kept = []
    torch.manual_seed(0)
    gan = Deterministic(
        MLPGenerator(latent_dim=4, width=8), MLPDiscriminator(width=8), NonSaturating(), SGD, SGD, [R1(1.0)],
        accumulate_grad_batches=accumulate, gradient_clip_val=clip,
    ).double()  # fmt: skip
    data = Ring2D(num_samples=32, num_val=8, batch_size=batch_size)
    make_trainer(Keep(), max_steps=1, precision="64-true").fit(gan, data)
    return kept


def test_accumulating_two_batches_is_one_batch_of_both(make_trainer):
    two, one = gradients(2, 16, make_trainer), gradients(1, 32, make_trainer)
    assert len(two) == len(one) == 2
    for a, b in zip(two, one, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.dtype == torch.float64
            assert x.abs().sum() > 0
            torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-14)


def test_clipping_bounds_the_norm_of_each_network(make_gan, make_ring, make_trainer):
    clip, changes = 1e-3, []
    gan = make_gan(
        num_critic_steps=2,
        gradient_clip_val=clip,
        generator_optimizer=partial(torch.optim.SGD, lr=1.0),
        discriminator_optimizer=partial(torch.optim.SGD, lr=1.0),
    ).double()

    class Watch(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.before = flat(pl_module)

        def on_train_batch_end(self, trainer, pl_module, *_):
            changes.append([float((a - b).norm()) for a, b in zip(flat(pl_module), self.before, strict=True)])

    def flat(model):
        return [
            nn.utils.parameters_to_vector(n.parameters()).detach().clone()
            for n in (model.generator, model.discriminator)
        ]

    make_trainer(Watch(), max_steps=3, precision="64-true").fit(gan, make_ring())
    for generator, discriminator in changes:
        # torch divides by the norm + 1e-6
        assert generator == pytest.approx(clip, rel=1e-2)
        assert generator <= clip
        assert discriminator <= 2 * clip
        assert discriminator > clip / 10


def test_small_gradients_are_not_clipped(make_trainer):
    plain, clipped = gradients(1, 32, make_trainer), gradients(1, 32, make_trainer, clip=1e6)
    for a, b in zip(plain, clipped, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_schedules_can_belong_to_one_network(make_gan, make_ring, make_trainer):
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    trainer = make_trainer(max_steps=3)
    trainer.fit(make_gan(discriminator_scheduler=schedule, num_critic_steps=2), make_ring())
    assert [o.param_groups[0]["lr"] for o in trainer.optimizers] == [1e-3, 1e-3 / 8]


# -------------------------------------------------------------------- precision and compilation


@pytest.mark.parametrize(
    ("precision", "options"),
    [
        ("16-true", {"precision": "16-true"}),
        # asked for by its name, Lightning makes it bf16-mixed on a CPU
        ("16-mixed", {"plugins": [MixedPrecision("16-mixed", "cpu")]}),
    ],
)
def test_half_precision_is_refused(precision, options, make_gan, make_ring, make_trainer):
    trainer = make_trainer(max_steps=1, **options)
    with pytest.raises(UserError, match=f"trainer.precision is {precision}.*bf16-mixed"):
        trainer.fit(make_gan(), make_ring())


def test_bf16_trains_with_penalties_and_losses_in_float32(make_gan, make_ring, make_trainer):
    inside, scored = [], []

    class SpyR1(R1):
        def forward(self, turn):
            scores = turn.discriminator(turn.real, turn.y)
            inside.append((torch.is_autocast_enabled("cpu"), turn.real.dtype, turn.fake.dtype, scores.dtype))
            return super().forward(turn)

    class SpyLoss(NonSaturating):
        def discriminator(self, real, fake):
            scored.append((real.dtype, fake.dtype))
            return super().discriminator(real, fake)

    gan = make_gan(penalties=[SpyR1()], loss=SpyLoss())
    hidden = []
    gan.discriminator.layers[0].register_forward_hook(lambda _m, _i, output: hidden.append(output.dtype))
    before = [p.clone() for p in gan.parameters()]
    make_trainer(max_steps=2, precision="bf16-mixed").fit(gan, make_ring())
    assert inside == [(False, torch.float32, torch.float32, torch.float32)] * 2
    assert scored == [(torch.float32, torch.float32)] * 2
    assert torch.bfloat16 in hidden
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in gan.parameters())
    assert not any(torch.equal(p, q) for p, q in zip(gan.parameters(), before, strict=True))


def test_compiling_keeps_the_names_of_weights(make_gan, make_ring, make_trainer, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *_args, **_kwargs: compiled.append(self))
    gan = make_gan(compile=["generator", "discriminator"], penalties=[R1()])
    names = list(gan.state_dict())
    trainer = make_trainer(max_steps=1)
    trainer.fit(gan, make_ring())
    assert compiled == [gan.generator, gan.discriminator]
    assert list(gan.state_dict()) == names
    assert not any("_orig_mod" in name for name in names)


def test_penalties_of_a_compiled_critic_are_eager(make_gan, make_ring, make_trainer, monkeypatch):
    # a compiled graph cannot be differentiated twice
    stances = []

    class SpyR1(R1):
        def forward(self, turn):
            stances.append(torch._dynamo.eval_frame._stance.stance)
            return super().forward(turn)

    monkeypatch.setattr(nn.Module, "compile", lambda self, *_args, **_kwargs: None)
    make_trainer(max_steps=1).fit(make_gan(compile=["discriminator"], penalties=[SpyR1()]), make_ring())
    assert stances == ["force_eager"]


def test_only_fitting_compiles(make_gan, make_ring, make_trainer, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *_args, **_kwargs: compiled.append(self))
    make_trainer(limit_val_batches=1).validate(make_gan(compile=["generator"]), make_ring(), verbose=False)
    assert not compiled


def test_compiling_what_is_not_there_is_refused(make_gan, make_ring, make_trainer):
    with pytest.raises(UserError, match=r"compile names 'critic'.*generator, discriminator"):
        make_trainer(max_steps=1).fit(make_gan(compile=["critic"]), make_ring())


# -------------------------------------------------------------------- held-out scores


def test_the_held_out_score_is_the_mean_over_samples(make_gan, make_ring, make_trainer):
    gan, data = make_gan(), make_ring(num_val=13)  # batches of 8 and 5
    trainer = make_trainer(limit_val_batches=None)
    (logged,) = trainer.validate(gan, data, verbose=False)
    with torch.no_grad():
        expected = gan.discriminator(torch.cat([b["x"] for b in data.rows("val")])).scores.mean().item()
    assert logged["d_held_out"] == pytest.approx(expected, rel=1e-5)


def test_a_reducer_that_cannot_follow_is_refused(make_gan):
    gan = make_gan()
    gan.trainer = SimpleNamespace(strategy=DDPStrategy(), precision="32-true", datamodule=None)
    with pytest.raises(UserError, match="flat_reduce"):
        gan.setup("fit")
    gan.setup("validate")  # nothing is reduced there
    gan.trainer.strategy = FlatReduceStrategy()
    gan.setup("fit")


@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="torch.compile needs a compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled_networks_train_as_eager_ones_do_under_a_double_backward(make_gan, make_ring, make_trainer):
    # a compiled graph cannot be differentiated twice: the penalty must find its way around it
    def weights(compile):
        gan = make_gan(penalties=[R1(1.0)], compile=compile)
        make_trainer(max_steps=3).fit(gan, make_ring())
        return gan.state_dict()

    eager, compiled = weights(None), weights(["generator", "discriminator"])
    for name, tensor in eager.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("interval", "every"), [(2, 4), (16, 10)])
def test_lazy_penalties_are_logged_though_they_fall_between_logged_steps(
    interval, every, make_gan, make_ring, make_trainer
):
    logger = DummyLogger()
    logged = []
    logger.log_metrics = lambda metrics, step=None: logged.append(metrics)
    gan = make_gan(penalties=[R1(1.0, interval=interval)])
    make_trainer(max_steps=20, log_every_n_steps=every, logger=logger).fit(gan, make_ring())
    assert len(logged) == 20 // every
    assert all("r1" in metrics for metrics in logged)


def test_a_schedule_that_waits_for_a_metric_is_refused(make_gan, make_ring, make_trainer):
    gan = make_gan(generator_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau)
    with pytest.raises(UserError, match="ReduceLROnPlateau"):
        make_trainer(max_steps=1).fit(gan, make_ring())


def test_steps_need_not_be_logged(make_gan, make_ring, make_trainer):
    make_trainer(FiniteGuard(), Throughput(), max_steps=3, log_every_n_steps=0).fit(make_gan(), make_ring())


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_weights_of_16_bits_are_refused(precision, make_gan):
    gan = make_gan()
    gan.trainer = SimpleNamespace(strategy=FlatReduceStrategy(), precision=precision, datamodule=None)
    with pytest.raises(UserError, match=rf"trainer\.precision is {precision}"):
        gan.setup("fit")
