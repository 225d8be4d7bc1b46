"""Codebooks: K vectors, the nearest of which stands for a feature vector."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from lightning_gen.distributions.quantisers.kmeans import kmeans, nearest, spread, sums_of
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.processes import from_rank_zero, gather, place, summed
from lightning_gen.noise import Noise


def check_codebook(
    part: object,
    num_codes: int,
    dim: int,
    kmeans_iterations: int,
    decay: float = 0.0,
    dead_after: int | None = None,
) -> None:
    """Raise `UserError` if what a user gave `part` for its codebooks is out of its range; see the classes below."""
    check_at_least(part, 1, num_codes=num_codes, dim=dim)
    check_at_least(part, 0, kmeans_iterations=kmeans_iterations)
    if not 0 <= decay < 1:
        raise UserError(f"{type(part).__name__}.decay is {decay}: it must be at least 0 and below 1")
    if dead_after is not None:
        check_at_least(part, 1, dead_after=dead_after)


class Codebook(nn.Module, ABC):
    """K vectors of length d, at first random, or k-means of the first batch of training.

    Args:
        num_codes: K ≥ 1.
        dim: d ≥ 1.
        kmeans_iterations: of Lloyd's algorithm, from a k-means++ start; 0 starts from N(0, I/d) instead.

    """

    vectors: Tensor
    started: Tensor
    stream: Tensor

    def __init__(self, num_codes: int, dim: int, kmeans_iterations: int) -> None:
        super().__init__()
        self.num_codes, self.dim, self.kmeans_iterations = num_codes, dim, kmeans_iterations
        self.hold(self.settle(torch.randn(num_codes, dim) * dim**-0.5))
        self.register_buffer("started", torch.tensor(int(kmeans_iterations == 0)))
        self._start_due = kmeans_iterations > 0  # the same as a plain value, which no step needs to wait for
        # random choices must be the same in every process, so they have a generator that is part of the state
        self.register_buffer("stream", torch.randint(2**62, (1,)))

    @abstractmethod
    def hold(self, vectors: Tensor) -> None:
        """Make (K, d) vectors part of the state, as `vectors`."""

    def settle(self, vectors: Tensor) -> Tensor:
        """Bring (…, d) vectors to where codes may be: anywhere."""
        return vectors

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Find the codes of vectors; in training mode, start or update.

        Args:
            v: (B, n, d) vectors in float32 or float64.

        Returns:
            (B, n, d) what the codes stand for, (B, n) int64 codes, and what `observe` counted.
        """
        if self.training and self._start_due:
            self.start(v.detach())
        codes = self.assign(v)
        z = self.lookup(codes)  # before the update
        return z, codes, self.observe(v.detach(), codes)

    def assign(self, v: Tensor) -> Tensor:
        """The codes (B, n) nearest to vectors (B, n, d)."""
        return nearest(v.flatten(0, 1), self.vectors).view(v.shape[:2])

    def lookup(self, codes: Tensor) -> Tensor:
        """The vectors (…, d) of codes (…)."""
        return embedding(codes, self.vectors)

    @abstractmethod
    def observe(self, v: Tensor, codes: Tensor) -> Tensor | None:
        """In training mode, learn from the codes (B, n) of vectors (B, n, d).

        Returns:
            (K,) how often each occurs, in training mode in all processes; None where that needs not be known.
        """

    def words(self, count: int) -> Tensor:
        """Random integers in [0, 2³²), (count,), the same in every process."""
        words = Noise(self.stream).bits(count)[0].to(self.stream.device)
        self.stream += 1
        return words

    # ---------------------------------------------------------------- the start

    def check(self, name: str, num_vectors: int) -> None:
        """Raise `UserError` if k-means has fewer vectors than codes to find; `name` is told as the key's owner."""
        if self._start_due and num_vectors < self.num_codes:
            raise UserError(
                f"{name}.num_codes is {self.num_codes}, but the first batch gives k-means only {num_vectors} vectors to"
                " start from: use fewer codes, a larger data.init_args.batch_size, or kmeans_iterations 0"
            )

    @torch.no_grad()
    def start(self, v: Tensor) -> None:
        """Put the codes to the k-means of (B, n, d) vectors and those of the other processes."""
        v = gather(v).flatten(0, 1)
        self.check(type(self).__name__, len(v))
        found = kmeans(v, spread(v, self.words(self.num_codes)), self.kmeans_iterations, self.settle)
        self.vectors.copy_(from_rank_zero(found))  # sums of floats may differ in the last digit between devices
        self.started.fill_(1)
        self._start_due = False

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._start_due = not bool(self.started)


class LearntCodebook(Codebook):
    """A codebook that is a parameter, moved by gradients."""

    def hold(self, vectors: Tensor) -> None:
        """As a parameter."""
        self.vectors = nn.Parameter(vectors)

    def observe(self, v: Tensor, codes: Tensor) -> None:
        """Gradients will."""


class EMACodebook(Codebook):
    """A codebook that follows the means of what it stands for.

    With n_i vectors of code i in a batch, whose sum is s_i (van den Oord et al., NIPS 2017, appendix A.1):

        N_i ← γ N_i + (1 − γ) n_i,    m_i ← γ m_i + (1 − γ) s_i,    e_i = m_i / N_i

    N_i starts at 1 and e_i in its place. Only N and e are kept, since m = N e: then

        e_i ← e_i + (1 − γ) (s_i − n_i e_i) / N_i

    which leaves codes that do not occur alone, where m / N would end as 0 / 0. Codes that did not occur in `dead_after`
    updates in a row are put to vectors drawn from the batch, with N_i = 1 again (Dhariwal et al., "Jukebox", 2020,
    section 3.1: random restarts).

    Args:
        num_codes: K.
        dim: d.
        kmeans_iterations: see `Codebook`.
        decay: γ, in [0, 1).
        dead_after: updates without a use after which a code is dead, ≥ 1; None to leave them.
    """

    counts: Tensor
    idle: Tensor

    def __init__(self, num_codes: int, dim: int, kmeans_iterations: int, decay: float, dead_after: int | None) -> None:
        super().__init__(num_codes, dim, kmeans_iterations)
        self.decay, self.dead_after = decay, dead_after
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("idle", torch.zeros(num_codes, dtype=torch.int64))

    def hold(self, vectors: Tensor) -> None:
        """As a buffer: no optimiser may move it."""
        self.register_buffer("vectors", vectors)

    @torch.no_grad()
    def observe(self, v: Tensor, codes: Tensor) -> Tensor:
        """Count, and in training mode move the codes, and the dead ones to other places."""
        counts, sums = sums_of(v.flatten(0, 1), codes.flatten(), self.num_codes)
        if not self.training:
            return counts
        parts = [counts[:, None], sums] + ([self.candidates(v)] if self.dead_after else [])
        found = summed(torch.cat(parts, dim=1))  # one exchange for all
        counts, sums, candidates = found[:, 0], found[:, 1 : self.dim + 1], found[:, self.dim + 1 :]
        self.follow(counts, sums)
        if self.dead_after is not None:
            self.revive(counts, candidates, self.dead_after)
        return counts

    def follow(self, counts: Tensor, sums: Tensor) -> None:
        """Move codes towards the means of their vectors; n (K,) and s (K, d)."""
        self.counts.lerp_(counts, 1 - self.decay)
        shift = (1 - self.decay) * (sums - counts[:, None] * self.vectors)
        moved = self.vectors + shift / self.counts.clamp(min=torch.finfo(sums.dtype).tiny)[:, None]
        self.vectors.copy_(torch.where(counts[:, None] > 0, self.settle(moved), self.vectors))

    def revive(self, counts: Tensor, candidates: Tensor, dead_after: int) -> None:
        """Put codes that are dead to the candidates (K, d)."""
        idle = torch.where(counts > 0, 0, self.idle + 1)
        dead = idle >= dead_after
        self.vectors.copy_(torch.where(dead[:, None], candidates, self.vectors))
        self.counts.copy_(torch.where(dead, 1.0, self.counts))
        self.idle.copy_(torch.where(dead, 0, idle))

    def candidates(self, v: Tensor) -> Tensor:
        """Vectors (K, d) drawn from the joint batch; those that other processes have are 0 here, to be added up."""
        rank, world_size = place()
        positions = (self.words(self.num_codes) * (len(v) * world_size * v.shape[1])) >> 32
        sample, column = positions // v.shape[1], positions % v.shape[1]
        rows = v.flatten(0, 1).index_select(0, sample // world_size * v.shape[1] + column)
        return torch.where((sample % world_size == rank)[:, None], rows, 0.0)


class CosineCodebook(EMACodebook):
    """Codes of unit length, so that the nearest is the one of the largest cosine; arguments as `EMACodebook`."""

    def settle(self, vectors: Tensor) -> Tensor:
        """Onto the unit sphere."""
        return normalize(vectors, dim=-1)
