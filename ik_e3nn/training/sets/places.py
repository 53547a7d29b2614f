"""Positions of the atoms of a structure in surroundings."""

import numpy as np
import torch
from ase import Atoms

from ik_e3nn.arrays import FloatArray
from ik_e3nn.blocks.surroundings import Surroundings
from ik_e3nn.graph import fields, surface_vectors


def places_of(atoms: Atoms, surroundings: Surroundings) -> tuple[FloatArray, FloatArray]:
    """Positions u of atoms in surroundings, (N, 3), in A, and their derivative du/dr, (3, 3), the same for all atoms.

    Raises:
        DataError: See ``Surroundings.checked``.
        MissingInputError: See ``Surroundings.frames``.
    """
    graph = {
        fields.POSITIONS: torch.tensor(atoms.positions, dtype=torch.float64),
        fields.CELL: torch.tensor(atoms.cell.array[None], dtype=torch.float64),
        fields.PBC: torch.tensor(atoms.pbc[None]),
        fields.BATCH: torch.zeros(len(atoms), dtype=torch.int64),
    } | {name: torch.tensor(vector[None], dtype=torch.float64) for name, vector in surface_vectors(atoms).items()}
    prepared = surroundings.prepared(graph, torch.float64)
    unit = {name: values[:1].expand(3, *values.shape[1:]) for name, values in prepared.items()}
    unit[fields.DISPLACEMENTS] = torch.eye(3, dtype=torch.float64)
    return np.asarray(surroundings.places(prepared).numpy()), np.asarray(surroundings.places(unit).T.numpy())
