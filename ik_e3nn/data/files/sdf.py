"""SDF and MOL files, with their bonds and formal charges."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from ik_e3nn.data.bonds.completeness import ADD_HYDROGENS, MISSING_KEY, has_odd_electrons
from ik_e3nn.data.structures.chem import Chem, rdBase
from ik_e3nn.data.structures.molecules import atoms_from_mol
from ik_e3nn.errors import DataError
from ik_e3nn.graph import near_pairs, remove_bonds, set_shares
from ik_e3nn.graph.bonds.stored import KEPT_BY

logger = logging.getLogger(__name__)

CLOSE = 1.15  # sums of covalent radii; closer atoms are certainly bonded
# Bonds in drawings lie outside of this range of sums of covalent radii (N2 has 0.77, F2 1.24), or have RDKit's length.
DRAWN, RDKIT_BOND = (0.74, 1.3), 1.5  # RDKIT_BOND is in A
SDF_SUFFIXES = (".sdf", ".mol", ".sd")


def is_sdf(path: Path) -> bool:
    """Whether a file name has the suffix of an SDF or MOL file, gzipped or not.

    Args:
        path: The file.

    Returns:
        True for an SDF or MOL file.

    Example:
        >>> is_sdf(Path("ligand.sdf.gz"))
        True
    """
    return path.name.lower().removesuffix(".gz").endswith(SDF_SUFFIXES)


def read_sdf(path: Path) -> list[Atoms]:
    """All molecules of an SDF or MOL file, with the hydrogens that are in the file.

    A molecule whose chemistry RDKit rejects keeps the bonds of the file; a molecule that cannot be read is skipped.
    Both are logged.

    Args:
        path: The file, gzipped or not.

    Returns:
        One structure for each molecule; ``info`` holds bonds, charge, spin, the molecule's name, and as
        "missing_hydrogens" the number of hydrogens that the valences require but the file does not have.

    Raises:
        DataError: No molecule can be read, or the coordinates are flat drawings.

    Example:
        >>> import tempfile
        >>> from rdkit.Chem import rdDistGeom
        >>> molecule = Chem.AddHs(Chem.MolFromSmiles("O"))
        >>> _ = rdDistGeom.EmbedMolecule(molecule, randomSeed=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Chem.MolToMolFile(molecule, f"{folder}/water.mol")
        ...     [atoms] = read_sdf(Path(folder) / "water.mol")
        >>> atoms.info["bonds"].tolist()
        [0, 1, 1, 0, 2, 1]
    """
    return [record.atoms for record in read_sdf_records(path)]


class SDFRecord(NamedTuple):
    """One molecule of an SDF file.

    Attributes:
        number: Its place in the file, from 0.
        atoms: The structure.
        fields: The data fields of the record, as text.
    """

    number: int
    atoms: Atoms
    fields: dict[str, str]


class Unreadable(NamedTuple):
    """A record of an SDF file that gives no structure.

    Attributes:
        number: Its place in the file, from 0.
        problem: The reason, with record and file.
        flat: Whether the record is a drawing.
    """

    number: int
    problem: str
    flat: bool


def sdf_molecules(path: Path) -> Iterator[Chem.Mol | None]:
    """The unchanged molecules of an SDF or MOL file, gzipped or not; None for records that RDKit cannot read."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as stream, rdBase.BlockLogs():
        yield from Chem.ForwardSDMolSupplier(stream, sanitize=False, removeHs=False)


def scan_sdf(path: Path) -> Iterator[SDFRecord | Unreadable]:
    """Every record of an SDF or MOL file, whether it can be read or not.

    Args:
        path: The file, gzipped or not.

    Yields:
        Records in the order of the file.
    """
    for number, molecule in enumerate(sdf_molecules(path)):
        name = f"molecule {number} of {path}"
        if molecule is None:
            yield Unreadable(number, f"{name} cannot be read", flat=False)
        elif _is_drawing(molecule):
            problem = f"{name} is a flat drawing (2D coordinates); make a geometry from its SMILES first"
            yield Unreadable(number, problem, flat=True)
        else:
            fields = {key: str(molecule.GetProp(key)) for key in molecule.GetPropNames()}
            try:
                yield SDFRecord(number, _to_atoms(molecule, name), fields)
            except DataError as error:  # an isotope or a kind of bond that does not exist
                yield Unreadable(number, f"{name}: {error}", flat=False)


def read_sdf_records(path: Path) -> list[SDFRecord]:
    """All molecules of an SDF or MOL file with their data fields; see ``read_sdf``.

    Args:
        path: The file, gzipped or not.

    Returns:
        The records that can be read; a warning names each of the others.

    Raises:
        DataError: No molecule can be read, or the coordinates are flat drawings.
    """
    records = []
    for one in scan_sdf(path):
        if isinstance(one, SDFRecord):
            records.append(one)
        elif one.flat:
            raise DataError(one.problem)
        else:
            logger.warning("%s and is skipped", one.problem)
    if not records:
        raise DataError(f"no molecule in {path} can be read")
    return records


def _to_atoms(molecule: Chem.Mol, name: str) -> Atoms:
    """One molecule as atoms, sanitized if its chemistry allows it."""
    failure = Chem.SanitizeMol(molecule, catchErrors=True)
    if failure != Chem.SanitizeFlags.SANITIZE_NONE:
        logger.warning("%s does not pass RDKit's checks (%s); its bonds are taken as in the file", name, failure)
    atoms = atoms_from_mol(molecule)
    # RDKit computes implicit hydrogens and radical electrons only for molecules that pass its checks
    is_sane = failure == Chem.SanitizeFlags.SANITIZE_NONE
    if not molecule.GetNumBonds() and _touching(atoms):
        remove_bonds(atoms)
        logger.warning("%s has no bonds, though its atoms are at bonding distance. %s", name, KEPT_BY)
        return atoms
    missing = sum(atom.GetTotalNumHs(includeNeighbors=False) for atom in molecule.GetAtoms()) if is_sane else 0
    if missing:
        atoms.info[MISSING_KEY] = missing
        logger.warning("%s lacks %d hydrogens; %s", name, missing, ADD_HYDROGENS)
    if not is_sane:
        del atoms.info["spin"]
        atoms.info["spin"] = 2 if has_odd_electrons(atoms) else 1
        set_shares(atoms, [atom.GetFormalCharge() for atom in molecule.GetAtoms()], np.zeros(len(atoms)))
    if molecule.HasProp("_Name") and molecule.GetProp("_Name").strip():
        atoms.info["name"] = molecule.GetProp("_Name").strip()
    return atoms


def _is_drawing(molecule: Chem.Mol) -> bool:
    """Whether coordinates are a flat drawing; for two or three atoms, which are always planar, bond lengths decide."""
    conformer = molecule.GetConformer()
    if conformer.Is3D() or molecule.GetNumAtoms() > 3:
        return not conformer.Is3D()
    ends = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()], dtype=int).reshape(-1, 2)
    vectors = conformer.GetPositions()[ends[:, 0]] - conformer.GetPositions()[ends[:, 1]]
    radii = covalent_radii[[atom.GetAtomicNum() for atom in molecule.GetAtoms()]]
    lengths, sizes = np.linalg.norm(vectors, axis=1), radii[ends].sum(axis=1)
    strange = (lengths < DRAWN[0] * sizes) | (lengths > DRAWN[1] * sizes) | (np.abs(lengths - RDKIT_BOND) < 1e-3)
    return bool(strange.any())


def _touching(atoms: Atoms) -> bool:
    """Whether any two atoms are at bonding distance."""
    reach = 2 * CLOSE * float(covalent_radii[atoms.numbers].max(initial=0.1))
    return bool((near_pairs(atoms, reach).ratios < CLOSE).any())
