"""References that are given as a file or as images: statistics of other programs, our own, or images to be measured."""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics.distributed import from_rank_zero
from lightning_gen.metrics.extractors import FeatureExtractor
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.reference import ReferenceData, reference_statistics
from lightning_gen.metrics.reference_file import read_reference

_IMAGES = ("images", "arr_0")
_ASYMMETRY = 1e-5
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error)


def given_reference(
    path: str,
    key: str,
    extractor: FeatureExtractor,
    images: Callable[[], ReferenceData],
    needs: Iterable[str] = ("moments",),
    world_size: int = 1,
    **options: Any,
) -> ReferenceStatistics:
    """The reference at `path`; every process must call it.

    Args:
        path: statistics (see `read_statistics`) or images. Of an `.npz` file that holds both, as the reference batches
            of ADM do, mean and covariance are taken as they are, and features are those of the images.
        key: the option that named it, for messages.
        extractor: what describes the samples.
        images: opens the images at `path`; called in every process, and only if they are read.
        needs: see `GenerativeMetric.needs`.
        world_size: number of processes.
        options: further arguments of `reference_statistics`, where images are read.

    Raises:
        UserError: the file cannot be read, or does not fit the extractor.
    """
    wanted = frozenset(needs)
    if not from_rank_zero(lambda: is_statistics(path), world_size):
        return reference_statistics(extractor, images(), needs=wanted, world_size=world_size, **options)
    found = from_rank_zero(lambda: read_statistics(path, key, extractor, wanted), world_size)
    if "features" not in wanted or found.features is not None or not _holds_images(path):
        return found
    rows = reference_statistics(extractor, images(), needs={"features"}, world_size=world_size, **options)
    images_are = {name: value for name, value in rows.protocol.items() if name != "extractor"} | {"num": rows.n}
    return replace(found, features=rows.features, y=rows.y, protocol={**found.protocol, "features": images_are})


def is_statistics(path: str) -> bool:
    """Whether a file holds statistics: a `.safetensors` file, or an `.npz` file with `mu` and `sigma`."""
    kind = Path(path).suffix.lower()
    return kind == ".safetensors" or (kind == ".npz" and {"mu", "sigma"} <= _names(path))


def has_features(path: str) -> bool:
    """Whether a reference tells features of single samples: images do, and statistics that were made with them."""
    if Path(path).suffix.lower() == ".safetensors":
        return "features" in _tensors(path)[0]
    return not is_statistics(path) or _holds_images(path)


def read_statistics(
    path: str, key: str, extractor: FeatureExtractor, needs: frozenset[str] = frozenset()
) -> ReferenceStatistics:
    """Statistics of a file, on the CPU.

    Args:
        path: `.safetensors`, as `lightning_gen reference` writes them; or `.npz` with `mu` (d,) and `sigma` (d, d), as
            pytorch-fid, clean-fid, StudioGAN and EDM write them, and perhaps `mu_s` and `sigma_s`, which ADM adds for
            spatial features. Other programs do not tell what extractor, resize and number of samples is behind them;
            the protocol says so.
        key: the option that named the file, for messages.
        extractor: what they must fit.
        needs: "spatial" and "features" are read where they are named and there.

    Raises:
        UserError: the file cannot be read, is of another shape, is not finite, or holds no covariance.
    """
    told = f"{key} {path}"
    if not Path(path).is_file():
        raise UserError(f"{told} does not exist: give a folder of images, a .zip, .npz or .npy file, or .safetensors")
    if Path(path).suffix.lower() == ".safetensors":
        return _own(path, told, needs)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in ("mu", "sigma", "mu_s", "sigma_s") if name in content.files}
    except _UNREADABLE as error:
        raise UserError(f"{told} is no readable .npz file ({error}): give an intact one") from error
    if not {"mu", "sigma"} <= arrays.keys():
        raise UserError(f"{told} holds no statistics: they are called mu and sigma")
    if (dtype := extractor.protocol().get("dtype", "float32")) != "float32":
        raise UserError(f"{told} holds statistics of float32 features, but extractor {extractor.name!r} is {dtype}")
    protocol: dict[str, Any] = {
        "imported_sha256": file_sha256(Path(path)),
        "imported": "extractor, resize and number of samples are not known",
    }
    mean, cov = _gaussian(told, arrays, "mu", "sigma", extractor.num_features, extractor)
    spatial = None
    if "spatial" in needs and extractor.num_spatial is not None and {"mu_s", "sigma_s"} <= arrays.keys():
        pair = _gaussian(told, arrays, "mu_s", "sigma_s", extractor.num_spatial, extractor)
        spatial = ReferenceStatistics(*pair, None, protocol)
    return ReferenceStatistics(mean, cov, None, protocol, spatial)


def _gaussian(
    told: str, arrays: Mapping[str, np.ndarray], mu: str, sigma: str, size: int, extractor: FeatureExtractor
) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d), float64."""
    mean, cov = arrays[mu], arrays[sigma]
    if mean.shape != (size,) or cov.shape != (size, size):
        raise UserError(
            f"{told} holds {mu} {mean.shape} and {sigma} {cov.shape}, but extractor {extractor.name!r} gives {size}"
            f" numbers: give statistics of {mu} ({size},) and {sigma} ({size}, {size}), or another --extractor"
        )
    if mean.dtype.kind != "f" or cov.dtype.kind != "f" or not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise UserError(f"{told} holds NaN, infinite or no floating-point values in {mu} or {sigma}: make it anew")
    cov = cov.astype(np.float64)
    if np.abs(cov - cov.T).max() > _ASYMMETRY * np.abs(cov).max() or cov.diagonal().min() < 0:
        raise UserError(f"{told}: {sigma} is no covariance, since it is not symmetric or has negative variances")
    return torch.from_numpy(mean.astype(np.float64)), torch.from_numpy((cov + cov.T) / 2)


def _own(path: str, told: str, needs: frozenset[str]) -> ReferenceStatistics:
    """What `write_reference` wrote, with what is there of what is needed."""
    names, metadata = _tensors(path)
    if not {"mean", "cov", "n"} <= names or "protocol" not in metadata:
        raise UserError(f"{told} holds no statistics: give a file that `lightning_gen reference` wrote")
    there = {"features": "features", "spatial": "spatial_mean"}
    found = read_reference(Path(path), frozenset(need for need in needs if there.get(need) in names))
    if found is None:
        raise UserError(f"{told} is damaged: make it anew with `lightning_gen reference`")
    return found


def _tensors(path: str) -> tuple[set[str], dict[str, str]]:
    """Names of the tensors of a `.safetensors` file, and its metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return set(file.keys()), file.metadata() or {}
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read as .safetensors ({error}): make it anew") from error


def _holds_images(path: str) -> bool:
    return not _names(path).isdisjoint(_IMAGES)


def _names(path: str) -> set[str]:
    """Names of the arrays of an `.npz` file; none of a file that cannot be read, which is told when it is."""
    if Path(path).suffix.lower() != ".npz":
        return set()
    try:
        with ZipFile(path) as content:
            return {name.removesuffix(".npy") for name in content.namelist()}
    except (OSError, BadZipFile):
        return set()
