"""The starting structure of a run: a file that ASE reads, or a SMILES string."""

import logging
from typing import Any

from ase import Atoms

from ik_e3nn.errors import DataError
from ik_e3nn.user_path import is_file

_log = logging.getLogger(__name__)


def load_structure(source: str, *, seed: int = 0, frame: int | None = None) -> Atoms:
    """Read one frame of a structure file, or build a conformer from a SMILES string.

    Args:
        source: Path or SMILES.
        seed: Seed of the conformer.
        frame: Index of the frame of a file, counted from the end if negative; the last by default.

    Returns:
        The structure; one built from SMILES carries bonds and charge.

    Raises:
        DataError: The source is neither a file nor a valid SMILES string, hydrogens are missing, or no geometry can be
            generated.
    """
    from ik_e3nn.data import read_structure
    from ik_e3nn.data.structures.molecules import embed_conformers

    if is_file(source):
        atoms = read_structure(source, frame)
        check_complete(atoms, source)
        return atoms
    return embed_conformers(read_smiles(source), 1, seed)[0]


def read_smiles(source: str) -> Any:
    """The RDKit molecule of a SMILES string that stands where a file could stand.

    Raises:
        DataError: It is no valid SMILES string, and no file either.
    """
    from ik_e3nn.data.files.reading import looks_like_file
    from ik_e3nn.data.structures.molecules import mol_from_smiles

    nothing = f"{source!r:.80} is neither an existing file nor a usable SMILES string"
    if looks_like_file(source):
        raise DataError(f"{nothing}: check the name and the folder of the file")
    try:
        return mol_from_smiles(source)
    except DataError as error:
        raise DataError(f"{nothing}: {error}") from error


def check_complete(atoms: Atoms, source: str) -> None:
    """Refuse a structure from a file without hydrogens, and warn if it seems to lack some.

    Args:
        atoms: The structure.
        source: Its file, for the warning.

    Raises:
        DataError: A molecule has no hydrogens.
    """
    from ik_e3nn.data.bonds.completeness import ADD_HYDROGENS, check_hydrogens
    from ik_e3nn.graph.bonds.hydrogens import atoms_without_hydrogens

    check_hydrogens(atoms)
    lacking = len(atoms_without_hydrogens(atoms))
    if lacking:
        _log.warning(
            "%d atoms of %s have too few bonds for the angles between them: it seems to lack hydrogens, and "
            "energies need all of them; %s",
            *(lacking, source, ADD_HYDROGENS),
        )
