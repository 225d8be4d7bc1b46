"""What every feature extractor keeps: stored-form samples in, float32 features out, the same in every training loop."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.images import to_uint8

CHUNK = 1024
"""Rows of features that are gathered before they are added up: products of few rows waste the machine."""
_TOLERANCE = 1.001
QUANTISATION = "round((x + 1) * 127.5), clamped to 0..255"


@dataclass(frozen=True)
class Features:
    """What an extractor says about B samples.

    Attributes:
        pooled: (B, d) float32, compared by FID and its kin.
        logits: (B, K) float32 class scores, or None where the extractor does not classify.
        spatial: (B, s) float32 features that keep their place in the image, or None where there are none.
        y: (B,) int64 classes that the samples were drawn for, or None; whoever has the samples adds them. Attributes
            (B, A) are taken for None by metrics.
    """

    pooled: Tensor
    logits: Tensor | None = None
    spatial: Tensor | None = None
    y: Tensor | None = None


def require_finite(features: Features, index: Tensor, extractor: str) -> None:
    """Refuse features that hold NaN or infinities.

    Args:
        features: of B ≥ 1 samples.
        index: (B,) positions of the samples in their set.
        extractor: name of what made them.

    Raises:
        UserError: naming the extractor and the first such sample.
    """
    for kind in ("pooled", "logits", "spatial"):
        values = getattr(features, kind)
        if values is not None and not bool((finite := values.isfinite().all(dim=1)).all()):
            first = int(index[int((~finite).nonzero()[0])])
            raise UserError(
                f"extractor {extractor!r} gave NaN or infinite {kind} features for sample {first} of the set"
            )


def quantise_images(x: Tensor) -> Tensor:
    """The bytes that a PNG of these images would hold.

    Args:
        x: (B, C, H, W), uint8 (returned as it is) or floating point in [-1, 1].

    Returns:
        (B, C, H, W) uint8, rounded to nearest; nothing wraps around.

    Raises:
        UserError: if `x` has another dtype, holds NaN, or leaves [-1, 1] by more than 0.001.
    """
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise UserError(f"images have dtype {x.dtype}; use uint8 in [0, 255] or floating point in [-1, 1]")
    if x.numel():
        low, high = (v.item() for v in torch.aminmax(x))
        if not (low >= -_TOLERANCE and high <= _TOLERANCE):  # also true for NaN
            raise UserError(
                f"images hold values from {low:.4g} to {high:.4g}; floating-point images must lie in [-1, 1] "
                "(for [0, 1] use 2 * x - 1, for [0, 255] convert to uint8)"
            )
    return to_uint8(x)


class FeatureExtractor(nn.Module, ABC):
    """A frozen network that describes samples by vectors.

    It runs in float32 and in eval mode whatever the precision and the mode of the training around it, and draws no
    random numbers. Weights are read by `prepare`, or at the first use.

    Attributes:
        name: short name without spaces; it becomes part of the names of metrics (`fid_<name>`).
        num_features: d, the length of `Features.pooled`.
        num_logits: K, the number of classes, or None.
        num_spatial: s, the length of `Features.spatial`, or None.
        device: where it computes; `.to(device)` moves it, and casts nothing.
    """

    name: str
    num_features: int
    num_logits: int | None
    num_spatial: int | None = None
    device: torch.device

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cpu")
        self._prepared = False

    @abstractmethod
    def extract(self, x: Tensor) -> Features:
        """Features of stored-form samples `x` (B, ...). Call the module, not this.

        Args:
            x: for images (B, C, H, W) uint8; or float32 in [0, 255], from metrics that look at steps below a byte.
        """

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What makes two values comparable: extractor, weights_sha256, resize, dtype, quantisation. JSON-able."""

    def load(self) -> None:
        """Build the network and read its weights, on the CPU; called once."""

    def stored(self, x: Tensor) -> Tensor:
        """Samples in the form they are stored in: bytes for images."""
        return quantise_images(x)

    def prepare(self) -> Self:
        """Read the weights, once; call it before training so that a missing file is told early.

        Raises:
            UserError: if the weights are not found.
        """
        if not self._prepared:
            # Building layers draws random numbers, and Lightning may have set another default dtype or device
            default = torch.get_default_dtype()
            with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.inference_mode(False):
                torch.set_default_dtype(torch.float32)
                try:
                    self.load()
                finally:
                    torch.set_default_dtype(default)
            self._prepared = True
            self.requires_grad_(False)
            self.eval()
            self.to(self.device)
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> Features:
        """Features of samples in stored form or, for images, floating point in [-1, 1].

        Args:
            x: (B, ...); moved to the extractor's device.

        Returns:
            `Features` on the extractor's device, not yet checked to be finite: that would wait for the device.

        Raises:
            UserError: if `x` is no valid input.
        """
        self.prepare()
        x = self.stored(x).to(self.device)
        if len(x) == 0:
            sizes = (self.num_features, self.num_logits, self.num_spatial)
            return Features(*(None if size is None else torch.zeros(0, size, device=self.device) for size in sizes))  # type: ignore[arg-type]
        with torch.autocast(self.device.type, enabled=False), full_float32(self.device):
            return self.extract(x)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: the trainer's mode is not the extractor's."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # follow to another device, but not to another dtype
        self.device = device = fn(torch.zeros((), device=self.device)).device
        return super()._apply(lambda tensor: tensor.to(device), recurse)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Without TF32, in which CUDA's convolutions compute unless told otherwise."""
    if device.type != "cuda":
        yield
        return
    # torch below 2.9 knows only the second name
    name, off = ("fp32_precision", "ieee") if hasattr(torch.backends.cudnn, "conv") else ("allow_tf32", False)
    convolutions: Any = torch.backends.cudnn
    places = (getattr(convolutions, "conv", convolutions), torch.backends.cuda.matmul)
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, off)
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, name, value)
