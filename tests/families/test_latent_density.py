"""A density of latent vectors: its likelihood, the standardisation, the frozen first stage, and its checkpoints."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import yaml
from stage2_fakes import TinyCodes, TinyVectors
from torch.distributions import MultivariateNormal

from lightning_gen.callbacks import LastCheckpoint
from lightning_gen.checkpoints import load
from lightning_gen.commands import run
from lightning_gen.data import Digits, Ring2D
from lightning_gen.distributions import DiagonalNormal, StandardNormal
from lightning_gen.errors import UserError
from lightning_gen.families import LatentDensity
from lightning_gen.noise import sample_seeds

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode at the start.*")  # which a first stage should be

ADAM = partial(torch.optim.Adam, lr=0.05)
RING = partial(Ring2D, num_samples=600, num_val=32, batch_size=64)


def make(prior=DiagonalNormal, stage_classes=None, **options):
    torch.manual_seed(0)
    return LatentDensity(TinyVectors(ADAM, stage_classes), prior, ADAM, **{"sample_shape": [2]} | options)


def batch_of(num=6):
    torch.manual_seed(1)
    return {"x": torch.randn(num, 2), "y": torch.arange(num) % 8, "index": torch.arange(num)}


class Longer(DiagonalNormal):
    """Vectors of one number more."""

    def __init__(self, latent_dim, num_features=None):
        super().__init__(latent_dim + 1, num_features)


# -------------------------------------------------------------------- the likelihood


def test_the_loss_is_the_density_of_the_latents_themselves():
    model, batch = make().double(), batch_of()
    batch["x"] = batch["x"].double()
    model.shift.copy_(torch.tensor([4.0, -2.0]))
    model.scale.copy_(torch.tensor([3.0, 0.5]))
    with torch.no_grad():
        model.prior.parameters_of.value.copy_(torch.tensor([[0.3, -0.1], [0.4, 0.2]]))  # means and log variances
    mean = torch.tensor([4 + 3 * 0.3, -2 - 0.5 * 0.1]).double()
    std = torch.tensor([3.0, 0.5]).double() * (torch.tensor([0.4, 0.2]).double() / 2).exp()
    z = batch["x"] @ model.first_stage.turn.T + model.first_stage.shift
    expected = -MultivariateNormal(mean, std.square().diag()).log_prob(z)
    torch.testing.assert_close(model.held_out(batch)["val_latent_nats"], expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.loss(batch)[0], expected.mean(), rtol=1e-6, atol=1e-6)


def test_samples_of_a_trained_density_are_distributed_like_the_data(make_trainer):
    model, data = make(), RING(std=0.3)
    make_trainer(max_steps=30).fit(model, datamodule=data)
    x, drawn = (
        data.split("train")[torch.arange(600)]["x"],
        model.sample(4000, seeds=sample_seeds(0, torch.arange(4000))),
    )
    # the latents are correlated, which a diagonal density cannot tell: what it can are means, and variances of latents
    z, w = model.encode(x), model.encode(drawn)
    torch.testing.assert_close(w.mean(0), z.mean(0), rtol=0, atol=0.15)
    torch.testing.assert_close(w.std(0), z.std(0), rtol=0.1, atol=0)


def test_classes_have_their_own_densities(make_trainer):
    model = make(num_classes=8, prior_features=8)
    make_trainer(max_steps=200).fit(model, datamodule=RING(std=0.01))
    y = torch.arange(8).repeat(50)
    x = model.sample(400, y, seeds=sample_seeds(0, torch.arange(400))).view(50, 8, 2)
    torch.testing.assert_close(x.mean(0), RING().means, rtol=0, atol=0.2)  # neighbours are 0.77 apart


# -------------------------------------------------------------------- the standardisation


def test_latents_are_measured_once_over_the_whole_training_set(make_trainer, tmp_path):
    model, data = make(), RING()
    make_trainer(LastCheckpoint(), max_steps=1).fit(model, datamodule=data)
    z = model.encode(data.split("train")[torch.arange(600)]["x"]).double()
    torch.testing.assert_close(model.shift.double(), z.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.scale.double(), z.std(0, correction=0), rtol=1e-5, atol=1e-5)
    (path,) = tmp_path.rglob("last.ckpt")
    resumed = make()
    other = RING(radius=3.0)
    make_trainer(LastCheckpoint(), max_steps=2).fit(resumed, datamodule=other, ckpt_path=path, weights_only=True)
    assert torch.equal(resumed.scale, model.scale)


def test_processes_share_the_measuring(monkeypatch):
    data, sums = RING(num_samples=101), []

    def trainer(rank, reduce):
        return SimpleNamespace(global_rank=rank, world_size=2, strategy=SimpleNamespace(reduce=reduce))

    for rank, reduce in ((1, lambda t, reduce_op: sums.append(t.clone()) or t), (0, lambda t, reduce_op: t + sums[0])):
        model = make()
        monkeypatch.setattr(LatentDensity, "trainer", trainer(rank, reduce))
        model._measure(data)
    z = model.encode(data.split("train")[torch.arange(101)]["x"])
    torch.testing.assert_close(model.shift, z.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.scale, z.std(0, correction=0), rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------- latents and samples


def test_only_the_prior_learns(make_trainer):
    model = make(stage_classes=8)
    before, prior = (
        {name: tensor.clone() for name, tensor in part.state_dict().items()}
        for part in (model.first_stage, model.prior)
    )
    make_trainer(max_steps=3, limit_val_batches=1).fit(model, datamodule=RING())
    assert all(torch.equal(model.first_stage.state_dict()[name], tensor) for name, tensor in before.items())
    assert not any(torch.equal(model.prior.state_dict()[name], tensor) for name, tensor in prior.items())
    optimised = {id(p) for group in model.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in model.prior.parameters()}


def test_it_reconstructs_as_its_first_stage_and_walks_straight():
    model, batch = make(), batch_of()
    torch.testing.assert_close(model.reconstruct(batch["x"]), batch["x"], rtol=1e-4, atol=1e-4)
    a, b = sample_seeds(0, torch.arange(3)), sample_seeds(1, torch.arange(3))
    start, end, middle = (model.interpolate(a, b, torch.full((3,), t)) for t in (0.0, 1.0, 0.25))
    torch.testing.assert_close(start, model.sample(3, seeds=a))
    torch.testing.assert_close(end, model.sample(3, seeds=b))
    torch.testing.assert_close(middle, 0.75 * start + 0.25 * end)  # the first stage is linear


ADAM_CONFIG = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.05}}
STAGE = {"class_path": "stage2_fakes.TinyVectors", "init_args": {"optimizer": ADAM_CONFIG}}


@pytest.mark.filterwarnings("ignore")
def test_a_densitys_checkpoint_alone_is_enough(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage = TinyVectors(ADAM)
    torch.nn.init.normal_(stage.turn)
    data = {"class_path": "lightning_gen.data.Ring2D", "init_args": {"num_samples": 64, "num_val": 8, "batch_size": 8}}
    torch.save({"state_dict": stage.state_dict(), "config": {"model": STAGE, "data": data}}, "first.ckpt")
    init_args = {"first_stage": "first.ckpt", "prior": "DiagonalNormal", "optimizer": ADAM_CONFIG}
    trainer = {
        "accelerator": "cpu",
        "logger": False,
        "max_steps": 2,
        "default_root_dir": ".",
        "callbacks": [{"class_path": "LastCheckpoint"}],
    }
    model = {"class_path": "LatentDensity", "init_args": init_args}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "trainer": trainer}))
    run(["fit", "--config", "x.yaml", "--allow", "stage2_fakes"])
    (tmp_path / "first.ckpt").unlink()
    (path,) = tmp_path.rglob("last.ckpt")
    model = load(path, allow="stage2_fakes")[0]
    assert torch.equal(model.first_stage.turn, stage.turn)
    assert bool(model.measured)
    run(["fit", "--ckpt_path", str(path), "--trainer.max_steps", "3", "--allow", "stage2_fakes"])
    assert torch.load(path, weights_only=True)["global_step"] == 3


# -------------------------------------------------------------------- bad input


def test_a_first_stage_without_vectors_is_refused():
    with pytest.raises(UserError, match=r"model.init_args.first_stage.*vectors and back, which TinyCodes cannot"):
        LatentDensity(TinyCodes(ADAM), DiagonalNormal, ADAM, sample_shape=[1, 8, 8])


@pytest.mark.parametrize("options", [{"num_classes": 8}, {"prior_features": 4}])
def test_classes_that_nothing_depends_on_are_refused(options):
    with pytest.raises(UserError, match=r"num_classes is .* and prior_features .*: set both"):
        make(**options)


def test_a_prior_of_other_vectors_is_refused():
    with pytest.raises(UserError, match=r"model.init_args.prior makes vectors of 3 numbers.* have 2"):
        make(Longer)


def test_latents_without_a_density_are_refused():
    stage = TinyVectors(ADAM)
    stage.varied_dim = 0  # as of categorical and spherical latents
    with pytest.raises(UserError, match="first_stage: latents of this TinyVectors are one-hot vectors or points on a"):
        LatentDensity(stage, DiagonalNormal, ADAM, sample_shape=[2])


def test_a_second_stage_is_no_first_stage():
    with pytest.raises(UserError, match="needs a first stage, which LatentDensity is not"):
        LatentDensity(make(), DiagonalNormal, ADAM, sample_shape=[2])


def test_a_first_stage_that_lies_about_its_vectors_is_refused(make_trainer):
    model = make(StandardNormal)
    model.latent_dim = 3
    with pytest.raises(UserError, match=r"model.init_args.first_stage turns a sample into latents of shape \(2,\)"):
        model.check_data(RING())


def test_other_data_are_refused_before_training(make_trainer):
    with pytest.raises(UserError, match=r"model.init_args.first_stage is for samples of shape"):
        make_trainer(max_steps=1).fit(make(), datamodule=Digits(image_size=8))
