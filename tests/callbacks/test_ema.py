"""Averages against a loop written by hand, and where each of the two weights is at any time."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from lightning_gen.callbacks import EMA, LastCheckpoint
from lightning_gen.callbacks.ema import averaged_state
from lightning_gen.checkpoints import load_state, read_checkpoint
from lightning_gen.errors import UserError


class Pair(LightningModule):
    """Two submodules, one with batch statistics."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
        self.discriminator = nn.Linear(4, 1).double()


def tensors(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def walk(ema, model, steps, seed=0):
    """Let the weights of a model wander; return the weights at each step, the first included."""
    generator = torch.Generator().manual_seed(seed)
    history = [tensors(model)]
    ema.on_fit_start(None, model)
    for step in range(1, steps + 1):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor += torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
                else:
                    tensor += 1
        ema.on_train_batch_end(SimpleNamespace(global_step=step), model)
        history.append(tensors(model))
    return history


@pytest.mark.parametrize("start_step", [0, 4])
@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_the_average_is_the_recursion(decay, warmup, start_step):
    model, ema = Pair(), EMA(decay=decay, warmup=warmup, start_step=start_step)
    history = walk(ema, model, 12)
    for name in ("generator.0.weight", "generator.0.bias", "generator.1.weight"):
        average = history[0][name]
        for t, weights in enumerate(history[1:]):
            updates = max(t + 1 - max(start_step, 1), 0)  # the ramp begins where averaging does
            d = min(decay, (1 + updates) / (10 + updates)) if warmup else decay
            average = weights[name] if t + 1 < start_step else d * average + (1 - d) * weights[name]
        torch.testing.assert_close(ema.averaged[name], average, rtol=1e-12, atol=1e-12)


def test_buffers_are_copied():
    model, ema = Pair(), EMA(decay=0.9)
    last = walk(ema, model, 5)[-1]
    for name in ("generator.1.running_mean", "generator.1.running_var", "generator.1.num_batches_tracked"):
        assert torch.equal(ema.averaged[name], last[name])


def test_only_the_named_modules_are_averaged():
    model, ema = Pair(), EMA(modules=["generator"])
    walk(ema, model, 2)
    assert set(ema.averaged) == {f"generator.{name}" for name in model.generator.state_dict()}
    both = EMA(modules=["generator", "discriminator"])
    walk(both, model, 2)
    assert set(both.averaged) == set(model.state_dict())


def test_weights_are_not_touched():
    model, twin, ema = Pair(), Pair(), EMA()
    assert all(
        torch.equal(a, b)
        for a, b in zip(walk(ema, model, 3)[-1].values(), walk(EMA(), twin, 3)[-1].values(), strict=True)
    )
    assert not torch.equal(ema.averaged["generator.0.weight"], model.generator[0].weight)


class Normed(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.generator = spectral_norm(nn.Linear(12, 9), n_power_iterations=5)


def test_spectral_norm_survives_averaging_and_loading():
    # averaged singular vectors have no unit norm, and the largest singular value explodes
    model, ema = Normed(), EMA(decay=0.99)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    ema.on_fit_start(None, model)
    for step in range(40):
        optimizer.zero_grad()
        (model.generator(torch.randn(8, 12)) - 1).square().mean().backward()
        optimizer.step()
        ema.on_train_batch_end(SimpleNamespace(global_step=step + 1), model)
    fresh = Normed().eval()
    fresh.load_state_dict(model.state_dict() | ema.averaged)
    assert torch.linalg.matrix_norm(fresh.generator.weight, 2).item() == pytest.approx(1, abs=0.05)
    ema.on_validation_start(None, model.eval())
    assert torch.linalg.matrix_norm(model.generator.weight, 2).item() == pytest.approx(1, abs=0.05)
    assert torch.equal(model.generator.weight, fresh.generator.weight)


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5, float("nan")])
def test_decay_out_of_range_is_refused(decay):
    with pytest.raises(UserError, match=r"EMA\.decay is"):
        EMA(decay=decay)


def test_unknown_modules_are_refused(make_gan, make_ring, make_trainer):
    with pytest.raises(UserError, match=r"EMA.modules names 'critic'.*generator, discriminator"):
        make_trainer(EMA(modules=["critic"]), max_steps=1).fit(make_gan(), make_ring())


# -------------------------------------------------------------------- in a run


class Watch(Callback):
    """Notes which weights the model holds at each hook, after the average had its turn."""

    def __init__(self, ema):
        self.ema, self.seen = ema, []

    def note(self, trainer, model, *_):
        self.seen.append((model.generator.layers[0].weight.detach().clone(), trainer.global_step))

    on_validation_start = on_validation_batch_end = on_validation_epoch_end = note
    on_test_start = on_test_epoch_end = on_predict_start = on_predict_epoch_end = note


@pytest.fixture
def trained(make_gan, make_ring, make_trainer, tmp_path):
    """A short run with averages: the trainer, model, average and last checkpoint."""
    gan, ema = make_gan(), EMA(decay=0.9)
    trainer = make_trainer(ema, LastCheckpoint(), max_steps=6)
    trainer.fit(gan, make_ring())
    return trainer, gan, ema, tmp_path / "checkpoints" / "last.ckpt"


KEY = "generator.layers.0.weight"


def test_the_average_takes_the_models_place_in_validation(make_gan, make_ring, make_trainer):
    gan, ema = make_gan(), EMA(decay=0.9)
    watch, raw = Watch(ema), {}

    class Raw(Callback):
        def on_train_batch_end(self, trainer, model, *_):
            raw[trainer.global_step] = model.state_dict()[KEY].clone(), ema.averaged[KEY].clone()

    class After(Callback):
        def on_validation_end(self, trainer, model):
            assert torch.equal(model.state_dict()[KEY], raw[trainer.global_step][0])
            assert torch.equal(ema.averaged[KEY], raw[trainer.global_step][1])

    trainer = make_trainer(
        ema, watch, Raw(), After(), max_steps=6, limit_val_batches=1, val_check_interval=3, check_val_every_n_epoch=None
    )
    trainer.fit(gan, make_ring())
    assert [step for _, step in watch.seen] == [3] * 3 + [6] * 3
    for weight, step in watch.seen:
        assert torch.equal(weight, raw[step][1])
        assert not torch.equal(weight, raw[step][0])
    assert torch.equal(gan.state_dict()[KEY], raw[6][0])


def test_training_is_the_same_with_averages(make_gan, make_ring, make_trainer):
    found = []
    for callbacks in ([], [EMA(decay=0.5)]):
        gan = make_gan()
        options = {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}
        make_trainer(*callbacks, max_steps=6, **options).fit(gan, make_ring())
        found.append(gan.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_other_stages_see_the_average_of_the_checkpoint(stage, trained, make_gan, make_ring, make_trainer):
    _, gan, first, path = trained
    ema, other = EMA(decay=0.9), make_gan(init_seed=3)
    watch = Watch(ema)
    trainer = make_trainer(ema, watch, limit_val_batches=1, limit_test_batches=1)
    getattr(trainer, stage)(other, make_ring(), ckpt_path=path)
    assert watch.seen
    assert all(torch.equal(weight, first.averaged[KEY]) for weight, _ in watch.seen)
    assert torch.equal(other.state_dict()[KEY], gan.state_dict()[KEY])


def test_the_raw_weights_come_back_after_an_error_in_validation(make_gan, make_ring, make_trainer):
    gan, ema = make_gan(), EMA(decay=0.9)
    kept = {}

    class Fail(Callback):
        def on_train_batch_end(self, trainer, model, *_):
            kept.update(tensors(model))

        def on_validation_epoch_end(self, trainer, model):
            assert not torch.equal(model.state_dict()[KEY], kept[KEY])
            raise ZeroDivisionError

    trainer = make_trainer(
        ema, Fail(), max_steps=4, limit_val_batches=1, val_check_interval=2, check_val_every_n_epoch=None
    )
    with pytest.raises(ZeroDivisionError):
        trainer.fit(gan, make_ring())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in gan.state_dict().items())
    assert not torch.equal(ema.averaged[KEY], kept[KEY])


def test_a_checkpoint_written_in_validation_holds_each_where_it_belongs(make_gan, make_ring, make_trainer, tmp_path):
    gan, ema = make_gan(), EMA(decay=0.9)
    kept = {}

    class Save(Callback):
        def on_train_batch_end(self, trainer, model, *_):
            kept.update(raw=tensors(model), averaged={k: v.clone() for k, v in ema.averaged.items()})

        def on_validation_epoch_end(self, trainer, model):
            trainer.save_checkpoint(tmp_path / "a.ckpt")

    options = {"limit_val_batches": 1, "val_check_interval": 3, "check_val_every_n_epoch": None}
    make_trainer(ema, Save(), max_steps=3, **options).fit(gan, make_ring())
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    averaged = averaged_state(checkpoint)
    assert all(torch.equal(checkpoint["state_dict"][name], kept["raw"][name]) for name in kept["raw"])
    assert averaged.keys() == kept["averaged"].keys()
    assert all(torch.equal(averaged[name], kept["averaged"][name]) for name in averaged)


def test_model_checkpoints_hold_raw_and_averaged_weights(make_gan, make_ring, make_trainer, tmp_path):
    gan, ema = make_gan(), EMA(decay=0.9)
    saver = ModelCheckpoint(tmp_path, monitor="d_held_out", filename="a", auto_insert_metric_name=False)
    options = {"limit_val_batches": 1, "val_check_interval": 3, "check_val_every_n_epoch": None}
    make_trainer(ema, saver, max_steps=3, **options).fit(gan, make_ring())
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    assert all(torch.equal(checkpoint["state_dict"][name], tensor) for name, tensor in gan.state_dict().items())
    assert all(torch.equal(averaged_state(checkpoint)[name], tensor) for name, tensor in ema.averaged.items())


def test_a_resumed_average_goes_on_exactly(make_gan, make_ring, make_trainer, tmp_path):
    whole, resumed = EMA(decay=0.9), EMA(decay=0.9)
    make_trainer(whole, max_steps=9).fit(make_gan(), make_ring())
    torch.manual_seed(0)
    make_trainer(EMA(decay=0.9), LastCheckpoint(), max_steps=5).fit(make_gan(), make_ring())
    trainer = make_trainer(resumed, max_steps=9)
    trainer.fit(make_gan(init_seed=1), make_ring(), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert resumed.updates == whole.updates == 9
    assert all(torch.equal(resumed.averaged[name], tensor) for name, tensor in whole.averaged.items())


def test_either_weights_can_be_loaded(trained, make_gan):
    _, gan, ema, path = trained
    checkpoint, model = read_checkpoint(path), make_gan(init_seed=1)
    assert load_state(model, checkpoint, "raw") == "raw"
    assert all(torch.equal(tensor, gan.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert load_state(model, checkpoint, "ema") == "ema"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, ema.averaged.get(name, gan.state_dict()[name]))


def test_a_checkpoint_without_averages_gives_raw_weights(make_gan, make_ring, make_trainer, tmp_path):
    gan, model = make_gan(), make_gan(init_seed=1)
    make_trainer(LastCheckpoint(), max_steps=1).fit(gan, make_ring())
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert averaged_state(checkpoint) == {}
    assert load_state(model, checkpoint, "ema") == "raw"
    assert torch.equal(model.state_dict()[KEY], gan.state_dict()[KEY])


def test_optimisers_go_on_with_the_raw_weights(trained):
    trainer, gan, ema, _ = trained
    parameter = gan.generator.layers[0].weight
    assert trainer.optimizers[0].param_groups[0]["params"][0] is parameter
    raw = parameter.detach().clone()
    ema.on_validation_start(trainer, gan)
    assert not torch.equal(parameter, raw)
    ema.on_validation_end(trainer, gan)
    assert gan.generator.layers[0].weight is parameter
    assert torch.equal(parameter, raw)


# -------------------------------------------------------------------- half-lives


def test_after_a_half_life_half_of_the_first_weights_is_left():
    ema = EMA(half_life=12.5)
    assert ema.current_decay() ** 12.5 == pytest.approx(0.5)


def test_a_half_life_ramps_up():
    ema, found = EMA(half_life=10.0, ramp=0.05), []
    for ema.updates in (0, 20, 100, 200, 10_000):
        found.append(ema.current_decay())
    assert found == pytest.approx([0.0, 0.5, 0.5 ** (1 / 5), 0.5 ** (1 / 10), 0.5 ** (1 / 10)])


@pytest.mark.parametrize("options", [{"half_life": -1.0}, {"ramp": 0.1}, {"half_life": 1.0, "ramp": 0.0}])
def test_half_lives_out_of_range_are_refused(options):
    with pytest.raises(UserError, match=r"EMA\.(half_life|ramp) is"):
        EMA(**options)
