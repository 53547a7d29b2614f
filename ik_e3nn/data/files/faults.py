"""The reason why a file cannot be read, with frame and line if they are known."""

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
        error: The error that the reader raised.

    Returns:
        One sentence: the fault with its frame and line if it is found, else the message of the reader.

    Example:
        >>> why_unreadable(Path("a.traj"), AssertionError())
        'its content does not match its format (AssertionError)'
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
        isotope = "; write H here, or give an xyz, SDF, PDB or CIF file, from which isotopes are read"
        return f"{symbol!r} is no chemical element{isotope * (symbol in HYDROGEN_ISOTOPES)}"
    said = str(error).strip()
    if isinstance(error, RuntimeError) and "StopIteration" in said:
        said = "the file ends too early"
    reason = f"{type(error).__name__}: {said}" if said else ""
    reason = reason or f"its content does not match its format ({type(error).__name__})"
    line = _line(path)
    return f"{reason} (at or before line {line})" if line else reason


def _line(path: Path) -> int | None:
    """The line at which a reader of text fails; None if it cannot be found."""
    place = size = 0
    text = ""
    with suppress(Exception):  # an error here must not hide the reader's own error
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
