"""One `LightningModule` per generative principle."""

from lightning_gen.families.gan import GAN
from lightning_gen.families.semi_supervised_gan import SemiSupervisedGAN

__all__ = ["GAN", "SemiSupervisedGAN"]
