"""What the parts of a GAN are given, and what is refused before training."""

from functools import partial

import pytest
import torch
from torch import nn

from lightning_gen.augmentation import Augmentation, DiffAugment, HorizontalFlip
from lightning_gen.callbacks import LastCheckpoint
from lightning_gen.data import Digits, FewLabels, Ring2D, Stacked
from lightning_gen.errors import UserError
from lightning_gen.families import GAN, SemiSupervisedGAN
from lightning_gen.losses import (
    R1,
    R2,
    AuxiliaryClassifier,
    Consistency,
    FeatureMatching,
    MutualInformation,
    NonSaturating,
    RelativisticPairing,
    Unrolling,
    WeightClipping,
)
from lightning_gen.losses.auxiliary import AuxiliaryLoss
from lightning_gen.losses.penalties import GeneratorPenalty, Penalty
from lightning_gen.networks import (
    Classifier,
    Codes,
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
    NoisyMLPDiscriminator,
    Packed,
    SoftplusMLPGenerator,
)
from lightning_gen.networks.base import Discriminator
from lightning_gen.noise import Noise, sample_seeds

ADAM = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.9))
SGD = partial(torch.optim.SGD, lr=0.1)


def digits(head=None, num_classes=None, channels=1, **options):
    torch.manual_seed(0)
    kwargs = {"head": head} if head else {}
    image = {"image_size": 8, "channels": channels, "width": 4, "num_classes": num_classes}
    networks = DCGANGenerator(**image), DCGANDiscriminator(batch_norm=False, **image, **kwargs)
    return GAN(*networks, options.pop("loss", NonSaturating()), ADAM, ADAM, **options)


# -------------------------------------------------------------------- augmentation


class Counted(Augmentation):
    """x → 2x, and notes what happens, in order."""

    def __init__(self):
        super().__init__()
        self.events, self.inputs, self.replaced_by = [], [], []

    def forward(self, x):
        self.events.append("augment")
        self.inputs.append(x.detach().clone())
        return 2 * x

    def replace(self, real, fake):
        self.events.append("replace")
        self.replaced_by.append(fake)
        return real + 100

    def observe(self, real_scores):
        assert not real_scores.requires_grad
        self.events.append(f"observe {len(real_scores)}")

    def adjust(self):
        self.events.append("adjust")


def test_real_and_generated_samples_are_augmented_alike(make_gan, make_ring, make_trainer):
    augmentation, judged = Counted(), []
    gan = make_gan(augmentation=augmentation, num_critic_steps=2)
    gan.discriminator.register_forward_pre_hook(lambda _, inputs: judged.append(inputs[0].detach().clone()))
    batches = []
    original = gan.discriminator_loss
    gan.discriminator_loss = lambda batch, update: (batches.append(batch["x"]), original(batch, update))[1]
    data = make_ring()
    judged.clear()
    trainer = make_trainer(max_steps=1)
    trainer.fit(gan, data)
    critic = ["replace", "augment", "augment", "observe 8", "adjust"]
    events = augmentation.events[-11:]
    assert events == [*critic, *critic, "augment"]
    judged = judged[-5:]  # real, generated, real, generated, generated
    inputs = augmentation.inputs[-5:]
    for k, x in enumerate(judged):
        torch.testing.assert_close(x, 2 * inputs[k])
    torch.testing.assert_close(inputs[0], batches[0] + 100)
    torch.testing.assert_close(inputs[2], batches[1] + 100)
    fakes = augmentation.replaced_by[-1]
    torch.testing.assert_close(fakes, inputs[3].roll(1, 0))  # a generated sample never stands beside itself


def test_an_augmentation_observes_a_score_for_every_image(make_ring, make_trainer, make_gan):
    augmentation = Counted()
    gan = make_gan(discriminator=Packed(MLPDiscriminator(4, 8), 2), augmentation=augmentation)
    make_trainer(max_steps=1).fit(gan, make_ring())
    assert "observe 8" in augmentation.events


def test_the_generators_gradient_flows_through_the_augmentation(make_ring, make_trainer, make_gan):
    def gradient(**options):
        gan = make_gan(generator_optimizer=SGD, discriminator_optimizer=partial(torch.optim.SGD, lr=0.0), **options)
        before = [p.clone() for p in gan.generator.parameters()]
        make_trainer(max_steps=1).fit(gan, make_ring())
        return torch.cat([(p - q).flatten() for p, q in zip(gan.generator.parameters(), before, strict=True)])

    class Scale(Augmentation):
        def forward(self, x):
            return 0.5 * x

    class Detached(Augmentation):
        def forward(self, x):
            return 0.5 * x.detach() + 0.0 * x

    assert gradient(augmentation=Scale()).abs().sum() > 0
    assert gradient(augmentation=Detached()).abs().sum() == 0


# -------------------------------------------------------------------- penalties of both players


class Spy(GeneratorPenalty):
    name = "spy"

    def __init__(self, interval=1):
        super().__init__(interval)
        self.turns = []

    def forward(self, turn):
        self.turns.append(turn)
        return turn.fake.square().mean()


def test_generator_penalties_are_lazy_and_see_the_turn(make_gan, make_ring, make_trainer):
    spy = Spy(interval=3)
    gan = make_gan(generator_penalties=[spy], augmentation=Counted())
    make_trainer(max_steps=7).fit(gan, make_ring())
    assert len(spy.turns) == 3  # steps 0, 3 and 6
    turn = spy.turns[0]
    assert turn.fake.shape == (8, 2)
    assert turn.z.shape == (8, 4)
    assert turn.network is gan.generator
    assert turn.judged.features is not None


def test_the_weight_of_a_lazy_generator_penalty_is_its_interval(make_gan, make_ring):
    total, terms = {}, {}
    for interval in (1, 4):
        gan = make_gan(generator_penalties=[Spy(interval)])
        torch.manual_seed(3)
        total[interval], terms[interval] = gan.generator_loss({"x": torch.zeros(8, 2)})
    assert terms[1]["spy"].item() == pytest.approx(terms[4]["spy"].item())
    assert (total[4] - total[1]).item() == pytest.approx(3 * terms[1]["spy"].item(), rel=1e-4)


def test_two_penalties_of_one_name_are_refused(make_gan):
    with pytest.raises(UserError, match="penalties has r1 twice"):
        make_gan(penalties=[R1(), R2(), R1()])


# -------------------------------------------------------------------- relativistic losses, constraints, unrolling


def test_real_scores_are_made_only_for_losses_that_want_them(make_gan, make_ring, make_trainer):
    calls = {}
    for name, loss in (("plain", NonSaturating()), ("relativistic", RelativisticPairing())):
        gan, seen = make_gan(loss=loss), []
        hook = gan.discriminator.register_forward_pre_hook(lambda *_, seen=seen: seen.append(torch.is_grad_enabled()))
        gan.generator_loss({"x": torch.zeros(8, 2)})
        hook.remove()
        calls[name] = seen
    assert calls == {"plain": [True], "relativistic": [True, False]}


def largest_weight(network):
    return max(float(p.detach().abs().max()) for p in network.parameters())


def test_weights_are_clipped_after_every_update_of_the_critic(make_gan, make_ring, make_trainer):
    gan, largest = make_gan(constraint=WeightClipping(0.05), num_critic_steps=2), []
    original = gan.discriminator_loss

    def watch(batch, update):
        if update:
            largest.append(largest_weight(gan.discriminator))
        return original(batch, update)

    gan.discriminator_loss = watch
    make_trainer(max_steps=3).fit(gan, make_ring())
    assert len(largest) == 5
    assert max(largest) == pytest.approx(0.05)
    assert largest_weight(gan.generator) > 0.05


def test_the_unrolled_generator_answers_the_discriminator_to_come(make_gan):
    def loss(**options):
        gan = make_gan(**options)
        torch.manual_seed(1)
        value, _ = gan.generator_loss({"x": torch.ones(8, 2)})
        return value.item(), gan

    plain, _ = loss()
    still, _ = loss(unrolling=Unrolling(steps=3, learning_rate=1e-12))
    ahead, gan = loss(unrolling=Unrolling(steps=3, learning_rate=0.5))
    assert still == pytest.approx(plain, rel=1e-5)
    # by hand: three steps of gradient descent on a copy
    before = {name: p.clone() for name, p in gan.discriminator.named_parameters()}
    torch.manual_seed(1)
    fake = gan.generator(torch.randn(8, 4)).detach()
    optimizer = torch.optim.SGD(gan.discriminator.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        gan.loss.discriminator(gan.discriminator(torch.ones(8, 2)).scores, gan.discriminator(fake).scores).backward()
        optimizer.step()
    assert gan.loss.generator(gan.discriminator(fake).scores).item() == pytest.approx(ahead, rel=1e-4)
    assert not torch.equal(before["score.weight"], gan.discriminator.score.weight)


def test_an_unrolled_discriminators_real_scores_depend_on_the_generator(make_gan):
    def slope(loss, factor):
        gan = make_gan(loss=RelativisticPairing(), unrolling=Unrolling(steps=1, learning_rate=0.5)).double()
        with torch.no_grad():
            gan.generator.layers[-1].bias += factor
        torch.manual_seed(2)
        value, _ = gan.generator_loss({"x": torch.ones(8, 2, dtype=torch.float64)})
        return loss(value, gan)

    step = 1e-5
    gradient = slope(lambda v, gan: torch.autograd.grad(v, gan.generator.layers[-1].bias)[0].sum().item(), 0.0)
    above, below = (slope(lambda v, _: v.item(), sign * step) for sign in (1, -1))
    assert gradient == pytest.approx((above - below) / (2 * step), rel=1e-5)


def test_unrolled_updates_leave_nothing_out_in_silence(make_gan):
    for options in ({"penalties": [R1()]}, {"augmentation": Counted()}):
        with pytest.raises(UserError, match=f"unrolling and model.init_args.{next(iter(options))} are both set"):
            make_gan(unrolling=Unrolling(), **options)


# -------------------------------------------------------------------- conditioning


def test_an_auxiliary_loss_enters_both_losses():
    gan = digits(Classifier, 10, auxiliary=AuxiliaryClassifier())
    batch = {"x": torch.rand(6, 1, 8, 8), "y": torch.arange(6)}
    total, terms = gan.discriminator_loss(batch, 0)
    assert total.item() == pytest.approx((terms["d_loss"] + terms["d_auxiliary"]).item(), rel=1e-5)
    total, terms = gan.generator_loss(batch)
    assert total.item() == pytest.approx((terms["g_loss"] + terms["g_auxiliary"]).item(), rel=1e-5)


def test_codes_need_no_labels_and_are_drawn_uniformly():
    gan = digits(Codes, 10, auxiliary=MutualInformation())
    batch = {"x": torch.rand(2000, 1, 8, 8)}
    y = gan.condition_of(batch)
    assert y.shape == (2000,)
    assert ((torch.bincount(y, minlength=10) - 200).abs() < 80).all()
    gan.check_data(Unlabelled())


class Unlabelled(Digits):
    """Images without classes."""

    def __init__(self):
        super().__init__(image_size=8)

    @property
    def num_classes(self):
        return None


def test_a_conditional_model_needs_labels_and_codes_do_not():
    with pytest.raises(UserError, match="data has none"):
        digits(Classifier, 10, auxiliary=AuxiliaryClassifier()).check_data(Unlabelled())


# -------------------------------------------------------------------- what is refused


class ScoresAlone(Discriminator):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(2, 1)

    def forward(self, x, y=None):
        return self.w(x).squeeze(1)


@pytest.mark.parametrize(
    ("make", "data", "words"),
    [
        (lambda: digits(num_classes=10, auxiliary=AuxiliaryClassifier()), Digits(image_size=8), ("auxiliary", "head")),
        (
            lambda: digits(channels=2, augmentation=DiffAugment(("color",))),
            Stacked(Digits(image_size=8), channels=2, num_samples=64, num_val=8),
            ("DiffAugment", "(2, 8, 8)", "color"),
        ),
        (
            lambda: digits(channels=2, penalties=[Consistency(DiffAugment(("color",)))]),
            Stacked(Digits(image_size=8), channels=2, num_samples=64, num_val=8),
            ("DiffAugment", "(2, 8, 8)"),
        ),
        (
            lambda: GAN(
                MLPGenerator(), ScoresAlone(), NonSaturating(), ADAM, ADAM, generator_penalties=[FeatureMatching()]
            ),
            Ring2D(num_samples=64),
            ("generator_penalties", "FeatureMatching", "features"),
        ),
        (
            lambda: GAN(MLPGenerator(), MLPDiscriminator(), NonSaturating(), ADAM, ADAM, augmentation=HorizontalFlip()),
            Ring2D(num_samples=64),
            ("HorizontalFlip", "(2,)"),
        ),
        (
            lambda: GAN(MLPGenerator(), Packed(MLPDiscriminator(6), 3), NonSaturating(), ADAM, ADAM),
            Ring2D(num_samples=64, batch_size=8),
            ("batch_size is 8", "multiple of 3"),
        ),
        (
            lambda: SemiSupervisedGAN(
                SoftplusMLPGenerator([1, 8, 8]), NoisyMLPDiscriminator([1, 8, 8], 10), ADAM, ADAM
            ),
            Digits(image_size=8),
            ("FewLabels",),
        ),
        (lambda: digits(num_classes=4), Digits(image_size=8), ("10 classes", "num_classes", "4")),
    ],
    ids=["head", "colour", "penalty_colour", "features", "points", "packs", "labels", "classes"],
)
def test_what_does_not_fit_is_told_before_training(make, data, words, make_trainer):
    with pytest.raises(UserError) as error:
        make_trainer(max_steps=1).fit(make(), data)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"auxiliary": AuxiliaryClassifier()}, "auxiliary is AuxiliaryClassifier, which needs classes"),
        ({"attributes": ["a", "b"]}, "attributes has 2 names"),
        (
            {"num_classes": 2, "attributes": ["a", "b"], "auxiliary": MutualInformation()},
            "MutualInformation, which works on classes",
        ),
    ],
)
def test_conditions_without_classes_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        digits(**options)


def test_a_discriminator_of_scores_alone_will_do(make_gan, make_ring, make_trainer):
    gan = make_gan(discriminator=ScoresAlone(), penalties=[R1(1.0)])
    make_trainer(max_steps=2).fit(gan, make_ring())
    assert gan.sample(2).shape == (2, 2)


# -------------------------------------------------------------------- standing statistics


def test_standing_statistics_are_those_of_fresh_samples():
    gan = digits()
    norm = next(m for m in gan.generator.modules() if isinstance(m, nn.BatchNorm2d))
    inputs = []
    hook = norm.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    gan.standing_statistics(3, batch_size=8)
    hook.remove()
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in inputs])
    variances = torch.stack([x.var(dim=(0, 2, 3)) for x in inputs])
    assert len(inputs) == 3
    torch.testing.assert_close(norm.running_mean, means.mean(dim=0))
    torch.testing.assert_close(norm.running_var, variances.mean(dim=0))
    assert norm.momentum == 0.1
    z = Noise(sample_seeds(0, torch.arange(24))).normal(gan.generator.latent_dim)
    torch.testing.assert_close(torch.cat(inputs), gan.generator.project(z).unflatten(1, gan.generator.base))


def test_a_generator_without_batch_norm_is_told(make_gan):
    with pytest.raises(UserError, match="no batch norm"):
        make_gan().standing_statistics(2)


# -------------------------------------------------------------------- the semi-supervised family


def semi_supervised(**options):
    torch.manual_seed(0)
    networks = SoftplusMLPGenerator([1, 8, 8], 8, 16), NoisyMLPDiscriminator([1, 8, 8], 10, (16, 16))
    return SemiSupervisedGAN(*networks, ADAM, ADAM, **options)


def test_its_losses_are_those_of_an_explicit_k_plus_first_class():
    model = semi_supervised().eval().double()
    x, labelled = torch.rand(5, 1, 8, 8).double(), torch.rand(3, 1, 8, 8).double()
    y = torch.tensor([1, 9, 1])
    torch.manual_seed(7)
    total, terms = model.discriminator_loss({"x": x, "labelled_x": labelled, "labelled_y": y}, 0)
    torch.manual_seed(7)
    fake = model.generator(torch.randn(5, 8, dtype=torch.float64))

    def probabilities(x):
        logits = model.discriminator(x).logits
        return torch.cat((logits, torch.zeros(len(x), 1).double()), dim=1).softmax(dim=1)

    supervised = (
        -(probabilities(labelled)[:, :10] / probabilities(labelled)[:, :10].sum(1, keepdim=True))[torch.arange(3), y]
        .log()
        .mean()
    )
    unsupervised = -(1 - probabilities(x)[:, 10]).log().mean() - probabilities(fake)[:, 10].log().mean()
    torch.testing.assert_close(terms["d_supervised"], supervised)
    torch.testing.assert_close(terms["d_unsupervised"], unsupervised)
    torch.testing.assert_close(total, supervised + unsupervised)
    torch.manual_seed(7)
    loss, _ = model.generator_loss({"x": x})
    gap = model.discriminator(x).features.mean(0) - model.discriminator(fake).features.mean(0)
    torch.testing.assert_close(loss, gap.square().mean())


def test_large_logits_stay_finite():
    model = semi_supervised().eval()
    with torch.no_grad():
        model.discriminator.logits.bias.fill_(200.0)
    batch = {"x": torch.rand(4, 1, 8, 8), "labelled_x": torch.rand(4, 1, 8, 8), "labelled_y": torch.arange(4)}
    total, _ = model.discriminator_loss(batch, 0)
    assert total.isfinite()
    assert total.item() > 100  # every generated sample is taken for real


def test_the_error_of_held_out_samples_is_counted(make_trainer):
    data = FewLabels(Digits(image_size=8), num_labels=20, batch_size=10)
    model = semi_supervised()
    trainer = make_trainer(limit_val_batches=1.0)
    (found,) = trainer.validate(model, data, verbose=False)
    x = torch.cat([batch["x"] for batch in data.rows("val")])
    y = torch.cat([batch["y"] for batch in data.rows("val")])
    predicted = model.eval().discriminator(data.modality.to_model(x)).logits.argmax(dim=1)
    assert found["val_error"] == pytest.approx((predicted != y).float().mean().item())


def test_unused_terms_are_not_made(monkeypatch):
    model = semi_supervised(unsupervised_weight=0.0)
    monkeypatch.setattr(model.generator, "forward", None)
    batch = {"x": torch.rand(4, 1, 8, 8), "labelled_x": torch.rand(4, 1, 8, 8), "labelled_y": torch.arange(4)}
    total, terms = model.discriminator_loss(batch, 0)
    assert total.item() == pytest.approx(terms["d_supervised"].item())


def test_penalties_and_auxiliaries_are_modules_of_the_checkpoint(make_gan, make_ring, make_trainer, tmp_path):
    class Running(Penalty):
        name = "running"

        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, turn):
            self.count += 1
            return turn.real_scores.mean() * 0

    make_trainer(LastCheckpoint(), max_steps=3).fit(make_gan(penalties=[Running()]), make_ring())
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["penalties.0.count"] == 3
    assert issubclass(AuxiliaryLoss, nn.Module)
