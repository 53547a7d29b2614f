"""Bonds from a geometry alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import IntArray
from ik_e3nn.data.bonds.resonance import fewest_charges
from ik_e3nn.data.structures.chem import Chem, rdBase, rdDetermineBonds
from ik_e3nn.data.structures.molecules import bonds_of_mol, without_bonds
from ik_e3nn.errors import DataError
from ik_e3nn.graph import check_bonds

# Options of RDKit's search for bonded atoms, in the order in which they are tried: its default, then all atoms within
# 1.2 and 1.12 sums of covalent radii. In small rings and cages, atoms that are not bonded can be as near as 1.23 sums.
_WAYS: tuple[dict[str, Any], ...] = ({}, {"useVdw": True, "covFactor": 1.2}, {"useVdw": True, "covFactor": 1.12})


def perceive_bonds(atoms: Atoms, charge: int) -> IntArray:
    """Bonds and their orders from positions and total charge.

    Args:
        atoms: A molecule, open in all directions and with all its hydrogens; it is only read.
        charge: Total charge in e.

    Returns:
        Rows (i, j, type), (n, 3); store them with ``set_bonds``.

    Raises:
        DataError: Periodic, or no bond orders fit the geometry and the charge.

    Reference:
        Y. Kim and W. Y. Kim, Bull. Korean Chem. Soc. 36, 1769 (2015), as implemented in RDKit.

    Example:
        >>> from ase.build import molecule
        >>> perceive_bonds(molecule("HCN"), charge=0).tolist()
        [[0, 1, 3], [0, 2, 1]]
    """
    rows = bonds_of_mol(perceive_molecule(atoms, charge))
    return check_bonds(sorted([min(i, j), max(i, j), kind] for i, j, kind in rows), len(atoms))


def perceive_molecule(atoms: Atoms, charge: int) -> Chem.Mol:
    """The RDKit molecule of a geometry and a total charge; see ``perceive_bonds``.

    Args:
        atoms: A molecule, open in all directions and with all its hydrogens; it is only read.
        charge: Total charge in e.

    Returns:
        The molecule, sanitized, with the geometry as its conformer.

    Raises:
        DataError: Periodic, or no bond orders fit the geometry and the charge.

    Example:
        >>> from ase.build import molecule
        >>> Chem.MolToSmiles(Chem.RemoveHs(perceive_molecule(molecule("CH3CHO"), 0)))
        'CC=O'
    """
    if atoms.pbc.any():
        raise DataError("bonds can be perceived for molecules only; this structure is periodic")
    reasons = []
    for way, order in product(_WAYS, _orders(len(atoms))):
        try:
            with rdBase.BlockLogs():
                return fewest_charges(_determined(atoms, charge, order, way))
        except (ValueError, RuntimeError) as error:
            reasons.append(error)
    raise DataError(
        f"no bonds fit the geometry of {atoms.get_chemical_formula()} with charge {charge}; check the charge, the "
        f"hydrogens and the unit of the positions ({str(reasons[0]).strip():.120})"
    ) from reasons[0]


def _orders(size: int) -> list[IntArray]:
    """Orders of the atoms to try, because RDKit's search for bond orders may fail in one order and work in another."""
    natural, rng = np.arange(size), np.random.default_rng(0)
    return [natural] if size < 3 else [natural, natural[::-1], *(rng.permutation(size) for _ in range(4))]


def _determined(atoms: Atoms, charge: int, order: IntArray, way: Mapping[str, Any]) -> Chem.Mol:
    """The molecule with bonds found for the atoms in the given order; its atoms are in the original order."""
    molecule: Chem.Mol = without_bonds(atoms[order]).GetMol()
    if len(atoms) > 1:
        rdDetermineBonds.DetermineBonds(molecule, charge=int(charge), embedChiral=False, **way)
        Chem.SanitizeMol(molecule)
    elif len(atoms):
        molecule.GetAtomWithIdx(0).SetFormalCharge(int(charge))
        Chem.SanitizeMol(molecule, catchErrors=True)
    return Chem.RenumberAtoms(molecule, np.argsort(order).tolist()) if len(atoms) > 1 else molecule
