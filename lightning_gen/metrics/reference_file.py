"""Reference statistics as one safetensors file."""

import json
from pathlib import Path

import torch

from lightning_gen.files import replacing
from lightning_gen.metrics.distributed import warn
from lightning_gen.metrics.moments import ReferenceStatistics


def write_reference(path: Path, statistics: ReferenceStatistics) -> None:
    """Write a file that other processes see complete or not at all, with the protocol in its metadata.

    Raises:
        OSError: if it cannot be written.
    """
    from safetensors.torch import save

    tensors = {"mean": statistics.mean, "cov": statistics.cov, "n": torch.tensor(statistics.n)}
    if statistics.spatial is not None:
        tensors |= {"spatial_mean": statistics.spatial.mean, "spatial_cov": statistics.spatial.cov}
    tensors |= {name: t for name in ("features", "y") if (t := getattr(statistics, name)) is not None}
    contents = save(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        {"protocol": json.dumps(statistics.protocol)},
    )
    with replacing(path, contended=True) as partial:
        partial.write_bytes(contents)


def pieces(path: Path) -> frozenset[str]:
    """What a file holds beside mean and covariance, of "spatial" and "features"; nothing of one that cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            there = set(file.keys())
        return frozenset(
            need for need, name in (("features", "features"), ("spatial", "spatial_mean")) if name in there
        )
    except (OSError, SafetensorError):
        return frozenset()


def read_reference(path: Path, needs: frozenset[str] = frozenset()) -> ReferenceStatistics | None:
    """What `path` holds of what is needed, on the CPU.

    Args:
        path: a file that `write_reference` wrote.
        needs: "spatial" and "features" are read only where they are named.

    Returns:
        The statistics, or None if the file is missing, damaged, which is warned about, or lacks something.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            protocol = json.loads(file.metadata()["protocol"])
            tensors = {name: file.get_tensor(name) for name in ("mean", "cov", "n")}
            if ("spatial" in needs and "spatial_mean" not in names) or (
                "features" in needs and "features" not in names
            ):
                return None
            more = {name: file.get_tensor(name) for name in ("features", "y") if "features" in needs and name in names}
            spatial = None
            if "spatial" in needs:
                spatial = ReferenceStatistics(
                    file.get_tensor("spatial_mean"), file.get_tensor("spatial_cov"), int(tensors["n"]), protocol
                )
        return ReferenceStatistics(tensors["mean"], tensors["cov"], int(tensors["n"]), protocol, spatial, **more)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        warn(f"the reference statistics {path} cannot be read and are computed again")
        return None
