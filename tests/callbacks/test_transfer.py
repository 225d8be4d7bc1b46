"""Starting from another run, and keeping a part of it."""

import pytest
import torch

from lightning_gen.callbacks import EMA, FreezeD, LastCheckpoint, Transfer
from lightning_gen.errors import UserError
from lightning_gen.networks import MLPDiscriminator, MLPGenerator


@pytest.fixture
def trained(make_gan, make_ring, make_trainer, tmp_path):
    """A checkpoint, with its raw and averaged weights."""
    gan, ema = make_gan(), EMA(decay=0.5, warmup=False)
    make_trainer(ema, LastCheckpoint(), max_steps=3, default_root_dir=tmp_path / "first").fit(gan, make_ring())
    path = next((tmp_path / "first").rglob("last.ckpt"))
    return path, {k: v.clone() for k, v in gan.state_dict().items()}, {k: v.clone() for k, v in ema.averaged.items()}


def started(gan, callback, make_ring, make_trainer):
    """The weights that training would begin with."""
    make_trainer(callback, max_steps=0).fit(gan, make_ring())
    return gan.state_dict()


def test_networks_start_from_the_checkpoint(trained, make_gan, make_ring, make_trainer):
    path, raw, averaged = trained
    found = started(make_gan(init_seed=5), Transfer(str(path)), make_ring, make_trainer)
    assert all(torch.equal(found[name], raw[name]) for name in raw)
    found = started(make_gan(init_seed=5), Transfer(str(path), ["generator"], weights="ema"), make_ring, make_trainer)
    assert all(torch.equal(found[name], averaged[name]) for name in averaged)
    assert not torch.equal(found["discriminator.layers.0.weight"], raw["discriminator.layers.0.weight"])


def test_what_does_not_fit_keeps_its_first_values(trained, make_gan, make_ring, make_trainer):
    path, raw, _ = trained
    other = make_gan(init_seed=5, generator=MLPGenerator(latent_dim=6, width=16, depth=2))
    before = other.state_dict()["generator.layers.0.weight"].clone()
    found = started(other, Transfer(str(path)), make_ring, make_trainer)
    assert torch.equal(found["generator.layers.0.weight"], before)
    assert torch.equal(found["generator.layers.2.weight"], raw["generator.layers.2.weight"])


def test_nothing_that_fits_is_refused(trained, make_gan, make_ring, make_trainer):
    other = make_gan(discriminator=MLPDiscriminator(width=9, depth=3))
    other.discriminator = torch.nn.ModuleDict({"odd": other.discriminator})
    transfer, trainer = Transfer(str(trained[0])), make_trainer(max_steps=1)
    transfer.setup(trainer, other, "fit")
    with pytest.raises(UserError, match="nothing in it fits discriminator"):
        transfer.on_fit_start(trainer, other)


def test_a_resumed_run_does_not_need_the_file(trained, make_gan, make_ring, make_trainer, tmp_path):
    path, _, _ = trained
    make_trainer(Transfer(str(path)), LastCheckpoint(), max_steps=2).fit(make_gan(), make_ring())
    path.unlink()
    resumed = make_trainer(Transfer(str(path)), max_steps=3)
    resumed.fit(make_gan(), make_ring(), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert resumed.global_step == 3


def test_a_missing_file_is_told(make_gan, make_ring, make_trainer):
    with pytest.raises(UserError, match=r"^Transfer\.ckpt_path absent\.ckpt"):
        make_trainer(Transfer("absent.ckpt"), max_steps=1).fit(make_gan(), make_ring())


@pytest.mark.parametrize("layers", [1, 2])
def test_frozen_layers_stay_and_others_learn(layers, make_gan, make_ring, make_trainer):
    gan = make_gan()
    stages = gan.discriminator.stages()
    before = [[p.clone() for p in stage.parameters()] for stage in stages]
    make_trainer(FreezeD(layers), max_steps=3).fit(gan, make_ring())
    for k, (stage, old) in enumerate(zip(stages, before, strict=True)):
        for p, q in zip(stage.parameters(), old, strict=True):
            assert torch.equal(p, q) == (k < layers)
    assert all(p.grad is None for stage in stages[:layers] for p in stage.parameters())


def test_more_layers_than_there_are_is_refused(make_gan, make_ring, make_trainer):
    with pytest.raises(UserError, match=r"FreezeD.layers is 9, but MLPDiscriminator has 3 layers: freeze at most 2"):
        make_trainer(FreezeD(9), max_steps=1).fit(make_gan(), make_ring())
    with pytest.raises(UserError, match="at least 1"):
        FreezeD(0)
