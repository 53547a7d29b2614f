"""Structures from files, globs and folders."""

import glob
import logging
from collections.abc import Sequence
from pathlib import Path

import ase.io
from ase import Atoms
from ase.data import chemical_symbols
from ase.io.formats import UnknownFileTypeError, string2index
from ase.io.trajectory import Trajectory

from ik_e3nn.data.files.cif import read_cif
from ik_e3nn.data.files.extxyz import is_extxyz
from ik_e3nn.data.files.faults import why_unreadable
from ik_e3nn.data.files.proteins.reading import PDB_SUFFIXES, is_mmcif, read_mmcif, read_pdb
from ik_e3nn.data.files.sdf import SDF_SUFFIXES, is_sdf, read_sdf
from ik_e3nn.data.files.shelx import SHELX_SUFFIXES, read_shelx
from ik_e3nn.data.files.smiles_table import is_table
from ik_e3nn.data.files.xyz_text import count_frames, open_text, read_xyz
from ik_e3nn.errors import DataError, locating
from ik_e3nn.graph import check_occupancy, settle_bonds
from ik_e3nn.graph.bonds.record import RECORD
from ik_e3nn.user_path import is_file, user_path

logger = logging.getLogger(__name__)

PathLike = str | Path

# Suffixes of the files that are read from a folder; other files must be named one by one.
FOLDER_SUFFIXES = (
    *(".xyz", ".extxyz", ".traj", ".db", ".cif", ".mmcif", ".pdb", ".ent", ".vasp", ".poscar", ".contcar", ".gen"),
    *(".json", ".xsf", ".cfg"),
    *SDF_SUFFIXES,
)


def read_structures(paths: PathLike | Sequence[PathLike], index: str | int = ":") -> list[Atoms]:
    """All structures of files, globs or folders, in sorted order of files.

    All formats that ASE reads are supported, also gzipped. SDF and MOL files keep their bonds and formal charges
    (``info``). PDB and mmCIF files with alternate locations give one conformer (see
    ``ik_e3nn.data.files.proteins.locations.choose_locations``); crystals with partially occupied sites are refused.
    D and T in xyz files are read as hydrogen with the mass of the isotope.

    Args:
        paths: One or several files, globs (``runs/*.xyz``) or folders (without subfolders).
        index: Which structures of each file, as in ASE: ":", "-1", "::10", 0.

    Returns:
        The structures.

    Raises:
        DataError: Nothing matches, a file cannot be read, or sites are partially occupied.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ase.io.write(f"{folder}/two.xyz", [Atoms("H"), Atoms("He")])
        ...     [atoms.get_chemical_formula() for atoms in read_structures(folder)]
        ['H', 'He']
    """
    return [atoms for _, found in _read_files(paths, index) for atoms in found]


def read_located(paths: PathLike | Sequence[PathLike]) -> tuple[list[Atoms], list[str]]:
    """All structures as ``read_structures`` returns them, and the place of each in words, for messages.

    Args:
        paths: One or several files, globs or folders.

    Returns:
        The structures, and their places.

    Raises:
        DataError: As for ``read_structures``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ase.io.write(f"{folder}/two.xyz", [Atoms("H"), Atoms("He")])
        ...     read_located(folder)[1][1].removesuffix(f"{folder}/two.xyz")
        'structure 1 of '
    """
    files = _read_files(paths, ":")
    places = [f"structure {number} of {path}" for path, found in files for number in range(len(found))]
    return [atoms for _, found in files for atoms in found], places


def _read_files(paths: PathLike | Sequence[PathLike], index: str | int) -> list[tuple[Path, list[Atoms]]]:
    """Files and their structures, at least one."""
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise DataError("no data file is given")
    files = []
    for path in [file for item in given for file in expand_path(item)]:
        files.append((path, _read_file(path, index)))
        logger.info("read %d structures from %s", len(files[-1][1]), path)
    if not any(found for _, found in files):
        raise DataError(f"there are no structures in {', '.join(map(str, given))} (index {index!r})")
    return files


def read_structure(path: PathLike, frame: int | None = None) -> Atoms:
    """One structure of a file; if the file has several, the number of the chosen frame is logged.

    Args:
        path: A file.
        frame: Which frame, counted from 0, or from the end if it is negative; the last by default.

    Returns:
        The structure.

    Raises:
        DataError: The file cannot be read, or has no such frame.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ase.io.write(f"{folder}/two.xyz", [Atoms("H"), Atoms("He")])
        ...     read_structure(f"{folder}/two.xyz", 0).get_chemical_formula()
        'H'
    """
    place = user_path(path)
    if not is_file(place):
        raise DataError(f"there is no file {place}")
    several = _number_of_frames(place)
    found = None if several is not None else _read_file(place, ":")
    count = len(found) if found is not None else several or 0
    number = -1 if frame is None else frame
    if not -count <= number < count:
        raise DataError(f"{place} has {count} frames, counted from 0; there is no frame {number}")
    if count > 1:
        level = logging.WARNING if frame is None else logging.INFO
        last = " (the last; choose another with frame)" if frame is None else ""
        logger.log(level, "frame %d of 0 to %d in %s is taken%s", number % count, count - 1, place, last)
    return found[number] if found is not None else _read_file(place, number)[0]


def _number_of_frames(path: Path) -> int | None:
    """The number of frames if it can be counted without reading all of them, else None."""
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    try:
        if is_extxyz(path):
            return count_frames(path)
        if path.suffix.lower() == ".traj":
            with Trajectory(path) as file:
                return len(file)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read: {why_unreadable(path, error)}") from error
    return None


def looks_like_file(source: str) -> bool:
    """Whether a text is the name of a file, with a suffix or a folder, rather than a SMILES.

    >>> looks_like_file("water.xyz"), looks_like_file("C/C=C/C"), looks_like_file("O.O")
    (True, False, False)
    """
    name = source.lower().removesuffix(".gz")
    return name.endswith((*FOLDER_SUFFIXES, ".smi", ".csv")) or source.startswith(("./", "../", "/", "~/"))


def expand_path(path: PathLike) -> list[Path]:
    """The files of a path, a glob or a folder.

    Args:
        path: File, glob or folder.

    Returns:
        Files in sorted order, at least one.

    Raises:
        DataError: There is no such file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "a.xyz").touch()
        ...     (Path(folder) / "README.md").touch()
        ...     [file.name for file in expand_path(folder)]
        ['a.xyz']
    """
    place = user_path(path)
    try:
        is_folder = place.is_dir()
    except OSError as error:
        raise DataError(f"{str(path)!r:.60} is not a valid file name ({error.strerror})") from error
    if is_folder:
        files = sorted(file for file in place.iterdir() if file.is_file() and _is_structure_file(file))
        if not files:
            raise DataError(f"there is no structure file ({', '.join(FOLDER_SUFFIXES)}, .gz too) in the folder {place}")
        return files
    if place.exists():
        return [place]
    matches = sorted(Path(match) for match in glob.glob(str(place), recursive=True))
    files = [match for match in matches if match.is_file()]
    if not files:
        raise DataError(f"there is no file {place}" + (" (the pattern matches nothing)" if _is_glob(place) else ""))
    return files


def _is_structure_file(path: Path) -> bool:
    """Whether a file in a folder has the name of a structure file."""
    name = path.name.lower().removesuffix(".gz")
    return not name.startswith(".") and name.endswith(FOLDER_SUFFIXES)


def _is_glob(path: Path) -> bool:
    """Whether a path has wildcards."""
    return any(sign in str(path) for sign in "*?[")


def _read_file(path: Path, index: str | int) -> list[Atoms]:
    """Structures of one file."""
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    try:
        found = _parse(path, index)
    except DataError:
        raise
    except UnknownFileTypeError as error:
        if is_table(path):
            raise DataError(
                f"{path} is a table of molecules without geometries, but energies and forces need structures, as in "
                "extxyz. Tables are read by `ik-e3nn predict` for all models, and by the other commands for models of "
                "properties alone (in a configuration, data.targets without energy, forces and stress)"
            ) from error
        raise DataError(f"ASE does not know the format of {path}; convert it to extxyz") from error
    except Exception as error:
        raise DataError(f"{path} cannot be read: {why_unreadable(path, error)}") from error
    for number, atoms in enumerate(found):
        with locating(f"structure {number} of {path}" if len(found) > 1 else str(path)):
            _check_elements(atoms)
            check_occupancy(atoms)
        if RECORD in atoms.arrays:
            settle_bonds(atoms)
    return found


def _check_elements(atoms: Atoms) -> None:
    """Refuse atomic numbers of unknown elements."""
    unknown = atoms.numbers[(atoms.numbers < 0) | (atoms.numbers >= len(chemical_symbols))]
    if len(unknown):
        raise DataError(f"no element has the atomic number {unknown[0]}")


def _parse(path: Path, index: str | int) -> list[Atoms]:
    """The chosen structures of a file, read by the reader for its format."""
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    whole = string2index(str(index))
    if is_sdf(path):
        found = read_sdf(path)[whole]
    elif kind in PDB_SUFFIXES:
        found = read_pdb(_text(path), path)[whole]
    elif kind in (".cif", ".mmcif"):
        text = _text(path)
        found = (read_mmcif(text, path) if is_mmcif(text) else read_cif(text, path))[whole]
    elif kind in SHELX_SUFFIXES:
        found = read_shelx(_text(path), path)[whole]
    elif is_extxyz(path):
        found = read_xyz(path, whole)
    else:
        found = ase.io.read(path, index=index, do_not_split_by_at_sign=True)
    return found if isinstance(found, list) else [found]


def _text(path: Path) -> str:
    """The text of a file; bytes that are not UTF-8, for example in names of authors, are replaced."""
    with open_text(path) as stream:
        return stream.read()
