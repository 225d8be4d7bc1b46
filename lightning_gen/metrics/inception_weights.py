"""Where the weights of the FID Inception are found, and what to do where they are not."""

import hashlib
import os
import queue
import tempfile
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
NUM_BYTES = 95_628_359
VARIABLE = "LIGHTNING_GEN_INCEPTION_WEIGHTS"
# the names under which torch-fidelity and pytorch-fid keep the same bytes
FILE_NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
_ANSWER_SECONDS = 6.0


def find_weights(weights_path: str | None = None) -> Path:
    """The weight file: `weights_path`, then $LIGHTNING_GEN_INCEPTION_WEIGHTS, then torch hub's cache, then a download.

    Args:
        weights_path: a file to use, or None.

    Raises:
        UserError: if a named file does not exist, or none is found and the download fails.
    """
    for source, path in (("weights_path", weights_path), (f"${VARIABLE}", os.environ.get(VARIABLE))):
        if path:
            if not Path(path).is_file():
                raise UserError(f"InceptionV3: {source} is {path!r}, but there is no such file")
            return Path(path)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in FILE_NAMES:
        if (folder / name).is_file():
            return folder / name
    try:
        return download(folder / FILE_NAMES[0])
    except OSError as error:
        raise UserError(
            f"InceptionV3: its weights {FILE_NAMES[0]} ({NUM_BYTES:,} bytes, SHA-256 {SHA256}) are neither at "
            f"weights_path (not given), nor at ${VARIABLE} (not set), nor in {folder}, and downloading {URL} failed "
            f"({error}); put the file into one of these places, or use DigitsClassifier, which needs no download"
        ) from error


def download(target: Path) -> Path:
    """Fetch the weights to `target`, which appears only when complete and correct.

    Raises:
        OSError: if the network or the disk fails, or the bytes are not the expected ones.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, suffix=".partial")
    os.close(handle)
    try:
        with _open_url() as response, open(partial, "wb") as file:
            while chunk := response.read(1 << 20):
                file.write(chunk)
        if file_sha256(Path(partial)) != SHA256:
            raise OSError("the downloaded bytes have another SHA-256")
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)
    return target


def _open_url() -> Any:
    """The response to a request for `URL`, or an OSError within seconds."""
    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(URL, timeout=_ANSWER_SECONDS))
        except OSError as error:
            answers.put(error)

    # in a thread, because looking up a host name ignores every timeout
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_ANSWER_SECONDS)
    except queue.Empty:
        raise OSError(f"no answer within {_ANSWER_SECONDS:.0f} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The state dict in `path`, on the CPU, read without executing anything in the file.

    Raises:
        UserError: if the file is not a state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds
        raise UserError(f"InceptionV3: {path} cannot be read as a state dict ({type(error).__name__})") from error
    if not isinstance(state, Mapping) or "Conv2d_1a_3x3.conv.weight" not in state:
        raise UserError(f"InceptionV3: {path} does not hold the state dict of the FID Inception ({FILE_NAMES[0]})")
    return state
