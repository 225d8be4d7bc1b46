"""PatchGAN: what a score sees, and the sizes of images that it takes."""

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.networks.patch import PatchDiscriminator


def make(**options):
    torch.manual_seed(0)
    return PatchDiscriminator(**{"channels": 1, "width": 2} | options)


@pytest.mark.parametrize(("num_layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_the_receptive_field_is_that_of_the_paper(num_layers, field):
    network = make(num_layers=num_layers).double().eval()
    for parameter in network.parameters():  # so that no path cancels another
        torch.nn.init.constant_(parameter, 0.1)
    side = 2**num_layers * 3 + 2 * field
    x = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    scores = network(x)
    middle = scores.shape[1] // 2
    (gradient,) = torch.autograd.grad(scores[0, middle, middle], x)
    rows, columns = gradient[0, 0].nonzero().unbind(1)
    assert rows.max() - rows.min() + 1 == field
    assert columns.max() - columns.min() + 1 == field


@pytest.mark.parametrize("size", [(24, 24), (25, 40), (70, 33)])
def test_scores_are_a_map_of_every_image(size):
    scores = make()(torch.randn(2, 1, *size))
    assert scores.shape == (2, size[0] // 8 - 2, size[1] // 8 - 2)


def test_the_networks_of_the_paper():
    network = PatchDiscriminator()
    # Isola et al.: C64-C128-C256-C512, then one channel; biases where no batch norm follows
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 128, 256, 512, 1]
    assert [c.stride[0] for c in convolutions] == [2, 2, 2, 1, 1]
    assert [c.bias is not None for c in convolutions] == [True, False, False, False, True]
    assert abs(convolutions[3].weight.std().item() - 0.02) < 1e-4


def test_images_do_not_see_each_other_without_batch_norm():
    x = torch.randn(4, 1, 24, 24)
    network = make(batch_norm=False)
    torch.testing.assert_close(network(x)[:1], network(x[:1]))
    network = make()
    assert not torch.allclose(network(x)[:1], network(x[:1]), rtol=1e-3)


@pytest.mark.parametrize(
    ("shape", "told"), [((2, 3, 24, 24), "channels is 1 but the images have 3"), ((2, 1, 23, 64), "num_layers.*23×64")]
)
def test_other_images_are_refused(shape, told):
    with pytest.raises(UserError, match=told):
        make()(torch.zeros(shape))


def test_no_layer_is_refused():
    with pytest.raises(UserError, match="num_layers is 0"):
        make(num_layers=0)
