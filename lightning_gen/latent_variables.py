"""`LatentVariableModel`: what families share that have an encoder, a decoder, a likelihood and vectors as latents."""

from abc import ABC
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from lightning_gen.autoencoding import AutoencodingModel
from lightning_gen.distributions import DiagonalNormal, RunningNormal, StandardNormal, VariationalLayer, draw
from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.networks.autoencoders import Decoder, Encoder
from lightning_gen.networks.conditioning import Embed
from lightning_gen.noise import Noise

if TYPE_CHECKING:
    from lightning_gen.data import DataModule

LayerFactory = Callable[[int, int | None], VariationalLayer]


class LatentVariableModel(AutoencodingModel, ABC):
    """An encoder with a layer that makes a distribution of codes of its features, a decoder, and a prior of codes.

    Args:
        encoder: samples to features of the posterior.
        decoder: makes the network from latents to the likelihood's parameters; conditional when its `num_classes` is
            set.
        latent_dim: number of latent variables, ≥ 1.
        likelihood: p(x | z).
        posterior: makes q(z | x).
        prior: makes p(z).
        prior_features: length of a learnt embedding of `y` that the prior's parameters are linear in; None for a prior
            that does not depend on `y`.
        sample_noise: whether samples have the likelihood's noise instead of its mean; reconstructions never have.
        **kwargs: of the family's other base.

    Attributes:
        shows_codes: whether the prior is shown the codes of training, as `RunningNormal` needs.

    Raises:
        UserError: if networks are conditioned on different classes, a prior on none, or on less than one number.
    """

    shows_codes: ClassVar[bool] = False

    def __init__(
        self,
        encoder: Encoder,
        decoder: Callable[[int, int], Decoder],
        latent_dim: int,
        likelihood: Likelihood,
        posterior: LayerFactory = DiagonalNormal,
        prior: LayerFactory = StandardNormal,
        prior_features: int | None = None,
        sample_noise: bool = False,
        **kwargs: Any,
    ) -> None:
        q = posterior(latent_dim, encoder.num_features)
        network = decoder(q.decoded_dim, likelihood.num_parameters)
        super().__init__(num_classes=network.num_classes, **kwargs)
        if encoder.num_classes not in (None, network.num_classes):
            raise UserError(
                f"num_classes of model.init_args.encoder is {encoder.num_classes} but the decoder's is"
                f" {network.num_classes}: make them equal, or leave the encoder's unset"
            )
        if prior_features is not None and network.num_classes is None:
            raise UserError(
                f"model.init_args.prior_features is {prior_features}, but the decoder has no num_classes for the prior"
                " to depend on: set that, or leave prior_features unset"
            )
        if prior_features is not None and prior_features < 1:
            raise UserError(f"model.init_args.prior_features is {prior_features}: it must be at least 1, or unset")
        self.latent_dim = q.sample_dim
        self.encoder = encoder
        self.decoder = network
        self.likelihood = likelihood
        self.posterior = q
        self.prior = prior(latent_dim, prior_features)
        self.sample_noise = sample_noise
        self.prior_embedding: nn.Module | None = None
        if prior_features is not None:
            assert network.num_classes is not None
            self.prior_embedding = Embed(network.num_classes, prior_features)
        if self.prior.sample_dim != q.sample_dim:
            raise UserError(
                f"model.init_args.prior is {type(self.prior).__name__}, whose {latent_dim} latents are"
                f" {self.prior.sample_dim} numbers, but model.init_args.posterior is {type(q).__name__}, whose latents"
                f" are {q.sample_dim}: give discrete layers, such as GumbelSoftmax and UniformCategorical, the same"
                " num_categories, and any other layer one of its kind"
            )
        if isinstance(self.prior, RunningNormal) and not self.shows_codes:
            raise UserError(
                "model.init_args.prior is RunningNormal, which follows the codes of training, but"
                f" {type(self).__name__} does not show it any: use StandardNormal, or the family RegularisedAutoencoder"
            )
        self.prior.bind(self.posterior_without_condition)

    # ---------------------------------------------------------------- the distributions

    def posterior_of(self, x: Tensor, y: Tensor | None) -> Distribution:
        """q(z | x, y), of batch shape (B,)."""
        return self.posterior_from(self.encoder(x, y), y)

    def posterior_from(self, h: Tensor, y: Tensor | None) -> Distribution:
        """The same of features h (B, F)."""
        return self.posterior(h)

    def decoded(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The likelihood's parameters (n, P, …) of latents (n, sample_dim)."""
        return self.decoder(z[:, : self.posterior.decoded_dim], y)

    def posterior_without_condition(self, x: Tensor) -> Distribution:
        """q(z | x) of inputs (n, …) that a prior has of its own.

        Raises:
            UserError: if the encoder needs a condition.
        """
        if self.encoder.num_classes is not None:
            raise UserError(
                f"the prior {type(self.prior).__name__} encodes inputs of its own, which have no classes: leave"
                " num_classes of model.init_args.encoder unset, or use another prior"
            )
        return self.posterior_of(x, None)

    def prior_of(self, y: Tensor | None) -> Distribution:
        """p(z | y), of batch shape (), or (B,) where it depends on `y`."""
        return self.prior(None if self.prior_embedding is None else self.prior_embedding(y))

    # ---------------------------------------------------------------- latents and samples

    @property
    def varied_dim(self) -> int:
        """See `lightning_gen.abilities.HasVectorLatents`."""
        return self.posterior.decoded_dim if self.posterior.is_euclidean else 0

    @property
    def encodes_condition(self) -> bool:
        """Whether the encoder is conditional, too."""
        return self.encoder.num_classes is not None

    def latents_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """What stands for the posterior, (n, sample_dim)."""
        return self.posterior.mean(self.posterior_of(x, y))

    def samples_of(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The mean of p(x | z)."""
        return self.likelihood.mean(self.decoded(z, y))

    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Decoded draws from the prior: of p(x | z) the mean, or, with `sample_noise`, draws."""
        z = self.draw_latents(noise, y)
        return self.likelihood.draw(self.decoded(z, y), noise) if self.sample_noise else self.samples_of(z, y)

    def draw_latents(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Draws from p(z), (n, sample_dim)."""
        return draw(self.prior_of(y), noise, 1)[0]

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """As the prior has it."""
        return self.prior.between(a, b, t)

    # ---------------------------------------------------------------- held-out data

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """How well samples are reconstructed."""
        return ("val_reconstruction",)

    def held_out(self, batch: Batch) -> Terms:
        """(n,) log p(x | z) in nats, z what stands for the posterior."""
        x, y = batch["x"], self.condition_of(batch)
        return {"val_reconstruction": self.likelihood(self.decoded(self.latents_of(x, y), y), x)}

    # ---------------------------------------------------------------- set-up

    def check_data(self, data: "DataModule") -> None:
        """The likelihood must fit the data's values, the encoder their shape, and prior and posterior each other."""
        self.prior.check_samples(tuple(data.sample_shape))
        super().check_data(data)
        examples = data.examples()
        x, y = examples["x"].to(self.device, self.dtype), self.condition_of(examples)  # type: ignore[arg-type]
        self.likelihood.check(x)
        self._check_encoder(x[:2], None if y is None else y[:2].to(self.device), tuple(data.sample_shape))

    @torch.no_grad()
    def _check_encoder(self, x: Tensor, y: Tensor | None, sample_shape: tuple[int, ...]) -> None:
        where = "model.init_args.encoder"
        try:
            with evaluating(self):
                found = self.encoder(x, y)
        except RuntimeError as error:
            raise UserError(
                f"{where} cannot read data's samples of shape {sample_shape}: make the sizes in {where}.init_args agree"
                f" with those of data.init_args ({error})"
            ) from error
        if found.shape != (len(x), self.encoder.num_features):
            raise UserError(
                f"{where} turns {len(x)} samples into features of shape {tuple(found.shape)} instead of"
                f" {(len(x), self.encoder.num_features)}: correct its num_features or its forward"
            )
