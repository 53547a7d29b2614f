"""Molecules from SMILES: atoms, bonds, formal charge and conformers, through RDKit."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ik_e3nn.data.structures.chem import Chem, Geometry, rdBase, rdDistGeom, rdForceFieldHelpers
from ik_e3nn.data.structures.isotopes import isotopes_of, set_isotopes
from ik_e3nn.errors import DataError
from ik_e3nn.graph import check_bonds, set_bonds, set_shares

_BOND_TYPES = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "AROMATIC": 4, "DATIVE": 1}  # by the names of RDKit
_RDKIT_TYPES = {1: "SINGLE", 2: "DOUBLE", 3: "TRIPLE", 4: "AROMATIC"}
MAX_ATOMS = 1000  # RDKit needs minutes to make the geometry of a larger molecule
EMBED_SECONDS = 60  # plus one second for each conformer
# Formal charge by atomic number and valence, of atoms that are not neutral and whose bonds are all given.
_CHARGED = {(7, 4): 1, (7, 2): -1, (8, 3): 1, (8, 1): -1, (5, 4): -1, (16, 1): -1, (16, 3): 1, (15, 4): 1}


def molecule_from_smiles(smiles: str, seed: int = 0) -> Atoms:
    """One conformer of a molecule with hydrogens, bonds, formal charge and spin multiplicity.

    Args:
        smiles: SMILES string.
        seed: Random seed of the embedding.

    Returns:
        The structure; ``info`` holds bonds, charge and spin.

    Raises:
        DataError: The SMILES cannot be read or describes several molecules, or no geometry can be made.

    Example:
        >>> atoms = molecule_from_smiles("CCO")
        >>> atoms.get_chemical_formula(), atoms.info["charge"], len(atoms.info["bonds"]) // 3
        ('C2H6O', 0, 8)
    """
    return conformers(smiles, 1, seed)[0]


def conformers(smiles: str, n: int, seed: int = 0) -> list[Atoms]:
    """Up to n different conformers, by ETKDG and a force field, lowest force-field energy first.

    Args:
        smiles: SMILES string.
        n: How many to try; a rigid molecule gives fewer.
        seed: Random seed of the embedding, not negative.

    Returns:
        At least one structure.

    Raises:
        DataError: The SMILES cannot be read or describes several molecules, n is not positive, the seed is negative, or
            no geometry can be made.

    Example:
        >>> len(conformers("C", 3))
        1
    """
    if n < 1:
        raise DataError(f"the number of conformers must be at least 1, got {n}")
    return embed_conformers(mol_from_smiles(smiles), n, seed)


def embed_conformers(molecule: Chem.Mol, n: int, seed: int = 0) -> list[Atoms]:
    """Up to n different new conformers of an RDKit molecule with hydrogens; see ``conformers``.

    Args:
        molecule: The molecule; it is only read.
        n: How many to try.
        seed: Random seed of the embedding, not negative.

    Returns:
        At least one structure.

    Raises:
        DataError: The seed is negative, there are several molecules or too many atoms, or no geometry can be made
            within about a minute.

    Example:
        >>> len(embed_conformers(mol_from_smiles("CCO"), 1)[0])
        9
    """
    if seed < 0:
        raise DataError(f"the seed must not be negative, got {seed}")
    parts = len(Chem.GetMolFrags(molecule))
    if parts > 1:  # RDKit would put them on top of each other
        smiles = Chem.MolToSmiles(Chem.RemoveHs(molecule))
        raise DataError(
            f"{smiles!r} are {parts} molecules, whose relative positions are not known; give one of them, or a "
            "structure file with all of them"
        )
    if molecule.GetNumAtoms() > MAX_ATOMS:
        raise DataError(
            f"a molecule of {molecule.GetNumAtoms()} atoms is too large to make its geometry from SMILES (at most "
            f"{MAX_ATOMS}); give a structure file"
        )
    molecule = Chem.Mol(molecule)
    with rdBase.BlockLogs():
        found = _embed(molecule, n, seed, random_start=False) or _embed(molecule, n, seed, random_start=True)
        if not found:
            raise DataError(
                f"no 3D geometry could be made for {Chem.MolToSmiles(molecule)!r}; give a structure file instead"
            )
        energies = _relax(molecule)
    order = sorted(found, key=lambda conformer: (energies.get(conformer, 0.0), conformer))
    return [atoms_from_mol(molecule, conformer) for conformer in order]


def mol_from_atoms(atoms: Atoms, bonds: ArrayLike) -> Chem.Mol:
    """A structure as an RDKit molecule with one conformer, the inverse of ``atoms_from_mol``.

    Args:
        atoms: A molecule with all its hydrogens.
        bonds: Rows (i, j, type), (n, 3).

    Returns:
        The molecule, sanitized; atoms have the formal charges that their valences require, except in aromatic rings.

    Raises:
        DataError: RDKit cannot make a molecule of the atoms and bonds.

    Example:
        >>> molecule = mol_from_atoms(molecule_from_smiles("CC=O"), molecule_from_smiles("CC=O").info["bonds"])
        >>> Chem.MolToSmiles(Chem.RemoveHs(molecule))
        'CC=O'
    """
    editable = without_bonds(atoms)
    for i, j, kind in check_bonds(bonds, len(atoms)).tolist():
        editable.AddBond(i, j, Chem.BondType.names[_RDKIT_TYPES[kind]])
        if kind == 4:
            for index in (i, j):
                editable.GetAtomWithIdx(index).SetIsAromatic(True)
    molecule: Chem.Mol = editable.GetMol()
    for atom in molecule.GetAtoms():
        valence = sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds())
        if not atom.GetIsAromatic() and (atom.GetAtomicNum(), valence) in _CHARGED:
            atom.SetFormalCharge(_CHARGED[atom.GetAtomicNum(), valence])
    with rdBase.BlockLogs():
        failure = Chem.SanitizeMol(molecule, catchErrors=True)
    if failure != Chem.SanitizeFlags.SANITIZE_NONE:
        raise DataError(f"RDKit cannot make a molecule of the bonds of {atoms.get_chemical_formula()} ({failure})")
    return molecule


def without_bonds(atoms: Atoms) -> Chem.RWMol:
    """The atoms of a structure as an RDKit molecule with one conformer and no bonds."""
    editable, conformer = Chem.RWMol(), Chem.Conformer(len(atoms))
    for index, (number, isotope) in enumerate(zip(atoms.numbers, isotopes_of(atoms), strict=True)):
        atom = Chem.Atom(int(number))
        atom.SetNoImplicit(True)
        atom.SetIsotope(isotope)
        editable.AddAtom(atom)
        conformer.SetAtomPosition(index, Geometry.Point3D(*map(float, atoms.positions[index])))
    editable.AddConformer(conformer)
    return editable


def mol_from_smiles(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES string, with hydrogens.

    Args:
        smiles: SMILES string.

    Returns:
        The molecule, without coordinates.

    Raises:
        DataError: The SMILES cannot be read, or has an atom of any element (``*``).

    Example:
        >>> mol_from_smiles("C").GetNumAtoms()
        5
    """
    if len(smiles.split()) > 1:
        raise DataError(f"SMILES {smiles!r:.80} has a blank, after which nothing is read; give only the SMILES")
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise DataError(
            f"SMILES {smiles!r:.80} cannot be read; check its brackets, rings and valences{_smiles_fault(smiles)}"
        )
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        raise DataError(f"SMILES {smiles!r:.80} has an atom * that stands for any element; give the element")
    return Chem.AddHs(molecule)


def _smiles_fault(smiles: str) -> str:
    """The chemical fault of a SMILES with correct syntax, in parentheses; "" if there is none."""
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        problems = Chem.DetectChemistryProblems(molecule) if molecule is not None else ()
    return f" ({problems[0].Message().strip():.160})" if problems else ""


def atoms_from_mol(molecule: Chem.Mol, conformer: int = -1) -> Atoms:
    """An RDKit molecule as ASE atoms, in the same order, with bonds, formal charge, spin multiplicity and isotopes.

    The multiplicity 2S+1 is the number of radical electrons plus one; atoms have the masses of their isotopes.

    Args:
        molecule: Molecule with at least one conformer.
        conformer: Which conformer.

    Returns:
        The structure; ``info`` holds bonds, charge and spin, and ``arrays`` the share of each atom in charge and spin.

    Raises:
        DataError: The molecule has no conformer, an unknown kind of bond, or an isotope that does not exist.

    Example:
        >>> molecule = Chem.AddHs(Chem.MolFromSmiles("[NH4+]"))
        >>> _ = rdDistGeom.EmbedMolecule(molecule, randomSeed=1)
        >>> atoms_from_mol(molecule).info["charge"]
        1
    """
    if molecule.GetNumConformers() == 0:
        raise DataError("the molecule has no coordinates")
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    positions = np.array(molecule.GetConformer(conformer).GetPositions(), dtype=np.float64)
    atoms = Atoms(numbers=numbers, positions=positions)
    set_isotopes(atoms, [atom.GetIsotope() for atom in molecule.GetAtoms()])
    set_bonds(atoms, bonds_of_mol(molecule))
    charges = [atom.GetFormalCharge() for atom in molecule.GetAtoms()]
    unpaired = [atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()]
    set_shares(atoms, charges, unpaired)
    atoms.info["charge"], atoms.info["spin"] = sum(charges), 1 + sum(unpaired)
    return atoms


def bonds_of_mol(molecule: Chem.Mol) -> list[list[int]]:
    """Bonds of an RDKit molecule as rows (i, j, type).

    Args:
        molecule: The molecule.

    Returns:
        Rows with types 1 single (also dative), 2 double, 3 triple, 4 aromatic.

    Raises:
        DataError: A bond of another kind.

    Example:
        >>> bonds_of_mol(Chem.MolFromSmiles("C#N"))
        [[0, 1, 3]]
    """
    rows = []
    for bond in molecule.GetBonds():
        kind = "AROMATIC" if bond.GetIsAromatic() else bond.GetBondType().name
        if kind not in _BOND_TYPES:
            ends = f"{bond.GetBeginAtomIdx()} and {bond.GetEndAtomIdx()}"
            raise DataError(f"the bond between atoms {ends} is of kind {kind}; known are single to triple and aromatic")
        rows.append([bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), _BOND_TYPES[kind]])
    return rows


def _embed(molecule: Chem.Mol, n: int, seed: int, *, random_start: bool) -> list[int]:
    """Embed conformers into the molecule with ETKDG, within a limited time, and return their ids."""
    parameters = rdDistGeom.ETKDGv3()
    # RDKit multiplies its seed by the conformer's number: seed 0 would make all alike, seed 2 repeat some of seed 1.
    rdkit_seed = 1 + int(np.random.SeedSequence(seed).generate_state(1)[0]) % 1_000_003
    options: dict[str, Any] = {
        "randomSeed": rdkit_seed,
        "numThreads": 1,
        "pruneRmsThresh": 0.1,
        "useRandomCoords": random_start,
    }
    seconds = EMBED_SECONDS + n
    if hasattr(parameters, "timeout"):  # since RDKit 2024.9
        options["timeout"] = seconds
    for name, value in options.items():
        setattr(parameters, name, value)
    found = list(rdDistGeom.EmbedMultipleConfs(molecule, n, parameters))
    if -1 in found or molecule.GetNumConformers() < len(found):
        raise DataError(
            f"no 3D geometry of {Chem.MolToSmiles(Chem.RemoveHs(molecule))!r:.80} could be made within {seconds} "
            "seconds; give a structure file instead, or ask for fewer conformers"
        )
    return found


def _relax(molecule: Chem.Mol) -> dict[int, float]:
    """Relax all conformers with MMFF, or UFF if MMFF lacks parameters; return energies in kcal/mol by conformer."""
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        results = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, numThreads=1, maxIters=500)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
        results = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(molecule, numThreads=1, maxIters=500)
    else:
        return {}
    ids = [conformer.GetId() for conformer in molecule.GetConformers()]
    return {number: float(energy) for number, (_, energy) in zip(ids, results, strict=True)}
