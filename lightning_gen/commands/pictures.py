"""What a report shows of a model: samples, and how near they come to training samples."""

from typing import TYPE_CHECKING, Any

import torch

from lightning_gen.callbacks.grid import grid
from lightning_gen.data import DataModule, Images
from lightning_gen.model import GenerativeModel
from lightning_gen.noise import sample_seeds

if TYPE_CHECKING:
    import numpy as np

PAIRS_A_ROW = 4


def sample_grid(model: GenerativeModel, data: DataModule, seed: int) -> "np.ndarray":
    """The first samples of the set `seed` as one picture, (H, W, 3) uint8."""
    return grid(model, data, data.modality.picture_size, seed)


def neighbour_pairs(
    model: GenerativeModel, data: DataModule, pairs: list[dict[str, Any]] | None, seed: int
) -> "np.ndarray | None":
    """Generated images, each with its nearest training image to the right, four pairs a row: (H, W, 3) uint8.

    Args:
        model: what was measured.
        data: where the training images are.
        pairs: `sample` (position in the set), `row` and `split` of the data of each; None if nobody looked.
        seed: of the set.

    Returns:
        None where there are no pairs, or samples are no images.
    """
    if not pairs or not isinstance(data.modality, Images):
        return None
    index, rows = (torch.tensor([pair[key] for pair in pairs]) for key in ("sample", "row"))
    generated = model.sample(len(index), seeds=sample_seeds(seed, index)).cpu()
    near = data.modality.to_model(data.split(pairs[0]["split"])[rows]["x"])
    return data.modality.grid(torch.stack((generated, near), dim=1).flatten(0, 1), 2 * PAIRS_A_ROW)
