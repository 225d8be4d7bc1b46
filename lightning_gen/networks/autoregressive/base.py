"""What families expect of a network that gives the next token from those before it."""

from abc import ABC, abstractmethod
from math import prod

import torch
from torch import Tensor, nn

from lightning_gen.choice import choose
from lightning_gen.noise import Noise


class TokenModel(nn.Module, ABC):
    """Gives log-probabilities of every token of a sequence from the tokens before it.

    A family makes it from a factory, `Callable[[int, tuple[tuple[int, ...], ...]], TokenModel]`, called with the first
    two arguments.

    Args:
        num_tokens: K: a token is one of 0 … K − 1.
        shapes: of the maps that the sequence is made of, flattened one after the other.
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
    """

    def __init__(self, num_tokens: int, shapes: tuple[tuple[int, ...], ...], num_classes: int | None = None) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.shapes = shapes
        self.length = sum(prod(shape) for shape in shapes)
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, tokens: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits (B, N, K) of (B, N) int64 tokens; those at position i depend on tokens before i, and y, alone."""

    def draw(self, noise: Noise, y: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Sequences (n, N) int64, one a stream of random numbers, in the mode that the network is in.

        Here every position costs a whole forward pass; networks override this with what they can keep. All give the
        same tokens for the same streams.
        """
        uniform = noise.uniform(self.length)
        tokens = torch.zeros(len(noise), self.length, dtype=torch.int64, device=noise.device)
        for i in range(self.length):
            tokens[:, i] = choose(self(tokens, y)[:, i] / temperature, uniform[:, i])
        return tokens
