"""Build graphs from ASE structures, and batches from graphs."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import ArrayLike
from torch_geometric.data import Batch, Data

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.graph.bonds.charges import CHARGE_KEY, SPIN_KEY, structure_number
from ik_e3nn.graph.bonds.stored import check_bonds, edge_bond_types, fitting_bonds
from ik_e3nn.graph.neighbors.search import neighbor_list
from ik_e3nn.graph.occupancy import check_occupancy

NUMBER_KEYS = {fields.TOTAL_CHARGE: CHARGE_KEY, fields.SPIN: SPIN_KEY}
SURFACE_FIELDS = (
    fields.SURFACE_NORMAL,
    fields.SURFACE_ORIGIN,
    fields.SURFACE_X,
    fields.SURFACE_CELL,
)  # also their keys in atoms.info


def build_graph(
    atoms: Atoms,
    r_max: float,
    *,
    dtype: torch.dtype = torch.float32,
    bonds: ArrayLike | None = None,
    pairs: tuple[IntArray, FloatArray] | None = None,
) -> Data:
    """Build the graph of one structure, with all input tensors of ``ik_e3nn.graph.fields``.

    Args:
        atoms: The structure; it is only read.
        r_max: Cutoff radius in A.
        dtype: Floating type of shifts, charge and spin. Positions, cell and surface are always float64, as in ASE:
            models round the differences of positions, not the positions.
        bonds: Rows (i, j, type) to use instead of the bonds stored with the structure.
        pairs: ``edge_index`` and ``shifts`` of an existing neighbor list, for example of a ``SkinList``.

    Returns:
        A ``torch_geometric.data.Data``.

    Raises:
        DataError: Positions or cell are not finite, the cell does not fit pbc, the bonds do not fit the atoms, the
            charge or spin is not a number, a vector of the surface is invalid, or sites are partially occupied.

    Example:
        >>> from ase.build import molecule
        >>> graph = build_graph(molecule("H2O"), r_max=5.0)
        >>> graph["edge_index"].shape, graph["cell"].shape
        (torch.Size([2, 6]), torch.Size([1, 3, 3]))
    """
    check_occupancy(atoms)
    positions, cell = atoms.positions, atoms.cell.array
    edge_index, shifts = neighbor_list(positions, cell, atoms.pbc, r_max) if pairs is None else pairs
    if np.abs(shifts).max(initial=0.0) > 1.0 / torch.finfo(dtype).eps:
        raise DataError(
            f"neighbors are {np.abs(shifts).max():.0f} cells apart, more than {dtype} can represent exactly: wrap the "
            "atoms into the cell"
        )
    rows = fitting_bonds(atoms) if bonds is None else check_bonds(bonds, len(atoms))
    if len(rows):
        vectors = positions[edge_index[1]] - positions[edge_index[0]] + shifts @ cell
        bond_types = edge_bond_types(rows, edge_index, shifts, vectors, len(atoms))
    else:
        bond_types = np.zeros(edge_index.shape[1], dtype=np.int64)
    tensors = {
        fields.ATOMIC_NUMBERS: torch.tensor(atoms.numbers, dtype=torch.int64),
        fields.POSITIONS: torch.tensor(positions, dtype=torch.float64),
        fields.CELL: torch.tensor(cell, dtype=torch.float64)[None],
        fields.PBC: torch.tensor(atoms.pbc, dtype=torch.bool)[None],
        fields.EDGE_INDEX: torch.from_numpy(edge_index),
        fields.EDGE_SHIFTS: torch.tensor(shifts, dtype=dtype),
        fields.BOND_TYPES: torch.from_numpy(bond_types),
        fields.BATCH: torch.zeros(len(atoms), dtype=torch.int64),
    }
    for name, key in NUMBER_KEYS.items():
        value = structure_number(atoms, key)
        if value is not None:
            tensors[name] = torch.tensor([value], dtype=dtype)
    for name, vector in surface_vectors(atoms).items():
        tensors[name] = torch.tensor(vector[None], dtype=torch.float64)
    return Data.from_dict(tensors)


def surface_vectors(atoms: Atoms) -> dict[str, FloatArray]:
    """Direction, origin and lattice of the surroundings of a structure, from ``atoms.info``.

    Args:
        atoms: The structure.

    Returns:
        "surface_normal", "surface_origin" and "surface_x", (3,) each, and "surface_cell", (2, 3), as far as they are
        given.

    Raises:
        DataError: A value is not three finite numbers, a direction has no length, x is not across the normal, or the
            cell is not two vectors that span a plane.

    Example:
        >>> surface_vectors(Atoms("Na", info={"surface_normal": [0, 0, 2]}))
        {'surface_normal': array([0., 0., 2.])}
    """
    vectors = {key: _vector(atoms, key) for key in SURFACE_FIELDS if atoms.info.get(key) is not None}
    if fields.SURFACE_X in vectors:
        normal = vectors.get(fields.SURFACE_NORMAL)
        if normal is None or not np.cross(normal, vectors[fields.SURFACE_X]).any():
            raise DataError('atoms.info["surface_x"] must be given with a "surface_normal" that is not parallel to it')
    return vectors


def heights_over_surface(atoms: Atoms) -> FloatArray:
    """Height of every atom over the plane of a surface without atoms; by default the plane is z = 0.

    Args:
        atoms: The structure.

    Returns:
        Heights, (N,), in A.

    Raises:
        DataError: A vector of the surface is invalid; see ``surface_vectors``.

    Example:
        >>> heights_over_surface(Atoms("Na", [[1, 0, 5]], info={"surface_normal": [2, 0, 0]})).tolist()
        [1.0]
    """
    vectors = surface_vectors(atoms)
    normal = vectors.get(fields.SURFACE_NORMAL, np.array([0.0, 0.0, 1.0]))
    if fields.SURFACE_CELL in vectors and fields.SURFACE_NORMAL not in vectors:
        normal = np.cross(*vectors[fields.SURFACE_CELL])
    above = (atoms.positions - vectors.get(fields.SURFACE_ORIGIN, np.zeros(3))) @ normal / np.linalg.norm(normal)
    return np.asarray(above)


def _vector(atoms: Atoms, key: str) -> FloatArray:
    """Three finite numbers from ``atoms.info``, a direction not zero; or the two vectors of a cell, (2, 3)."""
    stored = atoms.info[key]
    if key == fields.SURFACE_CELL:
        return _surface_cell(stored)
    try:
        vector = np.array(stored, dtype=np.float64)
    except (TypeError, ValueError):
        vector = np.zeros(0)
    if vector.shape != (3,) or not np.isfinite(vector).all():
        raise DataError(f'atoms.info["{key}"] must be three finite numbers, got {stored!r:.80}')
    if key != fields.SURFACE_ORIGIN and not vector.any():
        raise DataError(f'atoms.info["{key}"] is a direction and must not be zero; got {vector.tolist()}')
    return vector


def _surface_cell(stored: object) -> FloatArray:
    """Two vectors that span a plane, (2, 3); six numbers in a row are taken as well."""
    try:
        cell = np.array(stored, dtype=np.float64)
    except (TypeError, ValueError):
        cell = np.zeros(0)
    if cell.shape not in ((2, 3), (6,)) or not np.isfinite(cell).all():
        raise DataError(f'atoms.info["{fields.SURFACE_CELL}"] must be two vectors of three numbers, got {stored!r:.80}')
    cell = cell.reshape(2, 3)
    if np.linalg.norm(np.cross(*cell)) < 1e-6:
        raise DataError(f'atoms.info["{fields.SURFACE_CELL}"] must span a plane; got {cell.tolist()}')
    return cell


def batch_graphs(graphs: Sequence[Data]) -> Batch:
    """Join graphs to a batch; molecules, crystals and single atoms can be mixed.

    Args:
        graphs: Graphs with the same tensors.

    Returns:
        A ``torch_geometric.data.Batch``, with the structure of each atom in ``batch``.

    Raises:
        DataError: There are no graphs, or some have a tensor (for example a charge) that others lack.

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
