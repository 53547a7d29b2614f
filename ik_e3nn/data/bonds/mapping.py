"""Bonds of a geometry whose SMILES is known, by matching the atoms of the SMILES with those of the geometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from ik_e3nn.arrays import IntArray
from ik_e3nn.data.structures.chem import Chem, rdBase, rdDetermineBonds
from ik_e3nn.data.structures.molecules import bonds_of_mol, mol_from_smiles, without_bonds
from ik_e3nn.errors import DataError

MAX_MATCHES = 256
PLACE = "_place"  # property of an atom of the heavy graph: its index in the whole molecule


def bonds_from_smiles(atoms: Atoms, smiles: str) -> IntArray:
    """Bonds of a geometry with the orders that a SMILES string gives.

    Neighbors are found by their distances, as many pairs as the SMILES has bonds. The graph of the heavy atoms, each
    with its number of hydrogens, is then matched with the graph of the SMILES. If several matches are possible (the two
    oxygens of a carboxylate), the match whose bonds of high order are the shortest is taken.

    Args:
        atoms: A molecule with all its hydrogens, in any order of atoms; it is only read.
        smiles: Its SMILES string.

    Returns:
        Rows (i, j, type), (n, 3); store them with ``set_bonds``.

    Raises:
        DataError: The SMILES cannot be read, or it describes another molecule than the geometry.

    Example:
        >>> from ase.build import molecule
        >>> bonds_from_smiles(molecule("HCN"), "C#N").tolist()
        [[0, 1, 3], [0, 2, 1]]
    """
    template = mol_from_smiles(smiles)
    if sorted(a.GetAtomicNum() for a in template.GetAtoms()) != sorted(atoms.numbers.tolist()):
        raise DataError(f"the SMILES {smiles!r} has other atoms than the geometry, {atoms.get_chemical_formula()}")
    pairs = connected_pairs(atoms, template.GetNumBonds())
    heavy, hydrogens = _heavy_graph(atoms.numbers.tolist(), pairs)
    if not heavy.GetNumAtoms():
        return _sorted_rows([[i, j, 1] for i, j in pairs])
    rows = bonds_of_mol(template)
    query, _ = _heavy_graph([a.GetAtomicNum() for a in template.GetAtoms()], [(i, j) for i, j, _ in rows])
    index = {atom.GetIntProp(PLACE): atom.GetIdx() for atom in query.GetAtoms()}
    orders = np.array([[index[i], index[j], kind] for i, j, kind in rows if i in index and j in index], dtype=np.int64)
    orders = orders.reshape(-1, 3)
    matches = heavy.GetSubstructMatches(query, uniquify=False, maxMatches=MAX_MATCHES)
    if not matches or heavy.GetNumBonds() != len(orders):
        raise DataError(
            f"the neighbors in the geometry of {atoms.get_chemical_formula()} are not those of the SMILES {smiles!r}"
        )
    places = np.array([atom.GetIntProp(PLACE) for atom in heavy.GetAtoms()])[np.array(matches)]
    ends = places[:, orders[:, :2]]  # (matches, bonds, 2)
    lengths = np.linalg.norm(atoms.positions[ends[:, :, 0]] - atoms.positions[ends[:, :, 1]], axis=2)
    weights = np.where(orders[:, 2] == 4, 1.5, orders[:, 2])
    best = ends[int(np.argmin(lengths @ weights))]
    found = [[int(i), int(j), int(kind)] for (i, j), kind in zip(best, orders[:, 2], strict=True)]
    return _sorted_rows(found + [[i, j, 1] for i, j in hydrogens])


def connected_pairs(atoms: Atoms, count: int | None = None) -> list[tuple[int, int]]:
    """Pairs of neighbors by their distances; a hydrogen has only its nearest neighbor.

    Args:
        atoms: A molecule.
        count: Number of pairs, if it is known: only that many are kept, the shortest relative to the sum of covalent
            radii. In a strained cage, atoms that are not bonded can be closer than 1.3 times this sum.

    Returns:
        Pairs (i, j) with i < j, sorted.

    Raises:
        DataError: The structure is periodic.

    Example:
        >>> from ase.build import molecule
        >>> connected_pairs(molecule("H2O"))
        [(0, 1), (0, 2)]
    """
    if atoms.pbc.any():
        raise DataError("bonds can be found for molecules only; this structure is periodic")
    molecule = without_bonds(atoms).GetMol()
    with rdBase.BlockLogs():
        rdDetermineBonds.DetermineConnectivity(molecule)
    found = {(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()}
    found = {(min(pair), max(pair)) for pair in found}
    for hydrogen in np.flatnonzero(atoms.numbers == 1).tolist():
        own = [pair for pair in found if hydrogen in pair]
        own.sort(key=lambda pair: float(np.linalg.norm(atoms.positions[pair[0]] - atoms.positions[pair[1]])))
        found.difference_update(own[1:])
    return sorted(sorted(found, key=lambda pair: _relative_length(atoms, pair))[:count])


def _relative_length(atoms: Atoms, pair: tuple[int, int]) -> float:
    """Distance divided by the sum of covalent radii."""
    i, j = pair
    radii = covalent_radii[atoms.numbers[[i, j]]].sum()
    return float(np.linalg.norm(atoms.positions[i] - atoms.positions[j]) / radii)


def _heavy_graph(numbers: Sequence[int], pairs: Sequence[tuple[int, int]]) -> tuple[Chem.Mol, list[tuple[int, int]]]:
    """The graph of the heavy atoms, with their number of hydrogens plus one as isotope; and the bonds to hydrogens."""
    hydrogens = [(i, j) for i, j in pairs if numbers[i] == 1 or numbers[j] == 1]
    attached = np.zeros(len(numbers), dtype=int)
    for i, j in hydrogens:
        attached[i] += numbers[j] == 1
        attached[j] += numbers[i] == 1
    graph, index = Chem.RWMol(), {}
    for place, number in enumerate(numbers):
        if number != 1:
            atom = Chem.Atom(int(number))
            atom.SetIsotope(int(attached[place]) + 1)
            atom.SetIntProp(PLACE, place)
            index[place] = graph.AddAtom(atom)
    for i, j in pairs:
        if i in index and j in index:
            graph.AddBond(index[i], index[j], Chem.BondType.SINGLE)
    return graph.GetMol(), hydrogens


def _sorted_rows(rows: Sequence[Sequence[int]]) -> IntArray:
    return np.array(sorted([min(i, j), max(i, j), kind] for i, j, kind in rows), dtype=np.int64).reshape(-1, 3)
