"""How the samples of each modality are stored, given to a model, shown and written."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.images import to_float, to_uint8

if TYPE_CHECKING:
    import numpy as np

PADDING = 2
"""Black pixels around every image of a grid."""


class Modality(ABC):
    """What a sample is. The *stored* form is exact and small, the *model* form is what a network sees."""

    picture_size: ClassVar[int]
    """How many samples one picture shows well."""

    @abstractmethod
    def quantise(self, x: Tensor) -> Tensor:
        """Model form → stored form, for a batch; what is stored already passes through."""

    @abstractmethod
    def to_model(self, x: Tensor) -> Tensor:
        """Stored form → model form (float32), for a batch on any device; `quantise` takes it back exactly."""

    @abstractmethod
    def grid(self, x: Tensor, columns: int) -> "np.ndarray":
        """One picture (H, W, 3) uint8 of the samples `x` (B, …) in model form.

        Args:
            x: (B, …) samples, B ≥ 1.
            columns: samples a row, ≥ 1, where samples are laid out in rows.

        Raises:
            ValueError: there is no sample to show, or its shape is not of this modality.
        """

    @abstractmethod
    def prepare(self, directory: Path, total: int, shape: tuple[int, ...]) -> None:
        """Make `directory` ready for `total` samples of `shape`; called once, on one process, before any `write`.

        Raises:
            UserError: samples of this shape cannot be written.
        """

    @abstractmethod
    def write(self, directory: Path, x: Tensor, index: Tensor, total: int) -> None:
        """Write samples; processes may write different ones at the same time.

        Args:
            directory: made by `prepare`.
            x: (B, …) samples in model or stored form.
            index: (B,) int64 positions in [0, total).
            total: number of samples in the whole set.

        Raises:
            ValueError: an index is outside [0, total).
        """


@final
class Images(Modality):
    """Images: stored as uint8 (N, C, H, W) in 0…255, modelled as float32 (B, C, H, W) in [-1, 1]."""

    picture_size = 64

    def quantise(self, x: Tensor) -> Tensor:
        """[-1, 1] → 0…255 by rounding to the nearest level; values outside are clamped, never wrapped."""
        return to_uint8(x)

    def to_model(self, x: Tensor) -> Tensor:
        """0…255 → [-1, 1] as float32."""
        return to_float(x)

    def grid(self, x: Tensor, columns: int) -> "np.ndarray":
        """Images side by side, 2 black pixels around each, levels as they are (nothing is stretched).

        Three channels are shown in colour, one or two as their mean in grey, of more the first three.

        Raises:
            ValueError: `x` is not (B, C, H, W) with B ≥ 1.
        """
        if x.ndim != 4 or not len(x):
            raise ValueError(f"a grid needs images (B, C, H, W) with B ≥ 1, got {tuple(x.shape)}")
        x = x.detach().cpu()
        coloured = self.quantise(x[:, :3] if x.shape[1] >= 3 else x.float().mean(1, keepdim=True)).expand(-1, 3, -1, -1)
        count, _, height, width = coloured.shape
        columns = max(1, min(columns, count))
        rows = -(-count // columns)
        cells = torch.zeros(rows * columns, 3, height + PADDING, width + PADDING, dtype=torch.uint8)
        cells[:count, :, PADDING:, PADDING:] = coloured
        cells = cells.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        # every cell brings the padding above and to the left; the last row and column are closed here
        return torch.nn.functional.pad(cells, (0, 0, 0, PADDING, 0, PADDING)).numpy()

    def prepare(self, directory: Path, total: int, shape: tuple[int, ...]) -> None:
        """Make the folder.

        Raises:
            UserError: images of this many channels have no PNG, or the folder holds images of a larger set.
        """
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise UserError(f"images of shape {tuple(shape)} cannot be written as PNG; they need 1 or 3 channels")
        directory.mkdir(parents=True, exist_ok=True)
        left = [p for p in directory.glob("*.png") if p.stem.isdecimal() and len(p.stem) >= 6 and int(p.stem) >= total]
        if left:  # whoever measures the folder would measure two sets at once
            raise UserError(
                f"{directory} holds {len(left)} images of another set, such as {left[0].name}: choose an empty folder"
            )

    def write(self, directory: Path, x: Tensor, index: Tensor, total: int) -> None:
        """One PNG an image, named by its index with at least six digits: grey for one channel, RGB for three."""
        from PIL import Image

        _check_index(index, total)
        digits = max(6, len(str(max(total - 1, 0))))
        pixels = self.quantise(x.detach().cpu()).permute(0, 2, 3, 1)
        grey = pixels.shape[-1] == 1
        for i, image in zip(index.tolist(), (pixels[..., 0] if grey else pixels).contiguous().numpy(), strict=True):
            Image.fromarray(image).save(directory / f"{i:0{digits}d}.png")


@final
class Points(Modality):
    """Points of a low-dimensional space: float32 (N, D), D ≥ 2, stored and modelled alike.

    Args:
        limit: half the width of the square that pictures show, > 0; fixed, so that pictures can be compared.
    """

    FILE = "points.npy"
    picture_size = 2500

    def __init__(self, limit: float = 5.0) -> None:
        self.limit = limit

    def quantise(self, x: Tensor) -> Tensor:
        """Points are stored as they are, in float32."""
        return x.float()

    def to_model(self, x: Tensor) -> Tensor:
        """Points are modelled as they are, in float32."""
        return x.float()

    def grid(self, x: Tensor, columns: int) -> "np.ndarray":
        """A scatter plot of the first two coordinates on [-limit, limit]², 512×512 pixels; `columns` is not used.

        Raises:
            ValueError: `x` is not (B, D) with B ≥ 1 and D ≥ 2.
        """
        import numpy as np

        # the object-oriented interface: pyplot keeps global state and may ask for a display
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        if x.ndim != 2 or not len(x) or x.shape[1] < 2:
            raise ValueError(f"a scatter plot needs points (B, D) with B ≥ 1 and D ≥ 2, got {tuple(x.shape)}")
        xy = x.detach().float().cpu().numpy()
        figure = Figure(figsize=(5.12, 5.12), dpi=100)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.scatter(xy[:, 0], xy[:, 1], s=4, linewidths=0, color="black")
        axes.set(xlim=(-self.limit, self.limit), ylim=(-self.limit, self.limit), aspect="equal")
        axes.set_axis_off()
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def prepare(self, directory: Path, total: int, shape: tuple[int, ...]) -> None:
        """Make the folder and in it `points.npy`, float32 (total, D), of zeros.

        Raises:
            UserError: the samples are not vectors.
        """
        import numpy as np

        if len(shape) != 1:
            raise UserError(f"samples of shape {tuple(shape)} cannot be written as points; they need one dimension")
        directory.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(directory / self.FILE, mode="w+", dtype=np.float32, shape=(total, *shape)).flush()

    def write(self, directory: Path, x: Tensor, index: Tensor, total: int) -> None:
        """Write rows of `points.npy`."""
        import numpy as np

        _check_index(index, total)
        if len(index):
            points = np.lib.format.open_memmap(directory / self.FILE, mode="r+")
            points[index.cpu().numpy()] = self.quantise(x.detach()).cpu().numpy()
            points.flush()


def _check_index(index: Tensor, total: int) -> None:
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < total:
        raise ValueError(f"index must be in [0, {total}), got {int(index.min())}…{int(index.max())}")
