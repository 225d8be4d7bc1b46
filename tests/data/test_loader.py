import pytest
import torch
from PIL import Image

from lightning_gen.data import EvalLoader, SeedLoader, TensorRows, TrainLoader
from lightning_gen.data.image_files import FileRows
from lightning_gen.data.loader import epoch_order
from lightning_gen.noise import sample_seeds

COUNT = 23


def tagged(count: int = COUNT) -> TensorRows:
    """Samples whose value is their position."""
    return TensorRows(torch.arange(count, dtype=torch.float32)[:, None], torch.arange(count) % 3)


def positions(batch) -> list[int]:
    return batch["x"].flatten().long().tolist()


def epochs(loader, count: int) -> list[list[int]]:
    return [positions(batch) for _ in range(count) for batch in loader]


def test_an_epoch_is_a_permutation_less_what_fills_no_step():
    loader = TrainLoader(tagged(), 4)
    seen = [i for batch in loader for i in positions(batch)]
    assert len(loader) == 5
    assert len(seen) == len(set(seen)) == 20
    assert seen != sorted(seen)


def test_the_order_depends_on_seed_and_epoch_alone():
    assert epochs(TrainLoader(tagged(), 4, seed=1), 3) == epochs(TrainLoader(tagged(), 4, seed=1), 3)
    orders = [tuple(epoch_order(COUNT, seed, epoch)[0].tolist()) for seed in (0, 1, -1) for epoch in range(3)]
    assert len(set(orders)) == len(orders)
    assert epochs(TrainLoader(tagged(), 4, epoch=2), 1) == epochs(TrainLoader(tagged(), 4), 3)[10:]


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    epochs(TrainLoader(tagged(), 4, flip=True), 1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_labels_stay_with_their_samples():
    for batch in TrainLoader(tagged(), 4, flip=True):
        assert batch["y"].tolist() == [i % 3 for i in positions(batch)]


def test_iter_before_the_first_batch_does_not_skip_an_epoch():
    loader = TrainLoader(tagged(), 4)
    iter(loader), iter(loader)
    assert epochs(loader, 1) == epochs(TrainLoader(tagged(), 4), 1)


def test_an_epoch_cut_short_is_followed_by_the_next():
    loader = TrainLoader(tagged(), 4)
    cut = iter(loader)
    next(cut), next(cut)
    assert epochs(loader, 1) == epochs(TrainLoader(tagged(), 4, epoch=1), 1)


def test_without_reshuffling_every_epoch_is_the_first():
    assert epochs(TrainLoader(tagged(), 4, reshuffle=False), 2) == 2 * epochs(TrainLoader(tagged(), 4), 1)


@pytest.mark.parametrize("handed_out", range(1, 11))
def test_resumed_at_any_batch_the_stream_is_the_same(handed_out):
    whole = [
        (positions(b), b["flip"].tolist())
        for loader in [TrainLoader(tagged(), 4, flip=True)]
        for _ in range(3)
        for b in loader
    ]
    first = TrainLoader(tagged(), 4, flip=True)
    drawn = []
    while len(drawn) < handed_out:
        for batch in first:
            drawn.append(batch)
            if len(drawn) == handed_out:
                state = first.state_dict()
                break
    second = TrainLoader(tagged(), 4, flip=True)
    second.load_state_dict(state)
    iter(second)
    rest = [(positions(b), b["flip"].tolist()) for _ in range(3) for b in second]
    assert rest[: 15 - handed_out] == whole[handed_out:]


def test_resumed_at_the_limit_of_an_epoch_the_next_one_follows():
    loader = TrainLoader(tagged(), 4, limit=3)
    loader.load_state_dict({"epoch": 4, "batch": 3})
    assert epochs(loader, 1) == epochs(TrainLoader(tagged(), 4, epoch=5), 1)
    loader.load_state_dict({"epoch": 4, "batch": 2})
    assert epochs(loader, 1) == epochs(TrainLoader(tagged(), 4, epoch=4), 1)[2:]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_together_see_the_global_batch_interleaved(world_size):
    local = 6 // world_size
    shards = [epochs(TrainLoader(tagged(), local, rank=r, world_size=world_size), 2) for r in range(world_size)]
    whole = epochs(TrainLoader(tagged(), 6), 2)
    assert len(whole) == 6
    for step, batch in enumerate(whole):
        for rank in range(world_size):
            assert shards[rank][step] == batch[rank::world_size]


def test_mirroring_is_drawn_per_sample_and_epoch_whatever_the_processes():
    def drawn(epoch, world_size):
        loaders = [
            TrainLoader(tagged(1200), 60 // world_size, epoch=epoch, flip=True, rank=r, world_size=world_size)
            for r in range(world_size)
        ]
        return {i: f for ld in loaders for b in ld for i, f in zip(positions(b), b["flip"].tolist(), strict=True)}

    assert len(drawn(0, 1)) == 1200
    assert drawn(0, 1) == drawn(0, 3)
    assert drawn(0, 1) != drawn(1, 1)
    assert abs(sum(drawn(0, 1).values()) - 600) < 4 * 1200**0.5 / 2


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_has_every_sample_once_in_order(count, world_size):
    for rank in range(world_size):
        loader = EvalLoader(tagged(count), 2, rank, world_size)
        batches = list(loader)
        assert len(batches) == len(loader) >= 1
        seen = [i for b in batches for i in positions(b)]
        assert seen == list(range(rank, count, world_size))
        assert [i for b in batches for i in b["index"].tolist()] == seen
        assert all(b["index"].dtype == torch.int64 and len(b["x"]) == len(b["y"]) == len(b["index"]) for b in batches)
        assert all(len(b["x"]) == 2 for b in batches[:-1])


def test_evaluation_repeats_and_respects_its_limit():
    loader = EvalLoader(tagged(), 4, rank=1, world_size=2, limit=9)
    assert [i for b in loader for i in positions(b)] == [1, 3, 5, 7]
    assert [i for b in loader for i in positions(b)] == [1, 3, 5, 7]


def test_seeds_are_those_of_their_index():
    for world_size in (1, 2, 3):
        batches = [b for r in range(world_size) for b in SeedLoader(9, 7, 2, r, world_size)]
        index = torch.cat([b["index"] for b in batches])
        assert sorted(index.tolist()) == list(range(7))
        assert torch.equal(torch.cat([b["seeds"] for b in batches]), sample_seeds(9, index))
    assert [len(b["seeds"]) for b in SeedLoader(9, 1, 2, 1, 2)] == [0]


def test_content_names_the_rows():
    rows = tagged()
    other = TensorRows(rows.tensors["x"].clone(), rows.tensors["y"].clone())
    assert other.fingerprint() == rows.fingerprint()
    assert other.fingerprint(5) == rows.fingerprint(5) != rows.fingerprint()
    other.tensors["y"][7] += 1
    assert other.fingerprint(7) == rows.fingerprint(7)
    assert other.fingerprint(8) != rows.fingerprint(8)
    assert TensorRows(rows.tensors["x"]).fingerprint() != rows.fingerprint()
    assert TensorRows(rows.tensors["x"].view(-1)).fingerprint() != TensorRows(rows.tensors["x"]).fingerprint()


def test_labels_must_match():
    with pytest.raises(ValueError, match="labels"):
        TensorRows(torch.zeros(3, 2), torch.zeros(2))


@pytest.fixture
def files(tmp_path) -> FileRows:
    names = [f"{i:02d}.png" for i in range(COUNT)]
    for i, name in enumerate(names):
        Image.new("L", (2, 2), i).save(tmp_path / name)
    return FileRows(str(tmp_path), names, (1, 1), 1, torch.arange(COUNT) % 3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streaming_hands_out_what_memory_would_and_resumes(files, num_workers):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    whole = epochs(TrainLoader(tagged(), 4, seed=3), 2)
    loader = TrainLoader(files, 4, seed=3, num_workers=num_workers)
    stream = iter(loader)
    first = [positions(next(stream)) for _ in range(2)]
    state = loader.state_dict()
    resumed = TrainLoader(files, 4, seed=3, num_workers=num_workers)
    resumed.load_state_dict(state)
    assert first + epochs(resumed, 2) == whole
    assert state == {"epoch": 0, "batch": 2}
    stream.close()
    batches = list(EvalLoader(files, 4, rank=1, world_size=2, num_workers=num_workers))
    assert [i for b in batches for i in positions(b)] == list(range(1, COUNT, 2))
    assert torch.cat([b["y"] for b in batches]).tolist() == [i % 3 for i in range(1, COUNT, 2)]
    # nothing was drawn from the generator that a model's noise comes from
    assert torch.equal(torch.random.get_rng_state(), before)
