"""The benchmark of a step of diffusion and flow matching: both arms do the same work."""

import dataclasses
import importlib
import sys
from pathlib import Path

import pytest
import torch

from lightning_gen.data import TensorRows
from lightning_gen.networks.time_dependent import UNet

SIZE = 8


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module("benchmark_step")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recipe", ["ddpm", "flow_matching"])
def test_the_loop_by_hand_takes_the_same_steps(recipe, benchmark, monkeypatch):
    """All samples, times and noise are the same, so that no order matters."""
    words = f"--recipe={recipe} --batch_size=3 --image_size={SIZE} --width=8 --warmup=1 --device=cpu"
    monkeypatch.setattr(sys, "argv", ["", *words.split()])
    options, made, entry = benchmark.parse(), [], benchmark.RECIPES[recipe]

    def networks(options):
        small = (UNet(SIZE, 3, 8, [1], 1, [SIZE], dropout=0.0),)
        made.append(small if recipe == "ddpm" else entry.networks(options))
        return made[-1]

    monkeypatch.setitem(benchmark.RECIPES, recipe, dataclasses.replace(entry, networks=networks))
    noise = torch.randn(3, entry.shape[0], SIZE, SIZE)
    monkeypatch.setattr(torch, "randn_like", lambda x: noise.to(x))
    monkeypatch.setattr(torch, "rand", lambda n, **options: torch.full((n,), 0.3, **options))
    randint = torch.randint

    def same_step(high, shape, **options):
        return torch.full(shape, 299, **options) if high == 1000 else randint(high, shape, **options)

    monkeypatch.setattr(torch, "randint", same_step)
    x = torch.arange(entry.shape[0] * SIZE * SIZE).to(torch.uint8).reshape(1, -1, SIZE, SIZE)
    rows = TensorRows(x.expand(32, -1, -1, -1))
    for arm in ("plain", "fit_bare"):
        benchmark.run_arm(arm, rows, options, steps=2)
    (by_hand,), (by_fit,) = made
    torch.manual_seed(0)
    (fresh,) = networks(options)
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(by_fit.state_dict()[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
        assert not torch.equal(fresh.state_dict()[name], tensor), name
