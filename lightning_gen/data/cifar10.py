"""CIFAR-10."""

from pathlib import Path
from typing import Any

import torch

from lightning_gen.data.base import DataModule
from lightning_gen.data.modality import Images
from lightning_gen.data.resize import cover, size_pair
from lightning_gen.data.rows import Rows, TensorRows
from lightning_gen.errors import UserError


class CIFAR10(DataModule):
    """CIFAR-10 (A. Krizhevsky, 2009): 32×32 colour images of 10 classes, read through torchvision; in memory.

    50,000 training and 10,000 test images; there is no split for validation, so `val` is the test split too.

    Args:
        root: folder that holds `cifar-10-batches-py`.
        download: fetch and unpack the files if they are absent.
        image_size: height and width in pixels, ≥ 1; other sizes than 32 are resized bilinearly.
        flip: mirror training images left to right with probability ½.
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range; later, files are absent or damaged and cannot be fetched.
    """

    modality = Images()

    def __init__(
        self, root: str = "data", download: bool = True, image_size: int = 32, flip: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.download, self.size, self.flip = root, download, size_pair(image_size), flip

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(3, image_size, image_size)."""
        return (3, *self.size)

    @property
    def splits(self) -> tuple[str, ...]:
        """All; val is test."""
        return ("train", "val", "test")

    @property
    def num_classes(self) -> int:
        """10."""
        return 10

    @property
    def class_names(self) -> list[str]:
        """Names of the classes."""
        return ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    def prepare_data(self) -> None:
        """Fetch the files if they are absent; Lightning calls this on one process of each machine.

        Raises:
            UserError: they are absent or damaged, and may not or cannot be fetched.
        """
        self._open(train=True, download=self.download)

    def load_split(self, name: str) -> Rows:
        """Training and test images as uint8 (N, 3, H, W), with classes."""
        if name == "test" and "val" in self._splits:
            return self._splits["val"]
        data = self._open(train=name == "train", download=False)
        x = torch.from_numpy(data.data).permute(0, 3, 1, 2)
        return TensorRows(cover(x, self.size), torch.tensor(data.targets))

    def _open(self, train: bool, download: bool) -> Any:
        from torchvision import datasets

        try:
            return datasets.CIFAR10(self.root, train=train, download=download)
        except (OSError, RuntimeError) as error:
            folder = Path(self.root) / datasets.CIFAR10.base_folder
            wanted = "the download failed" if download else "set data.init_args.download to true or put them there"
            raise UserError(
                f"data.init_args.root is {self.root!r}, but {folder} lacks the files of CIFAR-10 or some are damaged: "
                f"{wanted} ({str(error).strip().splitlines()[-1]})"
            ) from error
