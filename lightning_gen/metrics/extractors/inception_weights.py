"""Where the weights of the FID Inception are found, and what to do where they are not."""

import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from tqdm import tqdm

from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics.distributed import warn
from lightning_gen.metrics.extractors.weights_files import ANSWER_SECONDS, read_state, within

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
NUM_BYTES = 95_628_359
VARIABLE = "LIGHTNING_GEN_INCEPTION_WEIGHTS"
# the names under which torch-fidelity and pytorch-fid keep the same bytes
FILE_NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
_ANSWER_SECONDS = ANSWER_SECONDS
_CHUNK = 1 << 20


def find_weights(weights_path: str | None = None) -> Path:
    """The weight file: `weights_path`, then $LIGHTNING_GEN_INCEPTION_WEIGHTS, then torch hub's cache, then a download.

    Args:
        weights_path: a file to use, or None. It and the variable's may hold other weights than the published ones,
            which is told by a warning; a file in torch hub's cache may not.

    Raises:
        UserError: if a named file does not exist, the cached one is not the published one, or none is found and the
            download fails.
    """
    path = find_local(weights_path)
    if path is not None:
        return path
    try:
        return download(cache_folder() / FILE_NAMES[0])
    except OSError as error:
        raise UserError(missing(f"downloading {URL} failed ({error})")) from error


def find_local(weights_path: str | None = None) -> Path | None:
    """As `find_weights`, but None where it would download.

    Raises:
        UserError: see `find_weights`.
    """
    for source, name in (("weights_path", weights_path), (f"${VARIABLE}", os.environ.get(VARIABLE))):
        if name:
            if not Path(name).is_file():
                raise UserError(f"InceptionV3: {source} is {name!r}, but there is no such file")
            if not is_published(file_sha256(Path(name))):
                warn(
                    f"InceptionV3: {source} {name} is not the published {FILE_NAMES[0]}, so its values cannot be "
                    "compared with published ones; the protocol holds its weights_sha256"
                )
            return Path(name)
    cached = [path for name in FILE_NAMES if (path := cache_folder() / name).is_file()]
    for path in cached:
        if is_published(file_sha256(path)):
            return path
    if cached:
        raise UserError(damaged(cached[0]))
    return None


def cache_folder() -> Path:
    """Where torch hub keeps weights; `$TORCH_HOME` moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def is_published(sha256: str) -> bool:
    """Whether a SHA-256, in hexadecimal, is that of the weights behind published FIDs."""
    return sha256 == SHA256


def missing(reason: str) -> str:
    """One sentence about weights that are nowhere: where they were looked for, what they are, and what to do.

    Args:
        reason: why they are not fetched now.
    """
    variable = os.environ.get(VARIABLE) or "not set"
    return (
        f"InceptionV3: its weights {FILE_NAMES[0]} ({NUM_BYTES:,} bytes, SHA-256 {SHA256}) are neither at weights_path "
        f"(not given), nor at ${VARIABLE} ({variable}), nor in {cache_folder()}, and {reason}; fetch {URL} where there "
        "is internet (or `lightning_gen weights fetch --output FILE` there) and put the file into one of these places, "
        "or use DigitsClassifier or Raw, which need no download"
    )


def damaged(path: Path) -> str:
    """One sentence about a file of the usual name with other bytes."""
    size = path.stat().st_size
    guess = "its download was cut short" if size < NUM_BYTES else "it is another file"
    return (
        f"InceptionV3: {path} has {size:,} bytes and SHA-256 {file_sha256(path)}, where {NUM_BYTES:,} bytes and "
        f"SHA-256 {SHA256} are expected, so {guess}: delete it, or run `lightning_gen weights fetch`, which replaces it"
    )


def download(target: Path) -> Path:
    """Fetch the weights to `target`, which appears only when complete and correct.

    Raises:
        OSError: if the network or the disk fails, nothing arrives for some seconds, or the bytes are not the expected
            ones.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, suffix=".partial")
    try:
        with open(handle, "wb") as file:
            _copy_url(file, target.name)
        size = Path(partial).stat().st_size
        if not is_published(file_sha256(Path(partial))):
            raise OSError(f"the {size:,} bytes that came have another SHA-256")
        os.chmod(partial, 0o644)  # a cache may be shared, and temporary files are the owner's alone
        os.replace(partial, target)
    except http.client.HTTPException as error:
        raise OSError(f"no proper answer: {error!r}") from error
    finally:
        Path(partial).unlink(missing_ok=True)
    return target


def _copy_url(file: BinaryIO, name: str) -> None:
    """Write what is at `URL` to a file, with a bar where somebody watches."""
    response, chunk = within(_ANSWER_SECONDS, _open_url)
    bar: Any = tqdm(total=NUM_BYTES, unit="B", unit_scale=True, desc=name, disable=None, leave=False)
    with response, bar:
        while chunk:
            file.write(chunk)
            bar.update(len(chunk))
            chunk = response.read1(_CHUNK)


def _open_url() -> tuple[Any, bytes]:
    """The response to a request for `URL`, and its first bytes."""
    try:
        response = urllib.request.urlopen(URL, timeout=_ANSWER_SECONDS)
    except urllib.error.HTTPError as error:  # an answer too, with a connection to close
        error.close()
        raise
    try:
        # `read1` waits for the next bytes only, so that the timeout ends a stalled download
        return response, response.read1(_CHUNK)
    except OSError:
        response.close()
        raise


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The state dict in `path`, on the CPU, read without executing anything in the file.

    Raises:
        UserError: if the file is not a state dict.
    """
    state = read_state(path, "InceptionV3")
    if "Conv2d_1a_3x3.conv.weight" not in state:
        raise UserError(f"InceptionV3: {path} does not hold the state dict of the FID Inception ({FILE_NAMES[0]})")
    return state
