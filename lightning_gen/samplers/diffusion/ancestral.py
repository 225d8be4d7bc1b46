"""Going back the way that noise was added, a little noise at a time."""

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.noise import Noise
from lightning_gen.samplers.diffusion.base import (
    Denoiser,
    DiffusionSampler,
    Level,
    denoise,
    standard_normal,
    towards,
)
from lightning_gen.schedules import NoiseSchedule


class DDPM(DiffusionSampler):
    """Ancestral sampling: x_s ~ N(E[x_s | x_t, x_0 = D(x_t)], σ_q² I), s the level after t.

    With α_ts = α_t/α_s and β = σ_t² − α_ts² σ_s² of the way from s to t,

        E[x_s | x_t, x_0] = (α_ts σ_s² x_t + α_s β x_0) / σ_t²,   Var[x_s | x_t, x_0] = β̃ = β σ_s² / σ_t²

    Source: Ho, Jain, Abbeel, NeurIPS 2020, arXiv:2006.11239, algorithm 2 and eqs. 6–7; between any two levels: Kingma
    et al., "Variational diffusion models", NeurIPS 2021, arXiv:2107.00630, appendix A.2.

    Args:
        steps: number of steps, ≥ 1; None for all T of a discrete schedule.
        variance: v in σ_q² = β^v β̃^(1 − v) (Nichol, Dhariwal, ICML 2021, arXiv:2102.09672, eq. 15), in [0, 1]: 1 is
            right for data from N(0, I), and what DDPM has for images; 0 is right for a single point, and better where
            steps are few.
        clip: bound of what the denoiser says, such as 1.0 of images; None for none.

    Raises:
        UserError: if an argument is out of its range; later, if there is no number of steps and no T.
    """

    def __init__(self, steps: int | None = None, variance: float = 1.0, clip: float | None = None) -> None:
        super().__init__(steps, clip)
        if not 0 <= variance <= 1:
            raise UserError(f"DDPM.variance is {variance}: it must be in [0, 1]")
        self.variance = variance

    def count(self, schedule: NoiseSchedule) -> int:
        """Steps that are asked for, or all."""
        if (steps := self.steps or schedule.num_steps) is None:
            raise UserError(f"DDPM.steps is unset, but {type(schedule).__name__} is continuous: set it, such as 1000")
        return steps

    def follow(self, denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor, noise: Noise) -> Tensor:
        """Without noise in the last step."""
        for here, there in self.pairs(schedule):
            beta, posterior = variances(here, there)
            share = here.alpha / there.alpha * there.sigma**2 / here.sigma**2
            x = share * x + there.alpha * beta / here.sigma**2 * denoise(denoiser, x, here)
            if there.sigma:
                std = (beta**self.variance * posterior ** (1 - self.variance)) ** 0.5
                x = x + std * standard_normal(noise, x)
        return x


class DDIM(DiffusionSampler):
    """x_s = α_s D + √(σ_s² − η²β̃) (x_t − α_t D)/σ_t + η √β̃ ε, β̃ as in `DDPM`.

    Deterministic for η = 0, and then Euler's method for the probability flow, with even steps in time; `DDPM` with
    variance 0 for η = 1.

    Source: Song, Meng, Ermon, "Denoising diffusion implicit models", ICLR 2021, arXiv:2010.02502, eqs. 12 and 16.

    Args:
        steps: number of steps, ≥ 1.
        eta: η, in [0, 1].
        clip: bound of what the denoiser says, such as 1.0 of images; None for none.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, steps: int = 50, eta: float = 0.0, clip: float | None = None) -> None:
        super().__init__(steps, clip)
        if not 0 <= eta <= 1:
            raise UserError(f"DDIM.eta is {eta}: it must be in [0, 1]")
        self.eta = eta

    def follow(self, denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor, noise: Noise) -> Tensor:
        """With noise in all steps but the last, where η > 0."""
        for here, there in self.pairs(schedule):
            added = self.eta * variances(here, there)[1] ** 0.5
            kept = max(there.sigma**2 - added**2, 0.0) ** 0.5
            x = towards(x, denoise(denoiser, x, here), here, there._replace(sigma=kept))
            if added:
                x = x + added * standard_normal(noise, x)
        return x


def variances(here: Level, there: Level) -> tuple[float, float]:
    """β of what was added between two levels, and β̃ of the less noisy one when both ends are known."""
    ratio = here.alpha / there.alpha
    beta = here.sigma**2 - ratio**2 * there.sigma**2
    return beta, beta * there.sigma**2 / here.sigma**2
