"""DPM-Solver++: exponential integrators for the probability flow, and for its stochastic counterpart."""

import math

from torch import Tensor

from lightning_gen.noise import Noise
from lightning_gen.samplers.diffusion.base import Denoiser, Level, denoise, standard_normal, towards
from lightning_gen.samplers.diffusion.karras import KarrasSampler
from lightning_gen.schedules import NoiseSchedule


class DPMSolverPlusPlus(KarrasSampler):
    """Second order with one evaluation a step, by the change of D since the step before (DPM-Solver++ 2M).

    With λ = log(α/σ), h = λ' − λ of this step and h₋ of the last one,

        x' = (σ'/σ) x + α' (1 − e^−h) D̄,   D̄ = D + (h / 2h₋) (D − D₋)

    The first step, and the last to `CLEAN`, are of first order.

    Source: Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models",
    arXiv:2211.01095, algorithm 2. The paper's levels are even in λ or in time; even in λ is the limit of large `rho`.

    Arguments of `KarrasSampler`.
    """

    def follow(self, denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor, noise: Noise) -> Tensor:
        """Without noise."""
        before, length = None, 0.0
        for here, there in self.pairs(schedule):
            denoised = ahead = denoise(denoiser, x, here)
            if there.sigma:
                if before is not None:
                    ahead = denoised + math.log(here.ratio / there.ratio) / (2 * length) * (denoised - before)
                before, length = denoised, math.log(here.ratio / there.ratio)
            x = self.step(x, ahead, here, there, noise)
        return x

    def step(self, x: Tensor, denoised: Tensor, here: Level, there: Level, noise: Noise) -> Tensor:
        """The solution for a denoiser that says the same all the way."""
        return towards(x, denoised, here, there)


class SDEDPMSolverPlusPlus(DPMSolverPlusPlus):
    """The same for the reverse stochastic differential equation (SDE-DPM-Solver++ 2M), which adds noise on the way.

        x' = (σ'/σ) e^−h x + α' (1 − e^−2h) D̄ + σ' √(1 − e^−2h) ε

    Source: Lu et al., arXiv:2211.01095, eq. 19 and appendix A. Arguments of `KarrasSampler`.
    """

    def step(self, x: Tensor, denoised: Tensor, here: Level, there: Level, noise: Noise) -> Tensor:
        """Noise in all steps but the last."""
        fall = there.ratio / here.ratio  # e^−h
        gone = 1 - fall**2
        x = there.sigma / here.sigma * fall * x + there.alpha * gone * denoised
        return x + there.sigma * gone**0.5 * standard_normal(noise, x) if there.sigma else x
