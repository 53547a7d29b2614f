"""The molecule of a pose search: conformers, its graph, and its symmetry."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.data import atoms_from_mol, read_structure
from ik_e3nn.data.bonds.perception import perceive_molecule
from ik_e3nn.data.files.reading import looks_like_file
from ik_e3nn.data.files.sdf import is_sdf, sdf_molecules
from ik_e3nn.data.structures.chem import Chem, rdBase
from ik_e3nn.data.structures.molecules import embed_conformers, mol_from_atoms, mol_from_smiles
from ik_e3nn.errors import DataError
from ik_e3nn.graph import fitting_bonds, has_bonds, stated_number
from ik_e3nn.user_path import is_file, user_path
from ik_e3nn_calculators.dock.system.complete import check_ligand_hydrogens, without_hydrogens

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MAX_MAPS = 1000  # of a molecule onto itself


@dataclass(frozen=True)
class Ligand:
    """A molecule with some geometries.

    Attributes:
        conformers: Geometries, all in the same order of atoms, with bonds, charge and spin.
        molecule: The molecular graph, all hydrogens included.
        name: Its name in messages and files.
    """

    conformers: list[Atoms]
    molecule: Chem.Mol
    name: str

    def __len__(self) -> int:
        return self.molecule.GetNumAtoms()

    @property
    def heavy(self) -> IntArray:
        """Indices of the heavy atoms; of all atoms if there are only hydrogens."""
        heavy = np.flatnonzero(self.conformers[0].numbers > 1)
        return heavy if len(heavy) else np.arange(len(self))

    def automorphisms(self) -> IntArray:
        """The ways to map the heavy atoms onto themselves that keep all bonds, (maps, heavy atoms)."""
        graph = heavy_graph(self.molecule)
        maps = graph.GetSubstructMatches(graph, uniquify=False, useChirality=False, maxMatches=MAX_MAPS)
        return np.array(maps, dtype=np.int64).reshape(len(maps), -1)


def heavy_graph(molecule: Chem.Mol) -> Chem.Mol:
    """The graph of the heavy atoms (of all atoms if there are only hydrogens), with single bonds only.

    Bond orders and charges of one resonance form would hide symmetry: benzene maps onto itself in 12 ways, not in 6.
    """
    heavy = any(atom.GetAtomicNum() > 1 for atom in molecule.GetAtoms())
    graph = Chem.RWMol()
    numbers: dict[int, int] = {}
    for atom in molecule.GetAtoms():
        if atom.GetAtomicNum() > 1 or not heavy:
            numbers[atom.GetIdx()] = graph.AddAtom(Chem.Atom(atom.GetAtomicNum()))
    for bond in molecule.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if all(end in numbers for end in ends):
            graph.AddBond(numbers[ends[0]], numbers[ends[1]], Chem.BondType.SINGLE)
    return graph.GetMol()


def read_ligand(source: str, conformers: int, seed: int) -> Ligand:
    """Read a molecule, or build it from SMILES, with conformers.

    The geometry of a file is its first conformer; others are embedded by RDKit.

    Args:
        source: SDF, MOL or another structure file, or a SMILES string.
        conformers: Number of geometries to try for.
        seed: Random seed of the embedding.

    Returns:
        The molecule.

    Raises:
        DataError: The file or SMILES cannot be read, the SMILES describes several molecules, or the molecule fails
            RDKit's sanitization, lacks hydrogens, is periodic, or has bonds that cannot be perceived.

    Example:
        >>> ligand = read_ligand("c1ccccc1", 1, 0)
        >>> len(ligand), len(ligand.heavy), len(ligand.automorphisms())
        (12, 6, 12)
    """
    if not is_file(source):
        if looks_like_file(source):
            raise DataError(f"there is no file {source}")
        molecule = mol_from_smiles(source)
        return Ligand(embed_conformers(molecule, conformers, seed), molecule, source)
    path = user_path(source)
    molecule = _from_sdf(path) if is_sdf(path) else _from_structure(path)
    Chem.AssignStereochemistryFrom3D(molecule)  # so that embedded conformers are of the same isomer
    others = embed_conformers(molecule, conformers - 1, seed) if conformers > 1 else []
    return Ligand([atoms_from_mol(molecule), *others], molecule, path.stem)


def read_sdf_molecule(path: Path) -> Chem.Mol:
    """Read the first molecule of an SDF file, sanitized, with the hydrogens that the file has.

    Raises:
        DataError: The molecule cannot be read, is a flat drawing, or fails RDKit's sanitization.
    """
    molecules = sdf_molecules(path)
    molecule, others = next(molecules, None), sum(1 for _ in molecules)
    if others:
        _log.warning("%s holds %d molecules; the first is used", path, others + 1)
    if molecule is None:
        raise DataError(f"no molecule in {path} can be read")
    if not molecule.GetConformer().Is3D() and molecule.GetNumAtoms() > 3:
        raise DataError(f"{path} is a flat drawing (2D coordinates); give its SMILES instead")
    with rdBase.BlockLogs():
        failure = Chem.SanitizeMol(molecule, catchErrors=True)
    if failure != Chem.SanitizeFlags.SANITIZE_NONE:
        raise DataError(
            f"{path} fails RDKit's sanitization ({failure}): its valences, charges or rings are not valid; correct the "
            "file, or give a SMILES string"
        )
    return molecule


def _from_sdf(path: Path) -> Chem.Mol:
    """The molecule of an SDF file, which must have its hydrogens."""
    molecule = read_sdf_molecule(path)
    missing = [atom.GetTotalNumHs(includeNeighbors=False) for atom in molecule.GetAtoms()]
    if any(missing):
        there = sum(atom.GetAtomicNum() == 1 for atom in molecule.GetAtoms())
        raise without_hydrogens(str(path), f"it has {there} of {there + sum(missing)}")
    return molecule


def _from_structure(path: Path) -> Chem.Mol:
    """The molecule of the last structure in a file; bonds are perceived if none are stored."""
    atoms = read_structure(path, -1)
    if atoms.pbc.any():
        raise DataError(f"{path} is periodic; a ligand is a molecule")
    check_ligand_hydrogens(atoms, str(path))
    if has_bonds(atoms):
        return mol_from_atoms(atoms, fitting_bonds(atoms))
    return perceive_molecule(atoms, int(stated_number(atoms, "charge") or 0))
