"""Trajectory files that can be appended to, and cut back to where a checkpoint left them."""

import os
from abc import ABC, abstractmethod
from pathlib import Path

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory

from ik_e3nn.atomic import naming, written_at_once
from ik_e3nn_calculators.constraints import lost_in_extxyz


def snapshot(atoms: Atoms, **info: float) -> Atoms:
    """A copy of a structure that carries its energy and forces, but no calculator.

    Args:
        atoms: Structure with calculator.
        **info: Extra entries for `info`, such as the step.

    Returns:
        The copy; energy and forces are the calculator's, without springs and constraints.
    """
    frame: Atoms = atoms.copy()
    frame.info.update(info)
    results = {
        "energy": atoms.get_potential_energy(apply_constraint=False),
        "forces": atoms.get_forces(apply_constraint=False),
    }
    frame.calc = SinglePointCalculator(frame, **results)
    return frame


class FrameFile(ABC):
    """A trajectory that grows at its end.

    Args:
        path: The file; it is made by the first frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def append(self, frame: Atoms) -> None:
        """Write one more frame; it is on disk when this returns."""

    @abstractmethod
    def mark(self) -> int:
        """The present end, to come back to."""

    @abstractmethod
    def cut(self, mark: int) -> None:
        """Drop everything after a mark."""


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

    def cut(self, mark: int) -> None:
        """Shorten the file to so many bytes."""
        cut_file(self.path, mark)


class AseTrajectoryFile(FrameFile):
    """ASE's binary `.traj`; a mark is a number of frames.

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

    def cut(self, mark: int) -> None:
        """Rewrite the file with the first so many frames."""
        if self.mark() <= mark:
            return
        with written_at_once(self.path) as file, Trajectory(self.path) as old, Trajectory(file.name, "w") as new:
            for index in range(mark):
                new.write(old[index])


def frame_file(folder: Path, name: str, kind: str) -> FrameFile:
    """The trajectory file `name.kind` in a folder, of kind `extxyz` or `traj`.

    Example:
        >>> frame_file(Path("run"), "trajectory", "traj").path.as_posix()
        'run/trajectory.traj'
    """
    path = folder / f"{name}.{kind}"
    return AseTrajectoryFile(path) if kind == "traj" else ExtxyzFile(path)


def write_final(folder: Path, frame: Atoms) -> Path:
    """Write `final.extxyz`, and `final.traj` too where extended XYZ cannot hold the structure's constraints.

    Args:
        folder: The folder of the run.
        frame: The last structure.

    Returns:
        The file to go on from.
    """
    kinds = ("extxyz", "traj") if lost_in_extxyz(frame) else ("extxyz",)
    for kind in kinds:
        last = frame_file(folder, "final", kind)
        last.path.unlink(missing_ok=True)
        last.append(frame)
    return last.path


def cut_file(path: Path, size: int) -> None:
    """Shorten a file to `size` bytes, if it is there and longer.

    Args:
        path: The file.
        size: Bytes to keep.
    """
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)
