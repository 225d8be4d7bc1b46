import numpy as np
import pytest
import torch

from lightning_gen.data import Binarised, Digits, DynamicallyBinarised, Moons2D, Thresholded
from lightning_gen.data.binarised import Thresholds, split_mix
from lightning_gen.data.loader import TrainLoader
from lightning_gen.errors import UserError

DIGITS = Digits(image_size=8)


def everything(data, split):
    rows = data.split(split)
    return rows[torch.arange(len(rows))]


@pytest.mark.parametrize("threshold", [0.5, 0.25, 1.0])
def test_white_is_what_is_bright_enough(threshold):
    found = everything(Thresholded(DIGITS, threshold), "val")
    grey = everything(DIGITS, "val")
    assert torch.equal(found["x"] == 255, grey["x"] >= 255 * threshold)
    assert found["x"].unique().tolist() == [0, 255]
    assert torch.equal(found["y"], grey["y"])


def test_half_grey_of_the_digits_is_white():
    levels = (everything(DIGITS, "train")["x"].double() * 16 / 255).round()
    assert torch.equal(everything(Thresholded(DIGITS), "train")["x"] == 255, levels >= 8)


def test_a_pixel_is_white_with_the_probability_of_its_brightness():
    grey = everything(DIGITS, "train")["x"].double() / 255
    found = everything(Binarised(DIGITS), "train")["x"] == 255
    for low, high in ((0.0, 1e-9), (0.2, 0.3), (0.45, 0.55), (0.9, 0.99), (1.0, 1.1)):
        there = (grey >= low) & (grey < high)
        p, count = float(grey[there].mean()), int(there.sum())
        assert abs(float(found[there].double().mean()) - p) <= 5 * (p * (1 - p) / count) ** 0.5


def test_static_images_are_always_the_same():
    first, second = (everything(Binarised(DIGITS, seed=seed), "train")["x"] for seed in (0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first[:359], everything(Binarised(DIGITS), "val")["x"])


def epoch(data):
    return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]


def test_dynamic_training_images_are_drawn_anew_each_time():
    data = DynamicallyBinarised(DIGITS, batch_size=100)
    loader = data.train_dataloader()
    first, second = ([data.on_after_batch_transfer(batch, 0) for batch in loader] for _ in range(2))
    assert all(batch["x"].unique().tolist() == [-1.0, 1.0] for batch in first)
    assert all("y" in batch and "threshold" not in batch for batch in first)
    assert not torch.equal(first[0]["x"], second[0]["x"])
    assert torch.equal(first[0]["x"], epoch(DynamicallyBinarised(DIGITS, batch_size=100))[0]["x"])
    mean = torch.cat([batch["x"] for batch in first + second]).mean((0, 1)) / 2 + 0.5
    grey = everything(DIGITS, "train")["x"].double().mean((0, 1)) / 255
    assert (mean - grey).abs().max() < 5 * (0.25 / 2800) ** 0.5


@pytest.mark.parametrize("split", ["train", "val"])
def test_whoever_asks_for_a_split_sees_no_grey(split):
    data, still = DynamicallyBinarised(DIGITS), Binarised(DIGITS)
    data.setup("fit")
    assert torch.equal(everything(data, split)["x"], everything(still, split)["x"])
    assert data.fingerprint(split) == still.fingerprint(split)
    rows = torch.cat([batch["x"] for batch in data.rows(split, batch_size=1000)])
    assert rows.unique().tolist() == [0, 255]
    assert data.examples()["x"].unique().tolist() == [-1.0, 1.0]


def test_two_processes_show_what_one_shows_with_a_batch_as_large_as_both():
    data = DynamicallyBinarised(DIGITS)

    def shown(rank, world_size):
        share = {"rank": rank, "world_size": world_size, "companion": data.companion}
        loader = TrainLoader(data.training_rows, 64 // world_size, epoch=3, **share)
        return [data.on_after_batch_transfer(batch, 0)["x"] for batch in loader]

    for whole, first, second in zip(shown(0, 1), shown(0, 2), shown(1, 2), strict=True):
        assert torch.equal(whole[0::2], first)
        assert torch.equal(whole[1::2], second)


def test_numbers_of_a_place_are_those_of_the_published_sequence():
    # the first five of splitmix64.c by S. Vigna with the state 1234567
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    places = np.array([4, 0, 1, 2, 3], dtype=np.uint64)
    assert split_mix(1234567, places).tolist() == [16408922859458223821, *expected]
    assert split_mix(1234567 + 2**64, places).tolist() == [16408922859458223821, *expected]


def test_thresholds_are_uniform_and_independent():
    found = Thresholds((1, 7, 9), 0).beside(torch.arange(10**6, 10**6 + 8000))["threshold"]
    assert found.shape == (8000, 1, 7, 9)
    assert found.dtype == torch.uint8
    counts = found.flatten().bincount(minlength=256).double()
    mean = found.numel() / 255
    assert counts[255] == 0
    chi_square = ((counts[:255] - mean).square() / mean).sum()
    assert abs(chi_square - 254) < 5 * (2 * 254) ** 0.5
    u = found.flatten(1).double()
    pairs = [(u[:, :-1], u[:, 1:]), (u[:-1], u[1:]), (u[:, :-4], u[:, 4:])]  # pixels, images, words
    for a, b in pairs:
        r = ((a - 127) * (b - 127)).mean() / ((255**2 - 1) / 12)
        assert abs(r) < 5 / a.numel() ** 0.5
    assert not torch.equal(found, Thresholds((1, 7, 9), 1).beside(torch.arange(10**6, 10**6 + 8000))["threshold"])


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match=r"data\.init_args\.threshold is 0"):
        Thresholded(DIGITS, 0.0)
    with pytest.raises(UserError, match="Moons2D"):
        Binarised(Moons2D()).split("train")
