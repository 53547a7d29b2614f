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

_MANY = 10**7  # atoms; a frame with more is refused
_WIDE = re.compile(r":[A-Za-z]:(\d{6,})")  # more columns than any property has
_PROPERTIES = "species:S:1:pos:R:3"  # default columns


class _EndlessError(DataError):
    """A frame announces so many atoms or columns that ASE's reader would run for hours or fill the memory."""


class Frame(NamedTuple):
    """One frame of a file.

    Attributes:
        number: Its place in the file, from 0.
        line: Its first line, from 1.
        size: Number of its lines.
        lines: The count, the comment and one line for each atom.
    """

    number: int
    line: int
    size: int
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

    Args:
        path: An xyz or extxyz file, gzipped or not.
        index: Which frames.

    Returns:
        The frames.

    Raises:
        DataError: The file cannot be read; the message names frame and line if they are known.
    """
    if not path.name.lower().endswith(".gz") and not _has_gaps(path):
        try:
            found = ase.io.read(path, index=index, format="extxyz", do_not_split_by_at_sign=True)
            return found if isinstance(found, list) else [found]
        except KeyError as error:
            if not {str(key).capitalize() for key in error.args} & HYDROGEN_ISOTOPES.keys():
                raise
    text, isotopes = plain_text(path)
    # ASE seeks back and forth, which is about twenty times as fast in memory as in a gzipped file.
    places = range(len(isotopes))[index]
    found = ase.io.read(io.StringIO(text), index=index, format="extxyz")
    chosen = found if isinstance(found, list) else [found]
    for atoms, place in zip(chosen, [places] if isinstance(places, int) else places, strict=True):
        if "masses" not in atoms.arrays:
            set_isotopes(atoms, isotopes[place])
    return chosen


def _has_gaps(path: Path) -> bool:
    """Whether there are blank lines before a frame, where ASE's reader stops, or bytes that it may fail to decode."""
    expected = 1
    try:
        with path.open("rb") as binary:
            if binary.read(3) == b"\xef\xbb\xbf":
                return True
        with open_text(path, errors="strict") as stream:
            for frame in _frames(stream, path, keep=False):
                if frame.line != expected:
                    return True
                expected += frame.size
    except UnicodeDecodeError:  # a comment in another encoding
        return True
    except _EndlessError:
        return True
    except DataError:  # ASE's reader raises an error if this frame is read
        return False
    return False


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
        return sum(1 for _ in _frames(stream, path, keep=False))


def plain_text(path: Path) -> tuple[str, list[list[int]]]:
    """The text without D, T and blank lines between frames, which ASE cannot read, and the isotopes of each frame.

    Args:
        path: An xyz or extxyz file, gzipped or not.

    Returns:
        The text; and for every frame the mass number of every atom, 0 for the natural mixture.

    Raises:
        DataError: As for ``count_frames``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ase.io.write(f"{folder}/a.xyz", Atoms("OH"))
        ...     file = Path(folder) / "a.xyz"
        ...     _ = file.write_text(file.read_text().replace("H ", "D "))
        ...     plain_text(file)[1]
        [[0, 2]]
    """
    text, isotopes = [], []
    with open_text(path) as stream:
        for frame in _frames(stream, path, keep=True):
            column = _column(frame.lines[1], "species")
            lines, found = frame.lines[:2], []
            for line in frame.lines[2:]:
                words = line.split()
                symbol = words[column].capitalize() if column is not None and column < len(words) else ""
                element, isotope = HYDROGEN_ISOTOPES.get(symbol, ("", 0))
                if isotope and column is not None:
                    words[column] = element
                lines.append(" ".join(words) + "\n" if isotope else line)
                if not line.lstrip().startswith("VEC"):
                    found.append(isotope)
            text += lines
            isotopes.append(found)
    return "".join(line if line.endswith("\n") else line + "\n" for line in text), isotopes


def first_fault(path: Path) -> str:
    """The first fault of a file that cannot be read, with frame and line; "" if no fault is found.

    Args:
        path: An xyz or extxyz file, gzipped or not.

    Returns:
        The fault in words.
    """
    try:
        with open_text(path) as stream:
            for frame in _frames(stream, path, keep=True):
                fault = _fault(frame)
                if fault:
                    return fault
    except DataError as error:
        return str(error).removeprefix(f"{path} cannot be read: ")
    return ""


def _frames(stream: IO[str], path: Path, *, keep: bool) -> Iterator[Frame]:
    """Frames of a stream, with all their lines only if ``keep`` is True."""
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
        lines, taken = [waiting], 1
        for line in islice(stream, min(count + 1, sys.maxsize)):
            taken += 1
            wide = _WIDE.search(line) if taken == 2 else None
            if wide is not None:
                raise _EndlessError(
                    f"{path} cannot be read: frame {number}, line {at + 1}: a property with {wide[1]:.30} columns is "
                    "announced"
                )
            if keep:
                lines.append(line)
        if taken < count + 2 and not (count == 0 and taken == 1):
            kind = DataError if count < _MANY else _EndlessError
            raise kind(
                f"{path} cannot be read: frame {number}, line {at}: {count} atoms are announced, but the file ends "
                f"after {max(taken - 2, 0)}"
            )
        waiting, first = next(stream, None), at
        at += taken - 1
        while waiting is not None and waiting.lstrip().startswith("VEC"):
            at += 1
            lines += [waiting] if keep else []
            waiting = next(stream, None)
        yield Frame(number, first, at + 1 - first, lines)
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
