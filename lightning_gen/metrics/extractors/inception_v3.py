"""The Inception network of the published FID and Inception Score (TensorFlow's graph of 2015-12-05)."""

import io
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics.extractors import QUANTISATION, FeatureExtractor, Features
from lightning_gen.metrics.extractors.inception_network import (
    LAST_LAYERS,
    NUM_CLASSES,
    NUM_SPATIAL,
    InceptionNetwork,
    reaches_spatial,
)
from lightning_gen.metrics.extractors.inception_resize import resize_like_tensorflow
from lightning_gen.metrics.extractors.inception_weights import find_weights, read_weights

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# images that pass through the network together on a CPU: of more, the early layers' maps (1.4 million numbers an image)
# fall out of the caches and are allocated anew for each layer; of fewer, threads and matrix products are half idle
_CPU_CHUNK = 8


class InceptionV3(FeatureExtractor):
    """The FID Inception, equal to torch-fidelity's to rounding, with TensorFlow 1's bilinear resize to 299×299.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule…", NeurIPS 2017; Salimans et al., "Improved
    Techniques for Training GANs", NeurIPS 2016. The papers report
    `fid_inception2048` and `is_inception2048`. Smaller taps are averages of earlier layers over space; they need fewer
    samples and have no logits. 768 and 2048 pass the map of sFID on their way and give it as `Features.spatial`.

    Args:
        feature: the tap, and so the number of features.
        weights_path: the weight file; None looks at $LIGHTNING_GEN_INCEPTION_WEIGHTS, then in torch hub's cache, and
            then downloads 96 MB, at `prepare` or at the first use.
        precision: "fp32" for numbers to report. "bf16" computes the convolutions in bfloat16, which is several times
            as fast where the hardware has it and slower elsewhere, and is for monitoring: it is another extractor,
            named `inception2048_bf16` and so on, whose values and references mix with no others.
        compile: compile the network at its first use, which takes a minute or two on a CPU and needs a C++ compiler
            there. Values change by rounding only.

    Raises:
        UserError: if the weights are not found, or do not reach the tap.
    """

    def __init__(
        self,
        feature: Literal["64", "192", "768", "2048"] | int = "2048",
        weights_path: str | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        compile: bool = False,
    ) -> None:
        super().__init__()
        tap = str(feature)  # YAML reads 768 as a number
        if tap not in LAST_LAYERS:
            raise UserError(f"InceptionV3: feature is {feature!r}, but must be one of {', '.join(LAST_LAYERS)}")
        if precision not in _DTYPES:
            raise UserError(f"InceptionV3: precision is {precision!r}, but must be one of {', '.join(_DTYPES)}")
        self.feature, self.weights_path = tap, weights_path
        self.dtype, self.compiled = _DTYPES[precision], compile
        # an underscore, because "-" separates the parts of a checkpoint's file name
        self.name = f"inception{tap}" if precision == "fp32" else f"inception{tap}_{precision}"
        self.num_features = int(tap)
        # the classes follow the last tap: before it, a pass need not go that far
        self.num_logits = NUM_CLASSES if tap == "2048" else None
        self.num_spatial = NUM_SPATIAL if reaches_spatial(tap) else None

    def load(self) -> None:
        """Find and read the weights."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = find_weights(self.weights_path)
        state = dict(read_weights(path))
        # torch-fidelity draws random weights, then unpickles whatever it is given: here neither holds any numbers
        shapes = io.BytesIO()
        torch.save({name: values.to("meta") for name, values in state.items()}, shapes)
        shapes.seek(0)
        try:
            with torch.device("meta"):
                published = FeatureExtractorInceptionV3(
                    self.name, [self.feature], feature_extractor_weights_path=shapes
                )
            published.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise UserError(f"InceptionV3: {path} does not fit the FID Inception ({error})") from error
        self.network = InceptionNetwork(published, self.feature, self.dtype)
        if (layer := self.network.first_non_finite()) is not None:
            raise UserError(f"InceptionV3: {path} holds NaN in layer {layer}, which feature {self.feature!r} needs")
        if self.compiled:
            # weights become constants, laid out as the machine likes them
            self.network.compile(options={"freezing": True})
        self._sha256 = file_sha256(path)

    def extract(self, x: Tensor) -> Features:
        """The tap, the map of sFID and the logits without bias of (B, 1 or 3, H, W) uint8 images; some may be None."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise UserError(f"extractor {self.name!r} takes images (B, 1 or 3, H, W), got {tuple(x.shape)}")
        size = _CPU_CHUNK if x.device.type == "cpu" else len(x)
        pooled, logits, spatial = zip(*(self._described(chunk, size) for chunk in x.split(size)), strict=True)
        # only the last chunk may be padded
        return Features(torch.cat(pooled)[: len(x)], _joined(logits, len(x)), _joined(spatial, len(x)))

    def _described(self, x: Tensor, size: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the network says about at most `size` images, or about `size` of which the last are padding."""
        images = ((resize_like_tensorflow(x) - 128) / 128).expand(-1, 3, -1, -1)
        if self.compiled:  # always of one shape: another would be compiled anew
            images = F.pad(images, (0, 0, 0, 0, 0, 0, 0, size - len(x)))
        return self.network(images.contiguous(memory_format=torch.channels_last))

    def protocol(self) -> dict[str, Any]:
        """The extractor's weights and what is done to an image before it."""
        self.prepare()
        return {
            "extractor": self.name,
            "weights_sha256": self._sha256,
            "resize": "bilinear as in TensorFlow 1 (not antialiased), to 299x299",
            "dtype": str(self.dtype).removeprefix("torch."),
            "quantisation": QUANTISATION,
        }


def _joined(parts: Sequence[Tensor | None], count: int) -> Tensor | None:
    """The first `count` rows, or None where there are none."""
    given = [part for part in parts if part is not None]
    return torch.cat(given)[:count] if given else None
