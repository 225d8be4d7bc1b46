from types import SimpleNamespace

import pytest
import torch

from lightning_gen.checkpoints import instantiate
from lightning_gen.data import DataModule, Digits, FewLabels, Images, Moons2D, TensorRows, TrainLoader
from lightning_gen.data.few_labels import Repeated
from lightning_gen.errors import UserError


class Levels(DataModule):
    """60 images of one row, whose left pixel is their position and whose right one is 255; classes 0…2, unevenly."""

    modality = Images()
    sample_shape = (1, 1, 2)
    splits = ("train", "val")
    num_classes = 3
    class_names = property(lambda self: list("abc"))

    def __init__(self, flip: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.flip = flip

    def load_split(self, name):
        left = torch.arange(60, dtype=torch.uint8).view(-1, 1, 1, 1)
        return TensorRows(torch.cat((left, torch.full_like(left, 255)), dim=3), kinds(torch.arange(60)))


def kinds(position):
    """30 of class 0, 20 of 1, 10 of 2."""
    return torch.tensor([0, 0, 0, 1, 1, 2])[position % 6]


def left(x):
    return x[:, 0, 0, 0].long()


def test_few_keep_their_label_equally_many_of_each_class():
    data = FewLabels(Levels(), num_labels=12)
    rows = data.labelled
    assert rows.y.bincount().tolist() == [4, 4, 4]
    position = left(rows.tensors["x"])
    assert len(position.unique()) == 12
    assert torch.equal(kinds(position), rows.y)
    same, other = FewLabels(Levels(seed=3), 12, seed=5), FewLabels(Levels(), 12, label_seed=1)
    assert torch.equal(left(same.labelled.tensors["x"]), position)
    assert not torch.equal(left(other.labelled.tensors["x"]), position)
    # over many draws every sample of a class is as likely as any other
    drawn = torch.cat([left(FewLabels(Levels(), 6, s).labelled.tensors["x"]) for s in range(300)]).bincount(
        minlength=60
    )
    for k, share in ((0, 2 / 30), (1, 2 / 20), (2, 2 / 10)):
        mean, spread = 300 * share, (300 * share * (1 - share)) ** 0.5
        assert bool(((drawn[kinds(torch.arange(60)) == k] - mean).abs() < 5 * spread).all())


def test_batches_hold_all_samples_without_classes_beside_the_few_with_theirs():
    data = FewLabels(Levels(), num_labels=12, batch_size=10)
    epoch = list(data.train_dataloader())
    assert [set(batch) for batch in epoch] == [{"x", "labelled_x", "labelled_y"}] * 6
    assert torch.cat([left(batch["x"]) for batch in epoch]).sort().values.tolist() == list(range(60))
    plain = [batch["x"] for batch in Levels(batch_size=10).train_dataloader()]
    assert all(torch.equal(batch["x"], x) for batch, x in zip(epoch, plain, strict=True))
    labelled = torch.cat([left(batch["labelled_x"]) for batch in epoch])
    assert torch.equal(torch.cat([batch["labelled_y"] for batch in epoch]), kinds(labelled))
    few = sorted(left(data.labelled.tensors["x"]).tolist())
    turns = labelled.split(12)  # 60 samples are 5 repetitions
    assert all(sorted(turn.tolist()) == few for turn in turns)
    assert len({tuple(turn.tolist()) for turn in turns}) == 5


def pairs(batch):
    return list(zip(left(batch["x"]).tolist(), left(batch["labelled_x"]).tolist(), strict=True))


def loader(batch_size=8, rank=0, world_size=1, num_labels=9, **options):
    data = FewLabels(Levels(flip=True), num_labels=num_labels)
    companion = Repeated(data.labelled, seed=4, flip=True)
    return TrainLoader(
        data.split("train"), batch_size, rank=rank, world_size=world_size, flip=True, companion=companion, **options
    )


def epochs(stream, count=3):
    return [batch for _ in range(count) for batch in stream]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("handed_out", [1, 4, 6, 7, 8, 13, 14, 20])
def test_resumed_at_any_batch_the_stream_is_the_same(handed_out):
    whole = epochs(loader())
    first, drawn = loader(), 0
    while drawn < handed_out:
        for _ in first:
            drawn += 1
            if drawn == handed_out:
                state = first.state_dict()
                break
    second = loader()
    second.load_state_dict(state)
    rest = epochs(second)[: len(whole) - handed_out]
    assert len(whole) == 3 * 7
    assert all(same(a, b) for a, b in zip(rest, whole[handed_out:], strict=True))
    # as after a checkpoint at the end of an epoch, which tells no more than the number of epochs
    assert all(same(a, b) for a, b in zip(epochs(loader(epoch=2), 1), whole[14:], strict=True))


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_have_disjoint_parts_of_one_sequence(world_size):
    whole = epochs(loader(8))
    shards = [epochs(loader(8 // world_size, rank, world_size)) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        for rank in range(world_size):
            assert same(shards[rank][step], {key: value[rank::world_size] for key, value in batch.items()})
    # an epoch leaves 60 − 56 samples out, so the sequence goes on where no process has been
    labelled = torch.cat([left(batch["labelled_x"]) for batch in whole])
    assert all(len(set(turn.tolist())) == 9 for turn in labelled.split(9)[: len(labelled) // 9])


def test_the_order_differs_between_seeds_and_from_epoch_to_epoch():
    few = FewLabels(Levels(), num_labels=9).labelled
    orders = [Repeated(few, seed).beside(torch.arange(18))["labelled_x"][:, 0, 0, 0].tolist() for seed in (0, 1, -1)]
    assert len({tuple(order) for order in orders}) == 3
    assert all(order[:9] != order[9:] for order in orders)
    far = Repeated(few, 0).beside(torch.tensor([10**12 + 5, 3]))
    assert far["labelled_y"].shape == (2,)
    once = [pairs(batch) for batch in epochs(loader(reshuffle=False), 2)]
    assert once[:7] == once[7:]


def test_one_repetition_after_another_mirrors_other_samples():
    companion = Repeated(FewLabels(Levels(), num_labels=30).labelled, seed=0, flip=True)
    batch = companion.beside(torch.arange(30 * 100))
    share = batch["labelled_flip"].double()
    assert abs(share.mean() - 0.5) < 5 * 0.5 / 3000**0.5
    by_sample = [share[left(batch["labelled_x"]) == i].mean() for i in left(batch["labelled_x"]).unique()]
    assert all(abs(mean - 0.5) < 5 * 0.05 for mean in by_sample)


def test_labelled_samples_reach_the_model_in_its_form():
    data = FewLabels(Levels(flip=True), num_labels=9, batch_size=60)
    (batch,) = data.train_dataloader()
    model = SimpleNamespace(dtype=torch.float64)
    data.trainer = SimpleNamespace(lightning_module=model)
    kept = {key: value.clone() for key, value in batch.items()}
    out = data.on_after_batch_transfer(batch, 0)
    assert set(out) == {"x", "labelled_x", "labelled_y"}
    assert out["x"].dtype == out["labelled_x"].dtype == torch.float64
    assert torch.equal(out["labelled_y"], kept["labelled_y"])
    for name in ("", "labelled_"):
        levels, flip = Images().quantise(out[f"{name}x"]), kept[f"{name}flip"]
        assert 0 < int(flip.sum()) < 60
        assert torch.equal(levels[flip], kept[f"{name}x"][flip].flip(-1))
        assert torch.equal(levels[~flip], kept[f"{name}x"][~flip])


def test_everything_else_is_the_source():
    source = Levels()
    data = FewLabels(source, num_labels=9)
    assert (data.num_classes, data.class_names, data.sample_shape) == (3, list("abc"), (1, 1, 2))
    assert data.splits == source.splits
    assert data.fingerprint("train") == source.fingerprint("train")
    assert torch.cat([batch["y"] for batch in data.rows("train")]).tolist() == kinds(torch.arange(60)).tolist()
    batch = next(iter(data.val_dataloader()))
    assert set(batch) == {"x", "y", "index"}
    assert set(data.on_after_batch_transfer(batch, 0)) == {"x", "y", "index"}
    (seeds, *_) = data.predict_dataloader()
    assert data.on_after_batch_transfer(seeds, 0) is seeds


def test_the_source_is_named_in_yaml_by_its_class():
    config = {
        "class_path": "FewLabels",
        "init_args": {"data": {"class_path": "Digits", "init_args": {"image_size": 8}}, "num_labels": 50},
    }
    data = instantiate(DataModule, config)
    assert type(data) is FewLabels
    assert type(data.data) is Digits
    data.setup("fit")
    assert data.labelled.y.bincount().tolist() == [5] * 10


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (2, "num_labels is 2; it must be a multiple of 3, the number of classes of Levels"),
        (10, "num_labels is 10; it must be a multiple of 3"),
        (33, "num_labels is 33; it must be at most 30, as a class of Levels has only 10 training samples"),
    ],
)
def test_numbers_of_labels_that_cannot_be_are_told_at_set_up(number, told):
    with pytest.raises(UserError, match=rf"data\.init_args\.{told}"):
        FewLabels(Levels(), num_labels=number).setup("fit")
    FewLabels(Levels(), num_labels=number).setup("validate")


def test_other_unfit_arguments_are_named():
    with pytest.raises(UserError, match=r"data\.init_args\.num_labels is 0; it must be at least 1"):
        FewLabels(Levels(), num_labels=0)
    with pytest.raises(UserError, match="data is Moons2D, which has no classes: use data with one class a sample"):
        FewLabels(Moons2D(num_samples=8)).setup("fit")
