"""Where models of the Hugging Face hub are found: a folder, the hub's cache, or a download."""

import hashlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics.extractors.weights_files import ANSWER_SECONDS, within

CONFIG = "config.json"
# safetensors first; some models, CLIP's at 336 pixels among them, are published in PyTorch's format only, which
# transformers reads with `weights_only=True`
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ANSWER_SECONDS = ANSWER_SECONDS


def import_transformers(owner: str) -> ModuleType:
    """The package transformers.

    Args:
        owner: who needs it, for messages.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f"{owner} needs the package transformers, which is not installed: pip install 'lightning_gen[huggingface]'"
        ) from error
    return transformers


def find_model(model: str, owner: str) -> Path:
    """The folder with a model's configuration and weights: `model` itself, the hub's cache, or a download into it.

    Args:
        model: a folder, or a name on the hub such as `facebook/dinov2-large`.
        owner: who needs it, for messages.

    Raises:
        UserError: if it is nowhere and the download fails, or the cached weights are damaged.
    """
    folder = find_local(model, owner)
    return download(model, owner) if folder is None else folder


def find_local(model: str, owner: str) -> Path | None:
    """As `find_model`, but None where it would download.

    Raises:
        UserError: if the folder holds no model, or the cached weights are damaged.
    """
    import_transformers(owner)
    from huggingface_hub import try_to_load_from_cache

    if Path(model).is_dir():
        folder = Path(model)
        if not (folder / CONFIG).is_file() or not weight_files(folder):
            raise UserError(f"{owner}.model is {model!r}, a folder that lacks {CONFIG} or {' or '.join(WEIGHTS)}")
        return folder
    config = try_to_load_from_cache(model, CONFIG)
    if not isinstance(config, str) or not weight_files(Path(config).parent):
        return None
    folder = Path(config).parent
    for file in weight_files(folder):
        # the cache names large files by the SHA-256 that the hub told
        expected = file.resolve().name
        if _SHA256.fullmatch(expected) and file_sha256(file) != expected:
            raise UserError(
                f"{owner}: {file} ({file.stat().st_size:,} bytes) has another SHA-256 than {expected}, so its download "
                "was cut short or it was changed: delete it and the file that it links to"
            )
    return folder


def download(model: str, owner: str, output: Path | None = None) -> Path:
    """Fetch a model of the hub.

    Args:
        model: its name on the hub.
        owner: who needs it, for messages.
        output: a folder for its files; None for the hub's cache.

    Returns:
        The folder that holds the files.

    Raises:
        UserError: if the hub does not answer within seconds, or has no such model.
    """
    import_transformers(owner)
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def get(name: str) -> Path:
        return Path(hf_hub_download(model, name, local_dir=output, etag_timeout=_ANSWER_SECONDS))

    try:
        # the download tries again and again; a question first tells in time whether the hub is there
        within(_ANSWER_SECONDS, lambda: get_hf_file_metadata(hf_hub_url(model, CONFIG), timeout=_ANSWER_SECONDS))
        config = get(CONFIG)
        try:
            get(WEIGHTS[0])
        except LocalEntryNotFoundError:
            raise  # no network, which says nothing about the file
        except EntryNotFoundError:
            get(WEIGHTS[1])
    except Exception as error:  # the hub's own errors, those of the library beneath it, and the disk's
        reason = " ".join(str(error).split()).split(". ")[0]
        raise UserError(missing(model, owner, f"downloading it failed ({type(error).__name__}: {reason})")) from error
    return config.parent


def missing(model: str, owner: str, reason: str) -> str:
    """One sentence about a model that is nowhere: where it was looked for, and what to do.

    Args:
        model: its name on the hub.
        owner: who needs it.
        reason: why it is not fetched now.
    """
    from huggingface_hub import constants

    return (
        f"{owner}: the model {model} is neither a folder, nor in the cache {constants.HF_HUB_CACHE}, and {reason}; "
        f"copy {CONFIG} and {WEIGHTS[0]} or {WEIGHTS[1]} from {constants.ENDPOINT}/{model} into a folder (or run "
        f"`lightning_gen weights fetch --extractor {owner} --output FOLDER` where there is internet) and give it as "
        f"{owner}.model, or use DigitsClassifier or Raw, which need no download"
    )


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights in a folder, in order of their names; empty if there are none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        stem, suffix = name.split(".")
        if parts := sorted(folder.glob(f"{stem}-*-of-*.{suffix}")):
            return parts
    return []


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the weights: the file's own, or that of the lines of `sha256sum` where there are several."""
    files = [(file_sha256(file), file.name) for file in weight_files(folder)]
    if len(files) == 1:
        return files[0][0]
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for sha256, name in files).encode()).hexdigest()


def read_config(folder: Path, model_types: tuple[str, ...], owner: str) -> dict[str, Any]:
    """The configuration in a folder.

    Raises:
        UserError: if it is absent, no JSON, or of another type of model.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{owner}.model is {str(folder)!r}, but {path} cannot be read ({error})") from error
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in model_types:
        raise UserError(f"{owner}.model is {str(folder)!r}, a model of type {found!r}; use {' or '.join(model_types)}")
    return config
