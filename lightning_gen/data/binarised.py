"""Black and white images made of grey ones, as many likelihoods are compared on."""

from math import prod
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from lightning_gen.data.base import SPLIT_SEED, DataModule, require
from lightning_gen.data.loader import Companion
from lightning_gen.data.rows import Batch, Rows, TensorRows
from lightning_gen.data.wrapper import DataWrapper
from lightning_gen.errors import UserError
from lightning_gen.noise import sample_seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHITE = 255


class Thresholded(DataWrapper):
    """White where a source's image is at least so bright, black elsewhere; in memory.

    Args:
        data: the source, of images.
        threshold: the least brightness of white, in (0, 1].
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range; later, the source has no images.
    """

    def __init__(self, data: DataModule, threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        require(0 < threshold <= 1, "threshold", threshold, "above 0 and at most 1")
        self.threshold = threshold

    def load_split(self, name: str) -> Rows:
        """The source's images, of values 0 and 255."""
        batch = _everything(self.data, name)
        return TensorRows((batch["x"] >= self.threshold * WHITE).to(torch.uint8) * WHITE, batch.get("y"))


class Binarised(DataWrapper):
    """White with a probability that is the brightness of a source's image, drawn once for each pixel; in memory.

    The *statically* binarised images of Salakhutdinov, Murray, "On the quantitative analysis of deep belief networks",
    ICML 2008. Theirs were drawn by another program; these are by a fixed seed, so numbers agree up to the draw.

    Args:
        data: the source, of images.
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: later, if the source has no images.
    """

    def load_split(self, name: str) -> Rows:
        """The source's images, of values 0 and 255."""
        batch = _everything(self.data, name)
        thresholds = _thresholds(batch["x"].shape, SPLIT_SEED + ("train", "val", "test").index(name))
        return TensorRows(_above(batch["x"], thresholds), batch.get("y"))


class DynamicallyBinarised(Binarised):
    """As `Binarised`, but the batches of training are drawn anew every time that an image is shown.

    (Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", ICLR 2016, §5.) The splits, of which metrics and
    pictures are made, are those of `Binarised`, the training split too.
    """

    @property
    def training_rows(self) -> Rows:
        """The source's grey images."""
        return self.data.split("train")

    @property
    def companion(self) -> Companion:
        """What each pixel must exceed."""
        return Thresholds(self.sample_shape, self.seed)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: binarise what comes with thresholds."""
        if "threshold" in batch:
            others = {name: value for name, value in batch.items() if name != "threshold"}
            batch = others | {"x": _above(batch["x"], batch["threshold"])}
        return super().on_after_batch_transfer(batch, dataloader_idx)


@final
class Thresholds(Companion):
    """A random number for each pixel of a stream of images: what its grey value must exceed to become white.

    The pixel k of the image at place p has the 16-bit word p · W + k of one random sequence, W the pixels of an image
    rounded up to a multiple of four, so it depends on nothing but the seed and its place.

    Args:
        sample_shape: of the images.
        seed: of the numbers.
    """

    keeps_classes = True

    def __init__(self, sample_shape: tuple[int, ...], seed: int) -> None:
        self.sample_shape, self.seed = sample_shape, int(sample_seeds(seed, torch.tensor([2**41])))

    def beside(self, position: Tensor) -> Batch:
        """`threshold` (B, …) uint8 in 0…254, each as likely as the others to one part in 250."""
        pixels = prod(self.sample_shape)
        words = -(-pixels // 4)
        place = position[:, None] * words + torch.arange(words)
        short = split_mix(self.seed, place.numpy().view(np.uint64)).view(np.uint16)[:, :pixels]
        found = ((short.astype(np.uint32) * WHITE) >> 16).astype(np.uint8)
        return {"threshold": torch.from_numpy(found).view(-1, *self.sample_shape)}


def split_mix(seed: int, place: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    """Numbers of the sequence SplitMix64, each computed from its place alone.

    (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, with the constants of Vigna's
    `splitmix64`.) `Noise` is for few numbers of many seeds, and far slower.

    Args:
        seed: any integer, taken modulo 2^64.
        place: places in the sequence, from 0.

    Returns:
        Random bits, of the shape of `place`.
    """
    z = (place + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed % 2**64)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _above(x: Tensor, thresholds: Tensor) -> Tensor:
    # v of the 255 thresholds lie below the grey value v, so it turns white with probability v / 255
    return (x > thresholds).to(torch.uint8) * WHITE


def _thresholds(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randint(WHITE, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _everything(data: DataModule, name: str) -> Batch:
    rows = data.split(name)
    batch = rows[torch.arange(len(rows))]
    if batch["x"].dtype != torch.uint8:
        raise UserError(f"data.init_args.data is {type(data).__name__}, which has no images: use data that have")
    return batch
