"""One `LightningModule` per generative principle."""

from lightning_gen.families.adversarial_autoencoder import AdversarialAutoencoder
from lightning_gen.families.deep_density_estimator import DeepDensityEstimator
from lightning_gen.families.density_baseline import DensityBaseline
from lightning_gen.families.diffusion import Diffusion
from lightning_gen.families.factor_vae import FactorVAE
from lightning_gen.families.flow_matching import FlowMatching
from lightning_gen.families.gan import GAN
from lightning_gen.families.ladder_vae import LadderVAE
from lightning_gen.families.latent_density import LatentDensity
from lightning_gen.families.latent_prior import LatentPrior
from lightning_gen.families.normalizing_flow import NormalizingFlow
from lightning_gen.families.pixelcnn import PixelCNN
from lightning_gen.families.regularised_autoencoder import RegularisedAutoencoder
from lightning_gen.families.semi_supervised_aae import SemiSupervisedAdversarialAutoencoder
from lightning_gen.families.semi_supervised_gan import SemiSupervisedGAN
from lightning_gen.families.vae import VAE
from lightning_gen.families.vae_gan import VAEGAN
from lightning_gen.families.vqgan import VQGAN
from lightning_gen.families.vqvae import VQVAE
from lightning_gen.families.vqvae2 import VQVAE2
from lightning_gen.families.wasserstein_autoencoder import WassersteinAutoencoder

__all__ = [
    "GAN",
    "VAE",
    "VAEGAN",
    "VQGAN",
    "VQVAE",
    "VQVAE2",
    "AdversarialAutoencoder",
    "DeepDensityEstimator",
    "DensityBaseline",
    "Diffusion",
    "FactorVAE",
    "FlowMatching",
    "LadderVAE",
    "LatentDensity",
    "LatentPrior",
    "NormalizingFlow",
    "PixelCNN",
    "RegularisedAutoencoder",
    "SemiSupervisedAdversarialAutoencoder",
    "SemiSupervisedGAN",
    "WassersteinAutoencoder",
]
