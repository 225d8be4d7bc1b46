"""Plain values, as a configuration file has them, make every one of these families."""

import pytest
import torch

from lightning_gen.checkpoints import instantiate
from lightning_gen.model import GenerativeModel

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}}
NETWORKS = "lightning_gen.networks"
LOSSES = "lightning_gen.losses"
IMAGE = [1, 8, 8]
ENCODER = {"class_path": f"{NETWORKS}.autoencoders.MLPEncoder", "init_args": {"sample_dim": IMAGE, "width": 8}}
DECODER = {"class_path": f"{NETWORKS}.autoencoders.MLPDecoder", "init_args": {"sample_dim": IMAGE, "width": 8}}
JUDGE = {"class_path": f"{NETWORKS}.MLPDiscriminator", "init_args": {"width": 8}}
GAUSSIAN = {"class_path": f"{LOSSES}.likelihoods.BoundedGaussian", "init_args": {"scale": 0.5}}
COMMON = {"encoder": ENCODER, "decoder": DECODER, "latent_dim": 3, "likelihood": GAUSSIAN}
GAME = {"loss": {"class_path": f"{LOSSES}.NonSaturating"}}
NOISY = {"posterior": {"class_path": "lightning_gen.distributions.DiagonalNormal"}}


def conditional(part):
    return {"class_path": part["class_path"], "init_args": part["init_args"] | {"num_classes": 10}}


SETTINGS = {
    "AdversarialAutoencoder": {
        "discriminator": conditional(JUDGE),
        "decoder": conditional(DECODER),
        "autoencoder_optimizer": ADAM,
        "discriminator_optimizer": ADAM,
        "encoder_optimizer": ADAM,
    }
    | GAME
    | NOISY,
    "SemiSupervisedAdversarialAutoencoder": {
        "decoder": conditional(DECODER),
        "class_discriminator": JUDGE,
        "style_discriminator": JUDGE,
        "autoencoder_optimizer": ADAM,
        "discriminator_optimizer": ADAM,
        "encoder_optimizer": ADAM,
        "classifier_optimizer": ADAM,
    }
    | GAME,
    "WassersteinAutoencoder": {
        "optimizer": ADAM,
        "kernel": {"class_path": f"{LOSSES}.divergences.RBF", "init_args": {"scales": [0.5, 1.0]}},
    }
    | NOISY,
    "RegularisedAutoencoder": {
        "optimizer": ADAM,
        "regulariser": {"class_path": f"{LOSSES}.DecoderGradientPenalty", "init_args": {"weight": 0.1}},
    },
    "FactorVAE": {"discriminator": JUDGE, "optimizer": ADAM, "discriminator_optimizer": ADAM},
    "VAEGAN": {
        "discriminator": {"class_path": f"{NETWORKS}.MLPDiscriminator", "init_args": {"sample_dim": IMAGE, "width": 8}},
        "encoder_optimizer": ADAM,
        "decoder_optimizer": ADAM,
        "discriminator_optimizer": ADAM,
    }
    | GAME,
}


@pytest.mark.parametrize("family", SETTINGS)
def test_plain_values_make_a_model(family):
    config = {"class_path": f"lightning_gen.families.{family}", "init_args": COMMON | SETTINGS[family]}
    model = instantiate(GenerativeModel, config)
    assert type(model).__name__ == family
    assert model.sample(2, seeds=torch.arange(2)).shape == (2, *IMAGE)
    if "posterior" in SETTINGS[family]:
        assert type(model.posterior).__name__ == "DiagonalNormal"
