"""ADA and APA: how the probability follows the signs of the discriminator's scores."""

import pytest
import torch

from lightning_gen.augmentation import ADA, APA, AugmentPipeline

POSITIVE = torch.tensor([3.0, 0.1, 2.0, 7.0, 0.2])


@pytest.fixture(params=[ADA, APA])
def make(request):
    return request.param


def update(augmentation, scores):
    augmentation.observe(scores)
    augmentation.adjust()
    return float(augmentation.probability)


def test_it_moves_every_interval_by_the_images_seen(make):
    augmentation = make(interval=3, speed_kimg=1.0)
    found = [update(augmentation, POSITIVE) for _ in range(7)]
    assert found == pytest.approx([0, 0, 0.015, 0.015, 0.015, 0.03, 0.03])  # 15 of 1,000 images in three updates


def test_it_falls_below_the_target_and_stays_at_it(make):
    augmentation = make(interval=1, speed_kimg=0.1)
    mixed = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0])  # mean sign 0.6: the target
    assert update(augmentation, POSITIVE) == pytest.approx(0.05)
    assert update(augmentation, mixed) == pytest.approx(0.05)
    assert update(augmentation, torch.tensor([1.0, 1.0, -1.0, 1.0])) == pytest.approx(0.01)
    assert update(augmentation, -POSITIVE) == 0.0


def test_it_stays_within_zero_and_one(make):
    augmentation = make(interval=1, speed_kimg=0.003)
    assert update(augmentation, -POSITIVE) == 0
    assert [update(augmentation, POSITIVE) for _ in range(2)] == [1, 1]


def test_the_mean_is_over_all_updates_and_parts_of_updates(make):
    augmentation = make(target=0.0, interval=2, speed_kimg=1.0)
    for scores in (torch.full((6,), -0.1), torch.full((3,), 9.0)):
        augmentation.observe(scores)
    augmentation.adjust()
    assert update(augmentation, torch.full((4,), 5.0)) == pytest.approx(0.013)  # 7 positive of 13


def test_scores_exactly_zero_have_no_sign(make):
    augmentation = make(target=0.0, interval=1, speed_kimg=1.0)
    augmentation.probability.fill_(0.5)
    assert update(augmentation, torch.zeros(5)) == 0.5


def test_updates_without_scores_change_nothing(make):
    augmentation = make(interval=1)
    augmentation.probability.fill_(0.5)
    augmentation.adjust()
    assert augmentation.probability == 0.5


def test_processes_that_average_agree_with_one(make, monkeypatch):
    torch.manual_seed(0)
    scores = torch.randn(8, 2, 4) + torch.tensor([1.0, -1.0])[:, None] + torch.linspace(-2, 2, 8)[:, None, None]
    alone = make(target=0.2, interval=2, speed_kimg=0.1)
    single = [update(alone, part.flatten()) for part in scores]
    ranks = [make(target=0.2, interval=2, speed_kimg=0.1) for _ in range(2)]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    together = []
    for part in scores:
        for rank, own in zip(ranks, part, strict=True):
            rank.observe(own)
        for one, other in zip(*(rank.buffers() for rank in ranks), strict=True):
            one.copy_((one + other) / 2)
            other.copy_(one)
        for rank in ranks:
            rank.adjust()
        assert ranks[0].probability == ranks[1].probability
        together.append(float(ranks[0].probability))
    assert together == pytest.approx(single)
    assert len(set(together)) > 2


def test_resuming_between_moves_changes_nothing(make):
    through, before = (make(interval=4, speed_kimg=1.0) for _ in range(2))
    expected = [update(through, POSITIVE) for _ in range(10)]
    for _ in range(6):
        update(before, POSITIVE)
    after = make(interval=4, speed_kimg=1.0)
    after.load_state_dict(before.state_dict())
    assert [update(after, POSITIVE) for _ in range(4)] == expected[6:]


def test_ada_starts_from_its_pipeline():
    ada = ADA(AugmentPipeline(0.3, color=0.0), speed_kimg=0.1, interval=1)
    assert update(ada, POSITIVE) == pytest.approx(0.35)
    assert "pipeline.probability" in ada.state_dict()
    x = torch.randn(50, 3, 8, 8)
    torch.manual_seed(0)
    found = ada(x)
    torch.manual_seed(0)
    assert torch.equal(found, ada.pipeline(x))
    assert not torch.equal(found, x)


def test_apa_passes_its_share_of_fakes_off_as_real():
    torch.manual_seed(0)
    real, fake = torch.randn(4000, 2), torch.randn(4000, 2).requires_grad_()
    apa = APA(0.3)
    found = apa.replace(real, fake)
    swapped = (found == fake).all(dim=1)
    assert (swapped ^ (found == real).all(dim=1)).all()
    assert abs(swapped.float().mean() - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    assert not found.requires_grad
    assert apa(real) is real
    assert torch.equal(APA().replace(real, fake), real)
    assert apa.replace(torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)).shape == (3, 1, 2, 2)
