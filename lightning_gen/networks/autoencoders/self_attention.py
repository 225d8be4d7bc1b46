"""Multi-head self-attention over the positions of a map, and the normalisation before it."""

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.networks.attention import VisibleAttention
from lightning_gen.precision import full

_GROUPS = 32
_LEAST = 4


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 32 groups as in the papers; with fewer for narrow maps, so that each has 4 channels if it can.

    With one channel a group, normalisation would erase whatever is constant over a map, such as a class.
    """
    groups = max(g for g in range(1, _GROUPS + 1) if channels % g == 0 and (g == 1 or channels // g >= _LEAST))
    return nn.GroupNorm(groups, channels, eps=1e-6)


class MultiHeadSelfAttention(nn.Module, VisibleAttention):
    """x + W_o [softmax(q_i k_iᵀ / √d) v_i]_i, with q, k, v linear in the group-normalised map.

    Vaswani et al., "Attention is all you need", NIPS 2017, eq. 1; one head over C channels is the attention of VQGAN
    (Esser et al., CVPR 2021). The fused kernels cannot be differentiated twice: for losses that need the gradient of a
    gradient choose `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`.

    Args:
        channels: of the map, C.
        heads: a divisor of `channels`.

    Raises:
        UserError: if it is not.
    """

    def __init__(self, channels: int, heads: int = 1) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise UserError(f"heads is {heads}: it must divide the {channels} channels of the map that attends")
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        mixed = F.scaled_dot_product_attention(*self._heads(x))
        return x + self.out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, x.shape[2:])

    def attention_map(self, x: Tensor) -> Tensor:
        """(B, heads, HW, HW), in float32 at least."""
        query, key, _ = self._heads(x)
        query, key = (full(t) for t in (query, key))
        return (query @ key.transpose(2, 3) * query.shape[3] ** -0.5).softmax(dim=3)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (B, heads, HW, C / heads)."""
        rows = self.qkv(self.norm(x).flatten(2).transpose(1, 2))
        query, key, value = rows.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value
