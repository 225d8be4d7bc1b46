"""LeCam against a re-computation with plain numbers."""

import math

import pytest
import torch
from losses_fakes import critic_turn, random

from lightning_gen.errors import UserError
from lightning_gen.losses import LeCam


def turn_of(real, fake):
    return critic_turn(None, torch.zeros(len(real), 2), scores=(real, fake))


def batches(count):
    return [(random(6, seed=2 * k) + 1, random(6, seed=2 * k + 1) - 1) for k in range(count)]


def update(penalty, *turns):
    """The mean term of an update's batches."""
    terms = [penalty(turn) for turn in turns]
    penalty.advance()
    return torch.stack(terms).mean()


def reference(steps, weight, decay):
    """Terms and anchors by the definition, one number at a time."""
    anchors, terms = None, []
    for real, fake in steps:
        means = math.fsum(real.tolist()) / len(real), math.fsum(fake.tolist()) / len(fake)
        if anchors is None:
            terms.append(0.0)
            anchors = means
            continue
        from_fake = math.fsum((s - anchors[1]) ** 2 for s in real.tolist()) / len(real)
        from_real = math.fsum((s - anchors[0]) ** 2 for s in fake.tolist()) / len(fake)
        terms.append(weight * (from_fake + from_real))
        anchors = tuple(decay * a + (1 - decay) * m for a, m in zip(anchors, means, strict=True))
    return terms, anchors


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.99])
def test_terms_and_anchors_over_steps(decay):
    steps, penalty = batches(6), LeCam(weight=0.7, decay=decay).double()
    terms = [update(penalty, turn_of(*step)).item() for step in steps]
    wanted, anchors = reference(steps, 0.7, decay)
    assert terms == pytest.approx(wanted, rel=1e-12)
    assert (penalty.real_anchor.value.item(), penalty.fake_anchor.value.item()) == pytest.approx(anchors, rel=1e-12)


def test_gradient_flows_through_the_scores_alone():
    penalty, ((a, b), (real, fake)) = LeCam(weight=1.0, decay=0.9).double(), batches(2)
    update(penalty, turn_of(a, b))
    real.requires_grad_()
    fake.requires_grad_()
    slopes = torch.autograd.grad(penalty(turn_of(real, fake)), (real, fake))
    torch.testing.assert_close(slopes[0], 2 * (real.detach() - b.mean()) / 6)
    torch.testing.assert_close(slopes[1], 2 * (fake.detach() - a.mean()) / 6)
    assert not penalty.real_anchor.value.requires_grad


def test_the_first_evaluation_can_be_differentiated():
    real, fake = (s.requires_grad_() for s in batches(1)[0])
    LeCam()(turn_of(real, fake)).backward()
    assert (real.grad == 0).all()


def test_batches_that_are_accumulated_equal_one():
    whole, parts = LeCam(decay=0.9).double(), LeCam(decay=0.9).double()
    for real, fake in batches(4):
        term = update(whole, turn_of(real, fake))
        shares = update(parts, *(turn_of(r, f) for r, f in zip(real.chunk(3), fake.chunk(3), strict=True)))
        torch.testing.assert_close(shares, term)
    torch.testing.assert_close(parts.state_dict(), whole.state_dict())


def test_processes_that_average_their_buffers_equal_one():
    whole, parts = LeCam(decay=0.9).double(), [LeCam(decay=0.9).double() for _ in range(2)]
    for real, fake in batches(4):
        term = update(whole, turn_of(real, fake))
        shares = [part(turn_of(r, f)) for part, r, f in zip(parts, real.chunk(2), fake.chunk(2), strict=True)]
        torch.testing.assert_close(torch.stack(shares).mean(), term)
        for buffers in zip(*(part.buffers() for part in parts), strict=True):
            mean = torch.stack(buffers).mean()
            for buffer in buffers:
                buffer.copy_(mean)
        for part in parts:
            part.advance()
        torch.testing.assert_close(parts[0].state_dict(), whole.state_dict())


def test_a_checkpoint_carries_the_anchors():
    first, second, steps = LeCam(), LeCam(), batches(3)
    for step in steps[:2]:
        update(first, turn_of(*step))
    second.load_state_dict(first.state_dict())
    assert second(turn_of(*steps[2])) == first(turn_of(*steps[2])) > 0


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decays_out_of_range_are_refused(decay):
    with pytest.raises(UserError, match=rf"LeCam.decay is {decay}: .* at least 0 and below 1"):
        LeCam(decay=decay)


def test_negative_weights_are_refused():
    with pytest.raises(UserError, match=r"LeCam.weight is -1.0: it must be at least 0"):
        LeCam(weight=-1.0)
