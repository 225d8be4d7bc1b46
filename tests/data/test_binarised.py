import pytest
import torch

from lightning_gen.data import Binarised, Digits, DynamicallyBinarised, Moons2D, Thresholded
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
    assert torch.equal(everything(data, "val")["x"], everything(Binarised(DIGITS), "val")["x"])
    assert data.examples()["x"].unique().tolist() == [-1.0, 1.0]


def test_processes_draw_different_thresholds():
    companion = DynamicallyBinarised(DIGITS).companion
    a, b = (companion.beside(torch.arange(start, 20, 2))["threshold"] for start in (0, 1))
    assert not torch.equal(a, b)


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match=r"data\.init_args\.threshold is 0"):
        Thresholded(DIGITS, 0.0)
    with pytest.raises(UserError, match="Moons2D"):
        Binarised(Moons2D()).split("train")
