"""`QuantisedModel`: what families share whose latents are maps of codes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lightning_gen.autoencoding import AutoencodingModel
from lightning_gen.conditions import check_given
from lightning_gen.distributions.quantisers import Quantised, Quantiser
from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.networks.autoencoders import MapDecoder, MapEncoder
from lightning_gen.noise import Noise

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class QuantisedModel(AutoencodingModel, ABC):
    """Encodes samples to one or several levels of maps of codes, and decodes what these stand for.

    A latent, as `encode` gives it and `decode` takes it, is the decoder's input (n, d, h, w): what the codes of all
    levels stand for, brought to the size of the finest level and put beside each other. Rows of codes hold the maps of
    the levels, coarse to fine, and of each level those of a residual quantiser.

    Samples without a prior of codes are decoded from codes drawn uniformly, and look it; the family `LatentPrior`
    learns one.

    Args:
        sample_shape: (C, H, W) of a sample; it says how large the maps of codes are.
        encoders: networks that read samples, to be conditioned on what the decoder is, or on nothing.
        decoder: latents to the likelihood's parameters; conditional when its `num_classes` is set.
        likelihood: p(x | z).
        **kwargs: of the family's other base.

    Raises:
        UserError: if networks are conditioned on different classes.
    """

    def __init__(
        self,
        sample_shape: list[int],
        encoders: Sequence[MapEncoder | MapDecoder],
        decoder: MapDecoder,
        likelihood: Likelihood,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes=decoder.num_classes, **kwargs)
        for network in encoders:
            if network.num_classes not in (None, decoder.num_classes):
                raise UserError(
                    f"num_classes of a {type(network).__name__} in model.init_args is {network.num_classes} but the"
                    f" decoder's is {decoder.num_classes}: make them equal, or leave the former unset"
                )
        self.sample_shape = tuple(sample_shape)
        self._encoders_conditional = any(network.num_classes is not None for network in encoders)
        self.decoder = decoder
        self.likelihood = likelihood

    @property
    @abstractmethod
    def quantisers(self) -> Sequence[Quantiser]:
        """Of each level, coarse to fine; all of as many codes."""

    @abstractmethod
    def quantise(self, x: Tensor, y: Tensor | None) -> list[Quantised]:
        """What the quantisers make of samples (n, …), coarse to fine."""

    def join(self, maps: list[Tensor]) -> Tensor:
        """The decoder's input (n, d, h, w) from what the codes of each level stand for, coarse to fine."""
        size = maps[-1].shape[-2:]
        return torch.cat([interpolate(m, size) if m.shape[-2:] != size else m for m in maps], dim=1)

    def nats(self, z: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """−log p(x | z, y) of latents z (n, d, h, w): (n,) nats a sample."""
        return -self.likelihood(self.decoder(z, y), x)

    # ---------------------------------------------------------------- latents and samples

    @property
    def encodes_condition(self) -> bool:
        """Whether any encoder is conditional, too."""
        return self._encoders_conditional

    def latents_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The decoder's input, (n, d, h, w)."""
        return self.join([level.z for level in self.quantise(x, y)])

    def samples_of(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The mean of p(x | z)."""
        return self.likelihood.mean(self.decoder(z, y))

    def draw_latents(self, noise: Noise, y: Tensor | None) -> Tensor:
        """What codes stand for that are drawn uniformly, whatever `y` is."""
        length = sum(prod(shape) for shape in self._code_maps)
        return self.latents_of_codes(((noise.bits(length) * self.num_codes) >> 32).to(self.device))

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the straight line: codes stand for points without a centre to turn around."""
        return torch.lerp(a, b, t.to(a).view(-1, *[1] * (a.ndim - 1)))

    # ---------------------------------------------------------------- codes

    @property
    def num_codes(self) -> int:
        """K, of every level."""
        return self.quantisers[0].num_codes

    @cached_property
    def _code_maps(self) -> list[tuple[int, ...]]:
        """(L, h, w) of each level for one sample of `sample_shape`."""
        return self._find_code_maps(self.sample_shape)

    @torch.no_grad()
    def _find_code_maps(self, sample_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        x = torch.zeros(1, *sample_shape, device=self.device, dtype=self.dtype)  # type: ignore[arg-type]
        with evaluating(self):
            return [tuple(level.codes.shape[1:]) for level in self.quantise(x, self.condition.blank(1, self.device))]

    def code_shapes(self, sample_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """See `lightning_gen.abilities.HasCodes`: maps (h, w), as many of a level as it has codes a position."""
        known = tuple(sample_shape) == self.sample_shape
        maps = self._code_maps if known else self._find_code_maps(tuple(sample_shape))
        return tuple(shape for num_levels, height, width in maps for shape in [(height, width)] * num_levels)

    @torch.no_grad()
    def codes(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.HasCodes`."""
        if self.encodes_condition:
            check_given(y, "codes")
        with evaluating(self):
            return torch.cat([level.codes.flatten(1) for level in self.quantise(x, y)], dim=1)

    @torch.no_grad()
    def decode_codes(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.HasCodes`; of samples of `sample_shape`."""
        if self.decodes_condition:
            check_given(y, "decode_codes")
        with evaluating(self):
            return self.samples_of(self.latents_of_codes(codes), y)

    def latents_of_codes(self, codes: Tensor) -> Tensor:
        """The decoder's input (n, d, h, w) from (n, N) codes."""
        parts = codes.split([prod(shape) for shape in self._code_maps], dim=1)
        levels = zip(self.quantisers, parts, self._code_maps, strict=True)
        return self.join([quantiser.lookup(part.unflatten(1, shape)) for quantiser, part, shape in levels])

    # ---------------------------------------------------------------- held-out data

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """How well samples are reconstructed: log p(x | z) in nats a sample, and the mean squared error of an entry."""
        return ("val_reconstruction", "val_mse")

    def held_out(self, batch: Batch) -> Terms:
        """(n,) of each."""
        x, y = batch["x"], self.condition_of(batch)
        parameters = self.decoder(self.latents_of(x, y), y)
        error = (self.likelihood.mean(parameters) - x).square().flatten(1).mean(1)
        return {"val_reconstruction": self.likelihood(parameters, x), "val_mse": error}

    # ---------------------------------------------------------------- the log

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Codes are counted for the log in steps that are logged."""
        super().on_train_batch_start(batch, batch_idx)
        for quantiser in self.quantisers:
            quantiser.counting = self.logs_this_step

    def on_train_end(self) -> None:
        """Whoever asks for a loss outside training wants all its terms."""
        super().on_train_end()
        for quantiser in self.quantisers:
            quantiser.counting = True

    # ---------------------------------------------------------------- set-up

    def setup(self, stage: str) -> None:
        """Check the data, and that a batch can start the codebooks."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and data is not None:
            for quantiser, (_, *size) in zip(self.quantisers, self._code_maps, strict=True):
                quantiser.check(data.batch_size * self.trainer.world_size * prod(size))

    def check_data(self, data: "DataModule") -> None:
        """Samples must have the shape that was given, the encoders fit it, and the likelihood the data's values."""
        if tuple(data.sample_shape) != self.sample_shape:
            raise UserError(
                f"model.init_args.sample_shape is {list(self.sample_shape)} but data gives samples of shape"
                f" {list(data.sample_shape)}: make them equal"
            )
        try:
            self._code_maps  # noqa: B018 - finds them
        except RuntimeError as error:
            raise UserError(
                f"the encoders of the model cannot read samples of shape {list(self.sample_shape)}: correct the sizes"
                f" in their init_args ({error})"
            ) from error
        super().check_data(data)
        self.likelihood.check(data.examples()["x"].to(self.device, self.dtype))  # type: ignore[arg-type]
