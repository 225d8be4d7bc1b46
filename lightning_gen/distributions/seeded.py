"""Drawing from torch's distributions with one stream of random numbers a sample."""

import sys
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
    TransformedDistribution,
)
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from lightning_gen.errors import UserError
from lightning_gen.noise import Noise


@singledispatch
def draw(distribution: Distribution, noise: Noise, num: int) -> Tensor:
    """Draw `num` values for each of n streams; a draw depends on its own stream alone.

    Further distributions are added with `@draw.register`. Those with an inverse cumulative distribution function need
    not be.

    Args:
        distribution: of batch shape (n,) + b or b, one for all streams; the event shape is e.
        noise: n streams, each of which goes on.
        num: draws a stream, ≥ 1.

    Returns:
        (num, n) + b + e, differentiable where `rsample` is.

    Raises:
        UserError: if it is not known how to draw from such a distribution.
    """
    zuko = sys.modules.get("zuko.distributions")  # not imported here: whoever made a flow of zuko's has done so
    if zuko is not None and isinstance(distribution, zuko.NormalizingFlow):
        return distribution.transform.inv(draw(distribution.base, noise, num))
    try:
        return distribution.icdf(uniform(noise, num, _shape(distribution, noise)))
    except NotImplementedError:
        name = type(distribution).__name__
        raise UserError(f"{name} cannot be sampled by seed: register a function with distributions.draw") from None


# ---------------------------------------------------------------- distributions made of others


@draw.register
def _(distribution: Independent, noise: Noise, num: int) -> Tensor:
    base = distribution.base_dist
    if not distribution.batch_shape:  # one for all streams: its event must not be taken for them
        base = base.expand(torch.Size((1, *base.batch_shape)))
    return draw(base, noise, num)


@draw.register
def _(distribution: TransformedDistribution, noise: Noise, num: int) -> Tensor:
    x = draw(distribution.base_dist, noise, num)
    for transform in distribution.transforms:
        x = transform(x)
    return x


@draw.register
def _(distribution: MixtureSameFamily, noise: Noise, num: int) -> Tensor:
    shape = _shape(distribution, noise)
    u = uniform(noise, num, shape[: len(shape) - len(distribution.event_shape)])
    edges = distribution.mixture_distribution.probs.cumsum(-1)[..., :-1]
    choice = (u.unsqueeze(-1) >= edges).sum(-1)
    with torch.no_grad():  # a gradient would not reach the weights, and so be wrong
        return _draw_component(distribution.component_distribution, choice, noise)


@singledispatch
def _draw_component(components: Distribution, choice: Tensor, noise: Noise) -> Tensor:
    """One draw of the chosen (num, n) + b of K components of batch shape (n,) + b + (K,), or (K,)."""
    if len(components.batch_shape) == 1:  # one mixture for all streams
        components = components.expand(torch.Size((1, *components.batch_shape)))
    every = draw(components, noise, len(choice))
    return take(every, choice, len(components.event_shape))


@_draw_component.register
def _(components: Independent, choice: Tensor, noise: Noise) -> Tensor:
    normals = components.base_dist
    if not isinstance(normals, Normal) or components.reinterpreted_batch_ndims != 1:
        return _draw_component.dispatch(object)(components, choice, noise)
    loc, scale = take(normals.loc, choice, 1), take(normals.scale, choice, 1)  # only what was chosen is drawn
    return loc + scale * normal(noise, len(choice), loc.shape[2:], loc.dtype)


def take(values: Tensor, choice: Tensor, event_dims: int) -> Tensor:
    """Of values (…, K) + e those that were chosen, s + e, by indices of shape s; (…) and s broadcast."""
    event = values.shape[values.ndim - event_dims :]
    values = values.expand(*choice.shape, *values.shape[-1 - event_dims :])
    index = choice.reshape(*choice.shape, *[1] * (1 + event_dims)).expand(*choice.shape, 1, *event)
    return values.gather(choice.ndim, index).squeeze(choice.ndim)


# ---------------------------------------------------------------- continuous distributions


@draw.register
def _(distribution: Normal, noise: Noise, num: int) -> Tensor:
    shape = _shape(distribution, noise)
    return distribution.loc + distribution.scale * normal(noise, num, shape, distribution.loc.dtype)


@draw.register
def _(distribution: MultivariateNormal, noise: Noise, num: int) -> Tensor:
    z = normal(noise, num, _shape(distribution, noise), distribution.loc.dtype)
    return distribution.loc + _product(distribution._unbroadcasted_scale_tril, z)


@draw.register
def _(distribution: LowRankMultivariateNormal, noise: Noise, num: int) -> Tensor:
    factor, shape, dtype = distribution._unbroadcasted_cov_factor, _shape(distribution, noise), distribution.loc.dtype
    low = _product(factor, normal(noise, num, (*shape[:-1], factor.shape[-1]), dtype))
    own = distribution._unbroadcasted_cov_diag.sqrt() * normal(noise, num, shape, dtype)
    return distribution.loc + low + own


def _product(matrix: Tensor, z: Tensor) -> Tensor:
    """Matrices (…, d, r) times vectors (…, r), a column at a time.

    The order of additions, and so the rounding, of a matrix product depends on the number of streams.
    """
    total = matrix[..., 0] * z[..., :1]
    for column in range(1, matrix.shape[-1]):
        total = total + matrix[..., column] * z[..., column, None]
    return total


# ---------------------------------------------------------------- discrete distributions, and relaxed ones


@draw.register
def _(distribution: Categorical, noise: Noise, num: int) -> Tensor:
    logits = distribution.logits
    shape = (*_shape(distribution, noise), logits.shape[-1])
    return (logits + gumbel(noise, num, shape, logits.dtype)).argmax(-1)


@draw.register
def _(distribution: OneHotCategorical, noise: Noise, num: int) -> Tensor:
    logits = distribution.logits
    return hardest(logits + gumbel(noise, num, _shape(distribution, noise), logits.dtype))


@draw.register
def _(distribution: OneHotCategoricalStraightThrough, noise: Noise, num: int) -> Tensor:
    hard = draw.dispatch(OneHotCategorical)(distribution, noise, num)
    return hard + (distribution.probs - distribution.probs.detach())


@draw.register
def _(distribution: ExpRelaxedCategorical, noise: Noise, num: int) -> Tensor:
    logits = distribution.logits
    noisy = logits + gumbel(noise, num, _shape(distribution, noise), logits.dtype)
    return (noisy / distribution.temperature).log_softmax(-1)


def hardest(scores: Tensor) -> Tensor:
    """One-hot vectors (…, K) of the largest of (…, K) scores, without a gradient."""
    return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)


# ---------------------------------------------------------------- numbers


def normal(noise: Noise, num: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, (num, n) + shape, of each stream `num` times as many as one draw needs."""
    return noise.normal(num, *shape, dtype=dtype).transpose(0, 1)


def uniform(noise: Noise, num: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in (0, 1), likewise."""
    return noise.uniform(num, *shape).transpose(0, 1)


def gumbel(noise: Noise, num: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard Gumbel numbers, −log(−log u), likewise."""
    return -(-uniform(noise, num, shape).to(dtype).log()).log()


def _shape(distribution: Distribution, noise: Noise) -> tuple[int, ...]:
    """Of what one stream draws: the batch shape without the streams, then the event shape."""
    batch = distribution.batch_shape
    if batch and batch[0] in (1, len(noise)):
        batch = batch[1:]
    elif batch:
        raise ValueError(f"a batch of {tuple(batch)} distributions for {len(noise)} streams")
    return (*batch, *distribution.event_shape)
