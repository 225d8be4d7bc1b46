"""The Inception network of the published FID and Inception Score (TensorFlow's graph of 2015-12-05)."""

import io
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.extractors import QUANTISATION, FeatureExtractor, Features
from lightning_gen.metrics.inception_weights import file_sha256, find_weights, read_weights

# the last layer that each tap needs, in the order of the graph
_LAST_LAYER = {"64": "Conv2d_2b_3x3", "192": "Conv2d_4a_3x3", "768": "Mixed_6e", "2048": "fc"}


class InceptionV3(FeatureExtractor):
    """The FID Inception, as implemented by torch-fidelity, with TensorFlow 1's bilinear resize to 299×299.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule…", NeurIPS 2017; Salimans et al., "Improved
    Techniques for Training GANs", NeurIPS 2016. The papers report
    `fid_inception2048` and `is_inception2048`. Smaller taps are averages of earlier layers over space; they need fewer
    samples and have no logits.

    Args:
        feature: the tap, and so the number of features.
        weights_path: the weight file; None looks at $LIGHTNING_GEN_INCEPTION_WEIGHTS, then in torch hub's cache, and
            then downloads 96 MB, at `prepare` or at the first use.

    Raises:
        UserError: if the weights are not found, or do not reach the tap.
    """

    def __init__(self, feature: Literal["64", "192", "768", "2048"] = "2048", weights_path: str | None = None) -> None:
        super().__init__()
        if feature not in _LAST_LAYER:
            raise UserError(f"InceptionV3: feature is {feature!r}, but must be one of {', '.join(_LAST_LAYER)}")
        self.feature, self.weights_path = feature, weights_path
        self.name, self.num_features = f"inception{feature}", int(feature)
        # the classes follow the last tap: before it, a pass need not go that far
        self.num_logits = 1008 if feature == "2048" else None

    def load(self) -> None:
        """Find and read the weights."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = find_weights(self.weights_path)
        state = read_weights(path)
        # torch-fidelity unpickles whatever it is given, so it is given a copy of tensors already read safely
        safe = io.BytesIO()
        torch.save(dict(state), safe)
        safe.seek(0)
        outputs = [self.feature] if self.num_logits is None else [self.feature, "logits_unbiased"]
        try:
            self.network = FeatureExtractorInceptionV3(self.name, outputs, feature_extractor_weights_path=safe)
        except RuntimeError as error:
            raise UserError(f"InceptionV3: {path} does not fit the FID Inception ({error})") from error
        for layer, module in self.network.named_children():
            if not all(parameter.isfinite().all() for parameter in module.parameters()):
                raise UserError(f"InceptionV3: {path} holds NaN in layer {layer}, which feature {self.feature!r} needs")
            if layer == _LAST_LAYER[self.feature]:
                break
        self._sha256 = file_sha256(path)

    def extract(self, x: Tensor) -> Features:
        """The tap, and for 2048 the logits without bias, of (B, 1 or 3, H, W) uint8 images."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise UserError(f"extractor {self.name!r} takes images (B, 1 or 3, H, W), got {tuple(x.shape)}")
        return Features(*self.network(x.expand(-1, 3, -1, -1)))

    def protocol(self) -> dict[str, Any]:
        """The extractor's weights and what is done to an image before it."""
        self.prepare()
        return {
            "extractor": self.name,
            "weights_sha256": self._sha256,
            "resize": "bilinear as in TensorFlow 1 (not antialiased), to 299x299",
            "dtype": "float32",
            "quantisation": QUANTISATION,
        }
