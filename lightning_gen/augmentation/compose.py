"""Several augmentations, one after the other."""

from typing import cast

from torch import Tensor, nn

from lightning_gen.augmentation.base import Augmentation
from lightning_gen.errors import UserError


class Compose(Augmentation):
    """Applies augmentations in the order given.

    Args:
        augmentations: at least one.

    Raises:
        UserError: if there is none.
    """

    def __init__(self, augmentations: list[Augmentation]) -> None:
        super().__init__()
        if not augmentations:
            raise UserError("Compose.augmentations is []: give at least one, or leave augmentation out")
        self.parts = nn.ModuleList(augmentations)

    @property
    def augmentations(self) -> list[Augmentation]:
        """Them, in order."""
        return cast(list[Augmentation], list(self.parts))

    def forward(self, x: Tensor) -> Tensor:
        """Change (B, …) samples by each in turn."""
        for augmentation in self.augmentations:
            x = augmentation(x)
        return x

    def replace(self, real: Tensor, fake: Tensor) -> Tensor:
        """(B, …) what stands for real samples after each has had its turn."""
        for augmentation in self.augmentations:
            real = augmentation.replace(real, fake)
        return real

    def observe(self, real_scores: Tensor) -> None:
        """Let each take note of (B,) scores of real samples."""
        for augmentation in self.augmentations:
            augmentation.observe(real_scores)

    def adjust(self) -> None:
        """Let each adapt."""
        for augmentation in self.augmentations:
            augmentation.adjust()

    def check(self, shape: tuple[int, ...]) -> str | None:
        """The first that one of them finds wrong with samples of `shape`."""
        return next((found for part in self.augmentations if (found := part.check(shape))), None)
