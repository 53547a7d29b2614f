"""From ASE structures to graphs, and from graphs to batches."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import ArrayLike, NDArray
from torch_geometric.data import Batch, Data

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.graph.bonds import check_bonds, edge_bond_types, get_bonds
from ik_e3nn.graph.neighbours import neighbour_list

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CHARGE_KEY = "charge"
SPIN_KEY = "spin"


def build_graph(
    atoms: Atoms,
    r_max: float,
    *,
    dtype: torch.dtype = torch.float32,
    bonds: ArrayLike | None = None,
    pairs: tuple[IntArray, FloatArray] | None = None,
) -> Data:
    """Graph of one structure: every tensor of `ik_e3nn.graph.fields` that is an input.

    Args:
        atoms: The structure; it is only read.
        r_max: Cutoff radius in A.
        dtype: Floating type of positions, cell and shifts.
        bonds: Rows (i, j, type) to use instead of those stored with the structure.
        pairs: `edge_index` and `shifts` from a neighbour list that is already there, e.g. a `SkinList`.

    Returns:
        A `torch_geometric.data.Data`.

    Raises:
        DataError: Positions or cell are not finite, the cell does not fit pbc, the bonds do not fit the atoms, or the
            charge or spin is not a number.

    Example:
        >>> from ase.build import molecule
        >>> graph = build_graph(molecule("H2O"), r_max=5.0)
        >>> graph["edge_index"].shape, graph["cell"].shape
        (torch.Size([2, 6]), torch.Size([1, 3, 3]))
    """
    positions, cell = atoms.positions, atoms.cell.array
    edge_index, shifts = neighbour_list(positions, cell, atoms.pbc, r_max) if pairs is None else pairs
    rows = get_bonds(atoms) if bonds is None else check_bonds(bonds, len(atoms))
    if len(rows):
        vectors = positions[edge_index[1]] - positions[edge_index[0]] + shifts @ cell
        bond_types = edge_bond_types(rows, edge_index, shifts, vectors, len(atoms))
    else:
        bond_types = np.zeros(edge_index.shape[1], dtype=np.int64)
    tensors = {
        fields.ATOMIC_NUMBERS: torch.tensor(atoms.numbers, dtype=torch.int64),
        fields.POSITIONS: torch.tensor(positions, dtype=dtype),
        fields.CELL: torch.tensor(cell, dtype=dtype)[None],
        fields.PBC: torch.tensor(atoms.pbc, dtype=torch.bool)[None],
        fields.EDGE_INDEX: torch.from_numpy(edge_index),
        fields.EDGE_SHIFTS: torch.tensor(shifts, dtype=dtype),
        fields.BOND_TYPES: torch.from_numpy(bond_types),
        fields.BATCH: torch.zeros(len(atoms), dtype=torch.int64),
    }
    for name, key in ((fields.TOTAL_CHARGE, CHARGE_KEY), (fields.SPIN, SPIN_KEY)):
        value = structure_number(atoms, key)
        if value is not None:
            tensors[name] = torch.tensor([value], dtype=dtype)
    return Data.from_dict(tensors)


def structure_number(atoms: Atoms, key: str) -> float | None:
    """A number from `atoms.info`, such as the charge, or None if it is not there.

    Args:
        atoms: The structure.
        key: Name in `atoms.info`.

    Returns:
        The value, or None.

    Raises:
        DataError: The value is not one finite number.

    Example:
        >>> structure_number(Atoms("Na", info={"charge": 1}), "charge")
        1.0
    """
    stored = atoms.info.get(key)
    if stored is None:
        return None
    try:
        value = float(stored)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f'atoms.info["{key}"] must be one finite number, got {stored!r:.80}')
    return value


def batch_graphs(graphs: Sequence[Data]) -> Batch:
    """Join graphs into one: molecules, crystals and single atoms may be mixed.

    Args:
        graphs: Graphs with the same tensors.

    Returns:
        A `torch_geometric.data.Batch`, with the structure of each atom in `batch`.

    Raises:
        DataError: No graphs, or some carry a tensor (a charge, say) that others lack.

    Example:
        >>> from ase.build import bulk, molecule
        >>> batch = batch_graphs([build_graph(atoms, 3.0) for atoms in (molecule("H2O"), bulk("Cu"))])
        >>> batch["batch"].tolist(), batch["cell"].shape
        ([0, 0, 0, 1], torch.Size([2, 3, 3]))
    """
    if not graphs:
        raise DataError("cannot batch an empty list of graphs")
    names = set(graphs[0].keys())
    for number, graph in enumerate(graphs):
        uneven = names.symmetric_difference(graph.keys())
        if uneven:
            raise DataError(
                f"graph {number} and graph 0 do not carry the same tensors ({', '.join(sorted(uneven))}); "
                "give charge, spin and labels for all structures of a batch or for none"
            )
    return Batch.from_data_list(list(graphs))
