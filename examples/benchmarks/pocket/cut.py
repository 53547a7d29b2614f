"""A ligand and the rigid pocket around it, cut from a protein, with all hydrogens and without charges."""

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import AllChem, rdForceFieldHelpers, rdMolTransforms
from scipy.spatial.distance import cdist

from ik_e3nn.data import atoms_from_mol
from ik_e3nn.data.files.proteins.elements import AMINO_ACIDS

REACH = 3.7  # A, between heavy atoms of the ligand and of a piece of the pocket
KNOWN = 12.0  # A; residues farther away have no pieces in reach
# Parts of cofactors that can belong to a pocket: the names of their atoms, and the part as SMILES.
COFACTORS = {"NDP": ("C35 N36 C37 C38 C39 O40 N41 C42 C43 C44", "CN1C=CCC(C(N)=O)=C1")}
ACIDS = {"GLU": ("CD", "OE1", "OE2"), "ASP": ("CG", "OD1", "OD2")}
STEPS = 2000


class Pocket(NamedTuple):
    """A rigid pocket and its ligand in the crystal's pose, with the center of the ligand at the origin."""

    molecule: Chem.Mol
    ligand: Chem.Mol

    @property
    def host(self) -> Atoms:
        """The atoms of the pocket."""
        return atoms_from_mol(self.molecule)


def cut(folder: Path) -> Pocket:
    """The pocket of one complex: pieces of residues near the ligand, cut ends and missing hydrogens filled up.

    Acids and bases are neutral. Positions of hydrogens are those of the least energy of MMFF94 with all other atoms
    fixed; of the two oxygens of an acid, the hydrogen is at the one where this energy is lower.

    Args:
        folder: Folder with ``*.pdb.gz`` and ``*_ligand.sdf``.
    """
    text = gzip.decompress(next(iter(sorted(folder.glob("*.pdb.gz")))).read_bytes()).decode()
    ligand = Chem.MolFromMolFile(str(next(iter(sorted(folder.glob("*_ligand.sdf"))))))
    around = near(Chem.MolFromPDBBlock(text, sanitize=False), ligand.GetConformer().GetPositions())
    ligand = Chem.AddHs(ligand, addCoords=True)
    forms = [with_hydrogens(form, ligand) for form in forms_of_acids(around)]
    _, host, placed = min(forms, key=lambda form: form[0])
    middle = placed.mean(axis=0)
    host.GetConformer().SetPositions(host.GetConformer().GetPositions() - middle)
    ligand.GetConformer().SetPositions(placed - middle)
    return Pocket(host, ligand)


def near(protein: Chem.Mol, places: NDArray[np.float64]) -> Chem.Mol:
    """The pieces of residues and cofactors with an atom near places (n, 3), in A, without hydrogens.

    Pieces end at single bonds of a saturated carbon with another carbon outside of rings; between two pieces of the
    pocket the bond stays.

    Raises:
        ValueError: A residue near the places is neither an amino acid nor a known cofactor.
    """
    residues: dict[tuple[str, int, str], list[int]] = {}
    for atom in protein.GetAtoms():
        if atom.GetAtomicNum() > 1:
            residues.setdefault(_residue(atom), []).append(atom.GetIdx())
    reached = {key: indices for key, indices in residues.items() if _distances(protein, places)[indices].min() < KNOWN}
    unknown = sorted({key[2] for key in reached} - set(AMINO_ACIDS) - set(COFACTORS))
    if unknown:
        raise ValueError(f"{', '.join(unknown)} near the ligand: add its atoms and their SMILES to COFACTORS")
    found = part(protein, [i for key, indices in reached.items() if key[2] in AMINO_ACIDS for i in indices])
    for key, indices in reached.items():
        if key[2] in COFACTORS:
            names, smiles = COFACTORS[key[2]]
            kept = [i for i in indices if _name(protein.GetAtomWithIdx(i)) in names.split()]
            cofactor = AllChem.AssignBondOrdersFromTemplate(Chem.MolFromSmiles(smiles), part(protein, kept))
            found = Chem.CombineMols(found, cofactor)
    Chem.SanitizeMol(found)
    distances = _distances(found, places)
    return part(found, [i for piece in pieces(found) if distances[list(piece)].min() < REACH for i in piece])


def pieces(molecule: Chem.Mol) -> tuple[tuple[int, ...], ...]:
    """Indices of atoms of every piece of a molecule, see ``near``."""
    cuts = Chem.MolFromSmarts("[CX4]-!@[#6]")
    editable = Chem.RWMol(molecule)
    for first, second in molecule.GetSubstructMatches(cuts):
        if editable.GetBondBetweenAtoms(first, second) is not None:
            editable.RemoveBond(first, second)
    return tuple(Chem.GetMolFrags(editable.GetMol(), sanitizeFrags=False))


def part(molecule: Chem.Mol, kept: list[int]) -> Chem.Mol:
    """Some atoms of a molecule, with the bonds between them."""
    editable = Chem.RWMol(molecule)
    editable.BeginBatchEdit()
    for index in set(range(molecule.GetNumAtoms())) - set(kept):
        editable.RemoveAtom(index)
    editable.CommitBatchEdit()
    return editable.GetMol()


def forms_of_acids(molecule: Chem.Mol) -> Iterator[Chem.Mol]:
    """All ways to put the hydrogen of every acid at one of its two oxygens."""
    acids = [
        {_name(atom): atom.GetIdx() for atom in molecule.GetAtoms() if _residue(atom) == residue}
        for residue in sorted({_residue(atom) for atom in molecule.GetAtoms()})
        if residue[2] in ACIDS
        and any(_name(atom) == ACIDS[residue[2]][1] and _residue(atom) == residue for atom in molecule.GetAtoms())
    ]
    for turns in itertools.product((False, True), repeat=len(acids)):
        form = Chem.RWMol(molecule)
        for atoms, turned in zip(acids, turns, strict=True):
            carbon, *oxygens = next(names for names in ACIDS.values() if set(names) <= set(atoms))
            double, single = oxygens[::-1] if turned else oxygens
            form.GetBondBetweenAtoms(atoms[carbon], atoms[double]).SetBondType(Chem.BondType.DOUBLE)
            form.GetBondBetweenAtoms(atoms[carbon], atoms[single]).SetBondType(Chem.BondType.SINGLE)
        yield form.GetMol()


def with_hydrogens(host: Chem.Mol, ligand: Chem.Mol) -> tuple[float, Chem.Mol, NDArray[np.float64]]:
    """Energy (kcal/mol) of host and ligand with hydrogens, the host, and the places of the atoms of the ligand."""
    host = Chem.Mol(host)
    Chem.SanitizeMol(host)
    host = Chem.AddHs(host, addCoords=True)
    for acid in host.GetSubstructMatches(Chem.MolFromSmarts("O=C[OX2][#1]")):  # there are two forms; this one pairs
        rdMolTransforms.SetDihedralDeg(host.GetConformer(), *acid, 0.0)
    both = Chem.CombineMols(host, ligand)
    Chem.SanitizeMol(both)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
        both, rdForceFieldHelpers.MMFFGetMoleculeProperties(both), ignoreInterfragInteractions=False
    )
    field.Initialize()
    for atom in both.GetAtoms():
        if atom.GetAtomicNum() > 1:
            field.AddFixedPoint(atom.GetIdx())
    field.Minimize(maxIts=STEPS)
    positions = both.GetConformer().GetPositions()
    count = host.GetNumAtoms()
    host.GetConformer().SetPositions(positions[:count])
    return field.CalcEnergy(), host, positions[count:]


def _distances(molecule: Chem.Mol, places: NDArray[np.float64]) -> NDArray[np.float64]:
    return cdist(molecule.GetConformer().GetPositions(), places).min(axis=1)


def _name(atom: Chem.Atom) -> str:
    return str(atom.GetPDBResidueInfo().GetName().strip())


def _residue(atom: Chem.Atom) -> tuple[str, int, str]:
    info = atom.GetPDBResidueInfo()
    return info.GetChainId(), info.GetResidueNumber(), info.GetResidueName().strip()
