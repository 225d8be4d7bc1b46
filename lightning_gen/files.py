"""Files that are whole or not there, and what names their content."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path, contended: bool = False) -> Iterator[Path]:
    """Write a file beside its target, then put it there in one operation.

    A process that is killed, or fails, leaves the old file as it was.

    Args:
        path: the target; its folder is made.
        contended: other processes may write the same file at the same time.

    Yields:
        The file to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # one name where one process writes, so that the next write takes over what a killed one left
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial" if contended else f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def last_checkpoint(folder: Path) -> str | None:
    """The newest `last.ckpt` of the runs in a folder."""
    found = sorted(folder.glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    return str(found[-1]) if found else None
