"""Pictures of what attention attends to, beside reconstructions."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.abilities import Reconstructs, require
from lightning_gen.callbacks.grid import save_picture, show_picture
from lightning_gen.callbacks.reconstructions import first_rows, shown_split
from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.callbacks.validations import AtValidations
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.model import GenerativeModel, evaluating
from lightning_gen.networks.attention import VisibleAttention

if TYPE_CHECKING:
    import numpy as np

_HEAT = (1.0, -0.6, -1.0)  # red, of an image in [-1, 1]
_MARK = (-1.0, 1.0, -0.2)  # green


class AttentionMaps(AtValidations):
    """Draws where positions of held-out images look, at validations.

    One image a row: the image, its reconstruction, and then, for each attention layer in the order of computation and
    each position, the image with the layer's weights in red over it: the mean over heads, relative to the largest. A
    green mark shows the position that looks. The picture goes to `attention/step=….png` in the run's folder and to
    TensorBoard.

    Args:
        num: images, the first of split "val" where there is one, else "test", else "train", ≥ 1.
        positions: that look, (row, column) as fractions of height and width in [0, 1]; none for the mean over all
            positions.
        every_n_validations: validations from one picture to the next, ≥ 1.

    Raises:
        UserError: if an argument is out of its range; before training, if the data are no images, or the model cannot
            reconstruct or has no attention.
    """

    def __init__(
        self,
        num: int = 4,
        positions: list[tuple[float, float]] | tuple[tuple[float, float], ...] = ((0.5, 0.5),),
        every_n_validations: int = 1,
    ) -> None:
        if num < 1:
            raise UserError(f"AttentionMaps.num is {num}: it must be at least 1")
        for position in positions:
            if len(position) != 2 or not all(0 <= part <= 1 for part in position):
                raise UserError(
                    f"AttentionMaps.positions holds {position}: each must be a row and a column, fractions in [0, 1]"
                )
        super().__init__(every_n_validations)
        self.num = num
        self.positions = [(float(row), float(column)) for row, column in positions]

    @property
    def state_key(self) -> str:
        """Several may be drawn in one run."""
        return f"AttentionMaps[{self.num},{self.positions}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See that there is something to draw."""
        require(pl_module, Reconstructs, "the callback AttentionMaps", "reconstruct")
        if not attention_layers(pl_module):
            raise UserError(
                f"the callback AttentionMaps needs attention, of which {type(pl_module).__name__} has none: set"
                " attention in its networks, for instance of ResidualEncoder, or leave the callback out"
            )
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, DataModule) or len(data.sample_shape) != 3:
            raise UserError(f"the callback AttentionMaps needs data of images, but data is {type(data).__name__}")

    def act(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, on rank zero alone: reconstruction needs no other rank."""
        if trainer.state.fn != "fit":
            return
        folder = run_folder(trainer) / "attention"
        if trainer.is_global_zero:
            assert isinstance(pl_module, GenerativeModel)
            picture = draw_attention(pl_module, trainer.datamodule, self.num, self.positions)  # type: ignore[attr-defined]
            save_picture(picture, folder / f"step={trainer.global_step:06d}.png")
            show_picture(trainer, picture, "attention")


def attention_layers(model: nn.Module) -> dict[str, VisibleAttention]:
    """The modules of a model whose attention one can look at, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, VisibleAttention)}


@torch.no_grad()
def draw_attention(
    model: GenerativeModel, data: DataModule, num: int, positions: list[tuple[float, float]]
) -> "np.ndarray":
    """Held-out images, their reconstructions, and the attention of both networks, as one picture.

    Nothing is drawn at random, and modes of modules are as before afterwards.

    Args:
        model: what reconstructs, with whatever weights it holds now.
        data: where images come from, and whose modality knows how they are shown.
        num: number of images.
        positions: that look, (row, column) in [0, 1]; none for the mean over all positions.

    Returns:
        (H, W, 3) uint8 array.
    """
    rows = first_rows(model, data, shown_split(data, None, "AttentionMaps"), num)
    with evaluating(model):
        with _inputs(model) as inputs, _eager(model):
            reconstruction = rows.reconstructions
        shown = _coloured(rows.x)
        cells = [shown, _coloured(reconstruction)]
        for layer, h in inputs.items():
            cells += [_overlaid(shown, weights, position) for weights, position in _looks(layer, h, positions)]
    return data.modality.grid(torch.stack(cells, dim=1).flatten(0, 1), len(cells))


@contextmanager
def _inputs(model: nn.Module) -> Iterator[dict[VisibleAttention, Tensor]]:
    """Collects what each attention layer is given, in the order of computation."""
    inputs: dict[VisibleAttention, Tensor] = {}

    def keep(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.setdefault(cast(VisibleAttention, module), arguments[0])

    handles = [cast(nn.Module, m).register_forward_pre_hook(keep) for m in attention_layers(model).values()]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _eager(model: GenerativeModel) -> AbstractContextManager[Any]:
    """What is compiled does not notice hooks that were put on later."""
    return torch.compiler.set_stance("force_eager") if model.compiled else nullcontext()


def _looks(
    layer: VisibleAttention, h: Tensor, positions: list[tuple[float, float]]
) -> Iterator[tuple[Tensor, tuple[float, float] | None]]:
    """(B, 1, h, w) weights, the mean over heads, of each position that looks, or of the mean over all."""
    height, width = h.shape[2:]
    weights = layer.attention_map(h).mean(1).unflatten(2, layer.key_size(height, width))
    if not positions:
        yield weights.mean(1, keepdim=True), None
    for row, column in positions:
        query = _place(row, height) * width + _place(column, width)
        yield weights[:, query : query + 1], (row, column)


def _overlaid(image: Tensor, weights: Tensor, position: tuple[float, float] | None) -> Tensor:
    """Images (B, 3, H, W) with (B, 1, h, w) weights in red over them, and a mark where the position is."""
    height, width = image.shape[2:]
    share = weights / weights.amax(dim=(1, 2, 3), keepdim=True)
    share = F.interpolate(share.to(image.dtype), (height, width), mode="nearest")
    found = torch.lerp(image, image.new_tensor(_HEAT).view(3, 1, 1).expand_as(image), share)
    if position is not None:
        side = max(min(height, width) // 32, 1)
        top, left = (min(_place(part, size), size - side) for part, size in zip(position, (height, width), strict=True))
        found[:, :, top : top + side, left : left + side] = image.new_tensor(_MARK).view(3, 1, 1)
    return found


def _coloured(x: Tensor) -> Tensor:
    """Images of any number of channels in three, in float32: colour as it is, others as their grey mean."""
    x = x.float().clamp(-1, 1)
    return x[:, :3] if x.shape[1] >= 3 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)


def _place(fraction: float, size: int) -> int:
    return min(int(fraction * size), size - 1)
