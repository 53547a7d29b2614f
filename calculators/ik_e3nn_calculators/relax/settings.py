"""Settings and summary of a relaxation."""

# ruff: noqa: N815 - units keep their case (eV, GPa)

from dataclasses import dataclass, field
from typing import Literal

from ik_e3nn.settings import CountOrZero, Positive, refuse_unused
from ik_e3nn_calculators.run_settings import RunSettings


@dataclass(frozen=True)
class RelaxSettings(RunSettings):
    """A relaxation.

    The structure, the model and the output are settings of ``RunSettings``.

    Args:
        optimizer: ``fire``, ``bfgs`` or ``lbfgs``.
        fmax: Converged when no force exceeds this, in eV/A; if the cell is relaxed, this includes the force on it, the
            derivative of the energy by ASE's strain variables.
        steps: Largest number of steps.
        cell: ``fixed``, ``full`` (shape and volume) or ``hydrostatic`` (volume only).
        mask: Strain components that may change: six entries, 0 or 1, in the order xx, yy, zz, yz, xz, xy. By default
            all that do not strain an open direction.
        pressure: Pressure to relax to, in GPa.

    Raises:
        ValueError: A setting is out of range, or has no effect because the cell is fixed.

    Example:
        >>> RelaxSettings("CCO", "model.safetensors").fmax
        0.02
    """

    optimizer: Literal["fire", "bfgs", "lbfgs"] = "fire"
    fmax: Positive = 0.02
    steps: CountOrZero = 1000
    cell: Literal["fixed", "full", "hydrostatic"] = "fixed"
    mask: list[int] | None = None
    pressure: float = 0.0
    output: str = field(default="relax", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask is not None and (len(self.mask) != 6 or not set(self.mask) <= {0, 1}):
            raise ValueError(f"mask must have six entries, 0 or 1 (xx, yy, zz, yz, xz, xy), got {self.mask}")
        if self.cell == "fixed":
            reason, advice = "cell is 'fixed'", "set cell to 'full' or 'hydrostatic'"
            refuse_unused(self, ("pressure", "mask"), reason, advice=advice)


@dataclass(frozen=True)
class RelaxSummary:
    """Summary of a relaxation.

    Args:
        converged: Whether the forces are below ``fmax``.
        steps: Number of steps made.
        energy_eV: Final energy.
        fmax_eV_per_A: Largest final force on an atom.
        fmax_cell_eV_per_A: Largest final force on the cell, ASE's derivative by the strain; None if it was fixed.
        pressure_GPa: Final pressure; None unless periodic in three directions.
        volume_A3: Final volume; None under the same condition.
        compiled_from: The step from which on compiled code was used; None if the model ran eagerly.
        output: The folder.
        structure: The file of the final structure.
        message: Advice if it did not converge, otherwise empty.
    """

    converged: bool
    steps: int
    energy_eV: float
    fmax_eV_per_A: float
    fmax_cell_eV_per_A: float | None
    pressure_GPa: float | None
    volume_A3: float | None
    compiled_from: int | None
    output: str
    structure: str
    message: str = ""
