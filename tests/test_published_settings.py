"""Recipes that claim someone's settings have them; the numbers are from the programs and papers that they name."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1] / "configs"
MIMICRY = {
    "generator_optimizer.lr": 2e-4,
    "generator_optimizer.betas": [0.0, 0.9],
    "discriminator_optimizer.lr": 2e-4,
    "discriminator_optimizer.betas": [0.0, 0.9],
    "generator_scheduler": {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 100_000},
    "generator.width": 256,
    "generator.latent_dim": 128,
    "generator.upsample": "bilinear",
    "discriminator.width": 128,
    "num_critic_steps": 5,
    "batch_size": 64,
    "flip": None,
    "max_steps": 100_000,
    "EMA": None,
}
STUDIOGAN = {
    "generator_optimizer.lr": 2e-4,
    "generator_optimizer.betas": [0.5, 0.999],
    "generator_optimizer.eps": 1e-6,
    "generator_scheduler": None,
    "num_critic_steps": 5,
    "batch_size": 64,
    "flip": True,
    "max_steps": 100_000,
}
AVERAGED = {"EMA": {"decay": 0.9999, "warmup": False, "start_step": 1000, "modules": ["generator"]}}
BIGGAN = STUDIOGAN | AVERAGED | {"generator.latent_dim": 80, "generator.shared_dim": 128, "generator.width": 96}
LAZY = {
    "generator_optimizer.lr": pytest.approx(0.0025 * 4 / 5),
    "generator_optimizer.betas": pytest.approx([0.0, 0.99 ** (4 / 5)], abs=1e-6),
    "discriminator_optimizer.lr": pytest.approx(0.0025 * 16 / 17, rel=1e-5),
    "discriminator_optimizer.betas": pytest.approx([0.0, 0.99 ** (16 / 17)], abs=1e-6),
    "batch_size": 64,
}
DDPM = {
    "network.width": 128,
    "network.num_blocks": 2,
    "network.attention": [16],
    "scheduler.total_iters": 5000,
    "batch_size": 128,
    "flip": True,
    "gradient_clip_val": 1.0,
    "EMA": {"modules": ["network"], "decay": 0.9999},
}
EDM = {
    "network.width": 128,
    "network.multipliers": [2, 2, 2],
    "network.num_blocks": 4,
    "network.attention": [16],
    "network.dropout": 0.13,
    "preconditioning": {"sigma_data": 0.5},
    "loss": {"P_mean": -1.2, "P_std": 1.2},
    "sampler.steps": 18,
    "optimizer.lr": 1e-3,
    "scheduler.total_iters": 10_000_000 // 512,
    "batch_size": 512,
    "max_steps": 200_000_000 // 512,
    "EMA": {"modules": ["network"], "half_life": pytest.approx(500_000 / 512, rel=1e-3), "ramp": 0.05},
}
PUBLISHED = {
    "sngan_cifar10": MIMICRY | {"loss": "Hinge", "discriminator.pooling": "sum"},
    "projection_cifar10": MIMICRY | {"loss": "Hinge", "discriminator.pooling": "sum", "generator.num_classes": 10},
    "wgan_gp_cifar10": MIMICRY
    | {
        "loss": "Wasserstein",
        "discriminator.pooling": "mean",
        "discriminator.spectral_norm": False,
        "GradientPenalty": {"weight": 10.0},
    },
    "sagan_cifar10": STUDIOGAN
    | {"EMA": None, "generator.spectral_norm": True, "generator.attention": [16], "discriminator.attention": [16]},
    "acgan_cifar10": STUDIOGAN | {"EMA": None, "discriminator.spectral_norm": False},
    "biggan_cifar10": BIGGAN,
    "biggan_diffaugment_cifar10": BIGGAN | {"max_steps": 200_000},
    "contragan_cifar10": BIGGAN,
    "reacgan_cifar10": BIGGAN | {"batch_size": 128, "generator_optimizer.lr": 0.00028284271},
    "stylegan2_ada_cifar10": LAZY
    | {
        "R1": {"gamma": 0.01, "interval": 16},
        "EMA": {"half_life": 500_000 / 64, "ramp": 0.05, "modules": ["generator"]},
        "generator.mapping_layers": 2,
        "discriminator.group_size": 32,
        "discriminator.residual": False,
        "max_steps": 100_000_000 // 64,
    },
    "stylegan2_folder": LAZY | {"R1": {"gamma": 1.0, "interval": 16}, "discriminator.group_size": 8},
    "r3gan_cifar10": {
        "batch_size": 512,
        "model.penalties.0.gamma": [0.05, 0.005, 39_062],
        "model.penalties.1.gamma": [0.05, 0.005, 39_062],
        "model.augmentation.probability": [0.0, 0.55, 39_062],
        "optimizers.0.lr": [2e-4, 5e-5, 39_062],
        "optimizers.1.betas.1": [0.9, 0.99, 39_062],
        "EMA.half_life": [0.0, 9766.0, 39_062],
    },
    "r3gan_folder": {
        "generator.widths": [768, 768, 768, 768, 384],
        "generator.cardinality": [96, 96, 96, 96, 48],
        "discriminator.cardinality": [96, 96, 96, 96, 48],
        "model.penalties.0.gamma": [2.0, 0.2, 150_000],
    },
    "sgan_mnist": {
        "generator_optimizer.lr": 0.003,
        "generator_optimizer.betas": [0.5, 0.999],
        "unsupervised_weight": 0.5,
        "batch_size": 100,
        "max_steps": 300 * 600,
        "optimizers.1.lr": [0.003, 0.0, 60_000],
        "EMA": {"decay": 0.9999, "warmup": False, "modules": ["generator", "discriminator"]},
    },
    "ddpm_cifar10": DDPM
    | {
        "optimizer.lr": 2e-4,
        "sampler.steps": 1000,
        "network.multipliers": [1, 2, 2, 2],
        "network.dropout": 0.1,
        "max_steps": 800_000,
    },
    "edm_cifar10": EDM,
    "conditional_edm_cifar10": EDM | {"network.num_classes": 10},
    "ot_flow_matching_cifar10": DDPM
    | {"optimizer.lr": 2e-4, "coupling": "MinibatchOptimalTransport", "max_steps": 400_000},
    "realnvp_cifar10": {
        "optimizer.lr": 1e-3,
        "flow": {
            "bijections": [
                {"class_path": "Logit", "init_args": {"alpha": 0.05}},
                {"class_path": "MultiScaleRealNVP", "init_args": {"scales": 2, "width": 64, "depth": 8}},
            ]
        },
        "dequantisation.levels": 256,
        "batch_size": 64,
        "flip": True,
    },
    "glow_cifar10": {
        "optimizer.lr": 1e-3,
        "flow.levels": 3,
        "flow.steps": 32,
        "flow.network": {"class_path": "ThreeLayerNetwork", "init_args": {"width": 512}},
        "dequantisation.levels": 256,
    },
    "pixelcnnpp_cifar10": {
        "network": {"width": 160, "depth": 5, "num_sizes": 3, "dropout": 0.5},
        "likelihood": {"levels": 256, "num_components": 10},
        "optimizer.lr": 1e-3,
        "optimizer.betas": [0.95, 0.9995],
        "scheduler": {"gamma": 0.999995},
        "batch_size": 12,
        "EMA": {"modules": ["network"], "decay": 0.9995},
    },
}


def found(settings, key):
    """What a recipe says under a short name."""
    model, data, trainer = settings["model"]["init_args"], settings["data"]["init_args"], settings["trainer"]
    if key in ("batch_size", "flip"):
        return data.get(key)
    if key in trainer:
        return trainer[key]
    for part in [*trainer["callbacks"], *model.get("penalties", [])]:
        if part["class_path"] == key:
            return part["init_args"]
        if part["class_path"] == "Anneal" and part["init_args"]["target"] == key:
            return [part["init_args"][name] for name in ("start", "end", "steps")]
    room, _, name = key.partition(".")
    value = model.get(room)
    if not name:
        return value["init_args"] if isinstance(value, dict) else value
    return value["init_args"].get(name)


@pytest.mark.parametrize(("recipe", "key"), [(recipe, key) for recipe, keys in PUBLISHED.items() for key in keys])
def test_recipes_have_the_settings_they_name(recipe, key):
    (path,) = ROOT.rglob(f"{recipe}.yaml")
    settings = yaml.safe_load(path.read_text())
    assert found(settings, key) == PUBLISHED[recipe][key]
