"""What a path from noise to data is."""

from abc import ABC, abstractmethod

from torch import Tensor


class ProbabilityPath(ABC):
    """x_t = α_t x₁ + σ_t x₀ from noise x₀ ~ N(0, I), at t = 0, to a sample x₁, at t = 1.

    So p_t(x | x₁) = N(α_t x₁, σ_t² I) where x₀ does not depend on x₁ (Lipman et al., "Flow Matching for Generative
    Modeling", ICLR 2023, arXiv:2210.02747, eq. 10), and the velocity on the way is dx_t/dt = α̇_t x₁ + σ̇_t x₀ (eq. 14).
    """

    end: float = 1.0
    """The last time that is learnt and sampled at: 1 unless velocities have no bound there."""

    @abstractmethod
    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Both α_t and σ_t, of the shape of t."""

    @abstractmethod
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Their derivatives α̇_t and σ̇_t."""

    def __call__(self, noise: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Where noise that goes to a sample is at a time, and its velocity there.

        Args:
            noise: x₀, (B, …).
            x: x₁, (B, …).
            t: (B,) in [0, `end`].

        Returns:
            x_t and dx_t/dt, (B, …).
        """
        times = t.view(-1, *[1] * (x.ndim - 1))
        (alpha, sigma), (alpha_rate, sigma_rate) = self.scales(times), self.rates(times)
        return alpha * x + sigma * noise, alpha_rate * x + sigma_rate * noise
