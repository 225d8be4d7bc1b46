"""Perceptual path length: how fast samples change along the way from one latent to another."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS, blocks_of, enough, standard_error
from lightning_gen.metrics.engine import Sampler
from lightning_gen.metrics.extractors import FeatureExtractor, Features, full_float32
from lightning_gen.metrics.rows import RowMetric
from lightning_gen.noise import Noise, sample_seeds

_PARTNER, _POSITION = 1, 2
"""What a sample's seed is turned into: the seed of the other end of its path, and of the place on it."""


class Steps(FeatureExtractor):
    """The one feature of a small step: ‖f(x′) − f(x)‖² / ε², f an extractor's features.

    Images are brought to the scale of their stored form, but not rounded: in a step of 10⁻⁴ hardly a byte changes.

    Args:
        extractor: f; its `extract` must take float32 in [0, 255] as well as bytes.
        epsilon: ε > 0.
    """

    def __init__(self, extractor: FeatureExtractor, epsilon: float) -> None:
        super().__init__()
        self.base, self.epsilon = extractor, epsilon
        self.name, self.num_features, self.num_logits = extractor.name, 1, None
        self._smooth = False

    def load(self) -> None:
        """Let the extractor read its weights."""
        self.base.prepare()

    def stored(self, x: Tensor) -> Tensor:
        """(B, 2, …) pairs of samples, in the scale of their stored form.

        Raises:
            UserError: if they are no pairs, or no valid input of the extractor.
        """
        if x.ndim < 3 or x.shape[1] != 2:
            raise UserError(
                f"ppl_{self.name} measures paths through a model, not samples that are there already: leave "
                "PathLength out of metrics"
            )
        stored = self.base.stored(x.flatten(0, 1))
        if stored.dtype == torch.uint8:
            stored = x.flatten(0, 1).float().add(1).mul(127.5).clamp(0, 255)
        return stored.unflatten(0, x.shape[:2])

    def extract(self, x: Tensor) -> Features:
        """(B, 1) squared speeds of (B, 2, …) pairs.

        Raises:
            UserError: if the extractor rounds images itself.
        """
        if x.ndim == 5 and not self._smooth:
            # flat ones, which no resize changes, would fall on the same byte
            first, second = (self.base.extract(torch.full_like(x[:1, 0], level)).pooled for level in (100.2, 100.4))
            if torch.equal(first, second):
                raise UserError(
                    f"ppl_{self.name} needs features that follow changes of less than a byte, but extractor "
                    f"{self.name!r} rounds images: choose another extractor"
                )
            self._smooth = True
        before, after = self.base.extract(x.flatten(0, 1)).pooled.unflatten(0, (-1, 2)).unbind(dim=1)
        return Features((after - before).square().sum(dim=1, keepdim=True) / self.epsilon**2)

    def protocol(self) -> dict[str, Any]:
        """That of the extractor, without rounding."""
        return {**self.base.protocol(), "quantisation": None}


class PathLength(RowMetric):
    """E ‖f(G(z(t + ε))) − f(G(z(t)))‖² / ε², z(t) on the great circle between two latents; low where G is smooth.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", CVPR 2019,
    section 4.1, in the space of z, for "full" paths (t uniform in (0, 1)). As in the authors' code, the fastest and the
    slowest hundredth of the steps are left out. Unlike there, the distance is that of an extractor's features, which
    the name tells, and *not LPIPS*: `ppl_inception2048` compares with itself only. A generator that always draws the
    same has path length 0, so it means something only beside a metric of quality.

    Step i begins at a seed of the set, and its other end and t come from that seed alone, so the value is the same for
    any batch size and number of processes, up to the rounding of float32 divided by ε (about one in 10⁴). The model
    runs in full float32: bfloat16 and TF32 are coarser than the step.

    It is measured on paths, not on the samples of other metrics: `measure(metric.sampler(model), [metric],
    quantise=as_it_is, …)`. `<name>_se` is the standard error by the jackknife over blocks, percentiles included.

    Args:
        extractor: what describes the samples; see `Steps`.
        epsilon: ε, the step in units of the whole path, > 0.
        percentiles: steps outside of these two percentiles of the set, in [0, 100], are left out; (0, 100) keeps all.
        blocks: number of blocks for error bars, ≥ 2; 0 for none.

    Raises:
        UserError: if `epsilon` or `percentiles` are out of their range.
    """

    prefix = "ppl"
    higher_is_better = False

    def __init__(
        self,
        extractor: FeatureExtractor,
        epsilon: float = 1e-4,
        percentiles: tuple[float, float] = (1.0, 99.0),
        blocks: int = NUM_BLOCKS,
    ) -> None:
        if not epsilon > 0:
            raise UserError(f"PathLength: epsilon is {epsilon}, but must be above 0")
        low, high = percentiles
        if not 0 <= low < high <= 100:
            raise UserError(f"PathLength: percentiles is ({low}, {high}), but must be two in [0, 100], the lower first")
        super().__init__(Steps(extractor, epsilon), blocks)
        self.epsilon, self.percentiles = epsilon, (low, high)

    def sampler(self, model: object) -> Sampler | None:
        """Seeds (n,) to (n, 2, …) pairs of samples, ε apart on the path that each seed begins.

        Args:
            model: what is measured.

        Raises:
            UserError: if it cannot interpolate.
        """
        from lightning_gen.abilities import Interpolates

        if not isinstance(model, Interpolates):
            raise UserError(
                f"{self.name} walks between latents, but {type(model).__name__} has no interpolate: leave PathLength "
                "out of metrics"
            )

        def pairs(seeds: Tensor) -> Tensor:
            t = Noise(sample_seeds(_POSITION, seeds.cpu())).uniform(1, dtype=torch.float64)[:, 0]
            ends = seeds, sample_seeds(_PARTNER, seeds)
            with torch.autocast(seeds.device.type, enabled=False), full_float32(seeds.device):
                # two calls, so that both run through the same kernels and rounding differs by the step alone
                return torch.stack([model.interpolate(*ends, at) for at in (t, t + self.epsilon)], dim=1)

        return pairs

    def compute_all(self) -> dict[str, Tensor]:
        """The mean of what lies between the percentiles, and its standard error."""
        speeds = self.gathered[:, 0].double()
        found = {self.name: self._mean(speeds)}
        if enough(len(speeds), self.blocks):
            block = blocks_of(torch.arange(len(speeds)), self.blocks).to(speeds.device)
            left_out = torch.stack([self._mean(speeds[block != b]) for b in range(self.blocks)])
            found[f"{self.name}_se"] = standard_error(left_out)
        return found

    def protocol(self) -> dict[str, Any]:
        """Adds the path and the step."""
        return {
            **super().protocol(),
            "path": "great circle between latents, t uniform in (0, 1)",
            "distance": "squared Euclidean distance of features (not LPIPS)",
            "epsilon": self.epsilon,
            "percentiles": list(self.percentiles),
        }

    def _mean(self, speeds: Tensor) -> Tensor:
        low, high = (each / 100 for each in self.percentiles)
        least, most = speeds.quantile(low, interpolation="lower"), speeds.quantile(high, interpolation="higher")
        return speeds[(speeds >= least) & (speeds <= most)].mean()
