from types import SimpleNamespace

import pytest
import torch

from lightning_gen.data import DataModule, Digits, EvalLoader, Grid2D, Images, SeedLoader, TensorRows
from lightning_gen.data.base import holdout
from lightning_gen.errors import UserError
from lightning_gen.noise import sample_seeds


class Tagged(DataModule):
    """Images of one row whose left pixel is their position and whose right pixel is 255; train only."""

    modality = Images()

    def __init__(self, count: int = 7, flip: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.count, self.flip = count, flip

    sample_shape = (1, 1, 2)
    splits = ("train",)

    def load_split(self, name):
        left = torch.arange(self.count, dtype=torch.uint8).view(-1, 1, 1, 1)
        return TensorRows(torch.cat((left, torch.full_like(left, 255)), dim=3), torch.arange(self.count))


def attach(data, rank=0, world_size=1, batches_per_step=None):
    model = SimpleNamespace(dtype=torch.float32)
    if batches_per_step is not None:
        model.batches_per_step = batches_per_step
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world_size,
        lightning_module=model,
        limit_train_batches=1.0,
        overfit_batches=0.0,
        fit_loop=SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return data


@pytest.mark.parametrize(("key", "value"), [("batch_size", 0), ("num_workers", -1), ("num_predict", 0)])
def test_arguments_out_of_range_are_named(key, value):
    with pytest.raises(UserError, match=rf"data\.init_args\.{key} is {value}; it must be"):
        Tagged(**{key: value})


def test_absent_splits_are_named():
    with pytest.raises(UserError, match=r"Tagged has no split 'test'; it has train"):
        Tagged().split("test")
    with pytest.raises(UserError, match=r"did you mean 'train'"):
        Tagged().split("trian")


def test_splits_are_loaded_once():
    data = Tagged()
    assert data.split("train") is data.split("train")


def test_a_step_takes_every_batch_it_needs():
    data = attach(Tagged(count=24, batch_size=2), rank=1, world_size=2, batches_per_step=3)
    loader = data.train_dataloader()
    assert [len(batch["x"]) for batch in loader] == [6, 6]
    assert [len(b["x"]) for b in Tagged(count=24, batch_size=2).train_dataloader()] == [2] * 12


def test_a_set_smaller_than_a_step_is_refused():
    data = attach(Tagged(count=23, batch_size=4), world_size=2, batches_per_step=3)
    with pytest.raises(UserError, match=r"batch_size is 4, so a step needs 24 samples .* has 23; .* at most 3"):
        data.train_dataloader()
    data.count = 5
    with pytest.raises(UserError, match="use more data"):
        attach(Tagged(count=5, batch_size=4), world_size=2, batches_per_step=3).train_dataloader()


def test_without_a_split_evaluation_gets_one_batch_of_seeds():
    drawn = []
    for rank in range(2):
        data = attach(Tagged(batch_size=3, seed=5), rank, 2)
        for loader in (data.val_dataloader(), data.test_dataloader()):
            (batch,) = loader
            assert isinstance(loader, SeedLoader)
            assert len(batch["seeds"]) == 3
        drawn.append(batch["seeds"])
    assert torch.equal(torch.stack(drawn, 1).flatten(), sample_seeds(5, torch.arange(6)))


def test_with_a_split_evaluation_gets_it():
    data = attach(Digits(batch_size=100), rank=1, world_size=2)
    loader = data.val_dataloader()
    assert isinstance(loader, EvalLoader)
    assert torch.equal(torch.cat([b["index"] for b in loader]), torch.arange(1, 359, 2))


def test_prediction_gets_seeds():
    data = attach(Tagged(batch_size=3, num_predict=10), rank=1, world_size=3)
    assert [b["index"].tolist() for b in data.predict_dataloader()] == [[1, 4, 7]]


def test_rows_are_stored_samples_in_order_without_padding():
    data = Tagged()
    for world_size in (1, 2, 3, 9):
        for rank in range(world_size):
            batches = list(data.rows("train", rank, world_size, batch_size=2, limit=5))
            assert [i for b in batches for i in b["index"].tolist()] == list(range(rank, 5, world_size))
            assert all(
                b["x"].dtype == torch.uint8 and b["x"][:, 0, 0, 0].tolist() == b["index"].tolist() for b in batches
            )
    assert sum(len(b["x"]) for b in data.rows("train")) == 7


def test_fingerprints_follow_content():
    assert Tagged().fingerprint("train") == Tagged(batch_size=1).fingerprint("train")
    assert Tagged().fingerprint("train") != Tagged(count=8).fingerprint("train")
    assert Tagged().fingerprint("train") == Tagged(count=8).fingerprint("train", limit=7)


def test_training_batches_are_mirrored_and_brought_to_model_form():
    data = attach(Tagged(count=200, flip=True, batch_size=200))
    (batch,) = data.train_dataloader()
    x, flip, y = batch["x"].clone(), batch["flip"], batch["y"]
    out = data.on_after_batch_transfer(batch, 0)
    assert set(out) == {"x", "y"}
    assert out["x"].dtype == torch.float32
    assert torch.equal(out["y"], y)
    assert 60 < int(flip.sum()) < 140
    levels = Images().quantise(out["x"])
    assert torch.equal(levels[flip], x[flip].flip(-1))
    assert torch.equal(levels[~flip], x[~flip])


def test_samples_take_the_precision_of_the_weights():
    data = attach(Tagged(batch_size=7))
    (batch,) = data.train_dataloader()
    data.trainer.lightning_module.dtype = torch.float64
    assert data.on_after_batch_transfer(batch, 0)["x"].dtype == torch.float64


def test_mirroring_is_off_in_evaluation_and_unless_asked_for():
    data = attach(Tagged(count=20, batch_size=20, flip=True))
    (batch,) = data.rows("train")
    out = data.on_after_batch_transfer(batch, 0)
    assert set(out) == {"x", "y", "index"}
    assert torch.equal(Images().quantise(out["x"]), batch["x"])
    (batch,) = attach(Tagged(count=20, batch_size=20)).train_dataloader()
    assert "flip" not in batch


def test_seeds_pass_unchanged():
    (batch,) = attach(Tagged()).val_dataloader()
    assert Tagged().on_after_batch_transfer(batch, 0) is batch


def test_setup_loads_what_a_stage_needs():
    data = Digits()
    data.setup("predict")
    assert not data._splits
    data.setup("validate")
    assert set(data._splits) == {"val"}
    data.setup("fit")
    assert set(data._splits) == {"train", "val"}
    data.setup("test")  # there is no such split, and seeds need none
    points = Grid2D(num_samples=5, num_val=3)
    points.setup("test")
    assert set(points._splits) == {"test"}


def test_holdout_is_a_fixed_disjoint_cover():
    train, val = holdout(1000, 0.2)
    assert len(val) == 200
    assert torch.equal(torch.cat((train, val)).sort().values, torch.arange(1000))
    assert torch.equal(holdout(1000, 0.2)[1], val)
    assert val.tolist() != list(range(200))
    assert [len(part) for part in holdout(10, 0.01)] == [9, 1]
    assert [len(part) for part in holdout(10, 0.0)] == [10, 0]
    with pytest.raises(UserError, match="val_fraction"):
        holdout(1, 0.5)
    with pytest.raises(UserError, match=r"val_fraction is 1\.0"):
        holdout(10, 1.0)
