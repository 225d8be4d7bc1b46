"""A classifier of the digits in the channels of an image: the modes of stacked MNIST."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics.extractors import QUANTISATION, FeatureExtractor, Features
from lightning_gen.metrics.extractors.digits_classifier import NUM_FEATURES, SIZE, WEIGHTS, DigitsNetwork, to_grey
from lightning_gen.metrics.extractors.weights_files import read_state

PACKAGED = {"digits": WEIGHTS, "mnist": WEIGHTS.with_name("mnist_classifier.safetensors")}
"""Weights that ship with the package, by name."""


class StackedDigitsClassifier(FeatureExtractor):
    """The extractor `stacked_mnist`: each channel of an image is a grey digit, the whole a number of so many digits.

    Logits are of the 10^channels numbers, the first channel the first digit: sums of the channels' log-probabilities,
    so that the likeliest number is made of the likeliest digits. Features are the channels', one after the other: 32
    a channel. Images of any size are resized to 16×16.

    The weights `mnist` are those of `scripts/train_mnist_classifier.py`; `digits` those of `DigitsClassifier`, for
    scikit-learn's digits; with them the extractor is called `stacked_digits`, with a file of your own `stacked_own`.

    Args:
        channels: digits in an image, 1 to 3.
        weights: `mnist`, `digits`, or a file that `scripts/train_mnist_classifier.py` wrote.

    Raises:
        UserError: if `channels` is out of its range; later, if the file is absent or does not fit.
    """

    def __init__(self, channels: int = 3, weights: str = "mnist") -> None:
        super().__init__()
        if not 1 <= channels <= 3:
            raise UserError(f"StackedDigitsClassifier.channels is {channels}: it must be from 1 to 3")
        self.channels, self.weights = channels, weights
        self.name = f"stacked_{weights if weights in PACKAGED else 'own'}"
        self.num_features, self.num_logits = channels * NUM_FEATURES, 10**channels

    def load(self) -> None:
        """Read the weights.

        Raises:
            UserError: if there is no such file, or it does not fit.
        """
        path = PACKAGED.get(self.weights, Path(self.weights))
        told = f"StackedDigitsClassifier.weights is {self.weights!r}"
        if not path.is_file():
            raise UserError(f"{told}, but there is no such file: give {', '.join(PACKAGED)}, or a file that exists")
        self.body, self.head = DigitsNetwork(), nn.Linear(NUM_FEATURES, 10)
        try:
            self.load_state_dict(read_state(path, "StackedDigitsClassifier.weights"))
        except RuntimeError as error:
            raise UserError(
                f"{told}, which does not fit: give a file that scripts/train_mnist_classifier.py wrote"
            ) from error
        self._sha256 = file_sha256(path)

    def extract(self, x: Tensor) -> Features:
        """Features (B, 32 · channels) and logits (B, 10^channels) of (B, channels, H, W) uint8 images."""
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise UserError(
                f"extractor {self.name!r} takes images (B, {self.channels}, H, W), got {tuple(x.shape)}: set "
                "StackedDigitsClassifier.channels to the channels of the data"
            )
        pooled = self.body(to_grey(x.flatten(0, 1)[:, None]))
        each = self.head(pooled).log_softmax(dim=1).unflatten(0, x.shape[:2])
        logits = each[:, 0]
        for digit in each[:, 1:].unbind(dim=1):
            logits = (logits[:, :, None] + digit[:, None]).flatten(1)
        return Features(pooled.unflatten(0, x.shape[:2]).flatten(1), logits)

    def protocol(self) -> dict[str, Any]:
        """The classifier's weights and what is done to a channel before it."""
        self.prepare()
        return {
            "extractor": self.name,
            "channels": self.channels,
            "weights": self.weights if self.weights in PACKAGED else "own",
            "weights_sha256": self._sha256,
            "resize": f"bilinear, antialiased, to {SIZE}x{SIZE}",
            "dtype": "float32",
            "quantisation": QUANTISATION,
        }
