"""The augmentation pipeline of StyleGAN2-ADA (Karras, Aittala, Hellsten, Laine, Lehtinen, Aila, "Training Generative
Adversarial Networks with Limited Data", NeurIPS 2020, appendix B).
"""

import torch
from torch import Tensor

from lightning_gen.augmentation.base import Augmentation
from lightning_gen.augmentation.colour import COLOUR, recolour
from lightning_gen.augmentation.geometry import BLIT, GEOMETRY, compose, identity, quarter_turn, warp
from lightning_gen.augmentation.images import happens, needs_colours, needs_images
from lightning_gen.errors import UserError
from lightning_gen.precision import full

HOLE = 0.5
"""The side of the rectangle that cutout blanks, in sides."""


class AugmentPipeline(Augmentation):
    """Applies each of its transformations to each image with a probability, so that below 1 none of them leaks.

    The geometric ones make one affine map and one resampling. The paper filters by wavelets at twice the size before
    and after that; here it is plain bilinear interpolation, which blurs real and generated images alike a little more.
    Images that nothing is applied to come out bit for bit, so at probability 0 all do. Image-space filtering and noise,
    which the paper leaves out of its final set, are not here. No second derivatives through it.

    Args:
        probability: p of each transformation, in [0, 1]; a buffer, which may be set at any time.
        blit: share of p for mirroring, quarter turns and whole-pixel translation, in [0, 1]; 0 leaves them out.
        geometry: the same for scaling, rotation, stretching and translation by parts of pixels.
        color: the same for brightness, contrast, luma flips, hue and saturation.
        cutout: the same for blanking a rectangle of half the sides, which the paper leaves out.
        rotate90: whether `blit` has quarter turns; square images only.

    Raises:
        UserError: if a probability or share is out of its range.
    """

    probability: Tensor

    def __init__(
        self,
        probability: float = 0.0,
        blit: float = 1.0,
        geometry: float = 1.0,
        color: float = 1.0,
        cutout: float = 0.0,
        rotate90: bool = True,
    ) -> None:
        super().__init__()
        shares = {"probability": probability, "blit": blit, "geometry": geometry, "color": color, "cutout": cutout}
        for key, value in shares.items():
            if not 0 <= value <= 1:
                raise UserError(f"AugmentPipeline.{key} is {value}: it must be from 0 to 1")
        self.blit, self.geometry, self.color, self.cutout = blit, geometry, color, cutout
        self.rotate90 = rotate90
        self.register_buffer("probability", torch.tensor(float(probability)))

    def forward(self, x: Tensor) -> Tensor:
        """Change (B, C, H, W) images of values in [-1, 1]; the result may leave that range."""
        images = full(x)
        if self.blit or self.geometry:
            images = warp(images, self._places(images))
        if self.color:
            images = self._recoloured(images)
        if self.cutout:
            images = images * ~self._holes(images)
        return images.to(x.dtype)

    def check(self, shape: tuple[int, ...]) -> str | None:
        """What is wrong unless samples are images, of one or three channels and square where that is needed."""
        if found := needs_images("AugmentPipeline", shape):
            return found
        if self.blit and self.rotate90 and shape[1] != shape[2]:
            return f"AugmentPipeline.rotate90 takes square images, not {shape[1]}×{shape[2]}; set it to false"
        return needs_colours("AugmentPipeline.color", shape) if self.color else None

    def _places(self, x: Tensor) -> Tensor:
        """(B, 3, 3) where pixels come from."""
        places = identity(x).expand(len(x), 3, 3)
        for share, draws in ((self.blit, BLIT), (self.geometry, GEOMETRY)):
            for draw in draws:
                if share and (draw is not quarter_turn or self.rotate90):
                    places = compose(places, draw(x, share * self.probability))
        return places

    def _recoloured(self, x: Tensor) -> Tensor:
        for draw in COLOUR:
            x = recolour(x, draw(x, self.color * self.probability))
        return x

    def _holes(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) what cutout blanks: a rectangle of half the sides whose centre is anywhere in the image."""
        chosen = happens(len(x), self.cutout * self.probability, x)[:, None]
        near = []
        for side in x.shape[2:]:
            place = (torch.arange(side, device=x.device) + 0.5) / side
            near.append(chosen & ((place - torch.rand(len(x), 1, device=x.device)).abs() < HOLE / 2))
        return near[0][:, None, :, None] & near[1][:, None, None, :]
