"""Keeping layers of a discriminator that has been trained on other data."""

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_gen.errors import UserError
from lightning_gen.networks.base import Discriminator


class FreezeD(Callback):
    """Keeps the first layers of the discriminator as they are (Mo, Cho, Shin, "Freeze the Discriminator", 2020).

    Args:
        layers: how many of `Discriminator.stages()`, counted from the image, ≥ 1.

    Raises:
        UserError: at the start of training, if there are not as many, or nothing would be left to train.
    """

    def __init__(self, layers: int) -> None:
        if layers < 1:
            raise UserError(f"FreezeD.layers is {layers}: it must be at least 1")
        self.layers = layers

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the gradients away before optimisers are made."""
        if stage != "fit":
            return
        discriminator = pl_module.get_submodule("discriminator")
        assert isinstance(discriminator, Discriminator)
        stages = discriminator.stages()
        if self.layers >= len(stages):
            raise UserError(
                f"FreezeD.layers is {self.layers}, but {type(discriminator).__name__} has {len(stages)} layers: freeze"
                f" at most {len(stages) - 1}"
            )
        for stage_ in stages[: self.layers]:
            stage_.requires_grad_(False)
