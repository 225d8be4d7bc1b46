"""Small first stages and a small network of tokens, for tests of second stages; found by name."""

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, mse_loss, one_hot

from lightning_gen.model import evaluating
from lightning_gen.networks.autoregressive import TokenModel
from lightning_gen.one_loss import OneLossModel


class TinyCodes(OneLossModel):
    """Grey images of 8×8 pixels as 2×2 maps of K brightnesses."""

    def __init__(self, optimizer: OptimizerCallable, num_codes: int = 3, num_classes: int | None = None):
        super().__init__(optimizer, num_classes=num_classes)
        self.num_codes = num_codes
        self.levels = nn.Parameter(torch.linspace(-1, 1, num_codes))
        self.shades = nn.Embedding(num_classes, 1) if num_classes else None
        self.norm = nn.BatchNorm1d(1)  # something that training mode would change

    def code_shapes(self, sample_shape):
        return ((sample_shape[1] // 4, sample_shape[2] // 4),)

    @torch.no_grad()
    def codes(self, x, y=None):
        assert (y is None) == (self.num_classes is None)
        with evaluating(self):
            self.norm(x.flatten(1).mean(1, keepdim=True))
            brightness = avg_pool2d(x, 4).flatten(1)
        return ((brightness + 1) / 2 * self.num_codes).long().clamp(0, self.num_codes - 1)

    def picture(self, codes, y):
        maps = self.levels[codes].unflatten(1, (1, 2, 2))
        if self.shades is not None:
            maps = maps + self.shades(y)[:, :, None, None]
        return interpolate(maps, scale_factor=4).tanh()

    @torch.no_grad()
    def decode_codes(self, codes, y=None):
        with evaluating(self):
            return self.picture(codes, y)

    def encode(self, x, y=None):
        return self.levels[self.codes(x, y)]

    def decode(self, z, y=None):
        return self.decode_codes((z[..., None] - self.levels).abs().argmin(-1), y)

    def reconstruct(self, x, y=None):
        return self.decode(self.encode(x, y), y)

    def generate(self, noise, y):
        return self.picture((noise.uniform(4) * self.num_codes).long(), y)

    def loss(self, batch):
        y = self.condition_of(batch)
        self.norm(batch["x"].flatten(1).mean(1, keepdim=True))
        return mse_loss(self.picture(self.codes(batch["x"], y), y), batch["x"]), {}


class TinyTokens(TokenModel):
    """A table of the next token given the one before it, the place, and the class."""

    def __init__(self, num_tokens: int, shapes: tuple[tuple[int, ...], ...], num_classes: int | None = None):
        super().__init__(num_tokens, shapes, num_classes)
        self.before = nn.Embedding(num_tokens + 1, num_tokens)
        self.place = nn.Parameter(torch.zeros(self.length, num_tokens))
        self.classes = nn.Embedding(num_classes, num_tokens) if num_classes else None

    def forward(self, tokens, y=None):
        start = torch.full_like(tokens[:, :1], self.num_tokens)
        logits = self.before(torch.cat((start, tokens[:, :-1]), dim=1)) + self.place
        return logits if self.classes is None else logits + self.classes(y)[:, None]


class WrongTokens(TinyTokens):
    """One logit too many."""

    def forward(self, tokens, y=None):
        logits = super().forward(tokens, y)
        return torch.cat((logits, logits[..., :1]), dim=2)


class TinyVectors(OneLossModel):
    """Points in the plane as turned and stretched points, exactly."""

    def __init__(self, optimizer: OptimizerCallable, num_classes: int | None = None):
        super().__init__(optimizer, num_classes=num_classes)
        self.latent_dim = self.varied_dim = 2
        self.turn = nn.Parameter(torch.tensor([[3.0, 1.0], [-0.5, 0.2]]))
        self.shift = nn.Parameter(torch.tensor([5.0, -1.0]))

    def moved(self, y):
        if self.num_classes is None:
            return self.shift
        return self.shift + one_hot(y, self.num_classes).to(self.shift)[:, :2]

    @torch.no_grad()
    def encode(self, x, y=None):
        with evaluating(self):
            return x @ self.turn.T + self.moved(y)

    @torch.no_grad()
    def decode(self, z, y=None):
        with evaluating(self):
            return (z - self.moved(y)) @ torch.linalg.inv(self.turn).T

    def reconstruct(self, x, y=None):
        return self.decode(self.encode(x, y), y)

    def generate(self, noise, y):
        return self.decode(noise.normal(2), y)

    def loss(self, batch):
        return self.turn.square().sum() + self.shift.square().sum(), {}
