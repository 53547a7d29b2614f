"""What runs of dynamics and relaxations have in common."""

from typing import Protocol

from ik_e3nn_calculators.calculator.calculator import IKCalculator


class ModelSettings(Protocol):
    """The settings of a run that say which model is used, and how."""

    @property
    def model(self) -> str | None:
        """Model file; None is the base model."""

    @property
    def device(self) -> str:
        """The device, or "auto"."""

    @property
    def dtype(self) -> str | None:
        """The precision; None is the model's."""

    @property
    def compile(self) -> bool:
        """Whether the model is compiled first."""

    @property
    def max_edges(self) -> int | None:
        """Edges to treat at once."""

    @property
    def skip_fixed(self) -> bool:
        """Whether atoms that are held fixed and matter to no other atom are left out."""


def calculator_for(settings: ModelSettings) -> IKCalculator:
    """The calculator that the settings of a run ask for."""
    return IKCalculator(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        compile=settings.compile,
        max_edges=settings.max_edges,
        skip_fixed=settings.skip_fixed,
    )
