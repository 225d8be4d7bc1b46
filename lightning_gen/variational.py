"""`VariationalModel`: what families share that have a prior, a likelihood and an approximate posterior."""

import math
from abc import ABC

import torch
from torch import Tensor

from lightning_gen.adversarial import frozen
from lightning_gen.distributions import draw
from lightning_gen.latent_variables import LatentVariableModel
from lightning_gen.losses.bounds import Inference
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.noise import Noise, sample_seeds

_DRAWS = 50
"""Latents drawn at a time for each sample: a number that does not depend on the batch, as what is drawn may not."""

HELD_OUT_SEED = 0
"""Held-out samples are encoded with this seed, whatever the run's: a score must not depend on the seed of a run."""


class VariationalModel(LatentVariableModel, ABC):
    """p(x) = ∫ p(x | z) p(z) dz with an approximate posterior q(z | x); z a vector. See `LatentVariableModel`."""

    # ---------------------------------------------------------------- the distributions

    def log_likelihood_of(self, z: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """Log p(x | z, y) of latents z (S, B, d) and samples x (B, …): (S, B) nats."""
        num = len(z)
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
