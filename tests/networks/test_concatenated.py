"""Classes and attributes as input channels."""

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.networks import DCGANDiscriminator, MLPDiscriminator
from lightning_gen.networks.base import judgement
from lightning_gen.networks.concatenated import ConcatenatedClasses
from lightning_gen.networks.packed import Packed


@torch.no_grad()
def test_maps_stand_beside_the_image():
    torch.manual_seed(0)
    inner = DCGANDiscriminator(image_size=8, channels=5, width=4, batch_norm=False)
    network = ConcatenatedClasses(inner, num_classes=4, maps=2)
    x, y = torch.randn(3, 3, 8, 8), torch.tensor([2, 0, 2])
    maps = torch.stack([torch.stack([torch.full((8, 8), float(v)) for v in network.embed.weight[k]]) for k in y])
    expected = judgement(inner(torch.cat((x, maps), dim=1))).scores
    torch.testing.assert_close(judgement(network(x, y)).scores, expected)


@torch.no_grad()
def test_entries_stand_beside_the_vector_and_attributes_add_up():
    inner = MLPDiscriminator(sample_dim=3, width=8, depth=1)
    network = ConcatenatedClasses(inner, num_classes=3)
    x, attributes = torch.randn(2, 2), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    weight = network.embed.weight[:, 0]
    entries = torch.stack((weight[0] + weight[2], torch.zeros(())))[:, None]
    expected = judgement(inner(torch.cat((x, entries), dim=1))).scores
    torch.testing.assert_close(judgement(network(x, attributes)).scores, expected)


def test_the_embedding_learns():
    network = ConcatenatedClasses(MLPDiscriminator(sample_dim=3, width=8, depth=1), num_classes=3)
    judgement(network(torch.randn(2, 2), torch.tensor([0, 2]))).scores.sum().backward()
    assert (network.embed.weight.grad.abs().sum(dim=1) > 0).tolist() == [True, False, True]
    assert network.num_classes == 3
    assert network.stages() == network.discriminator.stages()


def test_what_cannot_be_is_refused():
    inner = MLPDiscriminator(sample_dim=3, width=8, depth=1)
    for key, options in (("num_classes", {"num_classes": 0}), ("maps", {"num_classes": 2, "maps": 0})):
        with pytest.raises(UserError, match=f"ConcatenatedClasses.{key} is 0"):
            ConcatenatedClasses(inner, **options)
    with pytest.raises(UserError, match=r"ConcatenatedClasses.discriminator has num_classes 3"):
        ConcatenatedClasses(MLPDiscriminator(num_classes=3), 3)
    with pytest.raises(UserError, match=r"ConcatenatedClasses.discriminator has packing 2"):
        ConcatenatedClasses(Packed(inner), 3)


def test_the_gradient_penalty_is_differentiable():
    network = ConcatenatedClasses(DCGANDiscriminator(image_size=8, channels=2, width=4, batch_norm=False), 3)
    x = torch.randn(3, 1, 8, 8, requires_grad=True)
    scores = judgement(network(x, torch.arange(3))).scores
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert next(network.discriminator.parameters()).grad.abs().sum() > 0
