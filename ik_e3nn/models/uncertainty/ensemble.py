"""What committees and last-layer ensembles have in common, whatever their members predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import torch
from torch import nn

from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.property import MolecularPropertyModel

M = TypeVar("M", InteratomicPotential, MolecularPropertyModel)


class Ensemble(nn.Module, Generic[M]):
    """Members, and calibrated factors that stay in float64 wherever the members go.

    Args:
        members: The models.
    """

    FACTORS: ClassVar[tuple[str, ...]]  # names of the buffers

    def __init__(self, members: Sequence[M]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.species = tuple(z for z in members[0].species if all(z in model.species for model in members))

    @property
    def first(self) -> M:
        """The first model."""
        return cast(M, self.members[0])

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the first model's parameters."""
        return self.first.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.first.device

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Follow to another device, but keep factors in float64."""
        factors = {name: getattr(self, name) for name in self.FACTORS}
        super()._apply(fn, recurse)
        for name, factor in factors.items():
            setattr(self, name, factor.to(self.device))
        return self
