"""What only some families can do, as protocols that callbacks, metrics and commands ask for."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.noise import Noise


@runtime_checkable
class Interpolates(Protocol):
    """The ability to walk between samples, of families that draw them from latents."""

    def interpolate(self, seeds_a: Tensor, seeds_b: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Samples on the way from one to another, in evaluation mode and without gradients.

        Args:
            seeds_a: (n,) int64; at t = 0 the sample is that of `sample(n, y, seeds=seeds_a)`.
            seeds_b: (n,) int64; at t = 1 its latent is that of `seeds_b`.
            t: (n,) floating point in [0, 1], how far along the way between the two latents: the great circle
                (`latents.slerp`) where these are normal or on a sphere, a straight line where the family says so.
            y: (n,) int64 classes, the same all the way; those of `seeds_a` when None and the model is conditional.

        Returns:
            (n, …) samples in the form of `x`.

        Raises:
            UserError: if classes are asked of an unconditional model, or do not exist.
        """


@runtime_checkable
class Reconstructs(Protocol):
    """The ability to go from samples to latents and back."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The latents that stand for samples, without noise (a posterior's mean), in evaluation mode, no gradients.

        Args:
            x: (n, …) samples in model form.
            y: (n,) classes or (n, K) attributes of a conditional model.

        Returns:
            (n, …) latents, as `decode` takes them.
        """

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The samples (n, …) in the form of `x` that belong to latents, in evaluation mode, without gradients."""

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """`decode(encode(x, y), y)`: (n, …) in the form of `x`."""


@runtime_checkable
class HasVectorLatents(Reconstructs, Protocol):
    """Whose latents are vectors, so that each of their numbers can be looked at."""

    latent_dim: int
    """How many numbers: the length of the rows that `encode` gives, of one-hot vectors all their entries."""

    varied_dim: int
    """How many of them, the first, can be varied one by one for `decode` to show what they do: those that the decoder
    sees, and none where latents are discrete or on a sphere."""


@runtime_checkable
class BoundsLikelihood(Protocol):
    """The ability to estimate log p(x) with latents drawn from an approximate posterior."""

    def log_likelihood(self, x: Tensor, y: Tensor | None, noise: Noise, num_importance_samples: int) -> Tensor:
        """Log (1/K) Σ_k p(x, z_k) / q(z_k | x) in nats, in evaluation mode, without gradients.

        A lower bound of log p(x) in expectation, tight as K → ∞ (Burda et al., ICLR 2016, eq. 8).

        Args:
            x: (n, …) samples in model form.
            y: (n,) classes or (n, K) attributes of a conditional model.
            noise: a stream a sample, so that the number depends on neither batch size nor processes.
            num_importance_samples: K, ≥ 1.

        Returns:
            (n,) nats a sample.
        """

    def elbo_terms(self, x: Tensor, y: Tensor | None, noise: Noise) -> dict[str, Tensor]:
        """The evidence lower bound with one latent a sample, and its parts; arguments as above.

        Returns:
            (n,) nats a sample: `elbo` = `reconstruction` − `kl`, of which `reconstruction` is log p(x | z).
        """


@runtime_checkable
class HasLikelihood(Protocol):
    """The ability to compute log p(x).

    Of probabilities where the model's own attribute `discrete`, or its likelihood's, is true; else of densities.
    """

    exact_likelihood: bool
    """Whether it can as it is configured; where it cannot, it is a `BoundsLikelihood`."""

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """(n,) nats a sample, exact, in evaluation mode, without gradients; arguments as above."""


@runtime_checkable
class DescribesLikelihood(Protocol):
    """What a number's protocol must say of how log p(x) was computed, beside the likelihood's name."""

    def likelihood_protocol(self) -> dict[str, Any]:
        """JSON-able; empty where the name says all."""


def require(model: object, ability: type, asker: str, verb: str) -> None:
    """Raise `UserError` unless the model has an ability.

    Args:
        model: what is asked.
        ability: one of the protocols here.
        asker: who needs it, such as "the callback LatentWalk".
        verb: what the model must be able to do, such as "interpolate".
    """
    if not isinstance(model, ability):
        raise UserError(f"{asker} needs a model that can {verb}, which {type(model).__name__} cannot")


@runtime_checkable
class PricesCodes(Protocol):
    """The ability to say how likely the codes of samples are, of priors of codes."""

    def code_nats(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """−log p(c | y) of the codes c of samples, in evaluation mode, without gradients.

        No bound on −log p(x): what codes lose of a sample is not in it.

        Args:
            x: (n, …) samples in model form.
            y: (n,) classes or (n, K) attributes of a conditional model.

        Returns:
            (n,) nats a sample.
        """


@runtime_checkable
class HasCodes(Reconstructs, Protocol):
    """Whose latents stand for discrete codes, into which it can turn samples, and back, as a prior of them needs it."""

    num_codes: int
    """K: a code is one of 0 … K − 1."""

    def code_shapes(self, sample_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Shapes of the maps of codes of one sample, coarse to fine; one of them unless the model has several levels.

        Codes of a sample are given as one row, the maps flattened (last dimension fastest) one after the other.
        """

    def codes(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """(n, N) int64 codes of samples, in evaluation mode, without gradients."""

    def decode_codes(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        """Samples (n, …) in the form of `x` from (n, N) int64 codes, likewise."""
