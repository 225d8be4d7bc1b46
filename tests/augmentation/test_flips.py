"""Horizontal flips, and several augmentations in a row."""

import pytest
import torch

from lightning_gen.augmentation import ADA, APA, Augmentation, AugmentPipeline, Compose, DiffAugment, HorizontalFlip
from lightning_gen.errors import UserError


class Times(Augmentation):
    """Multiplies, and writes down what it was told."""

    def __init__(self, factor, log):
        super().__init__()
        self.factor, self.log = factor, log

    def forward(self, x):
        return x * self.factor + 1

    def replace(self, real, fake):
        return real * self.factor + fake

    def observe(self, real_scores):
        self.log.append(("observe", self.factor, real_scores))

    def adjust(self):
        self.log.append(("adjust", self.factor))

    def check(self, shape):
        return f"{self.factor} does not suit" if shape[0] == self.factor else None


def test_flips_mirror_each_image_or_leave_it():
    torch.manual_seed(0)
    x = torch.randn(4000, 1, 2, 3)
    found = HorizontalFlip(0.3)(x)
    mirrored = (found == x[..., [2, 1, 0]]).flatten(1).all(dim=1)
    assert (mirrored ^ (found == x).flatten(1).all(dim=1)).all()
    assert abs(mirrored.float().mean() - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5


@pytest.mark.parametrize(("probability", "order"), [(0.0, [0, 1, 2]), (1.0, [2, 1, 0])])
def test_flips_of_all_or_none(probability, order):
    x = torch.randn(5, 3, 2, 3)
    assert torch.equal(HorizontalFlip(probability)(x), x[..., order])


def test_compose_keeps_the_order_everywhere():
    log = []
    compose = Compose([Times(2, log), Times(3, log)])
    x, scores = torch.tensor([1.0]), torch.tensor([0.5])
    assert compose(x) == (1 * 2 + 1) * 3 + 1
    assert compose.replace(x, torch.tensor([10.0])) == (1 * 2 + 10) * 3 + 10
    compose.observe(scores)
    compose.adjust()
    assert log == [("observe", 2, scores), ("observe", 3, scores), ("adjust", 2), ("adjust", 3)]
    assert [compose.check((k,)) for k in (2, 3, 4)] == ["2 does not suit", "3 does not suit", None]


def test_compose_carries_the_state_of_its_parts():
    compose = Compose([HorizontalFlip(), APA(probability=0.25), ADA()])
    other = Compose([HorizontalFlip(), APA(), ADA()])
    other.load_state_dict(compose.state_dict())
    assert other.augmentations[1].probability == 0.25


@pytest.mark.parametrize("augmentation", [HorizontalFlip(), DiffAugment(), AugmentPipeline(), ADA()])
def test_only_images_are_augmented(augmentation):
    assert augmentation.check((3, 32, 32)) is None
    assert augmentation.check((1, 28, 28)) is None
    assert "images (C, H, W)" in augmentation.check((2,))
    assert "images (C, H, W)" in Compose([APA(), augmentation]).check((2,))


def test_what_needs_colours_and_squares_says_so():
    for augmentation in (DiffAugment(("color",)), AugmentPipeline(), ADA()):
        assert "takes 1 or 3 channels, not 4" in augmentation.check((4, 8, 8))
    for augmentation in (DiffAugment(("cutout",)), AugmentPipeline(color=0.0), HorizontalFlip(), APA()):
        assert augmentation.check((4, 8, 8)) is None
    assert "AugmentPipeline.rotate90 takes square images, not 8×4" in AugmentPipeline().check((3, 8, 4))
    assert AugmentPipeline(rotate90=False).check((3, 8, 4)) is None
    assert AugmentPipeline(blit=0.0).check((3, 8, 4)) is None


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: HorizontalFlip(1.5), "HorizontalFlip.probability is 1.5: it must be from 0 to 1"),
        (lambda: Compose([]), "Compose.augmentations is"),
        (lambda: DiffAugment(("colour",)), "DiffAugment.policy has 'colour': it takes any of color, translation"),
        (lambda: DiffAugment(("color", "color")), "give each of its entries once"),
        (lambda: AugmentPipeline(geometry=-0.1), "AugmentPipeline.geometry is -0.1"),
        (lambda: AugmentPipeline(float("nan")), "AugmentPipeline.probability is nan"),
        (lambda: ADA(target=2.0), "ADA.target is 2.0"),
        (lambda: ADA(interval=0), "ADA.interval is 0"),
        (lambda: APA(speed_kimg=0.0), "APA.speed_kimg is 0.0"),
        (lambda: APA(probability=-1.0), "APA.probability is -1.0"),
    ],
)
def test_bad_arguments_are_named(build, sentence):
    with pytest.raises(UserError, match=sentence):
        build()
