"""`VariationalModel`: what families share that have a prior, a likelihood and an approximate posterior."""

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from lightning_gen.adversarial import frozen
from lightning_gen.distributions import Deterministic, draw
from lightning_gen.errors import UserError
from lightning_gen.held_out import HELD_OUT_SEED
from lightning_gen.latent_variables import LatentVariableModel
from lightning_gen.losses.bounds import Bound, Inference, KLEstimator
from lightning_gen.losses.bounds.kl import no_closed_form
from lightning_gen.losses.processes import alone
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.noise import Noise, sample_seeds

if TYPE_CHECKING:
    from lightning_gen.data import DataModule

_DRAWS = 50
"""Latents drawn at a time for each sample: a number that does not depend on the batch, as what is drawn may not."""

_ROWS = 4096
"""About how many latents are decoded at a time in evaluation mode, and no fewer than there are samples."""


class VariationalModel(LatentVariableModel, ABC):
    """p(x) = ∫ p(x | z) p(z) dz with an approximate posterior q(z | x); z a vector. See `LatentVariableModel`.

    Args:
        *args: of `LatentVariableModel`.
        **kwargs: likewise, and of the family's other base.

    Attributes:
        divergence_estimator: which estimator does where a divergence has no closed form.

    Raises:
        UserError: if codes without noise are to have a density.
    """

    divergence_estimator: ClassVar[str] = "MonteCarlo"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for role, layer in (("posterior", self.posterior), ("prior", self.prior)):
            if isinstance(layer, Deterministic):
                raise UserError(
                    f"model.init_args.{role} is Deterministic, whose codes have no density for a bound to be made of:"
                    " use another layer such as DiagonalNormal, or a family such as WassersteinAutoencoder"
                )

    @property
    @abstractmethod
    def compared_by(self) -> Bound | KLEstimator:
        """What compares the posterior with the prior in the loss: the argument `bound` or `kl`."""

    # ---------------------------------------------------------------- the distributions

    def log_likelihood_of(self, z: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """Log p(x | z, y) of latents z (S, B, d) and samples x (B, …): (S, B) nats."""
        num, most = len(z), max(_ROWS // max(len(x), 1), 1)
        if num > most and not self.training:  # where no batch statistics depend on it
            return torch.cat([self.log_likelihood_of(part, x, y) for part in z.split(most)])
        if num > 1:
            x = x.expand(num, *x.shape).flatten(0, 1)
            y = None if y is None else y.expand(num, *y.shape).flatten(0, 1)
        return self.likelihood(self.decoded(z.flatten(0, 1), y), x).unflatten(0, (num, -1))

    def inference(self, x: Tensor, y: Tensor | None) -> Inference:
        """What a bound sees of samples x (B, …) of classes y."""
        h = self.encoder(x, y)
        prior = self.prior_of(y)

        def frozen_log_likelihood(z: Tensor) -> Tensor:
            with frozen(self.decoder), frozen(self.likelihood):
                return self.log_likelihood_of(z, x, y)

        def frozen_log_posterior(z: Tensor) -> Tensor:
            with frozen(self):
                return self.posterior_from(h.detach(), y).log_prob(z)

        def frozen_log_prior(z: Tensor) -> Tensor:
            with frozen(self):
                return self.prior_of(y).log_prob(z)

        return Inference(
            posterior=self.posterior_from(h, y),
            prior=prior,
            log_likelihood=lambda z: self.log_likelihood_of(z, x, y),
            frozen_log_likelihood=frozen_log_likelihood,
            frozen_log_posterior=frozen_log_posterior,
            frozen_log_prior=frozen_log_prior,
        )

    # ---------------------------------------------------------------- numbers about data

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, y: Tensor | None, noise: Noise, num_importance_samples: int) -> Tensor:
        """See `lightning_gen.abilities.BoundsLikelihood`."""
        with evaluating(self):
            q, p = self.posterior_of(x, y), self.prior_of(y)
            parts = []
            for start in range(0, num_importance_samples, _DRAWS):
                z = draw(q, noise, min(_DRAWS, num_importance_samples - start))
                log_weights = self.log_likelihood_of(z, x, y) + p.log_prob(z) - q.log_prob(z)
                parts.append(log_weights.double() if x.device.type != "mps" else log_weights)
            return torch.cat(parts).logsumexp(0) - math.log(num_importance_samples)

    @torch.no_grad()
    def elbo_terms(self, x: Tensor, y: Tensor | None, noise: Noise) -> Terms:
        """See `lightning_gen.abilities.BoundsLikelihood`; the divergence is estimated from the latent itself."""
        with evaluating(self):
            q, p = self.posterior_of(x, y), self.prior_of(y)
            z = draw(q, noise, 1)
            reconstruction = self.log_likelihood_of(z, x, y)[0]
            kl = (q.log_prob(z) - p.log_prob(z))[0]
        return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """The bound and its parts, nats a sample."""
        return ("val_elbo", "val_reconstruction", "val_kl")

    def held_out(self, batch: Batch) -> Terms:
        """(n,) of each, with latents that depend on the place in the split alone."""
        noise = Noise(sample_seeds(HELD_OUT_SEED, batch["index"]), self.device)
        terms = self.elbo_terms(batch["x"], self.condition_of(batch), noise)
        return {f"val_{name}": term for name, term in terms.items()}

    # ---------------------------------------------------------------- set-up

    def check_data(self, data: "DataModule") -> None:
        """Likelihood, posterior, prior and what compares them must go together."""
        super().check_data(data)
        examples = {name: value[:2].to(self.device) for name, value in data.examples(2).items()}
        # before training the model may not be where its processes can talk to each other
        with torch.no_grad(), torch.random.fork_rng(devices=[]), evaluating(self), alone():
            self.check_inference(self.inference(examples["x"].to(self.dtype), self.condition_of(examples)))

    def check_inference(self, inference: Inference) -> None:
        """Raise `UserError` if the parts do not go together, as two samples show; families extend it."""
        self._check_divergence(inference)
        self._check_gradient()
        z = inference.posterior.rsample((1,))
        self.check_finite(inference.log_likelihood(z).mean(), "log p(x | z)")

    def check_finite(self, value: Tensor, name: str) -> None:
        """Raise `UserError` if a scalar is NaN or infinite before training."""
        if not bool(value.isfinite()):
            parts = ", ".join(
                f"{key} {type(getattr(self, key)).__name__}" for key in ("likelihood", "posterior", "prior")
            )
            raise UserError(
                f"{name} of two samples is {float(value)} before training, with the {parts}: change their arguments in"
                " model.init_args, or choose others that fit the data and each other"
            )

    @property
    def _key(self) -> str:
        """Of what compares the posterior with the prior."""
        return f"model.init_args.{'bound' if isinstance(self.compared_by, Bound) else 'kl'}"

    def _check_divergence(self, inference: Inference) -> None:
        """It must not be infinite, which an estimate would not show; and have a closed form where one is needed."""
        q, p = inference.posterior, inference.prior
        self.posterior.check_prior(p)
        try:
            kl_divergence(q, p)
        except NotImplementedError as error:
            if not self.compared_by.needs_closed_form:
                return
            key = f"{self._key}.init_args.kl" if isinstance(self.compared_by, Bound) else self._key
            faulty = any(layer.log_prob_fault for layer in (self.posterior, self.prior))
            remedy = "choose another posterior or prior" if faulty else f"set {key} to {self.divergence_estimator}"
            raise UserError(f"{no_closed_form(q, p)}: {remedy}") from error

    def _check_gradient(self) -> None:
        """Where it goes through log-probabilities of samples, it must be right."""
        if not self.compared_by.differentiates_log_prob:
            return
        kl = getattr(self.compared_by, "kl", None)
        by = "" if kl is None else f" with the kl {type(kl).__name__}"
        right = "ELBO or another bound with the kl ClosedForm" if isinstance(self.compared_by, Bound) else "ClosedForm"
        for role, layer in (("posterior", self.posterior), ("prior", self.prior)):
            if layer.log_prob_fault is not None:
                raise UserError(
                    f"{self._key} is {type(self.compared_by).__name__}{by}, whose gradient goes through"
                    f" log-probabilities of samples, which of the {role} {type(layer).__name__} {layer.log_prob_fault}:"
                    f" use {right}, or another layer"
                )
