"""VQGAN: one update rewritten by hand, who learns from what, when the game starts, and what is refused."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
import yaml
from stage2_fakes import TinyTokens
from torch import nn
from torch.nn.functional import relu

from lightning_gen.abilities import HasCodes, Interpolates, Reconstructs
from lightning_gen.callbacks import LastCheckpoint
from lightning_gen.checkpoints import load
from lightning_gen.commands import run
from lightning_gen.data import Digits
from lightning_gen.distributions.quantisers import GradientVectorQuantiser, VectorQuantiser
from lightning_gen.errors import UserError
from lightning_gen.families import VQGAN, LatentPrior
from lightning_gen.losses import Hinge, RelativisticPairing
from lightning_gen.losses.likelihoods import Laplace, Likelihood
from lightning_gen.losses.perceptual import LPIPS, ClassifierFeatures
from lightning_gen.networks import DCGANDiscriminator, MapDiscriminator, PatchDiscriminator
from lightning_gen.networks.autoencoders import MapDecoder, MapEncoder
from lightning_gen.noise import Noise, sample_seeds

SGD = partial(torch.optim.SGD, lr=0.1)
DIGITS = partial(Digits, image_size=8, batch_size=4)


class TinyEncoder(MapEncoder):
    def __init__(self):
        super().__init__(5)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.SiLU(), nn.Conv2d(4, 5, 4, 2, 1))

    def forward(self, x, y=None):
        return self.layers(x)


class TinyDecoder(MapDecoder):
    def __init__(self, latent_dim, num_parameters, num_classes=None):
        super().__init__(latent_dim, num_parameters, num_classes)
        self.shade = nn.Embedding(num_classes, 1) if num_classes else None
        self.first = nn.ConvTranspose2d(latent_dim, 4, 4, 2, 1)
        self.last = nn.ConvTranspose2d(4, num_parameters, 4, 2, 1)

    @property
    def last_layer(self):
        return self.last.weight

    def forward(self, z, y=None):
        h = self.first(z).tanh()
        if self.shade is not None:
            h = h + self.shade(y)[:, :, None, None]
        return self.last(h).unflatten(1, (self.num_parameters, 1))


class NoLast(TinyDecoder):
    @property
    def last_layer(self):
        return MapDecoder.last_layer.fget(self)


class Tanh(Likelihood):
    """Normal with mean tanh and a learnt standard deviation: a parameter that the reconstruction alone trains."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-0.5))

    def forward(self, parameters, x):
        error = (x - self.mean(parameters)) * (-self.log_scale).exp()
        return (-0.5 * error.square() - self.log_scale).flatten(1).sum(1)

    def mean(self, parameters):
        return parameters[:, 0].tanh()

    def draw(self, parameters, noise):
        raise NotImplementedError

    def check(self, x):
        pass


def make(discriminator=None, decoder=TinyDecoder, **options):
    torch.manual_seed(0)
    quantiser = partial(GradientVectorQuantiser, num_codes=6, dim=3, kmeans_iterations=0)
    parts = {
        "encoder": TinyEncoder(),
        "decoder": decoder,
        "likelihood": Tanh(),
        "discriminator": discriminator or PatchDiscriminator(1, 4, 1, batch_norm=False),
        "autoencoder_optimizer": SGD,
        "discriminator_optimizer": SGD,
        "sample_shape": [1, 8, 8],
        "quantiser": quantiser,
    }
    return VQGAN(**parts | options)


def state(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(module, before):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


# -------------------------------------------------------------------- one update by hand


def by_hand(model, x, playing, lr=0.1):
    """The weights after one step of plain gradient descent, and λ, all from one graph."""
    vectors = model.quantiser.codebook.vectors
    v = model.quantiser.project(model.encoder(x)).permute(0, 2, 3, 1)
    e = vectors[(v[..., None, :] - vectors).square().sum(-1).argmin(-1)]
    quantiser_loss = (e - v.detach()).square().mean() + 0.25 * (v - e.detach()).square().mean()
    z = (v + (e - v).detach()).permute(0, 3, 1, 2)
    made = model.decoder(z)[:, 0].tanh()
    s = model.likelihood.log_scale
    reconstruction = (0.5 * ((x - made) / s.exp()).square() + s).mean() + 0.3 * model.perceptual(made, x).mean()
    total = reconstruction + 2.0 * quantiser_loss
    factor = torch.zeros(())
    d_loss = None
    if playing:
        g_loss = -model.discriminator(made).mean()
        last = model.decoder.last.weight
        norms = [torch.autograd.grad(each, last, retain_graph=True)[0].norm() for each in (reconstruction, g_loss)]
        factor = 0.7 * (norms[0] / (norms[1] + 1e-6)).detach()
        total = total + factor * g_loss
        d_loss = relu(1 - model.discriminator(x)).mean() + relu(1 + model.discriminator(made.detach())).mean()
    found = {}
    for loss, names in ((total, ("encoder", "quantiser", "decoder", "likelihood")), (d_loss, ("discriminator",))):
        parameters = {n: p for n, p in model.named_parameters() if n.split(".")[0] in names}
        gradients = [0.0] * len(parameters)
        if loss is not None:
            gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
        found |= {n: (p - lr * g).detach() for (n, p), g in zip(parameters.items(), gradients, strict=True)}
    return found, factor, total.detach()


@pytest.mark.parametrize("playing", [True, False])
def test_one_update_is_the_one_of_the_paper(playing, make_trainer):
    options = {"perceptual": ClassifierFeatures(), "perceptual_weight": 0.3, "quantiser_weight": 2.0}
    model = make(**options, discriminator_weight=0.7, discriminator_start=0 if playing else 1)
    seen = {}
    original = model.training_step

    def training_step(batch, batch_idx):
        seen["expected"], seen["factor"], seen["loss"] = by_hand(model, batch["x"], playing)
        seen["terms"] = original(batch, batch_idx)
        return seen["terms"]

    model.training_step = training_step
    make_trainer(max_steps=1, precision="64-true").fit(model, datamodule=DIGITS())
    weights = dict(model.named_parameters())
    assert weights.keys() == seen["expected"].keys()
    for name, expected in seen["expected"].items():
        assert expected.dtype == torch.float64
        torch.testing.assert_close(weights[name].detach(), expected, rtol=1e-9, atol=1e-11, msg=name)
    torch.testing.assert_close(seen["terms"]["loss"], seen["loss"])
    if playing:
        torch.testing.assert_close(seen["terms"]["adversarial_weight"], seen["factor"])


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_losses_of_images_reach_the_decoder_wherever_its_outputs_are(value):
    model = make(likelihood=Laplace(), perceptual=ClassifierFeatures())
    with torch.no_grad():
        model.decoder.last.weight.mul_(0.1)
        model.decoder.last.bias.fill_(value)
        for p in model.discriminator.parameters():
            p.mul_(3)
    seen = []
    model.decoder.register_forward_hook(lambda _m, _i, outputs: seen.append(outputs))
    x, made = torch.rand(4, 1, 8, 8) * 2 - 1, []
    terms = model.autoencoder_loss({"x": x}, False, made)[1]
    assert ((made[0] - value).abs() < 0.9).all()
    (gradient,) = torch.autograd.grad(terms["perceptual"], seen[0])
    assert (gradient != 0).float().mean() > 0.9
    weight = model.autoencoder_loss({"x": x}, True, made)[1]["adversarial_weight"]
    assert 1e-3 < weight < 0.79e4  # where the game has no gradient it is 0.8 · 10⁴, the largest
    assert model.reconstruct(x).abs().max() <= 1


class Told(MapDiscriminator):
    """Says of images of value v that their patches score v times some numbers."""

    def forward(self, x, y=None):
        return x[:, 0, :2, :2] * torch.tensor([[3.0, -2.0], [0.5, 0.5]])


def test_the_loss_is_a_mean_over_patches():
    model = make(Told())
    loss = model.discriminator_loss({"x": torch.ones(2, 1, 8, 8), "made": -torch.ones(2, 1, 8, 8)})[0]
    # hinges of real patches 0, 3, ½, ½, and of generated ones the same; of the means, which are ½, they would be ½
    assert loss.item() == pytest.approx(2 * (0 + 3 + 0.5 + 0.5) / 4)


# -------------------------------------------------------------------- who learns from what, and when


def test_the_game_starts_when_it_is_told_to(make_trainer):
    model = make(discriminator_start=2)
    before, terms, resting = state(model.discriminator), [], []
    original = model.training_step

    def training_step(batch, batch_idx):
        terms.append(original(batch, batch_idx))
        resting.append(not changed(model.discriminator, before))
        return terms[-1]

    model.training_step = training_step
    trainer = make_trainer(max_steps=4)
    trainer.fit(model, datamodule=DIGITS())
    assert trainer.global_step == 4
    assert resting == [True, True, False, False]
    assert ["d_loss" in t for t in terms] == ["g_loss" in t for t in terms] == [False, False, True, True]


def test_schedules_of_the_game_wait_for_it(make_trainer):
    halve = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    model = make(discriminator_start=2, autoencoder_scheduler=halve, discriminator_scheduler=halve)
    trainer = make_trainer(max_steps=3)
    trainer.fit(model, datamodule=DIGITS())
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [0.1 / 8, 0.1 / 2]


@pytest.mark.parametrize("loss", [Hinge(), RelativisticPairing()])
def test_neither_loss_reaches_the_others_weights(loss):
    model = make(loss=loss)
    batch, made = {"x": torch.rand(4, 1, 8, 8) * 2 - 1}, []
    for p in model.discriminator.parameters():
        p.requires_grad_(False)
    model.autoencoder_loss(batch, True, made)[0].backward()
    names = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert names == {n for n, _ in model.named_parameters() if not n.startswith("discriminator")}
    model.zero_grad()
    for p in model.discriminator.parameters():
        p.requires_grad_(True)
    model.discriminator_loss(batch | {"made": made[0]})[0].backward()
    names = {n for n, p in model.named_parameters() if p.grad is not None}
    assert names == {n for n, _ in model.named_parameters() if n.startswith("discriminator")}


def test_losses_need_no_numbers_of_the_device(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_kwargs: nullcontext())
    model = make(perceptual=ClassifierFeatures().prepare()).to("meta")
    batch, made = {"x": torch.empty(4, 1, 8, 8, device="meta")}, []
    model.autoencoder_loss(batch, True, made)[0].backward()
    model.discriminator_loss(batch | {"made": made[0]})[0].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_several_batches_are_averaged_and_make_one_step(make_trainer):
    model, calls = make(accumulate_grad_batches=2, gradient_clip_val=1.0, discriminator=dcgan()), []
    model.encoder.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    trainer = make_trainer(max_steps=3)
    trainer.fit(model, datamodule=DIGITS())
    assert trainer.global_step == 3
    assert [n for n in calls if n == 4] == [4] * 6


def dcgan():
    return DCGANDiscriminator(8, 1, 4, batch_norm=False)


def test_a_killed_run_goes_on_from_its_checkpoint(make_trainer, tmp_path):
    quantiser = partial(VectorQuantiser, num_codes=6, dim=3)
    build = partial(make, quantiser=quantiser, discriminator_start=1)
    whole = build()
    make_trainer(max_steps=4).fit(whole, datamodule=DIGITS())
    make_trainer(LastCheckpoint(), max_steps=2).fit(build(), datamodule=DIGITS())
    (path,) = tmp_path.rglob("last.ckpt")
    resumed = build()
    make_trainer(LastCheckpoint(), max_steps=4).fit(resumed, datamodule=DIGITS(), ckpt_path=path, weights_only=True)
    assert not changed(resumed, state(whole))


# -------------------------------------------------------------------- codes and samples


@pytest.mark.parametrize("num_classes", [None, 10])
def test_codes_are_what_a_second_stage_needs(num_classes):
    model = make(decoder=partial(TinyDecoder, num_classes=num_classes))
    assert all(isinstance(model, ability) for ability in (HasCodes, Interpolates, Reconstructs))
    x, y = DIGITS().examples(5)["x"], None if num_classes is None else torch.arange(5)
    assert model.code_shapes((1, 8, 8)) == ((2, 2),)
    codes = model.codes(x, y)
    assert codes.shape == (5, 4)
    torch.testing.assert_close(model.decode_codes(codes, y), model.reconstruct(x, y))
    prior = LatentPrior(model, partial(TinyTokens, num_classes=10), SGD, sample_shape=[1, 8, 8])
    assert prior.sample(3, seeds=sample_seeds(0, torch.arange(3))).shape == (3, 1, 8, 8)
    assert "first_stage.discriminator.layers.0.weight" in prior.state_dict()


def test_sampling_needs_no_weights_of_the_perceptual_loss(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = make(perceptual=LPIPS())
    assert model.sample(2).shape == (2, 1, 8, 8)
    assert not any("perceptual" in name for name in model.state_dict())


OPTIMIZER = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}}
SIZES = {"channels": 1, "width": 8, "num_blocks": 0}
RECIPE = {
    "class_path": "VQGAN",
    "init_args": {
        "encoder": {"class_path": "VQVAEEncoder", "init_args": SIZES | {"num_features": 4}},
        "decoder": {"class_path": "VQVAEDecoder", "init_args": SIZES},
        "likelihood": "Laplace",
        "discriminator": {
            "class_path": "PatchDiscriminator",
            "init_args": {"channels": 1, "width": 4, "num_layers": 1},
        },
        "autoencoder_optimizer": OPTIMIZER,
        "discriminator_optimizer": OPTIMIZER,
        "sample_shape": [1, 8, 8],
        "quantiser": {"class_path": "VectorQuantiser", "init_args": {"num_codes": 7, "dim": 3}},
        "loss": "Hinge",
        "perceptual": {"class_path": "ClassifierFeatures", "init_args": {"classifier": "mnist"}},
        "discriminator_start": 1,
    },
}
PRIOR = {
    "class_path": "LatentPrior",
    "init_args": {
        "first_stage": "one/checkpoints/last.ckpt",
        "network": {"class_path": "CausalTransformer", "init_args": {"width": 8, "depth": 1, "heads": 2}},
        "optimizer": OPTIMIZER,
    },
}


@pytest.mark.filterwarnings("ignore")
def test_both_stages_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"class_path": "Digits", "init_args": {"image_size": 8, "batch_size": 16}}
    for name, model in (("one", RECIPE), ("two", PRIOR)):
        callbacks = [{"class_path": "LastCheckpoint"}]
        if name == "one":
            averaged = {"modules": ["encoder", "quantiser", "decoder"], "decay": 0.5}
            callbacks.insert(0, {"class_path": "EMA", "init_args": averaged})
        trainer = {"accelerator": "cpu", "logger": False, "max_steps": 3, "limit_val_batches": 1}
        trainer |= {"default_root_dir": name, "callbacks": callbacks, "enable_progress_bar": False}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "trainer": trainer}))
        run(["fit", "--config", f"{name}.yaml"])
    first, *_ = load("one/checkpoints/last.ckpt")
    raw, *_ = load("one/checkpoints/last.ckpt", "raw")
    (tmp_path / "one/checkpoints/last.ckpt").unlink()
    second, *_ = load("two/checkpoints/last.ckpt")
    assert not changed(second.first_stage, state(first))
    assert changed(second.first_stage, state(raw))
    seeds = sample_seeds(0, torch.arange(4))
    drawn = second.sample(4, seeds=seeds)
    codes = second.network.draw(Noise(seeds), None, 1.0)
    torch.testing.assert_close(drawn, first.decode_codes(codes))
    run(["sample", "--ckpt_path", "two/checkpoints/last.ckpt", "--num", "2", "--output", "x", "--accelerator", "cpu"])


# -------------------------------------------------------------------- bad input


def test_absent_weights_are_told_before_training(monkeypatch, tmp_path, make_trainer):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"LPIPS.net is 'vgg', whose weights vgg16-.*pth are not in"):
        make_trainer(max_steps=1).fit(make(perceptual=LPIPS()), datamodule=DIGITS())


def test_a_decoder_without_a_last_layer_is_refused():
    with pytest.raises(UserError, match=r"model.init_args.decoder.*NoLast"):
        make(decoder=NoLast)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"compile": ["encoder", "decoder"]}, "compile has decoder"),
        (
            {"discriminator": DCGANDiscriminator(8, 1, 4, num_classes=10)},
            "discriminator is 10 but the decoder's is None",
        ),
        ({"discriminator_start": -1}, "discriminator_start is -1"),
        ({"discriminator_weight": -0.5}, "discriminator_weight is -0.5"),
        ({"perceptual_weight": -1.0}, "perceptual_weight"),
        ({"quantiser_weight": float("nan")}, "quantiser_weight"),
    ],
)
def test_bad_arguments_are_refused(options, told):
    with pytest.raises(UserError, match=told):
        make(**options)


@pytest.mark.parametrize("discriminator", [PatchDiscriminator(1, 4, 2), PatchDiscriminator(3, 4, 1), dcgan()])
def test_a_discriminator_of_other_images_is_refused_before_training(discriminator, make_trainer):
    if isinstance(discriminator, DCGANDiscriminator):
        discriminator = DCGANDiscriminator(16, 1, 4)
    with pytest.raises(UserError, match=r"PatchDiscriminator\.\w+ is|model.init_args.discriminator cannot read"):
        make_trainer(max_steps=1).fit(make(discriminator), datamodule=DIGITS())
