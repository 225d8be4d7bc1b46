"""Random numbers of a sample depend on its seed alone, and are random."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from lightning_gen.noise import Noise, philox, sample_seeds, seed_generators

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers of Random123's kat_vectors, philox4x32 10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, words):
    found = philox(tuple(torch.tensor([c]) for c in counter), tuple(torch.tensor([k]) for k in key))
    assert tuple(int(w) for w in found) == words


def draw(seeds):
    """One number of everything a stream can give, in a row."""
    noise = Noise(seeds)
    return [
        noise.bits(5),
        noise.uniform(3),
        noise.normal(2, 3),
        noise.integers(7),
        noise.normal(1, dtype=torch.float64),
    ]


@pytest.mark.parametrize("sizes", [[1] * 12, [5, 7], [3, 1, 8], [11, 1]])
def test_numbers_do_not_depend_on_the_batch(sizes):
    seeds = sample_seeds(3, torch.arange(12))
    parts = [draw(part) for part in seeds.split(sizes)]
    for whole, *split in zip(draw(seeds), *parts, strict=True):
        assert torch.equal(whole, torch.cat(split))


def test_numbers_do_not_depend_on_the_order():
    seeds = sample_seeds(3, torch.arange(12))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for whole, shuffled in zip(draw(seeds), draw(seeds[order]), strict=True):
        assert torch.equal(whole[order], shuffled)


def test_seeds_do_not_depend_on_the_batch():
    assert torch.equal(
        sample_seeds(5, torch.arange(10)), torch.cat([sample_seeds(5, torch.tensor([i])) for i in range(10)])
    )


def test_calls_continue_the_stream():
    seeds = sample_seeds(0, torch.arange(3))
    noise, whole = Noise(seeds), Noise(seeds).bits(12)
    assert torch.equal(torch.cat((noise.bits(4), noise.bits(8)), dim=1), whole)
    assert noise.bits(4).unique().numel() == 12
    assert not torch.isin(noise.bits(4), whole).any()
    noise = Noise(seeds)
    assert not torch.equal(noise.normal(8), noise.normal(8))


def test_bits_are_the_words_of_the_counter():
    seed = torch.tensor([(0x299F31D0 << 32) | 0xA4093822])
    words = Noise(seed).bits(8)
    key = (torch.tensor([0xA4093822]), torch.tensor([0x299F31D0]))
    for block in (0, 1):
        counter = tuple(torch.tensor([c]) for c in (block, 0, 0, 0))
        assert torch.equal(words[0, 4 * block : 4 * block + 4], torch.cat(philox(counter, key)))


N = 20_000
# far beyond what chance does to a fixed seed, far below what a wrong distribution does
ACCEPT = 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_is_standard_normal_across_samples_and_within(dtype):
    across = Noise(sample_seeds(0, torch.arange(N))).normal(2, dtype=dtype)
    within = Noise(sample_seeds(1, torch.arange(2))).normal(N, dtype=dtype).T
    assert across.dtype == within.dtype == dtype
    for numbers in (*across.unbind(1), *within.unbind(1)):
        assert stats.kstest(numbers.numpy(), "norm").pvalue > ACCEPT
        assert abs(numbers.mean()) < 4 / math.sqrt(N)
        assert abs(numbers.var() - 1) < 4 * math.sqrt(2 / N)
        assert abs((numbers**3).mean()) < 4 * math.sqrt(15 / N)
        assert abs((numbers**4).mean() - 3) < 4 * math.sqrt(96 / N)


def test_elements_and_samples_are_uncorrelated():
    x = Noise(sample_seeds(0, torch.arange(N))).normal(4, dtype=torch.float64).numpy()
    assert np.abs(np.corrcoef(x.T) - np.eye(4)).max() < 4.5 / math.sqrt(N)
    assert abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1]) < 4.5 / math.sqrt(N)


def test_normal_has_tails():
    x = Noise(sample_seeds(2, torch.arange(1000))).normal(1000, dtype=torch.float64)
    assert 4.3 < x.abs().max() < 6.5
    expected = 2 * stats.norm.sf(4) * x.numel()
    assert abs(int((x.abs() > 4).sum()) - expected) < 5 * math.sqrt(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_is_uniform_and_open(dtype):
    u = Noise(sample_seeds(0, torch.arange(N))).uniform(2, dtype=dtype)
    assert u.dtype == dtype
    assert u.min() > 0
    assert u.max() < 1
    for numbers in u.unbind(1):
        assert stats.kstest(numbers.numpy(), "uniform").pvalue > ACCEPT


@pytest.mark.parametrize("high", [1, 3, 10, 1000])
def test_integers_are_uniform(high):
    drawn = Noise(sample_seeds(4, torch.arange(N))).integers(high)
    assert drawn.dtype == torch.int64
    assert drawn.shape == (N,)
    counts = torch.bincount(drawn, minlength=high)
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts.numpy()).pvalue > ACCEPT


def test_odd_counts_and_empty_batches():
    assert Noise(sample_seeds(0, torch.arange(3))).normal(5).shape == (3, 5)
    assert Noise(sample_seeds(0, torch.arange(0))).normal(2, 2).shape == (0, 2, 2)
    assert Noise(sample_seeds(0, torch.arange(3))).normal().shape == (3,)


def test_seeds_of_samples_and_sets_differ():
    seeds = torch.cat([sample_seeds(s, torch.arange(1000)) for s in (0, 1, 2, -1, 2**32, 2**63)])
    assert seeds.unique().numel() == 6000
    numbers = torch.cat([Noise(s[None]).bits(4) for s in seeds[::500]])
    assert numbers.unique().numel() == numbers.numel()


@pytest.mark.parametrize("seed", [0, -1, -(2**63), 2**63 - 1, 2**64 - 1, 2**64 + 5])
def test_any_integer_names_a_set(seed):
    seeds = sample_seeds(seed, torch.arange(4))
    assert seeds.dtype == torch.int64
    assert torch.equal(seeds, sample_seeds(seed % 2**64, torch.arange(4)))
    x = Noise(seeds).normal(4)
    assert x.isfinite().all()
    assert x.unique().numel() == 16


def test_extreme_seeds_have_their_own_streams():
    seeds = torch.tensor([0, 1, -1, 2**32, -(2**32), 2**63 - 1, -(2**63)])
    assert Noise(seeds).bits(4).unique().numel() == 4 * len(seeds)


@pytest.mark.parametrize(
    "seeds", [torch.zeros(3), torch.zeros(3, dtype=torch.int32), torch.zeros(2, 2, dtype=torch.int64)]
)
def test_other_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match="one-dimensional int64"):
        Noise(seeds)


def test_seeding_is_that_of_torch_on_the_cpu():
    seed_generators(2**63 + 5, torch.device("cpu"))
    found = torch.randn(3)
    torch.manual_seed(2**63 + 5)
    assert torch.equal(torch.randn(3), found)


def test_the_largest_and_smallest_words_stay_inside(monkeypatch):
    noise = Noise(torch.zeros(1, dtype=torch.int64))
    monkeypatch.setattr(Noise, "bits", lambda self, count: torch.tensor([[0, 2**32 - 1]]))
    low, high = noise.uniform(2)[0]
    assert 0 < low < 2**-23
    assert 1 - 2**-23 < high < 1
