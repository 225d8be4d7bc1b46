"""Extractors and data small enough to reason about. (Spawned processes import it by path, so no fixtures here.)"""

import hashlib

import torch

from lightning_gen.metrics import FeatureExtractor, Features


class Linear(FeatureExtractor):
    """`d` features and `k` logits that are a fixed random projection of a (·, 6) vector."""

    def __init__(self, d: int = 8, k: int = 5, seed: int = 0) -> None:
        super().__init__()
        self.name, self.num_features, self.num_logits, self.seed = "linear", d, k, seed
        self.calls = 0

    def load(self) -> None:
        g = torch.Generator().manual_seed(self.seed)
        self.project = torch.nn.Linear(6, self.num_features + self.num_logits)
        self.dropout = torch.nn.Dropout(0.5)
        for p in self.project.parameters():
            p.data = torch.randn(p.shape, generator=g)

    def stored(self, x):
        return x

    def extract(self, x):
        self.calls += 1
        # in float64, so that a row's features do not depend on the batch around it
        weight, bias = self.project.weight.double(), self.project.bias.double()
        y = self.dropout((x.flatten(1).double()[:, None] * weight).sum(dim=2) + bias)
        return Features(y[:, : self.num_features].tanh().float(), y[:, self.num_features :].float())

    def protocol(self):
        return {"extractor": self.name, "weights_sha256": str(self.seed), "d": self.num_features}


class Table:
    """Data with the two methods that metrics need."""

    splits = ("train",)

    def __init__(self, x):
        self.x, self.reads = x, 0

    def rows(self, split="train", rank=0, world_size=1, batch_size=256, limit=None):
        self.reads += 1
        for x in self.x[:limit][rank::world_size].split(batch_size):
            if len(x):
                yield {"x": x}

    def fingerprint(self, split, limit=None):
        return hashlib.sha256(self.x[:limit].numpy().tobytes()).hexdigest()


def vectors(n, seed=0, shift=0.0):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)) + shift


def sampler(seeds):
    """A model: (n, 6), each row from its seed alone."""
    from lightning_gen.noise import Noise

    return Noise(seeds).normal(6) * 0.8 + 0.2
