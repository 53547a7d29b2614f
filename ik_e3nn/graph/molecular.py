"""Graphs of molecules with edges along covalent bonds, within a radius, or both."""

from typing import Literal, get_args

import numpy as np
import torch
from ase import Atoms
from torch_geometric.data import Data

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph.bonds.stored import KEPT_BY, fitting_bonds, has_bonds
from ik_e3nn.graph.build import build_graph
from ik_e3nn.graph.neighbors.search import neighbor_list

Connectivity = Literal["bonds", "radius", "both"]


def build_molecular_graph(
    atoms: Atoms, edges: Connectivity = "bonds", r_max: float = 5.0, *, dtype: torch.dtype = torch.float32
) -> Data:
    """Build the graph of a molecule.

    Args:
        atoms: The molecule; it is only read.
        edges: "bonds": both directions of every stored bond; "radius": all neighbors, without bonds; "both": bonds and
            neighbors, where pairs that are not bonded have bond type 0, "none".
        r_max: Cutoff radius in A, for "radius" and "both".
        dtype: Floating type of shifts, charge and spin; see ``build_graph``.

    Returns:
        A ``torch_geometric.data.Data`` with the tensors of ``ik_e3nn.graph.fields``.

    Raises:
        ConfigError: The kind of edges is unknown.
        DataError: Bonds are needed but not stored, or the structure is periodic and ``edges`` is "bonds".

    Example:
        >>> water = Atoms("OHH", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]], info={"bonds": [0, 1, 1, 0, 2, 1]})
        >>> [build_molecular_graph(water, edges)["edge_index"].shape[1] for edges in ("bonds", "radius")]
        [4, 6]
    """
    if edges not in get_args(Connectivity):
        raise ConfigError(f"edges must be one of {', '.join(get_args(Connectivity))}; got {edges!r}")
    if edges == "radius":
        return build_graph(atoms, r_max, dtype=dtype, bonds=[])
    if not has_bonds(atoms) and len(atoms) > 1:
        raise DataError(
            f"{atoms.get_chemical_formula()} has no stored bonds: read it from SDF, give its SMILES, have its bonds "
            f'perceived, or use a graph with edges="radius". {KEPT_BY}'
        )
    if edges == "bonds" and atoms.pbc.any():
        raise DataError('edges="bonds" is for molecules, but this structure is periodic: use edges="both"')
    bonds = fitting_bonds(atoms)
    if edges == "bonds":
        pairs = bonded_pairs(bonds)
    else:
        pairs = _joined(neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, r_max), bonds)
    return build_graph(atoms, r_max, dtype=dtype, bonds=bonds, pairs=pairs)


def bonded_pairs(bonds: IntArray) -> tuple[IntArray, FloatArray]:
    """Both directions of all bonds as an edge list, sorted by receiver, and shifts of zero.

    Example:
        >>> bonded_pairs(np.array([[0, 2, 1]]))[0].tolist()
        [[2, 0], [0, 2]]
    """
    ends = bonds[:, :2]
    both = np.concatenate([ends, ends[:, ::-1]])  # sender, receiver
    both = both[np.lexsort((both[:, 0], both[:, 1]))]
    return np.ascontiguousarray(both.T), np.zeros((len(both), 3))


def _joined(pairs: tuple[IntArray, FloatArray], bonds: IntArray) -> tuple[IntArray, FloatArray]:
    """A neighbor list with the missing bonded pairs added, because a bond can be longer than the cutoff."""
    edge_index, shifts = pairs
    found = set(map(tuple, edge_index.T.tolist()))
    more = [pair for pair in bonded_pairs(bonds)[0].T.tolist() if tuple(pair) not in found]
    if not more:
        return pairs
    edge_index = np.concatenate([edge_index, np.array(more, dtype=np.int64).T], 1)
    shifts = np.concatenate([shifts, np.zeros((len(more), 3))])
    order = np.lexsort((edge_index[0], edge_index[1]))
    return np.ascontiguousarray(edge_index[:, order]), shifts[order]
