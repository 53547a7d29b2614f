"""The state of a run, written atomically, from which the run continues exactly."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.errors import DataError
from ik_e3nn.npz_file import read_npz, write_npz

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on, and the lengths of the output files.

    Args:
        step: Number of steps done; negative during equilibration.
        positions: Positions, (N, 3), in A.
        momenta: Momenta, (N, 3), in ASE units.
        cell: Cell vectors as rows, (3, 3), in A.
        random: State of the random-number generator.
        integrator: State of the integrator.
        marks: Lengths of the output files, by name.
        compiled_from: The step from which on compiled code was used; None if the model ran eagerly.
    """

    step: int
    positions: FloatArray
    momenta: FloatArray
    cell: FloatArray
    random: dict[str, Any]
    integrator: dict[str, float]
    marks: dict[str, int]
    compiled_from: int | None = None

    def apply(self, atoms: Atoms) -> None:
        """Put a structure into this state, exactly, whatever its constraints.

        Args:
            atoms: The run's starting structure.

        Raises:
            DataError: The structure has a different number of atoms.
        """
        if len(atoms) != len(self.positions):
            raise DataError(f"the checkpoint has {len(self.positions)} atoms, but the structure has {len(atoms)}")
        atoms.set_cell(self.cell, apply_constraint=False)
        atoms.set_positions(self.positions, apply_constraint=False)
        atoms.set_momenta(self.momenta, apply_constraint=False)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a kill at any moment leaves either the old one or the new one.

    Args:
        path: The file.
        checkpoint: The state.
    """
    arrays = {name: getattr(checkpoint, name) for name in ("positions", "momenta", "cell")}
    rest = {name: getattr(checkpoint, name) for name in ("step", "random", "integrator", "marks", "compiled_from")}
    write_npz(path, {"rest": np.array(json.dumps(rest)), **arrays})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: The file.

    Returns:
        The state, with the same bits as were written.

    Raises:
        DataError: The file is broken.
    """
    try:
        arrays: dict[str, Any] = read_npz(path)
        return Checkpoint(**json.loads(str(arrays.pop("rest"))), **arrays)
    except (DataError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"the checkpoint {path} cannot be read ({error}); start the run anew with overwrite") from error
