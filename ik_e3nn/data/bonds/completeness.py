"""Checks that a structure is a complete molecule with paired electrons, as models of molecules expect."""

from ase import Atoms

from ik_e3nn.data.bonds.perception import perceive_molecule
from ik_e3nn.data.structures.molecules import mol_from_atoms
from ik_e3nn.errors import DataError
from ik_e3nn.graph import get_bonds, has_bonds, structure_number
from ik_e3nn.graph.bonds.contacts import odd_electrons
from ik_e3nn.graph.bonds.hydrogens import missing_hydrogens

MISSING_KEY = "missing_hydrogens"  # in `info`: number of hydrogens that the file implies but gives no positions for
ADD_HYDROGENS = "add them first, for example with RDKit's Chem.AddHs(molecule, addCoords=True) or obabel -h"
_SMALL_RING = 7  # a ring needs at least eight atoms for a triple bond or two adjacent double bonds
_LARGEST = 500  # bonds of more atoms are not perceived, because it takes too long


def check_hydrogens(atoms: Atoms) -> None:
    """Refuse a molecule whose file gave no positions for some of its hydrogens.

    Args:
        atoms: The structure; it is only read.

    Raises:
        DataError: Hydrogens are missing; the message gives their number.

    Example:
        >>> check_hydrogens(Atoms("C", info={"missing_hydrogens": 4}))
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.DataError: C lacks 4 hydrogens; add them first, ...
    """
    missing = int(structure_number(atoms, MISSING_KEY) or 0)
    if missing:
        raise DataError(f"{atoms.get_chemical_formula()} lacks {missing} hydrogens; {ADD_HYDROGENS}")


def has_odd_electrons(atoms: Atoms) -> bool:
    """Whether the number of electrons is odd although ``info`` gives no spin multiplicity with unpaired electrons.

    Example:
        >>> [has_odd_electrons(Atoms("OH", info=info)) for info in ({}, {"charge": -1}, {"spin": 2})]
        [True, False, False]
    """
    return bool(_odd(atoms))


def geometry_problem(atoms: Atoms) -> str:
    """The reason why a geometry cannot be a complete molecule; "" if there is none.

    A molecule is complete if its stored bonds saturate all atoms. If they do not, or if no bonds are stored, the bonds
    are perceived from the geometry.

    Args:
        atoms: A molecule; it is only read.

    Returns:
        The reason in words.

    Example:
        >>> from ase.build import molecule
        >>> geometry_problem(molecule("CH3CH2OH"))
        ''
        >>> geometry_problem(molecule("CH3"))
        'it has an odd number of electrons (9): it is a radical, an ion whose charge is not given, or lacks a hydrogen'
    """
    if odd := _odd(atoms):
        return odd
    is_beyond = atoms.pbc.any() or len(atoms) > _LARGEST or (structure_number(atoms, "spin") or 1) != 1
    if is_beyond or _is_saturated(atoms):
        return ""
    try:
        molecule = perceive_molecule(atoms, round(structure_number(atoms, "charge") or 0))
    except DataError as error:
        return str(error)
    unpaired = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    if unpaired:
        return f"its bonds leave {unpaired} electrons unpaired: a radical, or it lacks hydrogens"
    rings = [set(ring) for ring in molecule.GetRingInfo().BondRings() if len(ring) <= _SMALL_RING]
    strained = [bond for bond in molecule.GetBonds() if str(bond.GetBondType()) == "TRIPLE"]
    if any(bond.GetIdx() in ring for bond in strained for ring in rings):
        return "it has a triple bond in a small ring; it lacks hydrogens"
    return missing_hydrogens(atoms)


def _odd(atoms: Atoms) -> str:
    charge, spin = (structure_number(atoms, key) for key in ("charge", "spin"))
    return odd_electrons(charge or 0, spin or 1, atoms.numbers)


def _is_saturated(atoms: Atoms) -> bool:
    """Whether bonds are stored that leave no electron unpaired, or whose valences RDKit does not know."""
    if not has_bonds(atoms):
        return False
    try:
        molecule = mol_from_atoms(atoms, get_bonds(atoms))
    except DataError:
        return True
    return not any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
