"""Any network as an extractor of features."""

import copy
import hashlib
import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics.extractors import QUANTISATION, FeatureExtractor, Features
from lightning_gen.metrics.extractors.weights_files import read_state


class ModuleExtractor(FeatureExtractor):
    """Any `torch.nn.Module` that describes images, such as a classifier of your own domain.

    The network maps (B, C, H, W) to features (B, num_features), or to a pair of them and logits (B, num_logits). A copy
    of it is frozen, in eval mode and in float32; the network given stays as it is.

    Args:
        network: the network; built from its class in YAML.
        name: of the extractor, without spaces; metrics are called `fid_<name>` and so on.
        num_features: d, the length of the features.
        num_logits: K, the number of classes, where the network returns a pair.
        weights_path: a state dict of the network, `.safetensors` or what `torch.save` wrote; None for the weights that
            the network has.
        num_channels: 3 repeats grey images, 1 averages colours; None passes the channels that come.
        image_size: height and width to resize to, in pixels; None passes the size that comes.
        interpolation: how to resize, always antialiased and clamped.
        value_range: what the darkest and the brightest value become, before `mean` and `std`.
        mean: of each channel, subtracted.
        std: of each channel, divided by.

    Raises:
        UserError: if an argument is out of its range, the weights do not fit, or the network returns something else.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        num_features: int,
        num_logits: int | None = None,
        weights_path: str | None = None,
        num_channels: int | None = None,
        image_size: int | None = None,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        value_range: tuple[float, float] = (0.0, 1.0),
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(
                f"ModuleExtractor.name is {name!r}: use letters, digits, _ . and -, since metrics are named with it"
            )
        for key, value in (("num_features", num_features), ("num_logits", num_logits), ("image_size", image_size)):
            if value is not None and value < 1:
                raise UserError(f"ModuleExtractor.{key} is {value}: it must be at least 1")
        if num_channels not in (None, 1, 3):
            raise UserError(f"ModuleExtractor.num_channels is {num_channels}: it must be 1, 3 or null")
        if std is not None and not all(value > 0 for value in std):
            raise UserError(f"ModuleExtractor.std is {std}: every value must be above 0")
        # in a tuple: a submodule would be moved, and kept in eval mode, with the extractor
        self._given: tuple[nn.Module, ...] = (network,)
        self.name, self.num_features, self.num_logits = name, num_features, num_logits
        self.weights_path, self.num_channels, self.image_size = weights_path, num_channels, image_size
        self.interpolation, self.value_range = interpolation, value_range
        # lists, as they come back from a protocol in JSON
        self.mean, self.std = (None if values is None else list(values) for values in (mean, std))

    def load(self) -> None:
        """Copy the network and read its weights."""
        # a copy: the network may be part of a model in training, which must not be frozen
        self.network = copy.deepcopy(self._given[0]).cpu()
        self._given = ()
        if self.weights_path is None:
            self.network.float()
            self._sha256 = state_sha256(self.network)
            return
        path = Path(self.weights_path)
        if not path.is_file():
            raise UserError(f"ModuleExtractor.weights_path is {self.weights_path!r}, but there is no such file")
        state = read_state(path, "ModuleExtractor.weights_path")
        try:
            self.network.float().load_state_dict(state)
        except RuntimeError as error:
            raise UserError(
                f"ModuleExtractor.weights_path is {self.weights_path!r}, which does not fit {_path(self.network)}: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error
        self._sha256 = file_sha256(path)

    def extract(self, x: Tensor) -> Features:
        """What the network says of (B, C, H, W) uint8 images."""
        if x.ndim != 4:
            raise UserError(f"extractor {self.name!r} takes images (B, C, H, W), got {tuple(x.shape)}")
        found = self.network(self._prepared_images(x))
        pooled, logits = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        sizes = (("features", pooled, self.num_features), ("logits", logits, self.num_logits))
        for kind, values, size in sizes:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            if (values is not None or size is not None) and shape != (len(x), size):
                expected = "none" if size is None else f"({len(x)}, {size})"
                raise UserError(
                    f"extractor {self.name!r}: {_path(self.network)} returns {kind} {shape} for {len(x)} images, where "
                    f"ModuleExtractor.num_{kind} says {expected}: it must return (B, num_features), or a pair of that "
                    "and (B, num_logits)"
                )
        return Features(pooled.float(), None if logits is None else logits.float())

    def protocol(self) -> dict[str, Any]:
        """The network, its weights, and what is done to an image before it."""
        self.prepare()
        size = self.image_size
        return {
            "extractor": self.name,
            "network": _path(self.network),
            "architecture_sha256": hashlib.sha256(repr(self.network).encode()).hexdigest(),
            "weights_sha256": self._sha256,
            "resize": None if size is None else f"{self.interpolation}, antialiased, clamped, to {size}x{size}",
            "num_channels": self.num_channels,
            "value_range": list(self.value_range),
            "normalisation": {"mean": self.mean, "std": self.std},
            "dtype": "float32",
            "quantisation": QUANTISATION,
        }

    def _prepared_images(self, x: Tensor) -> Tensor:
        """Bytes (B, C, H, W) as the network wants them."""
        x = x.float()
        if self.num_channels == 1:
            x = x.mean(dim=1, keepdim=True)
        elif self.num_channels == 3 and x.shape[1] != 3:
            if x.shape[1] != 1:
                raise UserError(f"extractor {self.name!r} takes images of 1 or 3 channels, got {x.shape[1]}")
            x = x.expand(-1, 3, -1, -1)
        if self.image_size is not None:
            size = (self.image_size, self.image_size)
            x = F.interpolate(x, size=size, mode=self.interpolation, antialias=True).clamp(0, 255)
        low, high = self.value_range
        x = low + x / 255 * (high - low)
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, x.shape[1]):
                raise UserError(f"ModuleExtractor.{key} has {len(values)} values for images of {x.shape[1]} channels")
        if self.mean is not None:
            x = x - x.new_tensor(self.mean).view(-1, 1, 1)
        return x if self.std is None else x / x.new_tensor(self.std).view(-1, 1, 1)


def state_sha256(network: nn.Module) -> str:
    """SHA-256 of a network's state dict: its names, dtypes, shapes and bytes, in order of names."""
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _path(network: nn.Module) -> str:
    """Where a network's class is found."""
    return f"{type(network).__module__}.{type(network).__qualname__}"
