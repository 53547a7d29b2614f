"""Trajectory files that grow frame by frame and can be cut back to a checkpoint."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory

from ik_e3nn.atomic import naming, written_at_once
from ik_e3nn.errors import DataError
from ik_e3nn_calculators.output.kept import Kept
from ik_e3nn_calculators.systems.constraints import lost_in_extxyz

COMPILED = "compiled"  # in the info of frames: whether machine code computed the energy and forces


def snapshot(atoms: Atoms, **info: float) -> Atoms:
    """A copy of a structure that carries its energy and forces, but no calculator.

    The info of a structure with an ``IKCalculator`` says whether machine code computed them.

    Args:
        atoms: Structure with calculator.
        **info: Extra entries for ``info``, such as the step.

    Returns:
        The copy; energy and forces are the calculator's, without springs and constraints.
    """
    frame: Atoms = atoms.copy()
    frame.info.update(info)
    compiled = getattr(getattr(atoms.calc, "code", None), "is_compiled", None)  # only an IKCalculator has it
    if isinstance(compiled, bool):
        frame.info[COMPILED] = compiled
    results = {
        "energy": atoms.get_potential_energy(apply_constraint=False),
        "forces": atoms.get_forces(apply_constraint=False),
    }
    frame.calc = SinglePointCalculator(frame, **results)
    return frame


class FrameFile(ABC):
    """A trajectory file that grows frame by frame.

    Args:
        path: The file; it is created with the first frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def append(self, frame: Atoms) -> None:
        """Write one more frame; it is on disk when this returns."""

    @abstractmethod
    def mark(self) -> int:
        """The present length of the file, for ``cut``."""

    @abstractmethod
    def cut(self, mark: int) -> Kept:
        """Drop everything after a mark, and an incomplete last frame."""


class ExtxyzFile(FrameFile):
    """Extended XYZ; a mark is a number of bytes.

    Args:
        path: The file.
    """

    def append(self, frame: Atoms) -> None:
        """Write one more frame."""
        with naming(self.path):
            ase.io.write(self.path, frame, format="extxyz", append=True)

    def mark(self) -> int:
        """Number of bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, mark: int) -> Kept:
        """Shorten the file to ``mark`` bytes, or to its last complete frame if it is shorter."""
        cut_file(self.path, mark)
        frames = _whole_frames(self.path)
        end, first = next(frames, (0, None))
        if self.mark() == mark:
            return Kept(first, None, whole=True)
        last = first
        for end, last in frames:  # noqa: B007  (the values after the loop are used)
            pass
        cut_file(self.path, end)
        return Kept(first, last, whole=False)


class AseTrajectoryFile(FrameFile):
    """ASE's binary ``.traj``; a mark is a number of frames.

    Args:
        path: The file.
    """

    def append(self, frame: Atoms) -> None:
        """Write one more frame."""
        with naming(self.path), Trajectory(self.path, "a") as file:
            file.write(frame)

    def mark(self) -> int:
        """Number of frames."""
        if not self.path.exists():
            return 0
        with Trajectory(self.path) as file:
            return len(file)

    def cut(self, mark: int) -> Kept:
        """Rewrite the file with its first ``mark`` frames, or with all readable frames if there are fewer.

        Raises:
            DataError: No frame can be read.
        """
        if not self.path.exists() or self.path.stat().st_size == 0:
            self.path.unlink(missing_ok=True)  # ASE cannot append to an empty file
            return Kept(None, None, whole=mark == 0)
        try:
            with Trajectory(self.path) as file:
                there = len(file)
                left = next((count for count in range(min(there, mark), 0, -1) if _is_readable(file, count - 1)), 0)
                first, last = (file[0].info.get("step"), file[left - 1].info.get("step")) if left else (None, None)
        except Exception as error:  # damaged content can raise any kind of error
            raise DataError(
                f"{self.path} cannot be read ({error!r}); restore a copy, or move it away to do without its frames"
            ) from error
        if left < there:
            with written_at_once(self.path) as new, Trajectory(self.path) as old, Trajectory(new.name, "w") as kept:
                for index in range(left):
                    kept.write(old[index])
        return Kept(first, last, whole=left == mark)


def _is_readable(file: Trajectory, index: int) -> bool:
    """Whether a frame can be read."""
    try:
        file[index]
    except Exception:  # noqa: BLE001  (damaged content can raise any kind of error)
        return False
    return True


def _whole_frames(path: Path) -> Iterator[tuple[int, int | None]]:
    """The end of each complete frame of an extended XYZ file, in bytes, and its step if known."""
    if not path.exists():
        return
    with path.open("rb") as file:
        while (count := file.readline().strip()).isdigit():
            step = re.search(rb"\bstep=(-?\d+)", file.readline())
            if not all(file.readline().endswith(b"\n") for _ in range(int(count))):
                return
            yield file.tell(), int(step[1]) if step else None


def frame_file(folder: Path, name: str, kind: str) -> FrameFile:
    """The trajectory file ``name.kind`` in a folder, of kind ``extxyz`` or ``traj``.

    Example:
        >>> frame_file(Path("run"), "trajectory", "traj").path.as_posix()
        'run/trajectory.traj'
    """
    path = folder / f"{name}.{kind}"
    return AseTrajectoryFile(path) if kind == "traj" else ExtxyzFile(path)


def write_final(folder: Path, frame: Atoms) -> Path:
    """Write ``final.extxyz``, and also ``final.traj`` if extended XYZ cannot hold the structure's constraints.

    Args:
        folder: The folder of the run.
        frame: The last structure.

    Returns:
        The file to continue from.
    """
    kinds = ("extxyz", "traj") if lost_in_extxyz(frame) else ("extxyz",)
    for kind in kinds:
        last = frame_file(folder, "final", kind)
        last.path.unlink(missing_ok=True)
        last.append(frame)
    return last.path


def cut_file(path: Path, size: int) -> None:
    """Shorten a file to ``size`` bytes, if it exists and is longer.

    Args:
        path: The file.
        size: Number of bytes to keep.
    """
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)
