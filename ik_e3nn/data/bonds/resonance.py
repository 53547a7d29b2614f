"""The resonance form of a molecule with the fewest charged atoms."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np

from ik_e3nn.data.structures.chem import Chem

MAX_FORMS = 100
# Negative carbon where a nitrogen nearby could have the charge, positive oxygen, and positive nitrogen with =O and
# without the -[O-] of a nitro group.
_WRONG = "[$([c;-]:n),$([c;-]:c:n),$([#6;-][#7]=[#8]),$([#8;+]),$([#7;+]=[#8;+0]);!$([#7;+][#8;-])]"


def fewest_charges(molecule: Chem.Mol) -> Chem.Mol:
    """The resonance form of a molecule with the fewest charged atoms.

    Which form a search for bond orders finds, [O-]C(O)=C1C=CC=[S+]1 or O=C(O)c1cccs1, depends on the order of the
    atoms. Among forms with equally few charges, the one with the fewest triple bonds is taken (azides), then the one
    whose bonds of high order are the shortest (carboxylates).

    Args:
        molecule: A sanitized molecule with a conformer; it is only read.

    Returns:
        The molecule, or another one with the same atoms in the same order.

    Example:
        >>> from rdkit.Chem import rdDepictor
        >>> drawn = Chem.MolFromSmiles("[O-]C(O)=C1C=CC=[S+]1")
        >>> _ = rdDepictor.Compute2DCoords(drawn)
        >>> Chem.MolToSmiles(fewest_charges(drawn))
        'O=C(O)c1cccs1'
    """
    if not any(atom.GetFormalCharge() for atom in molecule.GetAtoms()):
        return molecule
    neutral = _without_pairs(molecule)
    others = Chem.ResonanceMolSupplier(neutral, maxStructs=MAX_FORMS)  # holds None if RDKit fails
    forms = [neutral, *(Chem.Mol(form) for form in others if form is not None)]
    sane = [form for form in forms if Chem.SanitizeMol(form, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE]
    return min(sane, key=_badness, default=molecule)


@cache
def _pattern(smarts: str) -> Chem.Mol:
    """A pattern of atoms."""
    return Chem.MolFromSmarts(smarts)


def _badness(molecule: Chem.Mol) -> tuple[int, int, float]:
    """Number of charged atoms, number of triple bonds, and the sum of bond lengths times orders.

    An atom with the wrong charge for its element counts as three, because the other form of [O-][n+]1cc[n+]([O-])cc1
    has two charged atoms fewer, and the other form of c1cc[n-]c1 has equally many.
    """
    charged = sum(atom.GetFormalCharge() != 0 for atom in molecule.GetAtoms())
    charged += 2 * len(molecule.GetSubstructMatches(_pattern(_WRONG)))
    places = molecule.GetConformer().GetPositions()
    triple = sum(bond.GetBondType() == Chem.BondType.TRIPLE for bond in molecule.GetBonds())
    ends = ((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondTypeAsDouble()) for bond in molecule.GetBonds())
    return charged, triple, round(sum(float(np.linalg.norm(places[i] - places[j])) * order for i, j, order in ends), 3)


def _without_pairs(molecule: Chem.Mol) -> Chem.Mol:
    """The molecule without the pairs of opposite charges that a shift of bonds removes."""
    changed = Chem.RWMol(molecule)
    Chem.Kekulize(changed, clearAromaticFlags=True)
    for atom in changed.GetAtoms():
        if atom.GetFormalCharge() == -1:
            path = _path(changed, atom.GetIdx())
            if path:
                _shift(changed, path)
    for first, middle, last in changed.GetSubstructMatches(_pattern("[C,N,O;-]-[N+]#[N;X1;+0]")):
        for end in (first, last):  # azides and diazo compounds as they are written in SMILES
            changed.GetBondBetweenAtoms(end, middle).SetBondType(Chem.BondType.DOUBLE)
        changed.GetAtomWithIdx(first).SetFormalCharge(0)
        changed.GetAtomWithIdx(last).SetFormalCharge(-1)
    return changed.GetMol()


def _path(molecule: Chem.Mol, start: int) -> list[int]:
    """A path from a negative atom along alternating single and double bonds to a positive atom at a double bond.

    A single bond from O- to S+, Se+ or P+ is also a path: S+-O- becomes S=O, as SMILES and SDF files write sulfoxides.
    """
    for neighbor in molecule.GetAtomWithIdx(start).GetNeighbors():
        bond = molecule.GetBondBetweenAtoms(start, neighbor.GetIdx())
        is_oxide = molecule.GetAtomWithIdx(start).GetSymbol() == "O" and neighbor.GetSymbol() in ("S", "Se", "P")
        if is_oxide and neighbor.GetFormalCharge() == 1 and bond.GetBondType() == Chem.BondType.SINGLE:
            return [start, neighbor.GetIdx()]
    waiting = [[start]]
    while waiting:
        path = waiting.pop()
        for last in _next(molecule, path):
            is_end = len(path) % 2 == 0 and molecule.GetAtomWithIdx(last).GetFormalCharge() == 1
            if is_end:
                return [*path, last]
            if molecule.GetAtomWithIdx(last).GetFormalCharge() >= 0 and len(waiting) < MAX_FORMS:
                waiting.append([*path, last])
    return []


def _next(molecule: Chem.Mol, path: list[int]) -> Iterator[int]:
    """Atoms that may come next in a path."""
    wanted = Chem.BondType.SINGLE if len(path) % 2 else Chem.BondType.DOUBLE
    for neighbor in molecule.GetAtomWithIdx(path[-1]).GetNeighbors():
        index = neighbor.GetIdx()
        if index not in path and molecule.GetBondBetweenAtoms(path[-1], index).GetBondType() == wanted:
            yield index


def _shift(molecule: Chem.RWMol, path: list[int]) -> None:
    """Exchange single and double bonds along a path, and remove the charges of its ends."""
    for first, second in pairwise(path):
        bond = molecule.GetBondBetweenAtoms(first, second)
        bond.SetBondType(Chem.BondType.DOUBLE if bond.GetBondType() == Chem.BondType.SINGLE else Chem.BondType.SINGLE)
    for end in (path[0], path[-1]):
        molecule.GetAtomWithIdx(end).SetFormalCharge(0)
