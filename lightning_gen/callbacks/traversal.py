"""Pictures of what each latent variable does."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_gen.abilities import HasVectorLatents, require
from lightning_gen.callbacks.grid import save_picture, show_picture
from lightning_gen.callbacks.reconstructions import first_rows, shown_split
from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.callbacks.validations import AtValidations
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.model import GenerativeModel

_ENCODED = 256
"""Samples whose encodings say which latents vary most, and between which values."""


class LatentTraversal(AtValidations):
    """Draws a sample while one latent after the other varies, at validations, always the same sample.

    Each row varies one latent of the sample's encoding and keeps the others; the latents whose encodings vary most over
    the first 256 samples of the split come first. Of a ladder these are latents of the lowest level, as the decoder
    sees no others. The picture goes to `traversals/step=….png` in the run's folder and to TensorBoard.

    Args:
        num_rows: number of latents, ≥ 1, cut to those that the decoder sees.
        steps: samples a row, ≥ 2.
        limit: a latent goes from −limit to limit, > 0, made for priors of unit variance; None for from the 1 % to the
            99 % quantile of its encodings.
        sample: place of the sample in the split, ≥ 0.
        split: of the data; None for "val" where there is one, else "test", else "train".
        every_n_validations: validations from one picture to the next, ≥ 1.

    Raises:
        UserError: if an argument is out of its range; before training, if the model does not encode samples as vectors
            whose numbers can be varied alone, or the data have no such split or sample.
    """

    def __init__(
        self,
        num_rows: int = 10,
        steps: int = 11,
        limit: float | None = 2.0,
        sample: int = 0,
        split: str | None = None,
        every_n_validations: int = 1,
    ) -> None:
        for name, value, least in (("num_rows", num_rows, 1), ("steps", steps, 2), ("sample", sample, 0)):
            if value < least:
                raise UserError(f"LatentTraversal.{name} is {value}: it must be at least {least}")
        if limit is not None and not limit > 0:
            raise UserError(f"LatentTraversal.limit is {limit}: it must be above 0, or null for quantiles")
        super().__init__(every_n_validations)
        self.num_rows, self.steps, self.limit, self.sample, self.split = num_rows, steps, limit, sample, split

    @property
    def state_key(self) -> str:
        """Several may be drawn in one run."""
        return f"LatentTraversal[{self.num_rows},{self.steps},{self.limit},{self.sample},{self.split}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See that the model encodes samples as vectors, and the sample is there."""
        require(pl_module, HasVectorLatents, "the callback LatentTraversal", "encode samples as vectors")
        if not pl_module.varied_dim:
            raise UserError(
                "the callback LatentTraversal varies one number of a latent, but latents of this"
                f" {type(pl_module).__name__} are one-hot vectors or points on a sphere, of which none varies alone:"
                " leave the callback out"
            )
        data = trainer.datamodule  # type: ignore[attr-defined]
        split = shown_split(data, self.split, "LatentTraversal.split")
        if self.sample >= (there := len(data.split(split))):
            raise UserError(
                f"LatentTraversal.sample is {self.sample}, but split {split!r} has {there} samples: use one below that"
            )

    def act(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, on rank zero alone."""
        if trainer.state.fn != "fit":
            return
        folder = run_folder(trainer) / "traversals"
        if trainer.is_global_zero:
            assert isinstance(pl_module, GenerativeModel)
            data = trainer.datamodule  # type: ignore[attr-defined]
            split = shown_split(data, self.split, "LatentTraversal.split")
            made = traversal(pl_module, data, split, self.sample, self.num_rows, self.steps, self.limit)
            picture = data.modality.grid(made, self.steps)
            save_picture(picture, folder / f"step={trainer.global_step:06d}.png")
            show_picture(trainer, picture, "traversals")


def traversal(
    model: GenerativeModel, data: DataModule, split: str, sample: int, num_rows: int, steps: int, limit: float | None
) -> Tensor:
    """What the model decodes while one latent of a sample's encoding varies, then the next.

    Args:
        model: with vector latents (`abilities.HasVectorLatents`), with whatever weights it holds now.
        data: where the sample is.
        split: one of its splits.
        sample: place in it.
        num_rows: number of latents R, cut to those that the decoder sees.
        steps: values S of each.
        limit: the last of these, and less zero the first; None for quantiles.

    Returns:
        (R · S, …) samples in model form, those of one latent after those of another.
    """
    assert isinstance(model, HasVectorLatents)
    z = first_rows(model, data, split, max(_ENCODED, sample + 1))
    seen = z.latents[:, : model.varied_dim]
    order = seen.double().var(dim=0, correction=0).argsort(descending=True, stable=True)[:num_rows]
    chosen = z.latents[:, order]
    if limit is None:
        ends = chosen.double().quantile(torch.tensor([0.01, 0.99], dtype=torch.float64, device=chosen.device), dim=0)
    else:
        ends = chosen.new_tensor([[-limit], [limit]]).expand(2, len(order))
    t = torch.linspace(0, 1, steps, dtype=ends.dtype, device=ends.device)
    values = ends[0, :, None] + t * (ends[1] - ends[0])[:, None]
    latents = z.latents[sample].repeat(len(order), steps, 1)
    latents.scatter_(2, order[:, None, None].expand(-1, steps, 1), values.to(latents)[..., None])
    y = None if z.y is None else z.y[sample : sample + 1].repeat_interleave(len(latents.flatten(0, 1)), dim=0)
    return model.decode(latents.flatten(0, 1), y)
