"""Finding and decoding image files of any kind."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from lightning_gen.data.rows import Batch, Rows, stream_in_workers
from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_ORIENTATION = 0x0112


def find_images(folder: str, key: str = "data.init_args.path") -> list[str]:
    """Images below `folder`, as sorted relative paths with "/"; hidden files and folders are left out.

    Args:
        folder: where to look.
        key: the option that named it, for messages.

    Raises:
        UserError: `folder` is absent, no folder, cannot be read, or has no images.
    """
    root = Path(folder)
    told = f"{key} is {folder!r}"
    if not root.exists():
        raise UserError(f"{told}, which does not exist; give a folder of images")
    if not root.is_dir():
        raise UserError(f"{told}, which is a file; give the folder that holds the images")

    def fail(error: OSError) -> None:
        raise UserError(f"{told}, but {error.filename or folder} cannot be read ({error.strerror or error})") from error

    found = []
    for parent, folders, files in os.walk(root, onerror=fail, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = [name for name in files if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
        found += [(Path(parent) / name).relative_to(root).as_posix() for name in images]
    if not found:
        raise UserError(f"{told}, which holds no images; give a folder with files ending in {', '.join(EXTENSIONS)}")
    return sorted(found)


def decode(path: str | Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """One image file as (channels, height, width) uint8.

    As `decode_whole`, then resized to cover `size` by PIL's antialiased Lanczos filter and centre-cropped.

    Args:
        path: the file.
        size: (height, width) in pixels, ≥ 1.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        Exception: whatever PIL raises for a file that it cannot decode.
    """
    from PIL import Image, ImageOps

    return _planes(ImageOps.fit(_upright(path, channels), (size[1], size[0]), method=Image.Resampling.LANCZOS))


def decode_whole(file: str | Path | IO[bytes], channels: int) -> np.ndarray:
    """One image, at its own size, as (channels, height, width) uint8.

    Turned as its EXIF orientation says; transparent parts over white; 16 bits scaled to 8; palettes, CMYK and others
    through RGB. Of several frames, the first.

    Args:
        file: path or open file.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        Exception: whatever PIL raises for a file that it cannot decode.
    """
    return _planes(_upright(file, channels))


def look_at(file: str | Path | IO[bytes]) -> tuple[tuple[int, int], bool]:
    """(height, width) of an image, and whether it is grey, from its header alone.

    Raises:
        Exception: whatever PIL raises for a file that is no image.
    """
    from PIL import Image

    with Image.open(file) as image:
        width, height = image.size
        # a square is the same when turned, and most images carry no EXIF
        if width != height and "exif" in image.info and image.getexif().get(_ORIENTATION, 1) >= 5:
            width, height = height, width
        return (height, width), image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")


def _upright(file: str | Path | IO[bytes], channels: int) -> "Image":
    """The image as it is to be seen, grey or RGB."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        image.load()
        return _plain(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")


def _planes(image: "Image") -> np.ndarray:
    """(channels, height, width)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _plain(image: "Image") -> "Image":
    """An opaque image of 8 bits a channel."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if image.mode.startswith("I"):  # 16-bit grey, which `convert` would clip instead of scale
        levels = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image


@final
class FileRows(Rows):
    """Images decoded whenever they are asked for.

    Args:
        root: folder of the files.
        files: paths relative to it.
        size: (height, width) in pixels.
        channels: 1 or 3.
        y: (N,) int64 classes or (N, A) float32 attributes, if any.
    """

    def __init__(
        self, root: str, files: Sequence[str], size: tuple[int, int], channels: int, y: Tensor | None = None
    ) -> None:
        self.root, self.size, self.channels, self.y = root, size, channels, y
        # one array of fixed-width text: workers get it as one block, not as a million Python strings
        self.files = np.asarray(files, dtype=np.str_)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return (self.channels, *self.size)

    def __getitem__(self, index: Any) -> Batch:
        index = torch.as_tensor(index)
        x = torch.empty(len(index), *self.shape, dtype=torch.uint8)
        for target, file in zip(x.numpy(), self.files[index.numpy()], strict=True):
            try:
                target[:] = decode(Path(self.root) / file, self.size, self.channels)
            except Exception as error:
                raise UserError(f"{Path(self.root) / file} can no longer be decoded as an image ({error})") from error
        return {"x": x} if self.y is None else {"x": x, "y": self.y[index]}

    def stream(self, plan: Sequence[Tensor], num_workers: int = 0, pin: bool = False) -> Iterator[Batch]:
        """One batch for each index tensor of `plan`, decoded ahead by `num_workers` processes."""
        return stream_in_workers(self, plan, num_workers, pin)

    def fingerprint(self, limit: int | None = None) -> str:
        """SHA-256 over the relative path and content of each file, its class, and what is made of it."""
        digest = hashlib.sha256(f"{self.shape} lanczos".encode())
        labels = self.y.tolist() if self.y is not None else [None] * len(self)
        for file, label in list(zip(self.files.tolist(), labels, strict=True))[:limit]:
            digest.update(f"{file}\0{file_sha256(Path(self.root) / file)} {label}\0".encode())
        return digest.hexdigest()

    def try_all(self, keep: bool) -> tuple[Tensor | None, dict[int, str]]:
        """Decode every image once, in threads (PIL decodes without Python's lock).

        Args:
            keep: whether to keep the pixels.

        Returns:
            (N, C, H, W) uint8 or None; and for each image that cannot be decoded its position and the reason. Its
            pixels are undefined.
        """
        x = torch.empty(len(self), *self.shape, dtype=torch.uint8) if keep else None
        pixels = x.numpy() if x is not None else None

        def attempt(i: int) -> str | None:
            try:
                image = decode(Path(self.root) / self.files[i], self.size, self.channels)
            except Exception as error:  # PIL's readers raise almost anything for damaged files
                return str(error) or type(error).__name__
            if pixels is not None:
                pixels[i] = image
            return None

        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            reasons: Iterable[str | None] = pool.map(attempt, range(len(self)))
            return x, {i: reason for i, reason in enumerate(reasons) if reason is not None}
