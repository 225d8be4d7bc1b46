"""What extractors of the Hugging Face hub share: a vision transformer, its weights and its images."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.metrics.extractors import QUANTISATION, FeatureExtractor, Features
from lightning_gen.metrics.extractors.hugging_face_files import (
    find_model,
    import_transformers,
    read_config,
    weight_files,
    weights_sha256,
)


class HuggingFaceExtractor(FeatureExtractor, ABC):
    """A vision transformer of the Hugging Face hub; needs the extra `huggingface`.

    Weights are read at `prepare` or at the first use: from `model` if it is a folder, else from the hub's cache, else
    from the hub. They are read as tensors: no code of the hub is run.

    Args:
        model: a name on the hub, one of `known`, or a folder that holds `config.json` and the weights.

    Raises:
        UserError: if `model` is neither, transformers is not installed, or the weights are not found.
    """

    known: ClassVar[dict[str, tuple[str, int, int]]]
    """Names on the hub: the extractor's name, its number of features, and the size that images are resized to."""
    model_types: ClassVar[tuple[str, ...]]
    """What `config.json` calls these models."""
    mean: ClassVar[tuple[float, float, float]]
    std: ClassVar[tuple[float, float, float]]
    resize: ClassVar[str]

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model, self.num_logits = model, None
        if Path(model).is_dir():
            read_config(Path(model), self.model_types, self.owner)
            import_transformers(self.owner)
            self.name, self.num_features, self.size = self.describe(Path(model))
        elif model in self.known:
            self.name, self.num_features, self.size = self.known[model]
        else:
            raise UserError(
                f"{self.owner}.model is {model!r}, which is neither a folder nor one of {', '.join(self.known)}"
            )

    @property
    def owner(self) -> str:
        """The class's name, for messages."""
        return type(self).__name__

    @abstractmethod
    def describe(self, folder: Path) -> tuple[str, int, int]:
        """What `known` would say of the model in a folder."""

    @abstractmethod
    def build(self, folder: Path, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
        """The network in a folder, and what transformers tells about its loading; `options` are `from_pretrained`'s."""

    @abstractmethod
    def resized(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) float32 in [0, 255], to the network's size."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Features (B, d) of what the network takes."""

    def load(self) -> None:
        """Find and read the weights."""
        folder = find_model(self.model, self.owner)
        read_config(folder, self.model_types, self.owner)
        safe = weight_files(folder)[0].suffix == ".safetensors"
        try:
            with _quiet():
                network, told = self.build(
                    folder, local_files_only=True, use_safetensors=safe, weights_only=True, output_loading_info=True
                )
        except Exception as error:  # transformers, safetensors and torch raise many kinds
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{self.owner}: the weights in {folder} cannot be read ({reason})") from error
        if absent := sorted(str(key) for key in [*told["missing_keys"], *told["mismatched_keys"]]):
            raise UserError(f"{self.owner}: the weights in {folder} lack {absent[0]}, or hold it in another shape")
        # whatever precision they were stored in
        self.network = network.float()
        self._sha256 = weights_sha256(folder)

    def extract(self, x: Tensor) -> Features:
        """Features of (B, 1 or 3, H, W) uint8 images."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise UserError(f"extractor {self.name!r} takes images (B, 1 or 3, H, W), got {tuple(x.shape)}")
        x = self.resized(x.expand(-1, 3, -1, -1).float()) / 255
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return Features(self.embed((x - mean) / std))

    def protocol(self) -> dict[str, Any]:
        """The extractor's weights and what is done to an image before it."""
        self.prepare()
        return {
            "extractor": self.name,
            "weights_sha256": self._sha256,
            "resize": f"{self.resize}, to {self.size}x{self.size}",
            "normalisation": {"mean": list(self.mean), "std": list(self.std)},
            "dtype": "float32",
            "quantisation": QUANTISATION,
        }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and reports: unused weights, such as those of CLIP's text, are no news here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
