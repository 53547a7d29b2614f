"""SHELX files of crystals (.res), read by ASE, with checks that ASE does not make: occupancies and symmetry."""

import re
from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.io.res import Res

from ik_e3nn.errors import DataError, locating
from ik_e3nn.graph import check_occupancy

SHELX_SUFFIXES = (".res", ".shelx")
# SHELX fixes a value p by writing 10 + p; numbers outside of this range refer to a free variable of the refinement.
_FIXED, _FREE = 5.0, 15.0


def read_shelx(text: str, path: Path) -> list[Atoms]:
    r"""All structures of a SHELX file, each of which ends with the line END.

    Args:
        text: The file's text.
        path: Its name, for messages.

    Returns:
        The structures, periodic, with the energy that structure search programs write into the title.

    Raises:
        DataError: A site is partially occupied, the file needs symmetry copies of its atoms, or it has no atoms.

    Example:
        >>> text = "CELL 1 4 4 4 90 90 90\nLATT -1\nSFAC Cu\nCu 1 0 0 0 11.0\nEND"
        >>> read_shelx(text, Path("copper.res"))[0].get_chemical_formula()
        'Cu'
    """
    blocks = [block for block in re.split(r"(?m)^END\b.*$", text) if re.search(r"(?m)^SFAC\b", block)]
    structures = []
    for number, block in enumerate(blocks):
        with locating(f"structure {number} of {path}"):
            structures.append(_structure(block))
    if not structures:
        raise DataError(f"{path} cannot be read: no line SFAC names the elements of a structure")
    return structures


def _structure(block: str) -> Atoms:
    """One structure."""
    lines = [words for line in block.splitlines() if (words := line.split())]
    if any(words[0] == "SYMM" or (words[0] == "LATT" and words[1:] != ["-1"]) for words in lines):
        raise DataError(
            "it holds the atoms of one asymmetric unit (it has lines SYMM, or LATT other than -1), and their copies "
            "are not made; for the crystal, give a file of its whole cell"
        )
    found = Res.from_string(block)
    atoms = found.atoms
    rows = [words for words in lines if len(words) > 4 and words[0] in atomic_numbers and words[1].isdigit()]
    if len(rows) != len(atoms) or not rows:
        raise DataError(
            f"{len(atoms)} atoms with an occupancy can be read, and there are {len(rows)} lines of atoms; a line must "
            "hold the symbol, the number of the element, x, y, z and the occupancy"
        )
    atoms.info["occupancy"] = {str(i): {row[0]: _occupancy(row, i)} for i, row in enumerate(rows)}
    check_occupancy(atoms)
    del atoms.info["occupancy"]
    if found.energy:
        atoms.calc = SinglePointCalculator(atoms, energy=found.energy)
    return atoms


def _occupancy(row: list[str], index: int) -> float:
    """The occupancy in the line of an atom."""
    value = float(row[5])
    if not 0.0 <= value <= _FREE:
        raise DataError(
            f"sites are occupied in part: the occupancy of {row[0]} at atom {index}, {row[5]}, refers to a free "
            "variable of the refinement; write the occupancy itself, and keep one place of an atom that is split"
        )
    return value - 10.0 if value > _FIXED else value
