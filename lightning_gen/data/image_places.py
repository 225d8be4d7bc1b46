"""Where encoded images lie, a folder or a zip archive, and what can be known of them before they are measured."""

import io
import os
import re
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from zipfile import BadZipFile, ZipFile

import numpy as np

from lightning_gen.data.image_files import EXTENSIONS, decode_whole, find_images, look_at
from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256

NAMED = 5
"""Damaged images that a message names; of the others it tells the number."""


class Place(ABC):
    """Images by position, in sorted order of their names.

    Attributes:
        told: the option and the path that named the place, for messages.
        names: (N,) paths of the images within the place, with "/".
    """

    told: str
    names: np.ndarray
    left_out: str = ""
    """The name of a picture of samples that is none of them; empty if there is none."""

    @abstractmethod
    def source(self, i: int) -> Path | io.BytesIO:
        """The encoded image at a position; any thread may ask."""

    @abstractmethod
    def look(self, i: int) -> tuple[tuple[int, int], bool]:
        """What `look_at` says of it; little more than the header is read."""

    @abstractmethod
    def stamp(self, i: int) -> str:
        """What names the image, and changes when its content does."""


def without_grid(names: list[str]) -> tuple[list[str], str]:
    """Images without the `grid.png` that `lightning_gen sample` puts beside them, and its name if there is one."""
    numbered = any(re.fullmatch(r"\d{6,}\.png", name) for name in names)
    if numbered and "grid.png" in names:
        return [name for name in names if name != "grid.png"], "grid.png"
    return names, ""


@final
class Folder(Place):
    """A folder, however deeply nested; see `find_images`.

    Args:
        path: the folder.
        key: the option that named it, for messages.
        limit: only the first so many images; None for all.
    """

    def __init__(self, path: str, key: str, limit: int | None = None) -> None:
        self.root, self.told = Path(path).resolve(), f"{key} {path}"
        # one array of fixed-width text: other processes get it as one block
        found, self.left_out = without_grid(find_images(path, key))
        self.names = np.asarray(found[:limit], dtype=np.str_)

    def source(self, i: int) -> Path:
        """The file."""
        return self.root / self.names[i]

    def look(self, i: int) -> tuple[tuple[int, int], bool]:
        """From the file's header."""
        return look_at(self.source(i))

    def stamp(self, i: int) -> str:
        """Name and content of the file."""
        return f"{self.names[i]}\0{file_sha256(self.source(i))}"


@final
class Archive(Place):
    """A zip archive, read where it is.

    Args:
        path: the file.
        key: the option that named it, for messages.
        limit: only the first so many images; None for all.

    Raises:
        UserError: it is no zip archive, or holds no images.
    """

    def __init__(self, path: str, key: str, limit: int | None = None) -> None:
        self.path, self.told = path, f"{key} {path}"
        try:
            found = sorted(info.filename for info in self._archive.infolist() if _is_image(info.filename))
        except (OSError, BadZipFile) as error:
            raise UserError(f"{self.told} cannot be read as a zip archive ({error}): give an intact one") from error
        if not found:
            raise UserError(
                f"{self.told} holds no images: give an archive with files ending in {', '.join(EXTENSIONS)}"
            )
        self.names = np.asarray(found[:limit], dtype=np.str_)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_open"}

    @property
    def _archive(self) -> ZipFile:
        # one for all threads: it locks its file, and its list of contents takes long to read
        if "_open" not in self.__dict__:
            self._open = ZipFile(self.path)
        return self._open

    def source(self, i: int) -> io.BytesIO:
        """The bytes of the member, checked against its CRC-32."""
        return io.BytesIO(self._archive.read(str(self.names[i])))

    def look(self, i: int) -> tuple[tuple[int, int], bool]:
        """From the member's header."""
        with self._archive.open(str(self.names[i])) as member:
            return look_at(member)

    def stamp(self, i: int) -> str:
        """Name, size and CRC-32 of the member."""
        info = self._archive.getinfo(str(self.names[i]))
        return f"{info.filename}\0{info.file_size} {info.CRC}"


@dataclass(frozen=True)
class Survey:
    """What the headers of a place's images say.

    Attributes:
        size: (height, width) in pixels of every image.
        num_grey: how many are grey.
    """

    size: tuple[int, int]
    num_grey: int


def survey(place: Place) -> Survey:
    """Look at the header of every image, in threads.

    Raises:
        UserError: images cannot be decoded, of which all are counted, or differ in size.
    """

    def look(i: int) -> tuple[tuple[int, int], bool] | None:
        try:
            return place.look(i)
        except Exception:  # PIL's readers raise almost anything for damaged files
            return None

    with ThreadPoolExecutor(_threads()) as pool:
        seen = [found for found in pool.map(look, range(len(place.names))) if found is not None]
    if len(seen) < len(place.names):
        raise damage(place)
    size = seen[0][0]
    for i, (other, _) in enumerate(seen):
        if other != size:
            pair = f"{place.names[0]} ({_text(size)}) and {place.names[i]} ({_text(other)})"
            raise UserError(f"{place.told} holds images of different sizes, {pair}: give images of one size")
    return Survey(size, sum(grey for _, grey in seen))


def damage(place: Place, size: tuple[int, int] | None = None) -> UserError:
    """Decode every image once, in threads, and say how many cannot be, and which.

    Args:
        place: where they are.
        size: (height, width) that they must have, if any.
    """

    def attempt(i: int) -> str | None:
        try:
            found = decode_whole(place.source(i), 3).shape[1:]
        except Exception as error:
            return str(error) or type(error).__name__
        return None if size is None or found == size else f"it is {_text(found)}, not {_text(size)}"

    with ThreadPoolExecutor(_threads()) as pool:
        reasons = list(pool.map(attempt, range(len(place.names))))
    bad = [(name, reason) for name, reason in zip(place.names, reasons, strict=True) if reason is not None]
    if not bad:
        return UserError(f"{place.told}: an image could not be read, and then could: see whether the disk is sound")
    named = ", ".join(f"{name} ({reason})" for name, reason in bad[:NAMED])
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return UserError(
        f"{place.told}: {len(bad)} of {len(reasons)} images cannot be decoded: {named}{more}; make them anew, or"
        " remove them"
    )


def _is_image(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") for part in parts) or parts[0] == "__MACOSX"
    return name.lower().endswith(EXTENSIONS) and not hidden


def _threads() -> int:
    return min(16, os.cpu_count() or 1)


def _text(size: tuple[int, ...]) -> str:
    """As pictures are described: width by height."""
    return f"{size[1]}×{size[0]}"
