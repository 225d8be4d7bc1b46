"""PacGAN: m samples, one score."""

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.networks import DCGANDiscriminator, MLPDiscriminator
from lightning_gen.networks.base import judgement
from lightning_gen.networks.packed import Packed


@torch.no_grad()
def test_images_are_judged_with_their_channels_side_by_side():
    torch.manual_seed(0)
    inner = DCGANDiscriminator(image_size=8, channels=6, width=4, batch_norm=False).eval()
    x = torch.randn(4, 2, 8, 8)
    manual = torch.stack((torch.cat((x[0], x[1], x[2])), torch.cat((x[3], x[0], x[1]))))
    packed = Packed(inner, packing=3)
    found = judgement(packed(torch.cat((x, x[:2])))).scores
    assert found.shape == (2,)
    torch.testing.assert_close(found, judgement(inner(manual)).scores)


@torch.no_grad()
def test_vectors_are_judged_with_their_entries_side_by_side():
    inner = MLPDiscriminator(sample_dim=4, width=8, depth=1)
    x = torch.randn(6, 2)
    manual = torch.cat((x[0::2], x[1::2]), dim=1)
    packed = Packed(inner, packing=2)
    torch.testing.assert_close(judgement(packed(x)).scores, judgement(inner(manual)).scores)


@torch.no_grad()
def test_packs_may_be_packed():
    inner = MLPDiscriminator(sample_dim=8, width=8, depth=1)
    packed, x = Packed(Packed(inner, 2), 2), torch.randn(8, 2)
    assert packed.packing == 4
    torch.testing.assert_close(judgement(packed(x)).scores, judgement(inner(x.view(2, 8))).scores)
    with pytest.raises(UserError, match=r"Packed.packing is 4, but a batch has 6 samples"):
        packed(x[:6])


def test_a_pack_of_one_changes_nothing():
    inner, x = MLPDiscriminator(width=8, depth=1), torch.randn(3, 2)
    assert torch.equal(judgement(Packed(inner, 1)(x)).scores, judgement(inner(x)).scores)


def test_layers_are_those_within():
    inner = DCGANDiscriminator(image_size=8, channels=6, width=4)
    assert Packed(inner).stages() == inner.stages()
    assert Packed(inner).num_classes is None


def test_what_cannot_be_packed_is_refused():
    inner = MLPDiscriminator(sample_dim=4, width=8, depth=1)
    with pytest.raises(UserError, match=r"Packed.packing is 0"):
        Packed(inner, 0)
    with pytest.raises(UserError, match="a batch has 5 samples: batch_size must be a multiple"):
        Packed(inner, 2)(torch.randn(5, 2))
    with pytest.raises(UserError, match=r"Packed.discriminator has num_classes 3"):
        Packed(MLPDiscriminator(sample_dim=4, num_classes=3))


def test_the_gradient_penalty_is_that_of_the_pack():
    inner = DCGANDiscriminator(image_size=8, channels=4, width=4, batch_norm=False)
    x = torch.randn(4, 2, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(judgement(Packed(inner)(x)).scores.sum(), x, create_graph=True)
    together = x.detach().view(2, 4, 8, 8).requires_grad_()
    (expected,) = torch.autograd.grad(judgement(inner(together)).scores.sum(), together)
    torch.testing.assert_close(gradient, expected.view_as(x))
    gradient.square().sum().backward()
    assert next(inner.parameters()).grad.abs().sum() > 0
