"""Bijections one after the other, from factories."""

from collections.abc import Callable

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.chain import Chain
from lightning_gen.errors import UserError


class Compose(Chain):
    """f_n ∘ … ∘ f_1, as a recipe lists them.

    Args:
        sample_shape: of x without the batch.
        num_features: length F of features h, which every part is given; None for none.
        bijections: make f_1 … f_n, from samples to noise, each for the shape that those before it lead to.

    Raises:
        UserError: if there are none.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None,
        bijections: list[Callable[[tuple[int, ...], int | None], Bijection]],
    ) -> None:
        if not bijections:
            raise UserError("Compose.bijections is []: give at least one")
        steps: list[Bijection] = []
        for make in bijections:
            steps.append(make(steps[-1].latent_shape if steps else tuple(sample_shape), num_features))
        super().__init__(steps)
