import math

import pytest
import torch

from lightning_gen.data import Checkerboard2D, Grid2D, Moons2D, Points, Ring2D
from lightning_gen.errors import UserError


@pytest.mark.parametrize(("data", "modes", "std"), [(Ring2D(), 8, 0.01), (Grid2D(), 25, 0.05)])
def test_mixtures_have_their_means_deviations_and_balance(data, modes, std):
    rows = data.split("train")
    x, y = rows.tensors["x"], rows.tensors["y"]
    assert x.shape == (50_000, 2)
    assert x.dtype == torch.float32
    assert data.num_classes == modes == len(data.means)
    counts = y.bincount(minlength=modes).double()
    # χ² of the counts: its mean is modes − 1, its deviation √(2(modes − 1))
    assert (counts - 50_000 / modes).square().sum() / (50_000 / modes) < (modes - 1) + 5 * math.sqrt(2 * (modes - 1))
    residual = x - data.means[y]
    assert abs(residual.std() / std - 1) < 5 / math.sqrt(2 * x.numel())
    assert residual.mean(0).abs().max() < 5 * std / math.sqrt(50_000)
    assert residual.abs().max() < 6 * std


def test_means_are_where_the_papers_have_them():
    ring, grid = Ring2D().means, Grid2D().means
    assert torch.allclose(ring.norm(dim=1), torch.ones(8))
    assert torch.allclose(ring[[0, 2]], torch.tensor([[1.0, 0.0], [0.0, 1.0]]), atol=1e-6)
    assert sorted(grid.tolist()) == [[float(x), float(y)] for x in range(-4, 5, 2) for y in range(-4, 5, 2)]
    assert Ring2D(modes=5, radius=2.0).means.shape == (5, 2)
    assert Grid2D(side=2, spacing=1.0).means.tolist() == [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]


def test_moons_without_noise_lie_on_two_half_circles():
    x = Moons2D(noise=0.0).split("train").tensors["x"].double()
    upper = (x.norm(dim=1) - 1).abs() < 1e-5
    lower = ((x - torch.tensor([1.0, 0.5])).norm(dim=1) - 1).abs() < 1e-5
    assert bool((upper | lower).all())
    assert abs(upper.double().mean() - 0.5) < 0.02
    assert x[upper][:, 1].min() >= 0
    assert x[lower][:, 1].max() <= 0.5 + 1e-6
    noisy = Moons2D().split("train").tensors["x"].double()
    assert abs(noisy.var(0).sum() - x.var(0).sum() - 2 * 0.1**2) < 0.02


def test_the_checkerboard_fills_every_second_square_evenly():
    x = Checkerboard2D().split("train").tensors["x"]
    assert x.min() >= -4
    assert x.max() <= 4
    square = ((x + 4) / 2).floor().clamp(max=3).long()
    assert bool((square.sum(1) % 2 == 0).all())
    counts = (4 * square[:, 1] + square[:, 0]).bincount(minlength=16)
    assert int((counts > 0).sum()) == 8
    filled = counts[counts > 0].double()
    assert (filled - 6250).square().sum() / 6250 < 7 + 5 * math.sqrt(14)
    inside = ((x + 4) / 2).frac()
    assert (inside.mean(0) - 0.5).abs().max() < 5 / math.sqrt(12 * 50_000)
    assert (inside.var(0) - 1 / 12).abs().max() < 0.002


@pytest.mark.parametrize("kind", [Ring2D, Grid2D, Moons2D, Checkerboard2D])
def test_sets_are_a_function_of_their_arguments(kind):
    torch.manual_seed(1)
    one, two = kind(num_samples=100, num_val=50, seed=1), kind(num_samples=100, num_val=50, seed=2)
    assert one.splits == ("train", "val", "test")
    for name in one.splits:
        assert one.fingerprint(name) == two.fingerprint(name)
    assert len({one.fingerprint(name, limit=50) for name in one.splits}) == 3
    assert (len(one.split("train")), len(one.split("test"))) == (100, 50)
    assert one.split("train").shape == one.sample_shape == (2,)
    assert isinstance(one.modality, Points)
    assert one.split("train").tensors["x"].abs().max() < one.modality.limit


def test_points_reach_the_model_as_they_are():
    data = Ring2D(num_samples=10, batch_size=10)
    (batch,) = data.train_dataloader()
    assert torch.equal(data.on_after_batch_transfer(batch, 0)["x"], batch["x"])


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (Ring2D, "modes", 0),
        (Ring2D, "radius", 0.0),
        (Ring2D, "std", 0.0),
        (Grid2D, "side", 0),
        (Grid2D, "spacing", -1.0),
        (Grid2D, "std", -1.0),
        (Moons2D, "noise", -0.1),
        (Moons2D, "num_samples", 0),
        (Moons2D, "num_val", 0),
    ],
)
def test_arguments_out_of_range_are_named(kind, key, value):
    with pytest.raises(UserError, match=rf"data\.init_args\.{key} is {value}"):
        kind(**{key: value})
