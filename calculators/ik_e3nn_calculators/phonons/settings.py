"""Settings and summary of a calculation of phonons."""

# ruff: noqa: N815 - units keep their case (eV)

from dataclasses import dataclass, field
from typing import Literal

from ik_e3nn.settings import Count, Positive
from ik_e3nn_calculators.run_settings import RunSettings


@dataclass(frozen=True)
class PhononSettings(RunSettings):
    """The phonons of a crystal: it is relaxed first, and masses that were set count.

    The structure, the model and the output are settings of ``RunSettings``.

    Args:
        supercell: Repetitions of the cell along its three vectors, in which force constants are computed. Enlarge it
            until the frequencies do not change: its width should be at least twice the reach of the forces.
        mesh: Points of the mesh of wave vectors along the three reciprocal vectors.
        relax: Relax the structure first.
        cell: How the cell is relaxed: ``fixed``, ``full`` or ``hydrostatic``.
        fmax: Converged when no force exceeds this, in eV/A.
        steps: Largest number of steps of the relaxation.
        temperature: Temperature of the thermodynamic functions, in K.

    Raises:
        ValueError: A setting is out of range.

    Example:
        >>> PhononSettings("si.cif", "model.safetensors").supercell
        [2, 2, 2]
    """

    supercell: list[Count] = field(default_factory=lambda: [2, 2, 2], kw_only=True)
    mesh: list[Count] = field(default_factory=lambda: [20, 20, 20], kw_only=True)
    relax: bool = field(default=True, kw_only=True)
    cell: Literal["fixed", "full", "hydrostatic"] = field(default="fixed", kw_only=True)
    fmax: Positive = field(default=1e-3, kw_only=True)
    steps: Count = field(default=1000, kw_only=True)
    temperature: Positive = field(default=298.15, kw_only=True)
    output: str = field(default="phonons", kw_only=True)
    dtype: Literal["float32", "float64"] | None = field(default="float64", kw_only=True)
    compile: bool | Literal["auto"] = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("supercell", "mesh"):
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name} must have three entries, got {getattr(self, name)}")


@dataclass(frozen=True)
class PhononSummary:
    """Summary of a calculation of phonons; the last five are for one primitive cell.

    Args:
        converged: Whether the structure is relaxed.
        supercell_atoms: Number of atoms in the supercell.
        lowest_per_cm: Lowest frequency on the mesh and the path; an imaginary one as a negative number.
        highest_per_cm: Highest frequency.
        primitive_atoms: Number of atoms in the primitive cell.
        zero_point_eV: Zero-point energy.
        temperature_K: Temperature of the next two.
        free_energy_eV: Helmholtz energy of the vibrations.
        heat_capacity_eV_per_K: Heat capacity at constant volume.
        output: The folder.
        message: Warnings, if there are any.
    """

    converged: bool
    supercell_atoms: int
    lowest_per_cm: float
    highest_per_cm: float
    primitive_atoms: int
    zero_point_eV: float
    temperature_K: float
    free_energy_eV: float
    heat_capacity_eV_per_K: float
    output: str
    message: str = ""
