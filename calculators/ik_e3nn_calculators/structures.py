"""The starting structure of a run: a file that ASE reads, or a SMILES string."""

from pathlib import Path

from ase import Atoms

from ik_e3nn.errors import DataError, IKError


def load_structure(source: str, *, seed: int = 0) -> Atoms:
    """Read a structure file (its last frame), or build a conformer from a SMILES string.

    Args:
        source: Path or SMILES.
        seed: Seed of the conformer.

    Returns:
        The structure; one built from SMILES carries bonds and charge.

    Raises:
        DataError: It is neither a file nor a valid SMILES string.
    """
    from ik_e3nn.data import molecule_from_smiles, read_structures

    if Path(source).is_file():
        return read_structures(source, index="-1")[-1]
    try:
        return molecule_from_smiles(source, seed=seed)
    except IKError as error:
        raise DataError(f"{source!r} is neither a file here nor a SMILES string that RDKit understands") from error
