"""No step waits for the device, and no step computes what nobody uses, whatever the recipe is made of."""

import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_gen.augmentation import ADA, APA, AugmentPipeline, Compose, DiffAugment
from lightning_gen.data import Digits
from lightning_gen.families import GAN
from lightning_gen.losses import (
    R1,
    R2,
    BalancedConsistency,
    DataToDataCrossEntropy,
    FeatureMatching,
    GradientPenalty,
    Hinge,
    LatentDiversity,
    LeCam,
    MutualInformation,
    NonSaturating,
    Orthogonal,
    PathLength,
    RelativisticPairing,
    TopK,
    Unrolling,
    Wasserstein,
    WeightClipping,
)
from lightning_gen.networks import (
    BigGANDiscriminator,
    BigGANGenerator,
    Codes,
    Contrastive,
    DCGANDiscriminator,
    DCGANGenerator,
    R3GANDiscriminator,
    R3GANGenerator,
    ResNetDiscriminator,
    ResNetGenerator,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)

sys.path.append(str(Path(__file__).parent))
import models

SGD = partial(torch.optim.SGD, lr=1e-3)  # without state: Adam reads its counters, which rest in the host's memory
SIZE, CHANNELS, CLASSES, LATENT = 16, 1, 10, 6
READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__"}
SYNCING = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "repeat_interleave"}
SYNCING |= {"_unique2", "unique_dim", "unique_consecutive", "bincount", "_linalg_check_errors"}


def biggan(**parts):
    options = {"width": 4, "num_classes": CLASSES, "attention": [8]}
    generator = BigGANGenerator(SIZE, CHANNELS, LATENT, shared_dim=4, **options)
    head = parts.pop("head", None)
    return generator, BigGANDiscriminator(SIZE, CHANNELS, **options, **({"head": head} if head else {})), parts


def stylegan2(**parts):
    options = {"channel_base": 128, "channel_max": 8, "num_classes": CLASSES}
    generator = StyleGAN2Generator(SIZE, CHANNELS, LATENT, style_dim=8, mixing=0.5, **options)
    return generator, StyleGAN2Discriminator(SIZE, CHANNELS, **options), parts


def r3gan(**parts):
    options = {"widths": (8, 8, 8), "cardinality": 4, "num_classes": CLASSES}
    generator = R3GANGenerator(SIZE, CHANNELS, LATENT, class_dim=4, **options)
    return generator, R3GANDiscriminator(SIZE, CHANNELS, **options), parts


def resnet(spectral_norm=True, **parts):
    generator = ResNetGenerator(SIZE, CHANNELS, LATENT, 4)
    return generator, ResNetDiscriminator(SIZE, CHANNELS, 4, spectral_norm=spectral_norm), parts


def infogan(**parts):
    generator = DCGANGenerator(SIZE, CHANNELS, LATENT, 4, num_classes=CLASSES)
    options = {"num_classes": CLASSES, "batch_norm": False, "head": Codes}
    return generator, DCGANDiscriminator(SIZE, CHANNELS, 4, **options), parts


PIPELINE = partial(AugmentPipeline, 0.5, cutout=1.0)
RECIPES = {
    "sngan": lambda: resnet(loss=Hinge(), num_critic_steps=2),
    "wgan_gp": lambda: resnet(False, loss=Wasserstein(), penalties=[GradientPenalty()], gradient_clip_val=1.0),
    "biggan_diffaugment": lambda: biggan(loss=Hinge(), penalties=[Orthogonal()], augmentation=DiffAugment()),
    "reacgan": lambda: biggan(loss=Hinge(), auxiliary=DataToDataCrossEntropy(), head=partial(Contrastive, dim=8)),
    "stylegan2_ada": lambda: stylegan2(
        loss=NonSaturating(),
        penalties=[R1(interval=2)],
        generator_penalties=[PathLength(interval=2)],
        augmentation=Compose([APA(), ADA(PIPELINE(), interval=1)]),
    ),
    "r3gan": lambda: r3gan(loss=RelativisticPairing(), penalties=[R1(), R2()], augmentation=PIPELINE()),
    "infogan": lambda: infogan(loss=NonSaturating(), auxiliary=MutualInformation(), penalties=[R1()]),
    "few_samples": lambda: resnet(
        loss=TopK(Hinge()),
        penalties=[LeCam(), BalancedConsistency(DiffAugment())],
        generator_penalties=[FeatureMatching(), LatentDiversity()],
        constraint=WeightClipping(),
    ),
    "unrolled": lambda: resnet(loss=NonSaturating(), unrolling=Unrolling(2)),
}


def build(recipe):
    torch.manual_seed(0)
    generator, discriminator, parts = RECIPES[recipe]()
    return GAN(generator, discriminator, generator_optimizer=SGD, discriminator_optimizer=SGD, **parts)


# -------------------------------------------------------------------- the host


class NoReading(TorchFunctionMode):
    """Refuses what brings the content of a tensor to the host."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        assert name not in READS, f"a step calls Tensor.{name}"
        return function(*args, **kwargs or {})


class NoWaiting(TorchDispatchMode):
    """Refuses operations whose result, or its shape, the host needs before it goes on; and copies between devices."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in SYNCING, f"a step runs aten.{name}"
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        boolean = name.startswith("index") and any(t.dtype == torch.bool for t in given[1:])
        assert not boolean, f"a step indexes by booleans in aten.{name}"
        result = function(*args, **kwargs or {})
        devices = {t.device.type for t in (*given, *tree_leaves(result)) if isinstance(t, torch.Tensor) and t.ndim}
        assert len(devices) < 2, f"a step copies between devices in aten.{name}"
        return result


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_reads_nothing_back(recipe, make_trainer):
    gan, taken = build(recipe), []
    original = gan.training_step

    def training_step(batch, batch_idx):
        with NoReading(), NoWaiting():
            terms = original(batch, batch_idx)
        taken.append(all(term.isfinite() for term in terms.values()))
        return terms

    gan.training_step = training_step
    make_trainer(max_steps=2, log_every_n_steps=2).fit(gan, Digits(image_size=SIZE, batch_size=4))
    assert taken == [True, True]


# GANs are above; of classes `one_hot` checks the range, on a CPU alone
OTHERS = [name for name in models.BUILDERS if not name.startswith("gan") and "conditional" not in name]


@pytest.mark.parametrize("family", [name for name in OTHERS if "semi_supervised" not in name])
def test_a_step_of_another_family_reads_nothing_back(family, make_trainer, monkeypatch):
    monkeypatch.setattr(models, "ADAM", SGD)
    model, taken = models.build(family), []
    original = model.training_step

    def training_step(batch, batch_idx):
        with NoReading(), NoWaiting():
            terms = original(batch, batch_idx)
        taken.append(True)
        return terms

    model.training_step = training_step
    make_trainer(max_steps=3, log_every_n_steps=2).fit(model, models.BUILDERS[family][1]())
    assert taken == [True] * 3


@pytest.mark.parametrize("recipe", ["stylegan2_ada", "r3gan", "infogan", "few_samples"])  # between them, most parts
def test_losses_need_no_numbers(recipe, monkeypatch):
    # tensors that have none stand for those of a device, which a host must not look at
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_kwargs: nullcontext())
    gan = build(recipe).to("meta")
    batch = {"x": torch.empty(4, CHANNELS, SIZE, SIZE), "y": torch.empty(4, dtype=torch.int64)}
    batch = {key: value.to("meta") for key, value in batch.items()}
    with NoWaiting():
        gan.discriminator_loss(batch, 0)[0].backward()
        gan.after_discriminator_update(0)
        gan.generator_loss(batch)[0].backward()
    assert all(p.grad is not None for p in gan.generator.parameters())


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.unique(x),
        lambda x: x.cpu(),
    ],
)
def test_what_waits_is_noticed(read):
    with pytest.raises(AssertionError, match="a step"), NoReading(), NoWaiting():
        read(torch.ones(3))
    with pytest.raises((AssertionError, NotImplementedError, RuntimeError)), NoWaiting():
        read(torch.ones(3, device="meta"))


def test_constants_made_on_the_host_are_noticed():
    with pytest.raises(AssertionError, match="between devices"), NoWaiting():
        torch.ones(3, device="meta") * torch.tensor([1.0, 2.0, 3.0]).to("meta")


# -------------------------------------------------------------------- work


class Calls(Callback):
    """Who is called in each step, and with which gradients."""

    def on_fit_start(self, trainer, pl_module):
        self.steps = []
        generator, discriminator = pl_module.generator, pl_module.discriminator
        generator.register_forward_hook(self.generated)
        discriminator.register_forward_pre_hook(self.judged)

    def on_train_batch_start(self, *_):
        self.steps.append([])

    def generated(self, generator, inputs, sample):
        self.steps[-1].append(("G", "graph" if sample.grad_fn is not None else "no graph"))

    def judged(self, discriminator, inputs):
        learns = {p.requires_grad for p in discriminator.parameters()}
        assert len(learns) == 1
        learns = learns.pop() and torch.is_grad_enabled()
        self.steps[-1].append(("D", "of a graph" if inputs[0].grad_fn is not None else "of data", learns))


CRITIC = [("G", "no graph"), ("D", "of data", True), ("D", "of data", True)]
GENERATOR = [("G", "graph"), ("D", "of a graph", False)]


@pytest.mark.parametrize(
    ("make", "extra"),
    [
        (lambda: resnet(loss=Hinge()), []),
        (lambda: biggan(loss=Hinge(), augmentation=DiffAugment()), []),
        (lambda: biggan(loss=Hinge(), auxiliary=DataToDataCrossEntropy(), head=Contrastive), []),
        (lambda: infogan(loss=NonSaturating(), auxiliary=MutualInformation()), []),
        (lambda: r3gan(loss=RelativisticPairing(), augmentation=PIPELINE()), [("D", "of data", False)]),
        (lambda: stylegan2(loss=NonSaturating(), augmentation=ADA(PIPELINE())), []),
    ],
    ids=["plain", "augmented", "contrastive", "codes", "relativistic", "adaptive"],
)
def test_each_network_is_called_as_often_as_needed(make, extra, make_trainer):
    generator, discriminator, parts = make()
    counts = {"num_critic_steps": 3, "accumulate_grad_batches": 2}
    gan = GAN(generator, discriminator, generator_optimizer=SGD, discriminator_optimizer=SGD, **counts, **parts)
    calls, gradients = Calls(), {}
    original = gan.generator_loss

    def generator_loss(batch):
        gradients.update({name: p.grad.clone() for name, p in gan.discriminator.named_parameters()})
        return original(batch)

    gan.generator_loss = generator_loss
    make_trainer(calls, max_steps=1).fit(gan, Digits(image_size=SIZE, batch_size=2))
    assert calls.steps == [CRITIC * 6 + (GENERATOR + extra) * 2]
    for name, p in gan.discriminator.named_parameters():  # what is left is of its own last update
        assert torch.equal(p.grad, gradients[name]), name
