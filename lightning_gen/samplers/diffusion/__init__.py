"""How samples are drawn from a denoiser."""

from lightning_gen.samplers.diffusion.ancestral import DDIM, DDPM
from lightning_gen.samplers.diffusion.base import Denoiser, DiffusionSampler, Level
from lightning_gen.samplers.diffusion.dpm_solver import DPMSolverPlusPlus, SDEDPMSolverPlusPlus
from lightning_gen.samplers.diffusion.karras import Euler, Heun, KarrasSampler

__all__ = [
    "DDIM",
    "DDPM",
    "DPMSolverPlusPlus",
    "Denoiser",
    "DiffusionSampler",
    "Euler",
    "Heun",
    "KarrasSampler",
    "Level",
    "SDEDPMSolverPlusPlus",
]
