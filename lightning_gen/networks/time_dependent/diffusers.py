"""Networks of Hugging Face's package diffusers, which is imported where one is made."""

from typing import Any

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above
from lightning_gen.networks.time_dependent.base import ConditionEmbed, TimeNetwork
from lightning_gen.precision import full


class DiffusersUNet(TimeNetwork):
    """The `UNet2DModel` of diffusers; needs the extra `diffusers`.

    Args:
        config: arguments of `diffusers.UNet2DModel`; of them `sample_size`, a side or [height, width], and
            `in_channels` tell the shape of a sample.
        time_scale: what times are multiplied by, > 0. Networks of diffusers count steps, 0 to 999, so that it is 1000
            for times in [0, 1]; their sinusoids fall from 1 radian a step, so that it is 1 for log σ / 4.
        num_classes: number of classes, or of attributes, whose vectors are added to that of time.

    Raises:
        UserError: if diffusers is not installed, or `config` is not one of a network from samples to samples.
    """

    def __init__(self, config: dict[str, Any], time_scale: float = 1000.0, num_classes: int | None = None) -> None:
        config = dict(config)
        shape = _sample_shape(config)
        super().__init__(shape, num_classes)
        check_above(self, 0, time_scale=time_scale)
        if num_classes is not None:
            config["class_embed_type"] = "identity"  # what it adds to the vector of time is given to it
        self.time_scale = time_scale
        self.network = _make(config)
        dim = self.network.time_embedding.linear_2.out_features
        self.condition = None if num_classes is None else ConditionEmbed(num_classes, dim)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, dropped: Tensor | None = None) -> Tensor:
        """As `TimeNetwork.forward`, of (B, C, H, W) images."""
        steps = full(t) * self.time_scale
        if self.condition is None:
            return self.network(x, steps, return_dict=False)[0]
        assert y is not None
        return self.network(x, steps, class_labels=self.condition(y, dropped), return_dict=False)[0]


def _sample_shape(config: dict[str, Any]) -> tuple[int, ...]:
    """(C, H, W) that a configuration of `UNet2DModel` is of."""
    size, channels = config.get("sample_size"), config.get("in_channels", 3)
    if size is None:
        raise UserError("DiffusersUNet.config has no sample_size: give the side of a sample, or [height, width]")
    if config.get("out_channels", 3) != channels:
        raise UserError(
            f"DiffusersUNet.config has {channels} in_channels and {config.get('out_channels', 3)} out_channels: set"
            " both to the channels of a sample"
        )
    for key in ("class_embed_type", "num_class_embeds"):
        if config.get(key) is not None:
            raise UserError(f"DiffusersUNet.config has {key} {config[key]}: leave it out, and set num_classes")
    sides = (size, size) if isinstance(size, int) else tuple(size)
    return (channels, *sides)


def _make(config: dict[str, Any]) -> Any:
    """The network.

    Raises:
        UserError: if diffusers is not installed, or refuses the configuration.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise UserError(
            "DiffusersUNet needs the package diffusers, which is not installed: pip install 'lightning_gen[diffusers]'"
        ) from error
    try:
        return UNet2DModel(**config)
    except (TypeError, ValueError) as error:
        raise UserError(f"DiffusersUNet.config is not one of diffusers.UNet2DModel: {error}") from error
