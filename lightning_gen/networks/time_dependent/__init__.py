"""Networks of a sample and a time, as diffusion and flow matching use them."""

from lightning_gen.networks.time_dependent.base import ConditionEmbed, TimeNetwork

__all__ = ["ConditionEmbed", "TimeNetwork"]
