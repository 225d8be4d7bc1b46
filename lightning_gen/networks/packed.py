"""PacGAN (Lin, Khetan, Fanti, Oh, "PacGAN: The Power of Two Samples in Generative Adversarial Networks", NIPS 2018)."""

from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.networks.base import Discriminator, Judgement


class Packed(Discriminator):
    """Judges m samples together, which shows a lack of diversity that no single sample can (§2).

    The channels of m consecutive images, or the entries of m vectors, are concatenated.

    Args:
        discriminator: an unconditional network, built for m times the channels (`channels`, or `sample_dim`).
        packing: how many samples m make one score, ≥ 1. Batches must be multiples of it.

    Raises:
        UserError: if `packing` is below 1, or the inner network is conditional.
    """

    def __init__(self, discriminator: Discriminator, packing: int = 2) -> None:
        super().__init__(None)
        if packing < 1:
            raise UserError(f"Packed.packing is {packing}: it counts samples and must be at least 1")
        if discriminator.num_classes is not None:
            raise UserError(
                f"Packed.discriminator has num_classes {discriminator.num_classes}: samples that are judged together"
                " may be of different classes, so it must be null"
            )
        self.discriminator = discriminator
        self.inner_packing = packing
        self.packing = packing * discriminator.packing

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor | Judgement:
        """Judge (B, C, …) samples, m at a time: (B / m,) scores. `y` is not looked at.

        Raises:
            UserError: if B is no multiple of m.
        """
        if x.shape[0] % self.packing:
            raise UserError(
                f"Packed.packing is {self.packing}, but a batch has {x.shape[0]} samples: batch_size must be a multiple"
                " of packing on every process"
            )
        return self.discriminator(x.unflatten(0, (-1, self.inner_packing)).flatten(1, 2))

    def stages(self) -> list[nn.Module]:
        """Those of the inner network."""
        return self.discriminator.stages()
