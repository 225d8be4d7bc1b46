"""Invertible maps between samples and noise whose Jacobians have determinants that are cheap to compute."""

from lightning_gen.bijections.base import Bijection

__all__ = ["Bijection"]
