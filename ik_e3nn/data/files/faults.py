"""Why a file cannot be read: in words, with frame and line as far as they are known."""

import io
import re
from contextlib import suppress
from pathlib import Path

import ase.io
from ase.data import atomic_numbers
from ase.io.formats import filetype, get_ioformat

from ik_e3nn.data.files.extxyz import is_extxyz
from ik_e3nn.data.files.xyz_text import first_fault, open_text
from ik_e3nn.data.structures.isotopes import HYDROGEN_ISOTOPES


def why_unreadable(path: Path, error: BaseException) -> str:
    """The reason for an error of a reader.

    Args:
        path: The file.
        error: What the reader raised.

    Returns:
        One sentence: the fault in its frame and line where it is found, else what the reader said.

    Example:
        >>> why_unreadable(Path("a.traj"), AssertionError())
        'its content is not what the format asks for (AssertionError)'
    """
    if is_extxyz(path):
        try:
            fault = first_fault(path)
        except (OSError, EOFError, ValueError):  # a broken archive, or no text
            fault = ""
        if fault:
            return fault
    symbol = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
    if re.fullmatch(r"[A-Z][A-Za-z]?\d*", symbol) and symbol not in atomic_numbers:
        isotope = "; give H here, or an xyz, SDF, PDB or CIF file, of which isotopes are read"
        return f"{symbol!r} is no chemical element{isotope * (symbol in HYDROGEN_ISOTOPES)}"
    said = str(error).strip()
    if isinstance(error, RuntimeError) and "StopIteration" in said:
        said = "the file ends too early"
    reason = f"{type(error).__name__}: {said}" if said else ""
    reason = reason or f"its content is not what the format asks for ({type(error).__name__})"
    line = _line(path)
    return f"{reason} (at or before line {line})" if line else reason


def _line(path: Path) -> int | None:
    """How far a reader of text comes before it fails; None if that cannot be said."""
    place = size = 0
    text = ""
    with suppress(Exception):  # the error that is told is the reader's; this only adds to it
        known = get_ioformat(filetype(str(path)))
        if known.isbinary or not known.acceptsfd:
            return None
        with open_text(path) as stream:
            text = stream.read()
        again, size = io.StringIO(text), len(text)
        with suppress(Exception):
            ase.io.read(again, index=":", format=known.name)
        place = again.tell()
    return text.count("\n", 0, place) if 0 < place < size else None
