"""Perceptual losses: distances between images in the features of a classifier, instead of their pixels.

Their networks are frozen, and no part of the model that uses them: they are in no checkpoint and no optimiser, and are
not needed to sample.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.precision import exact

_BACKBONES = {"vgg": "vgg16", "alex": "alexnet", "squeeze": "squeezenet1_1"}
_CLASSIFIERS = ("digits", "mnist")


class PerceptualLoss(nn.Module, ABC):
    """A distance between images, 0 between equal ones, differentiable in both.

    The network follows the module to its device and dtype; autocast is off for it. It is read by `prepare`, or at the
    first use.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hidden: tuple[nn.Module, ...] = ()  # in a tuple, where neither state_dict nor parameters find it

    @abstractmethod
    def load(self) -> nn.Module:
        """The network with its weights, on the CPU; called once."""

    @abstractmethod
    def distance(self, network: nn.Module, made: Tensor, x: Tensor) -> Tensor:
        """(B,) distances between two batches of images (B, C, H, W) of the network's dtype."""

    def prepare(self) -> Self:
        """Read the weights, once; call it before training so that a missing file is told early.

        Raises:
            UserError: if they are not found.
        """
        if not self._hidden:
            with torch.random.fork_rng(devices=[]):  # building layers draws random numbers
                self._hidden = (self.load().requires_grad_(False).eval(),)
        return self

    @torch.no_grad()
    def check(self, x: Tensor) -> None:
        """Raise `UserError` if the weights are not found, or cannot judge images (B, C, H, W) such as these."""
        try:
            self(x, x)
        except RuntimeError as error:
            raise UserError(
                f"{type(self).__name__} cannot judge images of shape {tuple(x.shape[1:])}: use another perceptual loss,"
                f" or larger images ({error})"
            ) from error

    def forward(self, made: Tensor, x: Tensor) -> Tensor:
        """How far images are from those that they should look like.

        Args:
            made: (B, C, H, W) in [-1, 1], or a little beyond.
            x: (B, C, H, W) in [-1, 1].

        Returns:
            (B,) ≥ 0.
        """
        if not self._hidden:
            self.prepare()._hidden[0].to(x.device, torch.promote_types(x.dtype, torch.float32))
        (network,) = self._hidden
        dtype = next(network.parameters()).dtype
        with exact(x):
            return self.distance(network, made.to(dtype), x.to(dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for network in self._hidden:
            network._apply(fn, recurse)
        return super()._apply(fn, recurse)


class LPIPS(PerceptualLoss):
    """Learned perceptual image patch similarity (Zhang et al., CVPR 2018, eq. 1), as torchmetrics computes it.

        d(x, x̂) = Σ_l 1/(H_l W_l) Σ_hw ‖w_l ⊙ (ŷ_l,hw − ŷ'_l,hw)‖²     ŷ: activations of unit length at each position

    The weights w_l come with torchmetrics; those of the network are torchvision's for ImageNet, which are looked for
    in torch hub's folder and never downloaded. Grey images are repeated.

    Args:
        net: `vgg` (images of 16 pixels a side or more), as in most papers on autoencoders; `alex`; or `squeeze`.

    Raises:
        UserError: later, if the network's weights are not there, or images have neither 1 nor 3 channels.
    """

    def __init__(self, net: Literal["vgg", "alex", "squeeze"] = "vgg") -> None:
        super().__init__()
        self.net = net

    def load(self) -> nn.Module:
        """Torchmetrics' network, if its weights are in torch hub's folder."""
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
        from torchvision.models import get_model_weights

        url = get_model_weights(_BACKBONES[self.net]).DEFAULT.url
        path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
        if not path.is_file():
            raise UserError(
                f"LPIPS.net is {self.net!r}, whose weights {path.name} are not in {path.parent}: fetch {url} and put"
                " the file there, or use ClassifierFeatures, which needs no download"
            )
        return LearnedPerceptualImagePatchSimilarity(self.net).net

    def distance(self, network: nn.Module, made: Tensor, x: Tensor) -> Tensor:
        """(B,)."""
        if x.shape[1] not in (1, 3):
            raise UserError(f"LPIPS takes images of 1 or 3 channels, got {x.shape[1]}: use another perceptual loss")
        made, x = (images.expand(-1, 3, -1, -1) for images in (made, x))
        return network(made, x).flatten()


class ClassifierFeatures(PerceptualLoss):
    """The distance of Zhang et al. (CVPR 2018, eq. 1) with w_l = 1, in the four convolutions of a small classifier.

    The classifiers, of handwritten digits, ship with the package. Each channel of an image is taken for a grey image
    of its own, brought to 16×16 pixels; the distance is the mean over channels.

    Args:
        classifier: `digits` (scikit-learn's) or `mnist`.

    Raises:
        UserError: if there is no such classifier.
    """

    def __init__(self, classifier: str = "digits") -> None:
        super().__init__()
        if classifier not in _CLASSIFIERS:
            raise UserError(
                f"ClassifierFeatures.classifier is {classifier!r}: it must be any of {', '.join(_CLASSIFIERS)}"
            )
        self.classifier = classifier

    def load(self) -> nn.Module:
        """The convolutions of a packaged classifier, up to the last one."""
        from lightning_gen.metrics.extractors.stacked import StackedDigitsClassifier

        body = StackedDigitsClassifier(1, self.classifier).prepare().body
        last = max(i for i, layer in enumerate(body) if isinstance(layer, nn.ReLU))
        return nn.Sequential(*list(body)[: last + 1])

    def distance(self, network: nn.Module, made: Tensor, x: Tensor) -> Tensor:
        """(B,)."""
        features = zip(_activations(network, made), _activations(network, x), strict=True)
        distances = [(unit(a) - unit(b)).square().sum(1).mean((1, 2)) for a, b in features]
        return torch.stack(distances).sum(0).unflatten(0, x.shape[:2]).mean(1)


def unit(features: Tensor, eps: float = 1e-10) -> Tensor:
    """(B, C, H, W) features, each position's vector brought to unit length."""
    return features * (features.square().sum(1, keepdim=True) + eps).rsqrt()


def _activations(network: nn.Module, x: Tensor) -> list[Tensor]:
    """What a classifier's convolutions say of the channels of (B, C, H, W) images in [-1, 1]: four (B·C, c, h, w)."""
    from lightning_gen.metrics.extractors.digits_classifier import SIZE

    h = (x.flatten(0, 1)[:, None] + 1) / 2
    h = F.interpolate(h, size=(SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
    found = []
    for layer in network.children():
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            found.append(h)
    return found
