import math

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.checkpoints import instantiate
from lightning_gen.data import DataModule, Digits, ImageFolder, Images, Moons2D, Stacked, TensorRows, TrainLoader
from lightning_gen.errors import UserError


class Levels(DataModule):
    """`count` grey images, of a level each; classes 0…3 in turn, called by letters."""

    modality = Images()
    sample_shape = (1, 2, 2)
    splits = ("train", "test")
    num_classes = 4
    class_names = property(lambda self: list("abcd"))

    def __init__(self, count: int = 20, **kwargs) -> None:
        super().__init__(**kwargs)
        self.count, self.prepared = count, False

    def prepare_data(self):
        self.prepared = True

    def load_split(self, name):
        start = 100 * (name == "test")
        x = torch.arange(start, start + self.count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
        return TensorRows(x, torch.arange(self.count) % 4)


def everything(rows):
    return rows[torch.arange(len(rows))]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_class_is_the_number_that_the_channels_form(channels):
    data = Stacked(Levels(), channels, num_samples=300, num_val=50)
    assert (data.num_classes, data.sample_shape, data.splits) == (4**channels, (channels, 2, 2), ("train", "test"))
    for split, start, count in (("train", 0, 300), ("test", 100, 50)):
        batch = everything(data.split(split))
        assert batch["x"].shape == (count, channels, 2, 2)
        assert batch["x"].dtype == torch.uint8
        assert bool((batch["x"] == batch["x"][..., :1, :1]).all())
        levels = batch["x"][:, :, 0, 0].long() - start
        assert 0 <= int(levels.min()) <= int(levels.max()) < 20
        by_hand = [int("".join(str(level % 4) for level in row), base=4) for row in levels.tolist()]
        assert batch["y"].tolist() == by_hand == data.split(split).y.tolist()
    assert len(data.class_names) == data.num_classes
    assert data.class_names[int("321"[:channels], base=4)] == "-".join("dcb"[:channels])


def test_images_are_drawn_evenly_and_independently():
    data = Stacked(Levels(4), channels=2, num_samples=16_000)
    counts = data.split("train").y.bincount(minlength=16).double()
    # χ² with 15 degrees of freedom: mean 15, deviation √30
    assert (counts - 1000).square().sum() / 1000 < 15 + 5 * math.sqrt(30)


def test_the_set_is_a_function_of_its_arguments():
    def make(seed=0, count=20, **options):
        return Stacked(Levels(count), num_samples=30, num_val=30, seed=seed, **options)

    before = make().fingerprint("train")
    assert make(seed=1).fingerprint("train") == before
    others = [make(count=21), make(channels=2), Stacked(Levels(), num_samples=31)]
    assert len({before, make().fingerprint("test"), *(other.fingerprint("train") for other in others)}) == 5
    assert make().fingerprint("train", limit=30) == before != make().fingerprint("train", limit=29)
    assert make().split("train").parts.tolist() != make().split("test").parts.tolist()


def test_rows_are_put_together_in_any_order():
    rows = Stacked(Levels(), channels=3, num_samples=40).split("train")
    whole, index = everything(rows), torch.tensor([7, 3, 3, 39])
    assert torch.equal(rows[index]["x"], whole["x"][index])
    assert torch.equal(rows[index]["y"], whole["y"][index])
    assert rows[index[:0]]["x"].shape == (0, 3, 2, 2)
    batches = list(TrainLoader(rows, 8, flip=True))
    assert [set(batch) for batch in batches] == [{"x", "y", "flip"}] * 5
    shards = [list(TrainLoader(rows, 4, rank=rank, world_size=2)) for rank in range(2)]
    for step, batch in enumerate(batches):
        for rank in range(2):
            assert torch.equal(shards[rank][step]["x"], batch["x"][rank::2])


def test_images_on_the_disk_are_stacked_too(tmp_path):
    for i in range(6):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(np.full((3, 3), i, dtype=np.uint8)).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    source = ImageFolder(str(tmp_path), 3, channels=1, labels=True, in_memory=False)
    data = Stacked(source, channels=2, num_samples=8, batch_size=4)
    for batch in data.train_dataloader():
        parity = batch["x"][:, :, 0, 0].long() % 2
        assert torch.equal(batch["y"], 2 * parity[:, 0] + parity[:, 1])


def test_the_source_is_named_in_yaml_by_its_class():
    config = {
        "class_path": "lightning_gen.data.Stacked",
        "init_args": {
            "data": {"class_path": "Digits", "init_args": {"image_size": 8, "val_fraction": 0.5}},
            "channels": 2,
            "num_samples": 64,
            "batch_size": 16,
        },
    }
    data = instantiate(DataModule, config)
    assert type(data) is Stacked
    assert type(data.data) is Digits
    assert data.data.val_fraction == 0.5
    data.prepare_data()
    data.setup("fit")
    (batch, *_) = data.train_dataloader()
    assert batch["x"].shape == (16, 2, 8, 8)
    assert data.num_classes == 100
    out = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(Images().quantise(out["x"]), batch["x"])


def test_the_source_fetches_what_it_needs():
    source = Levels()
    Stacked(source).prepare_data()
    assert source.prepared


@pytest.mark.parametrize(("key", "value"), [("channels", 0), ("channels", 7), ("num_samples", 0), ("num_val", 0)])
def test_arguments_out_of_range_are_named(key, value):
    with pytest.raises(UserError, match=rf"data\.init_args\.{key} is {value}; it must be"):
        Stacked(Levels(), **{key: value})


def test_unfit_sources_are_named(tmp_path):
    with pytest.raises(UserError, match=r"data is Moons2D, with samples of shape \(2,\): use grey images"):
        Stacked(Moons2D(num_samples=8)).setup("fit")
    Image.fromarray(np.zeros((3, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match=r"data is ImageFolder, with samples of shape \(3, 2, 2\): use grey"):
        Stacked(ImageFolder(str(tmp_path), 2)).setup("fit")
    with pytest.raises(UserError, match="data is ImageFolder, which has no classes"):
        Stacked(ImageFolder(str(tmp_path), 2, channels=1)).setup("fit")
