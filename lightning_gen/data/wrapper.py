"""Sources made of another source."""

from abc import ABC
from typing import Any

from lightning_gen.data.base import DataModule
from lightning_gen.data.rows import Rows


class DataWrapper(DataModule, ABC):
    """A source whose samples come from another one; whatever a subclass does not say is the other's.

    Args:
        data: the source; of its own batch size, seed and so on nothing is used.
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.
    """

    def __init__(self, data: DataModule, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data, self.modality, self.flip = data, data.modality, data.flip

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The source's."""
        return self.data.sample_shape

    @property
    def splits(self) -> tuple[str, ...]:
        """The source's."""
        return self.data.splits

    @property
    def num_classes(self) -> int | None:
        """The source's."""
        return self.data.num_classes

    @property
    def class_names(self) -> list[str] | None:
        """The source's."""
        return self.data.class_names

    @property
    def attribute_names(self) -> list[str] | None:
        """The source's."""
        return self.data.attribute_names

    def prepare_data(self) -> None:
        """Let the source fetch what it needs."""
        self.data.prepare_data()

    def load_split(self, name: str) -> Rows:
        """The source's."""
        return self.data.split(name)
