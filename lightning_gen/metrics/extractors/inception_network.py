"""The layers of the FID Inception up to a tap, made fast without changing what they compute."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

LAST_LAYERS = {"64": "MaxPool_1", "192": "MaxPool_2", "768": "Mixed_6e", "2048": "Mixed_7c"}
"""The last layer before the average over space, for each tap."""
NUM_CLASSES = 1008
NUM_SPATIAL = 17 * 17 * 7
"""Numbers in the map that sFID compares."""
_SPATIAL_LAYER = "Mixed_6d"
_SPATIAL_CHANNELS = 7


def reaches_spatial(feature: str) -> bool:
    """Whether the layers up to a tap include the map that sFID compares."""
    return feature in ("768", "2048")


class InceptionNetwork(nn.Module):
    """Layers of torch-fidelity's Inception, batch normalisation folded into the convolutions, channels last in memory.

    Nothing above the tap is kept. The map of sFID is what TensorFlow's graph calls `mixed_6/conv:0`: the 1×1 branch of
    Mixed_6d after its ReLU, of which Nash et al., "Generating Images with Sparse Representations", ICML 2021, take the
    first 7 channels. Their evaluation flattens it by row, column and channel, and so does this.

    Args:
        published: torch-fidelity's network with its weights, on the CPU; it is taken apart.
        feature: the tap.
        dtype: what convolutions compute in; averages over space and scores of classes are float32.
    """

    def __init__(self, published: nn.Module, feature: str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        layers = dict(published.named_children())
        names = list(layers)
        kept = names[: names.index(LAST_LAYERS[feature]) + 1]
        self.layers = nn.ModuleDict({name: _fold_normalisation(layers[name]) for name in kept})
        self.layers.to(dtype).to(memory_format=torch.channels_last)
        self.dtype = dtype
        self.class_weight: nn.Parameter | None = None
        if feature == "2048":
            # scores without their bias, as in the published Inception Score
            self.class_weight = nn.Parameter(published.get_parameter("fc.weight").detach().float())

    def first_non_finite(self) -> str | None:
        """Name of the first layer whose weights hold NaN or infinities, or None."""
        for name, layer in self.layers.items():
            if not all(parameter.isfinite().all() for parameter in layer.parameters()):
                return name
        return None if self.class_weight is None or self.class_weight.isfinite().all() else "fc"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Pooled features, logits without bias and the spatial map, each float32 or None.

        Args:
            x: (B, 3, 299, 299) float32 in [-1, 1).

        Returns:
            (B, d), (B, 1008) where d is 2048, (B, 2023) where d is 768 or 2048.
        """
        x, spatial = x.to(self.dtype), None
        for name, layer in self.layers.items():
            x = layer(x)
            if name == _SPATIAL_LAYER:  # its 1×1 branch comes first
                spatial = x[:, :_SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1).float()
        pooled = x.float().mean(dim=(2, 3))
        logits = None if self.class_weight is None else pooled @ self.class_weight.T
        return pooled, logits, spatial


def _fold_normalisation(layer: nn.Module) -> nn.Module:
    """`layer` with every pair `conv`, `bn` made one convolution, in float64 so that weights are rounded once."""
    from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d

    for block in layer.modules():
        if isinstance(block, BasicConv2d):
            block.conv = fuse_conv_bn_eval(block.conv.double(), block.bn.double()).float()
            block.bn = nn.Identity()
    return layer
