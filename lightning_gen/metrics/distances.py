"""All pairs of rows of one or two sets, a tile at a time: memory does not grow with the number of pairs.

Tiles never cross blocks of a set (`blocks.blocks_of`), so what is found can be kept apart by block, and the values
with a block left out follow from one pass. Everything is float64. In float32 ‖x‖² + ‖y‖² − 2xᵀy loses what neighbours
differ by as soon as features are far from the origin, and products would follow autocast and TF32.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gen.metrics.blocks import blocks_of, enough

TILE = 1024
"""Rows of a tile at most: a tile of pairs is 8 MiB."""


@dataclass(frozen=True)
class Tile:
    """Some rows of one block of a set.

    Attributes:
        rows: (t,) int64, 1 ≤ t ≤ `TILE`.
        block: in [0, `Tiles.blocks`).
    """

    rows: Tensor
    block: int


@dataclass(frozen=True)
class Tiles:
    """A set, cut into tiles.

    Attributes:
        blocks: number of blocks; 1 where the set is too small for error bars.
        tiles: every row is in one; ordered by block.
        sizes: (blocks,) int64, rows of each block.
    """

    blocks: int
    tiles: tuple[Tile, ...]
    sizes: Tensor

    @classmethod
    def of(cls, x: Tensor, blocks: int = 0) -> "Tiles":
        """The tiles of a set.

        Args:
            x: (N, …), whose device they are on.
            blocks: to be kept apart where N is enough for them; 0 or 1 for no blocks.
        """
        blocks = blocks if enough(len(x), blocks) else 1
        block = blocks_of(torch.arange(len(x)), blocks)
        rows = [(block == b).nonzero()[:, 0].to(x.device) for b in range(blocks)]
        tiles = tuple(Tile(part, b) for b in range(blocks) for part in rows[b].split(TILE))
        return cls(blocks, tiles, torch.tensor([len(part) for part in rows], device=x.device))

    def left_out_means(self, values: Tensor) -> Tensor:
        """(blocks,) the mean of `values`, (N,) float64, with each block left out in turn."""
        sums = values.new_zeros(self.blocks)
        for tile in self.tiles:
            sums[tile.block] += values[tile.rows].sum()
        return (sums.sum() - sums) / (len(values) - self.sizes)


def pairs_within(x: Tensor, tiles: Tiles, origin: Tensor | None = None) -> Iterator[tuple[Tile, Tile, Tensor, Tensor]]:
    """Every pair of tiles of a set once, (a, b) but not (b, a); (a, a) too.

    Args:
        x: (N, d).
        tiles: of `x`.
        origin: (d,) float64, subtracted from every row.

    Yields:
        a, b, and their rows (·, d) float64; the same tensor twice for (a, a).
    """
    for i, a in enumerate(tiles.tiles):
        rows = _rows(x, a, origin)
        yield a, a, rows, rows
        for b in tiles.tiles[i + 1 :]:
            yield a, b, rows, _rows(x, b, origin)


def pairs_between(
    x: Tensor, x_tiles: Tiles, y: Tensor, y_tiles: Tiles, origin: Tensor | None = None
) -> Iterator[tuple[Tile, Tile, Tensor, Tensor]]:
    """Every pair of a tile of `x` and a tile of `y`; see `pairs_within`."""
    for a in x_tiles.tiles:
        rows = _rows(x, a, origin)
        for b in y_tiles.tiles:
            yield a, b, rows, _rows(y, b, origin)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖xᵢ − yⱼ‖² of (a, d) and (b, d) float64 rows near the origin: (a, b) ≥ 0, exact for small integers."""
    # einsum makes no tensor of squares, which would take a fifth of the time of the product
    of_x, of_y = (torch.einsum("ij,ij->i", rows, rows) for rows in (x, y))
    return torch.addmm(of_y[None], x, y.T, alpha=-2.0).add_(of_x[:, None]).clamp_(min=0.0)


def nearest_others(x: Tensor, tiles: Tiles, k: int, origin: Tensor) -> Tensor:
    """Squared distances from every row to the k nearest other rows in each block.

    Args:
        x: (N, d).
        tiles: of `x`.
        k: ≥ 1.
        origin: (d,) float64, a point of the cloud.

    Returns:
        (N, blocks, k) float64, ascending; infinite where a block has too few other rows.
    """
    found = torch.full((len(x), tiles.blocks, k), torch.inf, dtype=torch.float64, device=x.device)

    def add(rows: Tensor, block: int, squared: Tensor) -> None:
        near = squared.topk(min(k, squared.shape[1]), largest=False).values
        found[rows, block] = torch.cat((found[rows, block], near), dim=1).topk(k, largest=False).values

    for a, b, xa, xb in pairs_within(x, tiles, origin):
        squared = squared_distances(xa, xb)
        if a is b:
            add(a.rows, a.block, squared.fill_diagonal_(torch.inf))
        else:
            add(a.rows, b.block, squared)
            add(b.rows, a.block, squared.T.contiguous())
    return found


def nearest_row(x: Tensor, y: Tensor, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The row of `y` that is nearest to each row of `x`.

    Args:
        x: (N, d).
        y: (M, d), M ≥ 1; ≥ 2 with `exclude`.
        exclude: (N,) int64, for each row of `x` a row of `y` that does not count.

    Returns:
        Rows (N,) int64 and distances (N,) float64; these from differences, so that the distance of a copy is 0.
    """
    origin = y[0].double()
    best = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    row = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    x_tiles = Tiles.of(x)
    for a, b, xa, yb in pairs_between(x, x_tiles, y, Tiles.of(y), origin):
        squared = squared_distances(xa, yb)
        if exclude is not None:
            squared.masked_fill_(exclude[a.rows, None] == b.rows, torch.inf)
        near, column = squared.min(dim=1)
        closer = near < best[a.rows]
        row[a.rows] = torch.where(closer, b.rows[column], row[a.rows])
        best[a.rows] = torch.where(closer, near, best[a.rows])
    for tile in x_tiles.tiles:
        best[tile.rows] = (x[tile.rows].double() - y[row[tile.rows]].double()).norm(dim=1)
    return row, best


def _rows(x: Tensor, tile: Tile, origin: Tensor | None) -> Tensor:
    rows = x[tile.rows].double()
    return rows if origin is None else rows.sub_(origin)  # in place: `rows` is a copy
