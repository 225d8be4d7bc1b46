"""Small models of every family, with data that they train on, as tests of them all build them."""

from functools import partial

import torch

from lightning_gen.augmentation import ADA, DiffAugment
from lightning_gen.bijections import MAF, ContinuousFlow, Glow, MLPField, RealNVP
from lightning_gen.bijections.image import ThreeLayerNetwork
from lightning_gen.data import Digits, FewLabels, Ring2D, Thresholded
from lightning_gen.densities import NormalMixtureDensity
from lightning_gen.dequantisation import UniformDequantisation, VariationalDequantisation
from lightning_gen.distributions import DiagonalNormal, NormalMixture
from lightning_gen.distributions.quantisers import VectorQuantiser
from lightning_gen.families import (
    GAN,
    VAE,
    VAEGAN,
    VQGAN,
    VQVAE,
    VQVAE2,
    AdversarialAutoencoder,
    DeepDensityEstimator,
    DensityBaseline,
    Diffusion,
    FactorVAE,
    FlowMatching,
    LadderVAE,
    LatentDensity,
    LatentPrior,
    NormalizingFlow,
    PixelCNN,
    RegularisedAutoencoder,
    SemiSupervisedAdversarialAutoencoder,
    SemiSupervisedGAN,
    WassersteinAutoencoder,
)
from lightning_gen.guidance import ClassifierFree
from lightning_gen.losses import (
    R1,
    R2,
    AuxiliaryClassifier,
    DataToDataCrossEntropy,
    GradientPenalty,
    LeastSquares,
    LeCam,
    Minimax,
    MutualInformation,
    NonSaturating,
    PathLength,
    RelativisticPairing,
    Unrolling,
    Wasserstein,
    WeightClipping,
)
from lightning_gen.losses.bounds import IWAE
from lightning_gen.losses.decoder_regularisers import DecoderGradientPenalty
from lightning_gen.losses.denoising import EDMLoss, SimpleLoss
from lightning_gen.losses.likelihoods import Bernoulli, BoundedGaussian, Gaussian, Laplace
from lightning_gen.losses.pixel_likelihoods import CategoricalPixels, LogisticMixturePixels
from lightning_gen.networks import (
    BigGANDiscriminator,
    BigGANGenerator,
    Classifier,
    Codes,
    Contrastive,
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
    NoisyMLPDiscriminator,
    Packed,
    SoftplusMLPGenerator,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder, VQVAEDecoder, VQVAEEncoder
from lightning_gen.networks.autoregressive import GatedPixelCNN
from lightning_gen.networks.masked import MaskedMLP
from lightning_gen.networks.patch import PatchDiscriminator
from lightning_gen.networks.pixel import GatedPixelNetwork, PixelCNNPlusPlus
from lightning_gen.networks.time_dependent import TimeMLP
from lightning_gen.paths import SinkhornTransport
from lightning_gen.preconditioning import EDM, Epsilon
from lightning_gen.samplers.diffusion import DDPM, Heun
from lightning_gen.schedules import LinearBeta, VarianceExploding
from lightning_gen.solvers import RK4, HutchinsonDivergence

ADAM = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999))


def gan(generator, discriminator, loss, **options):
    return GAN(generator, discriminator, loss, generator_optimizer=ADAM, discriminator_optimizer=ADAM, **options)


def gan_points(loss=None, **options):
    networks = MLPGenerator(latent_dim=4, width=16, depth=2), MLPDiscriminator(width=16, depth=2)
    return gan(*networks, loss or NonSaturating(), **options)


def gan_points_critic():
    r1 = R1(1.0, interval=2)
    return gan_points(Minimax(), num_critic_steps=2, penalties=[r1], accumulate_grad_batches=2, gradient_clip_val=1.0)


def gan_grey(num_classes=None, **options):
    image = {"image_size": 8, "channels": 1, "width": 8, "num_classes": num_classes}
    return gan(DCGANGenerator(latent_dim=8, **image), DCGANDiscriminator(**image), NonSaturating(), **options)


def gan_relativistic():
    return gan_points(RelativisticPairing(), penalties=[R1(0.1), R2(0.1), LeCam()], num_critic_steps=2)


def gan_wasserstein():
    # LeCam alone moves the last bias: in the difference of two scores it cancels
    return gan_points(Wasserstein(), penalties=[GradientPenalty(), LeCam()], constraint=WeightClipping(0.5))


def gan_unrolled():
    return gan_points(unrolling=Unrolling(2, 0.1))


def gan_packed():
    networks = MLPGenerator(latent_dim=4, width=16, depth=2), Packed(MLPDiscriminator(4, width=16, depth=2), 2)
    return gan(*networks, LeastSquares())


def gan_auxiliary(head, auxiliary):
    image = {"image_size": 8, "channels": 1, "width": 8, "num_classes": 10}
    networks = DCGANGenerator(latent_dim=8, **image), DCGANDiscriminator(**image, head=head, batch_norm=False)
    return gan(*networks, NonSaturating(), auxiliary=auxiliary)


def gan_biggan():
    networks = BigGANGenerator(8, 1, 8, 4, 10, 8), BigGANDiscriminator(8, 1, 4, 10)
    return gan(*networks, NonSaturating(), augmentation=DiffAugment(("translation", "cutout")))


def gan_stylegan2():
    image = {"image_size": 8, "channels": 1, "channel_base": 64, "channel_max": 8}
    networks = StyleGAN2Generator(latent_dim=8, style_dim=8, **image), StyleGAN2Discriminator(**image)
    options = {"penalties": [R1(0.1, interval=2)], "generator_penalties": [PathLength(interval=2)]}
    return gan(*networks, NonSaturating(), augmentation=ADA(interval=2), **options)


def semi_supervised():
    networks = SoftplusMLPGenerator([1, 8, 8], 8, 16), NoisyMLPDiscriminator([1, 8, 8], 10, (16, 16))
    return SemiSupervisedGAN(*networks, generator_optimizer=ADAM, discriminator_optimizer=ADAM)


def autoencoder(family, *, num_classes=None, **options):
    image = {"sample_dim": [1, 8, 8], "width": 8, "depth": 1, "num_classes": num_classes}
    likelihood = options.pop("likelihood", None) or Bernoulli()
    options = {"latent_dim": 3} | options if family is not LadderVAE else options
    return family(MLPEncoder(**image), partial(MLPDecoder, **image), likelihood=likelihood, optimizer=ADAM, **options)


def adversarial_autoencoder(family, *optimizers, **options):
    image = {"sample_dim": [1, 8, 8], "width": 8, "depth": 1}
    makers = {f"{name}_optimizer": ADAM for name in optimizers}
    networks = MLPEncoder(**image), partial(MLPDecoder, **image | {"num_classes": options.pop("num_classes", None)})
    return family(*networks, 3, options.pop("likelihood", None) or Gaussian(), **makers, **options)


CRITIC = partial(MLPDiscriminator, width=8, depth=1)


def aae(**options):
    words = "autoencoder", "discriminator", "encoder"
    return adversarial_autoencoder(
        AdversarialAutoencoder, *words, loss=NonSaturating(), discriminator=CRITIC, num_critic_steps=2, **options
    )


def semi_supervised_aae():
    words = "autoencoder", "discriminator", "encoder", "classifier"
    critics = {"class_discriminator": CRITIC, "style_discriminator": CRITIC}
    options = {"loss": NonSaturating(), "num_classes": 10, **critics}
    return adversarial_autoencoder(SemiSupervisedAdversarialAutoencoder, *words, **options)


def wae():
    return adversarial_autoencoder(WassersteinAutoencoder, optimizer=ADAM)


def rae():
    return adversarial_autoencoder(RegularisedAutoencoder, optimizer=ADAM, regulariser=DecoderGradientPenalty(0.1))


def factor_vae():
    options = {"likelihood": Bernoulli(), "discriminator": CRITIC, "optimizer": ADAM}
    return adversarial_autoencoder(FactorVAE, "discriminator", **options)


def vaegan():
    judge = MLPDiscriminator([1, 8, 8], width=8, depth=1)
    options = {"likelihood": BoundedGaussian(), "discriminator": judge, "loss": NonSaturating()}
    return adversarial_autoencoder(VAEGAN, "encoder", "decoder", "discriminator", **options)


MAPS = {"channels": 1, "width": 4, "num_blocks": 1}
CODES = partial(VectorQuantiser, num_codes=4, dim=3, commitment=1.0)


def vqvae(**options):
    networks = VQVAEEncoder(6, num_downsamplings=1, **MAPS), partial(VQVAEDecoder, num_upsamplings=1, **MAPS)
    return VQVAE(*networks, Gaussian(), ADAM, [1, 8, 8], **{"quantiser": CODES} | options)


def vqvae2():
    down, up = {"num_downsamplings": 1, **MAPS}, {"num_upsamplings": 1, **MAPS}
    networks = VQVAEEncoder(6, **down), VQVAEEncoder(6, **down | {"channels": 6})
    return VQVAE2(
        *networks,
        partial(VQVAEDecoder, **up),
        partial(VQVAEDecoder, **up),
        Gaussian(),
        ADAM,
        [1, 8, 8],
        quantiser=CODES,
    )


def vqgan():
    networks = VQVAEEncoder(6, num_downsamplings=1, **MAPS), partial(VQVAEDecoder, num_upsamplings=1, **MAPS)
    judge = PatchDiscriminator(1, width=4, num_layers=1)
    options = {"quantiser": CODES, "loss": NonSaturating(), "discriminator_start": 1}
    return VQGAN(*networks, Laplace(), judge, ADAM, ADAM, [1, 8, 8], **options)


def latent_prior():
    network = partial(GatedPixelCNN, width=4, depth=2, kernel_size=3)
    return LatentPrior(vqvae(), network, ADAM, sample_shape=[1, 8, 8])


def latent_density():
    return LatentDensity(wae(), partial(NormalMixture, num_components=2), ADAM, sample_shape=[1, 8, 8])


def glow():
    flow = partial(Glow, levels=2, steps=1, network=partial(ThreeLayerNetwork, width=4))
    options = {"dequantisation": UniformDequantisation(17), "num_classes": 10, "condition_features": 3}
    return NormalizingFlow([1, 8, 8], flow, ADAM, **options)


def continuous_flow():
    field, divergence = partial(MLPField, width=8, depth=1), HutchinsonDivergence()
    flow = partial(ContinuousFlow, field=field, solver=RK4(2), divergence=divergence)
    return NormalizingFlow([2], flow, ADAM)


def normalizing_flow():
    encoder = MLPEncoder([1, 8, 8], width=8, depth=1)
    coupling = partial(RealNVP, transforms=2, hidden_features=(8,))
    dequantisation = VariationalDequantisation([1, 8, 8], encoder, 17, coupling)
    flow = partial(MAF, transforms=2, hidden_features=(8,))
    conditional = {"num_classes": 10, "condition_features": 4}
    return NormalizingFlow([1, 8, 8], flow, ADAM, dequantisation=dequantisation, **conditional)


def density_baseline():
    return DensityBaseline([2], partial(NormalMixtureDensity, num_components=3))


def deep_density_estimator():
    network = partial(MaskedMLP, width=8, depth=2, num_orders=3)
    return DeepDensityEstimator([1, 8, 8], Bernoulli(), ADAM, network)


def diffusion():
    return Diffusion(TimeMLP(2, 16, 1), VarianceExploding(), EDM(), EDMLoss(), Heun(4), ADAM)


def diffusion_guided():
    network, parts = TimeMLP([1, 8, 8], 16, 1, 10), (LinearBeta(), Epsilon(), SimpleLoss(), DDPM(4, 0.0, clip=1.0))
    return Diffusion(network, *parts, ADAM, label_dropout=0.5, guidance=ClassifierFree())


def flow_matching():
    return FlowMatching(TimeMLP(2, 16, 1), ADAM, coupling=SinkhornTransport(iterations=2), sampler=RK4(2))


def flow_matching_conditional():
    options = {"dequantisation": UniformDequantisation(17), "label_dropout": 0.5, "guidance": ClassifierFree()}
    return FlowMatching(TimeMLP([1, 8, 8], 16, 1, 10), ADAM, **options)


def pixelcnn(network=GatedPixelNetwork, likelihood=CategoricalPixels, **options):
    sizes = {"width": 4, "depth": 1, "dropout": 0.1}
    return PixelCNN(partial(network, **sizes, **options), [1, 8, 8], likelihood(17), ADAM)


def few_labels(**options):
    return FewLabels(Digits(image_size=8), num_labels=20, **{"batch_size": 8} | options)


DIGITS = partial(Digits, image_size=8, batch_size=8)


def binary(**options):
    return Thresholded(Digits(image_size=8), **{"batch_size": 8} | options)


# losses whose gradient vanishes nowhere: the hinge leaves the last bias alone while all scores are within the margin;
# few enough points for several epochs
BUILDERS = {
    "gan_points": (gan_points, partial(Ring2D, num_samples=24, num_val=8, batch_size=8), (2,)),
    "gan_points_critic": (gan_points_critic, partial(Ring2D, num_samples=96, num_val=8, batch_size=8), (2,)),
    "gan_grey": (gan_grey, partial(Digits, image_size=8, batch_size=8), (1, 8, 8)),
    "gan_grey_channels_last": (
        partial(gan_grey, channels_last=True),
        partial(Digits, image_size=8, batch_size=8),
        (1, 8, 8),
    ),
    "gan_relativistic": (gan_relativistic, partial(Ring2D, num_samples=96, num_val=8, batch_size=8), (2,)),
    "gan_wasserstein": (gan_wasserstein, partial(Ring2D, num_samples=24, num_val=8, batch_size=8), (2,)),
    "gan_unrolled": (gan_unrolled, partial(Ring2D, num_samples=24, num_val=8, batch_size=8), (2,)),
    "gan_packed": (gan_packed, partial(Ring2D, num_samples=24, num_val=8, batch_size=8), (2,)),
    "gan_classifier": (partial(gan_auxiliary, Classifier, AuxiliaryClassifier()), DIGITS, (1, 8, 8)),
    "gan_contrastive": (partial(gan_auxiliary, Contrastive, DataToDataCrossEntropy()), DIGITS, (1, 8, 8)),
    "gan_codes": (partial(gan_auxiliary, Codes, MutualInformation()), DIGITS, (1, 8, 8)),
    "gan_biggan": (gan_biggan, DIGITS, (1, 8, 8)),
    "gan_stylegan2": (gan_stylegan2, DIGITS, (1, 8, 8)),
    "semi_supervised": (semi_supervised, few_labels, (1, 8, 8)),
    "vae": (partial(autoencoder, VAE), binary, (1, 8, 8)),
    "vae_conditional": (
        partial(autoencoder, VAE, num_classes=10, prior=DiagonalNormal, prior_features=4, bound=IWAE(3)),
        binary,
        (1, 8, 8),
    ),
    "factor_vae": (factor_vae, binary, (1, 8, 8)),
    "vae_gan": (vaegan, DIGITS, (1, 8, 8)),
    "adversarial_autoencoder": (aae, DIGITS, (1, 8, 8)),
    "adversarial_autoencoder_conditional": (partial(aae, num_classes=10), DIGITS, (1, 8, 8)),
    "adversarial_autoencoder_semi_supervised": (semi_supervised_aae, few_labels, (1, 8, 8)),
    "wasserstein_autoencoder": (wae, DIGITS, (1, 8, 8)),
    "regularised_autoencoder": (rae, DIGITS, (1, 8, 8)),
    "vqvae": (vqvae, DIGITS, (1, 8, 8)),
    "vqvae2": (vqvae2, DIGITS, (1, 8, 8)),
    "vqgan": (vqgan, DIGITS, (1, 8, 8)),
    "latent_prior": (latent_prior, DIGITS, (1, 8, 8)),
    "latent_density": (latent_density, DIGITS, (1, 8, 8)),
    "density_baseline": (density_baseline, partial(Ring2D, num_samples=28, num_val=8, batch_size=8), (2,)),
    "deep_density_estimator": (deep_density_estimator, binary, (1, 8, 8)),
    "normalizing_flow_glow": (glow, DIGITS, (1, 8, 8)),
    "normalizing_flow_continuous": (
        continuous_flow,
        partial(Ring2D, num_samples=24, num_val=8, batch_size=8),
        (2,),
    ),
    "normalizing_flow": (normalizing_flow, DIGITS, (1, 8, 8)),
    "pixelcnn": (partial(pixelcnn, num_classes=10), DIGITS, (1, 8, 8)),
    "pixelcnn_plus_plus": (
        partial(pixelcnn, PixelCNNPlusPlus, LogisticMixturePixels, num_sizes=2),
        DIGITS,
        (1, 8, 8),
    ),
    "vae_ladder": (partial(autoencoder, LadderVAE, latent_dims=[3, 2], width=8), binary, (1, 8, 8)),
    "diffusion": (diffusion, partial(Ring2D, num_samples=24, num_val=8, batch_size=8), (2,)),
    "diffusion_guided": (diffusion_guided, DIGITS, (1, 8, 8)),
    "flow_matching": (flow_matching, partial(Ring2D, num_samples=24, num_val=8, batch_size=8), (2,)),
    "flow_matching_conditional": (flow_matching_conditional, DIGITS, (1, 8, 8)),
    "gan_grey_conditional": (partial(gan_grey, 10), partial(Digits, image_size=8, batch_size=8), (1, 8, 8)),
}


def build(name, seed=0):
    torch.manual_seed(seed)
    return BUILDERS[name][0]()
