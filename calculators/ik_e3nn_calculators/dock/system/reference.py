"""A known pose of a molecule, for example from a crystal structure, from which distances are measured."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.data import read_structure
from ik_e3nn.data.files.sdf import is_sdf
from ik_e3nn.data.structures.chem import Chem, rdDetermineBonds
from ik_e3nn.errors import DataError
from ik_e3nn.user_path import user_path
from ik_e3nn_calculators.dock.system.ligand import Ligand, heavy_graph, read_sdf_molecule

_log = logging.getLogger(__name__)


def known_molecule(source: str) -> Chem.Mol:
    """Read a molecule with its positions and connectivity; bond orders do not matter, hydrogens may be absent.

    Raises:
        DataError: The file cannot be read.
    """
    path = user_path(source)
    if is_sdf(path):
        return read_sdf_molecule(path)
    atoms = read_structure(source, -1)
    molecule = Chem.MolFromXYZBlock(_xyz_block(atoms.get_chemical_symbols(), atoms.positions))
    rdDetermineBonds.DetermineConnectivity(molecule)
    return molecule


def reference_pose(ligand: Ligand, source: str | None) -> NDArray[np.float64] | None:
    """Positions of the heavy atoms of a known pose, in the order of the ligand.

    Args:
        ligand: The molecule.
        source: File of the pose; None for none.

    Returns:
        (n, 3), in A; None if the file holds another molecule or cannot be read.
    """
    if source is None:
        return None
    try:
        known = known_molecule(source)
    except DataError as error:
        _log.warning("distances from %s cannot be computed: %s", source, error)
        return None
    graph = heavy_graph(known)
    match = graph.GetSubstructMatch(heavy_graph(ligand.molecule))
    if len(match) != len(ligand.heavy) or len(match) != graph.GetNumAtoms():
        _log.info("%s holds another molecule than the ligand; distances from it are not computed", source)
        return None
    numbers = np.array([atom.GetAtomicNum() for atom in known.GetAtoms()])
    heavy = np.flatnonzero(numbers > 1) if (numbers > 1).any() else np.arange(len(numbers))
    positions: NDArray[np.float64] = np.array(known.GetConformer().GetPositions())[heavy][list(match)]
    return positions


def _xyz_block(symbols: list[str], positions: NDArray[np.float64]) -> str:
    rows = (f"{symbol} {x:.8f} {y:.8f} {z:.8f}" for symbol, (x, y, z) in zip(symbols, positions, strict=True))
    return "\n".join([str(len(symbols)), "", *rows, ""])
