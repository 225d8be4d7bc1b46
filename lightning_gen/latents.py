"""Ways through the space of Gaussian latents."""

import torch
from torch import Tensor


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Between a and b on a sphere: the direction turns at constant speed, the length changes at constant speed.

        z(t) = ((1 − t)‖a‖ + t‖b‖) (sin((1 − t)θ) â + sin(tθ) b̂) / sin θ,   θ the angle between â = a/‖a‖ and b̂ = b/‖b‖

    Latents from N(0, I) in many dimensions lie near a sphere, which a straight line would leave. Where a and b point
    the same or opposite ways, so that no great circle or no single one joins them, the line is straight.

    Source: Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985; White, "Sampling Generative Networks",
    2016, section 2.1.

    Args:
        a: (n, d), not 0.
        b: (n, d), not 0.
        t: (n,); 0 gives `a`, 1 gives `b`, and values beyond go on along the circle.

    Returns:
        (n, d), on the device and of the dtype of `a`; computed in float64.
    """
    home = "cpu" if a.device.type == "mps" else a.device  # Metal has no float64
    start, end, time = (each.to(home, torch.float64) for each in (a, b, t[:, None]))
    length_a, length_b = start.norm(dim=1, keepdim=True), end.norm(dim=1, keepdim=True)
    u, v = start / length_a, end / length_b
    # the arc cosine of a product would lose half the digits where it is near ±1
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))
    sine = angle.sin()
    turned = (((1 - time) * angle).sin() * u + (time * angle).sin() * v) / sine
    round_ = ((1 - time) * length_a + time * length_b) * turned
    return torch.where(sine > 1e-6, round_, (1 - time) * start + time * end).to(a)
