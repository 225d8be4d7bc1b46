"""Random numbers that depend on a sample's seed alone, for a whole batch at once, on any device.

A sample must not change with the batch size or the number of processes it was drawn with, so each sample owns a
counter-based stream: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) keyed by the
sample's 64-bit seed. Its integers are the same bit for bit on every device; there is no state to save.
"""

import hashlib
import math

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = 0xFFFFFFFF


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four 32-bit words from a 128-bit counter and a 64-bit key.

    Args:
        counter: four int64 tensors of values in [0, 2^32), of shapes that broadcast.
        key: two int64 tensors of values in [0, 2^32), likewise.

    Returns:
        Four int64 tensors of values in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for r in range(_ROUNDS):
        if r:
            k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
        # int64 products wrap modulo 2^64, so the high word survives an arithmetic shift and a mask
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
    return c0, c1, c2, c3


def sample_seeds(seed: int, index: Tensor) -> Tensor:
    """Seeds of the samples `index` of the set that `seed` names.

    Args:
        seed: any integer, taken modulo 2^64.
        index: (n,) int64 positions in the set, ≥ 0.

    Returns:
        (n,) int64 seeds, on the device of `index`.
    """
    index = index.to(torch.int64)
    zero = torch.zeros_like(index)
    key = (torch.full_like(index, seed & _MASK), torch.full_like(index, (seed >> 32) & _MASK))
    w0, w1, _, _ = philox((index & _MASK, (index >> 32) & _MASK, zero, zero), key)
    return w0 | (w1 << 32)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's global generator in one step of training on one rank, in [0, 2^64)."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's global generators of the CPU and of a device.

    `torch.manual_seed` would also prepare those of every other kind of device, which takes as long as a step of a small
    network.

    Args:
        seed: in [0, 2^64).
        device: beside the CPU.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


class Noise:
    """One stream of random numbers a sample; each call continues every stream.

    Args:
        seeds: (n,) int64 seeds, one a sample (see `sample_seeds`).
        device: where the numbers are made and returned; the device of `seeds` unless given.
    """

    def __init__(self, seeds: Tensor, device: torch.device | str | None = None) -> None:
        if seeds.ndim != 1 or seeds.dtype != torch.int64:
            raise ValueError(f"seeds must be a one-dimensional int64 tensor, got {seeds.dtype} of {tuple(seeds.shape)}")
        self._target = torch.device(device) if device is not None else seeds.device
        self.seeds = seeds.to("cpu" if self._target.type == "mps" else self._target)  # Metal has no float64
        self._position = 0

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def device(self) -> torch.device:
        """Where the numbers are returned."""
        return self._target

    def bits(self, count: int) -> Tensor:
        """`count` words of 32 random bits for each sample: (n, count) int64 in [0, 2^32)."""
        blocks = -(-count // 4)
        block = torch.arange(self._position, self._position + blocks, device=self.seeds.device)
        self._position += blocks
        zero = torch.zeros_like(block)
        key = ((self.seeds & _MASK)[:, None], ((self.seeds >> 32) & _MASK)[:, None])
        words = philox((block & _MASK, block >> 32, zero, zero), key)
        return torch.stack(words, dim=-1).flatten(1)[:, :count]

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers in (0, 1): (n, *shape), float32 or float64."""
        # 23 bits and half a unit, which are 24 together: exact in float32, never 0 and never 1
        u = ((self.bits(math.prod(shape)) >> 9).to(dtype) + 0.5) * 2.0**-23
        return u.reshape(len(self), *shape).to(self._target)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers: (n, *shape), by the Box–Muller transform."""
        count = math.prod(shape)
        # the logarithm in float64, or the tails would stop at the 24 bits of the uniform numbers
        u = (self.bits(2 * (-(-count // 2))).to(torch.float64) + 0.5) * 2.0**-32
        radius, angle = (-2.0 * u[:, 0::2].log()).sqrt(), 2.0 * math.pi * u[:, 1::2]
        z = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(1)[:, :count]
        return z.to(dtype).reshape(len(self), *shape).to(self._target)

    def integers(self, high: int) -> Tensor:
        """Uniform integers in [0, high): (n,) int64; the bias is below high / 2^32."""
        return ((self.bits(1)[:, 0] * high) >> 32).to(self._target)
