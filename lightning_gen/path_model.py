"""`PathModel`: what families share that go from noise to samples in many steps."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.guidance import Guidance
from lightning_gen.guidance.base import Field
from lightning_gen.held_out import HELD_OUT_SEED
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.networks.time_dependent import TimeNetwork
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.one_loss import OneLossModel
from lightning_gen.precision import full
from lightning_gen.samplers import Sampler


class PathModel(OneLossModel, ABC):
    """A network of noisy samples and times, trained at random times, followed from noise to samples by a sampler.

    Args:
        network: of a noisy sample and its time.
        sampler: how samples are drawn; another of the same kind may take its place after training.
        label_dropout: how often training ignores the condition of a sample, in [0, 1); guidance needs it.
        guidance: of samples towards their condition; None for none.
        **kwargs: of `OneLossModel`.

    Raises:
        UserError: if `label_dropout` is out of its range, or there is dropout or guidance without conditions.
    """

    sampler_kind: ClassVar[type[Sampler]]

    def __init__(
        self,
        network: TimeNetwork,
        sampler: Sampler,
        label_dropout: float = 0.0,
        guidance: Guidance | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes=network.num_classes, **kwargs)
        if not 0 <= label_dropout < 1:
            raise UserError(f"model.init_args.label_dropout is {label_dropout}: it must be in [0, 1)")
        if label_dropout and network.num_classes is None:
            raise UserError(
                f"model.init_args.label_dropout is {label_dropout}, but the network is unconditional: set"
                " model.init_args.network.init_args.num_classes, or leave it out"
            )
        self.network = network
        self.label_dropout = label_dropout
        self.sampler = sampler
        self.guidance = guidance
        if guidance is not None:
            self.check_guidance(guidance)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample: the network's."""
        return self.network.sample_shape

    @property
    def sized_parts(self) -> tuple[str, ...]:
        """The network's."""
        return ("network",)

    # ---------------------------------------------------------------- training

    @abstractmethod
    def losses(self, x: Tensor, y: Tensor | None, u: Tensor, epsilon: Tensor, dropped: Tensor | None) -> Tensor:
        """What is minimised, (B,) of each sample.

        Args:
            x: (B, …) samples.
            y: (B,) classes, (B, K) attributes, or None.
            u: (B,) uniform numbers in (0, 1), from which times are made.
            epsilon: (B, …) standard normal noise.
            dropped: (B,) bool, whose `y` is to be ignored; None for nobody's.
        """

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The mean over samples, each at a time of its own."""
        x, y = full(batch["x"]), self.condition_of(batch)
        u, epsilon = self.times(x), self.noise_for(x, y)
        dropped = torch.rand(len(x), device=x.device) < self.label_dropout if self.label_dropout else None
        return self.losses(x, y, u, epsilon, dropped).mean(), {}

    def noise_for(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B, …) standard normal noise for samples (B, …): each its own, unless overridden."""
        return torch.randn_like(x)

    @staticmethod
    def times(x: Tensor) -> Tensor:
        """(B,) uniform numbers in (0, 1) for samples (B, …)."""
        return torch.rand(len(x), dtype=x.dtype, device=x.device).clamp(min=torch.finfo(x.dtype).tiny)

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """The loss."""
        return ("val_loss",)

    def held_out(self, batch: Batch) -> Terms:
        """(n,), at times and with noise that depend on the place in the split alone; in the mode the model is in."""
        x = full(batch["x"])
        noise = Noise(sample_seeds(HELD_OUT_SEED, batch["index"]), self.device)
        u, epsilon = noise.uniform(1)[:, 0].to(x), noise.normal(*x.shape[1:], dtype=x.dtype)
        return {"val_loss": self.losses(x, self.condition_of(batch), u, epsilon, None)}

    # ---------------------------------------------------------------- sampling

    @abstractmethod
    def field(self, x: Tensor, t: Tensor, y: Tensor | None, dropped: Tensor | None = None) -> Tensor:
        """What the sampler follows, without guidance, (n, …): see `guidance.base.Field`."""

    def check_sampler(self, sampler: Sampler) -> None:
        """See `lightning_gen.samplers.HasSampler`; any of the right kind will do unless a family says more."""

    def check_guidance(self, guidance: Guidance) -> None:
        """Raise `UserError` if the model has no condition, or learnt nothing of samples without one."""
        name = type(guidance).__name__
        if self.num_classes is None:
            raise UserError(
                f"guidance is {name}, but the network is unconditional: set"
                " model.init_args.network.init_args.num_classes, or leave it out"
            )
        if not self.label_dropout:
            raise UserError(
                f"guidance is {name}, but model.init_args.label_dropout is 0, so that nothing is learnt of samples"
                " without their condition: set label_dropout, such as 0.1"
            )

    def guided(self, y: Tensor | None) -> Any:
        """What the sampler follows as a function of (x, t), for samples of classes `y` (n,)."""
        field: Field = self.field
        if self.guidance is None:
            return lambda x, t: field(x, t, y, None)
        assert y is not None
        guidance = self.guidance
        return lambda x, t: guidance(field, x, t, y)

    # ---------------------------------------------------------------- set-up

    @torch.no_grad()
    def made_shape(self) -> tuple[int, ...]:
        """What the network makes of two samples: to draw some would take many steps."""
        x = torch.zeros(2, *self.sample_shape).to(next(self.network.parameters()))
        with evaluating(self):
            return tuple(self.network(x, x.new_full((2,), 0.5), self.condition.blank(2, self.device)).shape[1:])
