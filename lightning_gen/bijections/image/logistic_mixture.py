"""The elementwise function of Flow++."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lightning_gen.bijections.image.elementwise import Elementwise
from lightning_gen.losses.arguments import check_at_least

_SMALLEST_LOG_WIDTH = -7.0
_HALVINGS = {torch.float32: 40, torch.float64: 70}


class LogisticMixture(Elementwise):
    """y = (logit F(x) + b) · exp(a), F(x) = Σ_k π_k σ((x − μ_k) · exp(−s_k)) (Ho et al., "Flow++", ICML 2019, §3.2).

    The inverse halves the interval in which x must lie as often as its digits allow, and has a gradient. Networks that
    give 0 at first place the components evenly between -1 and 1: were they all in one place, they would stay there. |a|
    is at most 1.

    Args:
        channels: number C of channels of the entries.
        components: K ≥ 1.

    Raises:
        UserError: if there are no components.
    """

    places: Tensor

    def __init__(self, channels: int, components: int = 4) -> None:
        super().__init__(channels)
        check_at_least(self, 1, components=components)
        self.components = components
        self.parameters_per_entry = 2 + 3 * components
        places = torch.linspace(-1, 1, components) if components > 1 else torch.zeros(1)
        self.register_buffer("places", places[:, None, None, None], persistent=False)

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Entries y, and log ∂y/∂x."""
        a, b, mixture = self._parts(theta)
        logit, log_slope = self._logit(x, *mixture)
        return (logit + b) * a.exp(), log_slope + a

    def inverse(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Entries x, and log ∂x/∂y."""
        a, b, mixture = self._parts(theta)
        wanted = y * (-a).exp() - b
        with torch.no_grad():
            found = self._halved(wanted, *mixture)
            slope = self._logit(found, *mixture)[1].exp()
        # a step of Newton's, which changes the last digits and lets gradients through
        x = found - (self._logit(found, *mixture)[0] - wanted) / slope
        return x, -self._logit(x, *mixture)[1] - a

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The a and b (B, C, H, W), and log π, μ and s (B, K, C, H, W)."""
        parts = theta.unflatten(1, (self.parameters_per_entry, self.channels))
        a, b = parts[:, 0], parts[:, 1]
        logits, means, log_widths = parts[:, 2:].chunk(3, dim=1)
        mixture = logits.log_softmax(1), means + self.places, log_widths.clamp(min=_SMALLEST_LOG_WIDTH)
        return a.tanh(), b, mixture

    def _logit(self, x: Tensor, log_weights: Tensor, means: Tensor, log_widths: Tensor) -> tuple[Tensor, Tensor]:
        """Logit F(x), and the logarithm of its derivative."""
        u = (x[:, None] - means) * (-log_widths).exp()
        below, above = logsigmoid(u), logsigmoid(-u)
        log_f = (log_weights + below + above - log_widths).logsumexp(1)
        log_below, log_above = (log_weights + below).logsumexp(1), (log_weights + above).logsumexp(1)
        return log_below - log_above, log_f - log_below - log_above

    def _halved(self, wanted: Tensor, log_weights: Tensor, means: Tensor, log_widths: Tensor) -> Tensor:
        """The x where logit F(x) is `wanted`: logit F lies between its components' u_k."""
        ends = means + log_widths.exp() * wanted[:, None]
        low, high = ends.amin(1), ends.amax(1)
        for _ in range(_HALVINGS[wanted.dtype]):
            middle = (low + high) / 2
            left = self._logit(middle, log_weights, means, log_widths)[0] > wanted
            low, high = torch.where(left, low, middle), torch.where(left, middle, high)
        return (low + high) / 2
