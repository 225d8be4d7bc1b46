"""One `LightningModule` per generative principle."""

from lightning_gen.families.gan import GAN

__all__ = ["GAN"]
