"""Families with one loss, by automatic optimisation: what the step has to keep right."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision

from lightning_gen.callbacks import EMA
from lightning_gen.data import Digits, Thresholded
from lightning_gen.errors import UserError
from lightning_gen.families import VAE
from lightning_gen.losses.likelihoods import Bernoulli
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder
from lightning_gen.noise import step_seed

SGD = partial(torch.optim.SGD, lr=1e-3)


def vae(**options):
    torch.manual_seed(0)
    networks = MLPEncoder([1, 8, 8], 8, 1), partial(MLPDecoder, sample_dim=[1, 8, 8], width=8, depth=1)
    return VAE(*networks, latent_dim=2, likelihood=Bernoulli(), optimizer=SGD, **options)


def binary(**options):
    return Thresholded(Digits(image_size=8), **{"batch_size": 8} | options)


def test_a_step_is_an_update_also_where_gradients_accumulate(make_trainer):
    model, ema = vae(), EMA(["decoder"], decay=0.5, warmup=False)
    seeds = []

    class Spy(Callback):
        def on_train_batch_end(self, *_):
            seeds.append(torch.initial_seed())

    trainer = make_trainer(ema, Spy(), max_steps=3, accumulate_grad_batches=2)
    trainer.fit(model, binary())
    assert trainer.global_step == 3
    assert ema.updates == 3
    wanted = [step_seed(model.seed, k, 0) for k in range(6)]  # no two batches of a step draw the same noise
    assert [torch.Generator().manual_seed(seed).initial_seed() for seed in wanted] == seeds


def test_a_schedule_advances_once_a_step(make_trainer):
    model = vae(scheduler=partial(torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.0, total_iters=4))
    trainer = make_trainer(max_steps=3)
    trainer.fit(model, binary())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 4)


def test_clipping_is_the_trainers(make_trainer):
    norms = []

    class Spy(VAE):
        def on_before_optimizer_step(self, optimizer):
            pass

        def configure_gradient_clipping(self, *args, **kwargs):
            super().configure_gradient_clipping(*args, **kwargs)
            grads = [p.grad.flatten() for p in self.parameters() if p.grad is not None]
            norms.append(float(torch.cat(grads).norm()))

    torch.manual_seed(0)
    networks = MLPEncoder([1, 8, 8], 8, 1), partial(MLPDecoder, sample_dim=[1, 8, 8], width=8, depth=1)
    model = Spy(*networks, latent_dim=2, likelihood=Bernoulli(), optimizer=SGD)
    make_trainer(max_steps=2, gradient_clip_val=0.01).fit(model, binary())
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_weights_of_16_bits_are_refused(precision, stage, make_trainer):
    trainer = make_trainer(max_steps=1, limit_val_batches=1, precision=precision)
    words = (
        rf"trainer.precision is {precision}: .*weights of 16 bits.*use any of 32-true, bf16-mixed, 16-mixed, 64-true"
    )
    with pytest.raises(UserError, match=words):
        getattr(trainer, stage)(vae(), binary())


def test_scaled_gradients_of_16_bits_are_those_of_32(make_trainer):
    # asked for by its name, Lightning makes it bf16-mixed on a CPU
    half = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))]
    models = []
    for options in ({}, {"plugins": half}):
        models.append(vae())  # which seeds the run
        make_trainer(max_steps=3, gradient_clip_val=1.0, **options).fit(models[-1], binary())
    start = vae()
    for p, q, before in zip(*(m.parameters() for m in (*models, start)), strict=True):
        moved = (p - before).norm()
        assert moved > 0
        assert (p - q).norm() < 0.05 * moved


def test_held_out_means_are_those_of_all_rows(make_trainer):
    found = []
    for batch_size in (7, 359):
        model = vae()
        trainer = make_trainer(limit_val_batches=1.0)
        (values,) = trainer.validate(model, binary(batch_size=batch_size), verbose=False)
        found.append(values)
    assert found[0].keys() == {"val_elbo", "val_reconstruction", "val_kl"}
    for name, value in found[0].items():
        assert value == pytest.approx(found[1][name], rel=1e-6)
    assert found[0]["val_elbo"] == pytest.approx(found[0]["val_reconstruction"] - found[0]["val_kl"], rel=1e-6)
