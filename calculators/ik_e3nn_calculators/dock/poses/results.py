"""The results of a pose search: energies, geometries and clusters, and their table, structures and pictures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atom, Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from numpy.typing import NDArray

from ik_e3nn.data.files.writing import whole_file
from ik_e3nn.data.structures.chem import Chem, Geometry
from ik_e3nn.pictures import WIDTH, picture
from ik_e3nn_calculators.dock.system.host import Host
from ik_e3nn_calculators.dock.system.ligand import Ligand

FloatArray = NDArray[np.float64]

PICTURES = 4
COLORS = 10  # of clusters
PALE = 0.4  # of the strength of a color
LINEAR = 0.1  # A; a molecule thinner than this has an axis but no plane


@dataclass(frozen=True)
class Pose:
    """One relaxed pose.

    Attributes:
        pose: Its number in the order of placement.
        conformer: Index of the conformer that it started from.
        cluster: Number of its distinct pose, 0 for the best; -1 if the relaxation failed.
        outside: Why the model cannot be trusted for this pose, which then has no rank; empty if it can.
        converged: Whether the forces are below the goal.
        steps: Number of steps of the relaxation.
        binding_eV: Energy of host and molecule together, minus the energies of the host and of the relaxed molecule
            alone; poses are ranked by this sum of the next two. If the energy of the molecule depends on its
            orientation even far from a surface, its lowest value is used.
        interaction_eV: Energy of host and molecule together, minus the energies of the host and of the molecule alone
            in the geometry of the pose.
        strain_eV: Energy of the molecule alone in the geometry of the pose, minus that of the relaxed molecule.
        height_A: Height of the molecule's center over the surface; NaN without a surface.
        tilt_deg: Angle of its plane (of its axis, if it is linear) with the surface; NaN without a surface.
        site: Where the center is in the lattice of a face without atoms, as fractions of its vectors; otherwise empty.
        rmsd_A: Root mean square distance of heavy atoms from a reference pose; NaN without a reference.
    """

    pose: int
    conformer: int
    cluster: int
    outside: str
    converged: bool
    steps: int
    binding_eV: float  # noqa: N815
    interaction_eV: float  # noqa: N815
    strain_eV: float  # noqa: N815
    height_A: float  # noqa: N815
    tilt_deg: float
    site: str
    rmsd_A: float  # noqa: N815


def tilt(positions: FloatArray) -> float:
    """Angle in degrees of a molecule's plane, or of its axis if it is linear, with the plane z = 0.

    Example:
        >>> tilt(np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0.0]])), tilt(np.array([[0, 0, 0], [0, 0, 1.0]]))
        (0.0, 90.0)
    """
    if len(positions) < 2:
        return 0.0
    _, spreads, axes = np.linalg.svd(positions - positions.mean(axis=0))
    if len(positions) == 2 or spreads[1] < LINEAR:
        return float(np.degrees(np.arcsin(min(abs(axes[0, 2]), 1.0))))
    return float(np.degrees(np.arccos(min(abs(axes[2, 2]), 1.0))))


def write_table(path: Path, poses: Sequence[Pose]) -> None:
    """Write all poses, best first, as CSV; NaN is an empty cell."""
    names = [field.name for field in fields(Pose)]
    with whole_file(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for pose in poses:
            values = [getattr(pose, name) for name in names]
            writer.writerow(
                [("" if np.isnan(value) else f"{value:.6f}") if isinstance(value, float) else value for value in values]
            )


def write_sdf(path: Path, ligand: Ligand, poses: Sequence[Pose], positions: FloatArray) -> None:
    """Write poses of the molecule as SDF, with their results as properties."""
    molecule = Chem.Mol(ligand.molecule)
    molecule.RemoveAllConformers()
    with whole_file(path, overwrite=True) as temporary:
        writer = Chem.SDWriter(str(temporary))
        for pose, place in zip(poses, positions, strict=True):
            conformer = Chem.Conformer(len(ligand))
            for index, point in enumerate(place):
                conformer.SetAtomPosition(index, Geometry.Point3D(*map(float, point)))
            molecule.RemoveAllConformers()
            molecule.AddConformer(conformer)
            molecule.SetProp("_Name", ligand.name)
            for field in fields(Pose):
                molecule.SetProp(field.name, str(getattr(pose, field.name)))
            writer.write(molecule)
        writer.close()


def write_extxyz(path: Path, poses: Sequence[Pose], structures: Sequence[Atoms]) -> None:
    """Write host and molecule of poses as extxyz."""
    frames = []
    for pose, atoms in zip(poses, structures, strict=True):
        frame = atoms.copy()
        values = {field.name: getattr(pose, field.name) for field in fields(Pose)}
        frame.info.update({name: value for name, value in values.items() if value != ""})
        frames.append(frame)
    with whole_file(path, overwrite=True) as temporary:
        ase.io.write(temporary, frames, format="extxyz")


def plot_energies(path: Path, poses: Sequence[Pose]) -> None:
    """Plot binding energy against height and tilt, or against the distance from the reference, colored by cluster.

    Poses without a rank are left out, because their energies would dominate the scale, unless there are no others.
    """
    columns = {"height_A": "height (Å)", "tilt_deg": "tilt (degrees)", "rmsd_A": "distance from the reference (Å)"}
    shown = [name for name in columns if any(np.isfinite(getattr(pose, name)) for pose in poses)] or ["strain_eV"]
    columns["strain_eV"] = "strain (eV)"
    good = [pose for pose in poses if pose.cluster >= 0 and not pose.outside]
    marked = [pose for pose in poses if pose.cluster >= 0 and pose.outside]
    shared = any(pose.cluster >= COLORS for pose in good)
    unranked = f", {len(marked)} without a rank" + (" not shown" if good else "") if marked else ""
    colors = "colors are distinct poses" + (f", one for all from the {COLORS}th on" if shared else "")
    with picture(path, 1, len(shown), width=min(WIDTH, 2.6 * len(shown) + 2.4), sharey=True) as (figure, [row]):
        for axes, name in zip(row, shown, strict=True):
            axes.scatter(
                [getattr(pose, name) for pose in good],
                [pose.binding_eV for pose in good],
                c=[min(pose.cluster, COLORS - 1) for pose in good],
                cmap="tab10", vmin=-0.5, vmax=9.5, s=18, alpha=0.8,
            )  # fmt: skip
            if not good:
                axes.scatter(
                    [getattr(pose, name) for pose in marked], [pose.binding_eV for pose in marked], c="gray", marker="x"
                )
            axes.set(xlabel=columns[name])
        row[0].set_ylabel("binding energy (eV)")
        figure.suptitle(f"{len(good)} ranked poses, {colors}{unranked}", wrap=True)


def plot_best(path: Path, poses: Sequence[Pose], structures: Sequence[Atoms], host: Host) -> None:
    """Draw the best poses from the side and from above, the host in pale colors; a line marks the surface."""
    count = min(len(poses), PICTURES)
    panel = min(WIDTH / count, 2.6)
    with picture(path, 2, count, width=max(panel * count, 3.4), height=2 * panel + 0.6) as (figure, grid):
        for index in range(count):
            atoms = structures[index]
            ligand = atoms.positions[len(host.atoms) :]
            middle = ligand.mean(axis=0)
            reach = np.ptp(ligand, axis=0).max() / 2 + 5.0
            near = np.flatnonzero(np.linalg.norm(atoms.positions - middle, axis=1) < reach)
            for axes, (right, up, away, sign) in zip(grid[:, index], ((0, 2, 1, 1), (0, 1, 2, -1)), strict=True):
                for number in near[np.argsort(-sign * atoms.positions[near, away])]:  # atoms in front are drawn last
                    axes.add_patch(_circle(atoms[number], right, up, of_ligand=number >= len(host.atoms)))
                axes.set(xlabel="xyz"[right] + " (Å)", ylabel="xyz"[up] + " (Å)", aspect="equal")
                axes.set_xlim(middle[right] - reach, middle[right] + reach)
                axes.set_ylim(middle[up] - reach, middle[up] + reach)
            grid[0, index].set_title(f"pose {poses[index].pose}: {poses[index].binding_eV:.3f} eV")
            if host.is_surface:
                grid[0, index].axhline(host.top, color="gray", linewidth=1)
        figure.suptitle("best distinct poses and their binding energies\nfrom the side, and from above")


def _circle(atom: Atom, right: int, up: int, *, of_ligand: bool) -> Any:
    """An atom in a picture; atoms of the host are pale."""
    from matplotlib.patches import Circle

    color = jmol_colors[atom.number]
    return Circle(
        (atom.position[right], atom.position[up]),
        covalent_radii[atom.number],
        facecolor=color if of_ligand else 1.0 - PALE * (1.0 - color),
        edgecolor="black" if of_ligand else "0.5",
        linewidth=1.0 if of_ligand else 0.5,
    )
