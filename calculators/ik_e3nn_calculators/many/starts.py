"""The structures that many runs start from: all frames of files, files, SMILES strings, each with a name and a seed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.user_path import is_file, user_path
from ik_e3nn_calculators.many.settings import ManyMDSettings, ManyRelaxSettings
from ik_e3nn_calculators.systems.structures import check_complete, read_smiles

_LONGEST = 40  # letters of a source in the name of a folder


@dataclass(frozen=True)
class Start:
    """The start of one of many runs.

    Args:
        number: Counted from 0 over all structures.
        name: Name of its folder: the number and a few letters of its source.
        source: Where it comes from.
        seed: Seed of its run.
        atoms: The structure, or why there is none.
    """

    number: int
    name: str
    source: str
    seed: int
    atoms: Atoms | DataError


def starts_of(settings: ManyMDSettings | ManyRelaxSettings, structures: Sequence[Atoms] | None) -> list[Start]:
    """All structures that settings name, or those given instead, in their order.

    The run of structure k has the seed of the settings plus k, also for the conformer of a SMILES string.

    Args:
        settings: The settings.
        structures: Structures to use instead of those of the settings.

    Returns:
        The structures, at least one. A molecule without a geometry or without hydrogens is an error in its place.

    Raises:
        DataError: A source is neither a readable file nor a valid SMILES string.
        ConfigError: All frames of files are wanted, but no source is a file.
    """
    if structures is not None:
        found = [(atoms.get_chemical_formula(), f"structure {k}", atoms) for k, atoms in enumerate(structures)]
    else:
        sources = (settings.structure, *settings.more)
        if settings.all_frames and not any(is_file(source) for source in sources):
            raise ConfigError(f"all_frames has no effect, because none of {', '.join(sources)} is a structure file")
        found = []
        for source in sources:
            found += _from_file(source, settings) if is_file(source) else [(source, source, None)]
    if not found:
        raise DataError("there are no structures; give at least one")
    digits, first = len(str(len(found) - 1)), settings.seed
    return [
        Start(k, f"{k:0{digits}}_{_letters(label)}", source, first + k, _atoms(atoms, source, first + k))
        for k, (label, source, atoms) in enumerate(found)
    ]


def _from_file(path: str, settings: ManyMDSettings | ManyRelaxSettings) -> list[tuple[str, str, Atoms | None]]:
    """Label, source and structure of each frame that is taken from a file."""
    from ik_e3nn.data import read_structure, read_structures

    name = user_path(path).name.removesuffix(".gz")
    stem = Path(name).stem
    if not settings.all_frames:
        return [(stem, path, read_structure(path, settings.frame))]
    return [(f"{stem}_{k}", f"frame {k} of {path}", atoms) for k, atoms in enumerate(read_structures(path))]


def _atoms(atoms: Atoms | None, source: str, seed: int) -> Atoms | DataError:
    """A complete structure, or a conformer of a SMILES string."""
    from ik_e3nn.data.structures.molecules import embed_conformers

    molecule = read_smiles(source) if atoms is None else None
    try:
        if molecule is not None:
            return embed_conformers(molecule, 1, seed)[0]
        check_complete(atoms, source)
    except DataError as error:
        return error
    return atoms


def _letters(label: str) -> str:
    """A label without signs that are special in names of files.

    >>> _letters("C/C=C/C(=O)[O-]")
    'C_C_C_C_O_O-'
    """
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", label).strip("_.")[:_LONGEST] or "structure"
