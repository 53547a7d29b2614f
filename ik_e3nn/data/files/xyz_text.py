"""The text of xyz and extxyz files: beginnings of frames, faults with their lines, and the symbols D and T."""

import gzip
import io
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import ase.io
from ase import Atoms
from ase.data import atomic_numbers

from ik_e3nn.data.structures.isotopes import HYDROGEN_ISOTOPES, set_isotopes
from ik_e3nn.errors import DataError

_WIDE = re.compile(r":[A-Za-z]:(\d{6,})")  # more columns than any property has
_PROPERTIES = "species:S:1:pos:R:3"  # default columns


class Frame(NamedTuple):
    """One frame of a file.

    Attributes:
        number: Its place in the file, from 0.
        line: Its first line, from 1.
        lines: The count, the comment, one line for each atom, and the vectors of the cell in some files.
    """

    number: int
    line: int
    lines: list[str]


def open_text(path: Path, errors: str = "replace") -> IO[str]:
    """Open a text file for reading, gzipped or not, without the byte order mark that some editors write.

    Args:
        path: The file.
        errors: How to treat bytes that are not UTF-8, as for ``open``.

    Returns:
        The stream.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a.xyz"
        ...     _ = file.write_text("1", encoding="utf-8-sig")
        ...     with open_text(file) as stream:
        ...         stream.read()
        '1'
    """
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors=errors)
    return path.open(encoding="utf-8-sig", errors=errors)


def read_xyz(path: Path, index: int | slice) -> list[Atoms]:
    """Frames of a file by ASE's reader; D and T become hydrogen with the mass of the isotope.

    ASE seeks back and forth, stops at blank lines and does not know D and T: it is given the text of the frames.

    Args:
        path: An xyz or extxyz file, gzipped or not.
        index: Which frames.

    Returns:
        The frames; none if the file has no such frames.

    Raises:
        DataError: A frame does not begin with its number of atoms, or ends too early; the message names frame and line.
    """
    frames = [_plain(frame) for frame in _chosen(path, index)]
    if not frames:
        return []
    found = ase.io.read(io.StringIO("".join(text for text, _ in frames)), index=":", format="extxyz")
    for atoms, (_, isotopes) in zip(found, frames, strict=True):
        if "masses" not in atoms.arrays:
            set_isotopes(atoms, isotopes)
    return list(found)


def _chosen(path: Path, index: int | slice) -> list[Frame]:
    """Some frames of a file, whose other frames are only counted."""
    chosen = range(count_frames(path))[index]
    places = [chosen] if isinstance(chosen, int) else chosen
    with open_text(path) as stream:
        found = {frame.number: frame for frame in _frames(stream, path) if frame.number in places}
    return [found[place] for place in places]


def count_frames(path: Path) -> int:
    """Number of frames in a file, without reading their atoms.

    Args:
        path: An xyz or extxyz file, gzipped or not.

    Returns:
        The number.

    Raises:
        DataError: A frame does not begin with its number of atoms, or ends too early; the message names frame and line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ase.io.write(f"{folder}/a.xyz", [Atoms("H"), Atoms("He")])
        ...     count_frames(Path(folder) / "a.xyz")
        2
    """
    with open_text(path) as stream:
        return sum(1 for _ in _frames(stream, path))


def _plain(frame: Frame) -> tuple[str, list[int]]:
    """The text of a frame with H in place of D and T, and the mass number of every atom, 0 for the natural mixture."""
    column = _column(frame.lines[1], "species")
    lines, isotopes = frame.lines[:2], []
    for line in frame.lines[2:]:
        words = line.split()
        symbol = words[column].capitalize() if column is not None and column < len(words) else ""
        element, isotope = HYDROGEN_ISOTOPES.get(symbol, ("", 0))
        if isotope and column is not None:
            words[column] = element
        lines.append(" ".join(words) if isotope else line)
        if not line.lstrip().startswith("VEC"):
            isotopes.append(isotope)
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines), isotopes


def first_fault(path: Path) -> str:
    """The first fault of a file that cannot be read, with frame and line; "" if no fault is found.

    Args:
        path: An xyz or extxyz file, gzipped or not.

    Returns:
        The fault in words.
    """
    try:
        with open_text(path) as stream:
            for frame in _frames(stream, path):
                fault = _fault(frame)
                if fault:
                    return fault
    except DataError as error:
        return str(error).removeprefix(f"{path} cannot be read: ")
    return ""


def _frames(stream: IO[str], path: Path) -> Iterator[Frame]:
    """Frames of a stream."""
    number, at = 0, 0
    waiting = next(stream, None)
    while waiting is not None:
        at += 1
        if not waiting.strip():
            waiting = next(stream, None)
            continue
        try:
            count = int(waiting)
        except ValueError:
            count = -1
        if count < 0:
            raise DataError(
                f"{path} cannot be read: frame {number}, line {at}: the number of atoms is expected, got "
                f"{waiting.strip()!r:.60}"
            )
        lines = [waiting]
        for line in islice(stream, min(count + 1, sys.maxsize)):
            wide = _WIDE.search(line) if len(lines) == 1 else None
            if wide is not None:
                raise DataError(
                    f"{path} cannot be read: frame {number}, line {at + 1}: a property with {wide[1]:.30} columns is "
                    "announced"
                )
            lines.append(line)
        if len(lines) < count + 2 and not (count == 0 and len(lines) == 1):
            raise DataError(
                f"{path} cannot be read: frame {number}, line {at}: {count} atoms are announced, but the file ends "
                f"after {max(len(lines) - 2, 0)}"
            )
        waiting = next(stream, None)
        while waiting is not None and waiting.lstrip().startswith("VEC"):
            lines.append(waiting)
            waiting = next(stream, None)
        yield Frame(number, at, lines)
        at += len(lines) - 1
        number += 1


def _fault(frame: Frame) -> str:
    """The first fault in the lines of a frame; "" if there is none."""
    names = _names(frame.lines[1])
    kinds = _kinds(frame.lines[1])
    species = _column(frame.lines[1], "species")
    for offset, line in enumerate(frame.lines[2:], start=2):
        words = line.split()
        where = f"frame {frame.number}, line {frame.line + offset}: "
        if words and words[0].startswith("VEC"):
            continue
        if len(words) < len(kinds):
            return f"{where}{len(kinds)} values are expected ({', '.join(names)}), got {line.strip()!r:.60}"
        if species is not None and words[species].capitalize() not in {*atomic_numbers, *HYDROGEN_ISOTOPES}:
            return f"{where}{words[species]!r} is no chemical element"
        for word, kind in zip(words, kinds, strict=False):
            if not _is(kind, word):
                return f"{where}{'a whole number' if kind == 'I' else 'a number'} is expected, got {word!r:.40}"
    return ""


def _is(kind: str, word: str) -> bool:
    """Whether a word can be read as the kind of its column."""
    try:
        {"R": float, "I": int}.get(kind, str)(word)
    except ValueError:
        return False
    return True


def _properties(comment: str) -> Sequence[str]:
    """The parts of ``Properties=...`` in the comment of a frame."""
    marks = [word for word in comment.split() if word.startswith("Properties=")]
    found = marks[0].removeprefix("Properties=").strip("\"'") if marks else _PROPERTIES
    parts = found.split(":")
    return parts if len(parts) % 3 == 0 and all(width.isdigit() for width in parts[2::3]) else _PROPERTIES.split(":")


def _names(comment: str) -> list[str]:
    parts = _properties(comment)
    return [f"{name} x {width}" if width != "1" else name for name, width in zip(parts[::3], parts[2::3], strict=True)]


def _kinds(comment: str) -> list[str]:
    """One letter for every column: S, R, I or L."""
    parts = _properties(comment)
    return [kind for kind, width in zip(parts[1::3], parts[2::3], strict=True) for _ in range(int(width))]


def _column(comment: str, name: str) -> int | None:
    """The first column of a property; None if the frame does not have it."""
    parts = _properties(comment)
    names = parts[::3]
    return sum(int(width) for width in parts[2::3][: names.index(name)]) if name in names else None
