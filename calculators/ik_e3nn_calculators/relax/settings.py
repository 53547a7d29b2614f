"""Settings and summary of a relaxation."""

# ruff: noqa: N815 - units keep their case (eV, GPa)

from dataclasses import dataclass
from typing import Literal

from ik_e3nn.settings import Count, CountOrZero, Positive, Seed, check_settings


@dataclass(frozen=True)
class RelaxSettings:
    """A relaxation.

    Args:
        structure: Structure file (its last frame, unless ``frame`` is given) or SMILES string.
        model: Model file; "base" is the base model that comes with the package, for small molecules.
        optimizer: ``fire``, ``bfgs`` or ``lbfgs``.
        fmax: Converged when no force exceeds this, in eV/A; if the cell is relaxed, this includes the force on it, the
            derivative of the energy by ASE's strain variables.
        steps: Largest number of steps.
        cell: ``fixed``, ``full`` (shape and volume) or ``hydrostatic`` (volume only).
        mask: Strain components that may change: six entries, 0 or 1, in the order xx, yy, zz, yz, xz, xy. By default
            all that do not strain an open direction.
        pressure: Pressure to relax to, in GPa.
        frame: Which frame of the structure file, counted from 0, or from its end if negative; None is the last.
        seed: Seed of the conformer of a SMILES string.
        output: Folder for everything that is written.
        trajectory: Format of the trajectory: ``extxyz`` or ASE's ``traj``.
        overwrite: Replace the relaxation in ``output``.
        device: ``auto`` (a GPU if available), ``cpu``, ``cuda``, or one of several GPUs, such as ``cuda:1``.
        dtype: ``float32`` or ``float64``; None keeps the model's.
        compile: Compile the model first: a minute or two once for each architecture, then about twice as fast.
        max_edges: Number of edges to process at once; limits the memory of large systems and takes a third more time.
        skip_fixed: Leave out fixed atoms that are too far from the moving ones to matter; for large substrates.
        progress: Show a progress bar.
        plots: Draw the largest force.

    Raises:
        ValueError: A setting is out of range.

    Example:
        >>> RelaxSettings("CCO", "model.safetensors").fmax
        0.02
    """

    structure: str
    model: str = "base"
    optimizer: Literal["fire", "bfgs", "lbfgs"] = "fire"
    fmax: Positive = 0.02
    steps: CountOrZero = 1000
    cell: Literal["fixed", "full", "hydrostatic"] = "fixed"
    mask: list[int] | None = None
    pressure: float = 0.0
    frame: int | None = None
    seed: Seed = 0
    output: str = "relax"
    trajectory: Literal["extxyz", "traj"] = "extxyz"
    overwrite: bool = False
    device: str = "auto"
    dtype: Literal["float32", "float64"] | None = None
    compile: bool = False
    max_edges: Count | None = None
    skip_fixed: bool = False
    progress: bool = True
    plots: bool = True

    def __post_init__(self) -> None:
        check_settings(self)
        if self.mask is not None and (len(self.mask) != 6 or not set(self.mask) <= {0, 1}):
            raise ValueError(f"mask must have six entries, 0 or 1 (xx, yy, zz, yz, xz, xy), got {self.mask}")


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
    output: str
    structure: str
    message: str = ""
