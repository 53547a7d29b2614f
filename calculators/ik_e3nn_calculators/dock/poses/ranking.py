"""The ranked list of relaxed poses: which can be trusted, binding energies, clusters, order."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ik_e3nn.data import slab_operations
from ik_e3nn.errors import DataError, MissingDependencyError
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn_calculators.dock.poses.cluster import PoseDistance, cluster
from ik_e3nn_calculators.dock.poses.results import Pose, tilt
from ik_e3nn_calculators.dock.search.alone import SAME, lowest_alone
from ik_e3nn_calculators.dock.search.energies import PoseEnergies
from ik_e3nn_calculators.dock.search.relax import RelaxState
from ik_e3nn_calculators.dock.settings import DockSettings
from ik_e3nn_calculators.dock.system.host import SITE, Host
from ik_e3nn_calculators.dock.system.ligand import Ligand
from ik_e3nn_calculators.dock.system.reference import reference_pose

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Search:
    """A search whose poses are relaxed.

    Args:
        settings: The settings.
        ligand: The molecule.
        host: The host.
        energies: The energies that the poses were relaxed with.
        alone: Energies of host and molecule alone, in eV.
        state: The relaxed poses.
        kinds: Index of the starting conformer of each pose, (P,).
    """

    settings: DockSettings
    ligand: Ligand
    host: Host
    energies: PoseEnergies
    alone: tuple[float, float]
    state: RelaxState
    kinds: NDArray[np.int64]


def ranked(search: Search, outside: Sequence[str]) -> list[Pose]:
    """All poses in order: those inside of the model's domain, best first, then those outside, then failed ones.

    Args:
        search: The search.
        outside: Why each pose cannot be trusted; empty if it can.

    Returns:
        The poses.

    Raises:
        DataError: The relaxation of every pose failed.
    """
    settings, ligand, host, state = search.settings, search.ligand, search.host, search.state
    good = np.isfinite(state.energies) & np.isfinite(state.fmax)
    if not good.any():
        raise DataError(f"every relaxation failed ({search.energies.failure}); the region may be too close to the host")
    host_alone, free = search.alone
    bent = np.full(len(good), np.nan)
    bent[good] = search.energies.alone(state.positions[good])[0]
    if bent[good].min() < free - SAME:  # a pose has the molecule in a better geometry than any conformer
        found = state.positions[good][bent[good].argmin()][None]
        free = min(free, lowest_alone(found, search.energies, fmax=settings.fmax, steps=settings.steps))
    binding = state.energies - host_alone - free
    doubtful = np.array([bool(reason) for reason in outside])
    order = np.lexsort((binding, doubtful))
    order = order[good[order]]
    heavy = state.positions[:, ligand.heavy]
    clusters = cluster(heavy, order, _distance(ligand, host, search.energies), settings.distinct)
    reference, rmsd = reference_pose(ligand, settings.region.around), PoseDistance(ligand.automorphisms())

    def pose(number: int) -> Pose:
        place, has_surface = state.positions[number], host.is_surface and good[number]
        return Pose(
            pose=number,
            conformer=int(search.kinds[number]),
            cluster=int(clusters[number]),
            outside=outside[number],
            converged=bool(state.fmax[number] <= settings.fmax),
            steps=int(state.evaluations[number]) - 1,
            binding_eV=float(binding[number]),
            interaction_eV=float(binding[number] - (bent[number] - free)),
            strain_eV=float(bent[number] - free),
            height_A=float(place[:, 2].mean() - host.top) if has_surface else np.nan,
            tilt_deg=tilt(heavy[number]) if has_surface else np.nan,
            site=site(host, place) if has_surface else "",
            rmsd_A=np.nan if reference is None or not good[number] else rmsd(reference, heavy[number]),
        )

    return [pose(number) for number in [*order.tolist(), *np.flatnonzero(~good).tolist()]]


def site(host: Host, positions: FloatArray) -> str:
    """Where the center of a molecule is in the lattice of a face: fractions "u1 u2" of its vectors; otherwise empty.

    Of all places that the operations of the plane group make equal, it is the first in order.

    Example:
        >>> from ase import Atoms
        >>> from ik_e3nn.symmetry import PlaneGroup
        >>> face = Host(Atoms(), "face", plane=PlaneGroup("p4m", [[2.0, 0.0], [0.0, 2.0]]))
        >>> site(face, np.array([[3.5, 1.0, 3.0]]))
        '0.25 0.50'
    """
    if host.plane is None:
        return ""
    u = positions.mean(axis=0) @ np.linalg.pinv(np.asarray(host.lattice))
    images = host.plane.rotations.numpy() @ u + host.plane.shifts.numpy()
    images = np.round(np.round(images, 2) % 1.0, 2)  # equal numbers, so that the order is that of what is printed
    first = images[np.lexsort((images[:, 1], images[:, 0]))[0]]
    return f"{first[0]:.2f} {first[1]:.2f}"


def leaders(poses: Sequence[Pose]) -> list[Pose]:
    """The best pose of every cluster."""
    best: dict[int, Pose] = {}
    for pose in poses:
        if pose.cluster >= 0:
            best.setdefault(pose.cluster, pose)
    return list(best.values())


def _distance(ligand: Ligand, host: Host, energies: PoseEnergies) -> PoseDistance:
    """The distance of poses, minimized over all symmetries that keep the host and the model's energy."""
    maps = ligand.automorphisms()
    if host.plane is not None:
        shifts = host.plane.shifts.numpy() @ np.asarray(host.lattice)
        return PoseDistance(maps, None, host.lattice, (host.plane.matrices.numpy(), shifts))
    group = None if energies.model is None else energies.model.group
    if host.name == SITE:
        elements = np.eye(3)[None] if group is None else group.components.numpy()
        return PoseDistance(maps, operations=(elements, np.zeros((len(elements), 3))))
    if len(host.atoms) == 0:
        return PoseDistance(maps, group or SymmetryGroup("Cinfv"))
    distance = PoseDistance(maps, None, host.atoms.cell.array[host.atoms.pbc])
    if not host.is_surface:
        return distance
    try:
        rotations, shifts = slab_operations(host.atoms)
    except (DataError, MissingDependencyError) as error:
        _log.warning("poses that are equal by the symmetry of %s are listed separately: %s", host.name, error)
        return distance
    kept = [group is None or group.contains(torch.from_numpy(rotation)) for rotation in rotations]
    return replace(distance, operations=(rotations[kept], shifts[kept]))
