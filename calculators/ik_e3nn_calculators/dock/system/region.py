"""The region where poses begin, and starting poses that do not clash."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ik_e3nn.errors import DataError
from ik_e3nn.graph import near_pairs
from ik_e3nn_calculators.dock.settings import HEIGHTS, RADIUS, RegionSettings
from ik_e3nn_calculators.dock.system.host import SITE, VACUUM, Host
from ik_e3nn_calculators.dock.system.ligand import Ligand
from ik_e3nn_calculators.dock.system.reference import known_molecule

FloatArray = NDArray[np.float64]

CLASH = 1.3  # sums of covalent radii; a bond is at 1, a contact at about 2
TRIES = 1000  # for each pose: in a tight site few random places fit
IN_SITE = 200  # tries for each pose in a site without atoms
UNKNOWN = 10.0  # A; distance from the nearest place if none is known
HOPELESS = 2000  # tries without any pose before giving up


@dataclass(frozen=True)
class Region:
    """A box, a sphere, or a layer over a surface.

    Attributes:
        lower, upper: Corners of a box that holds all points, (3,), in A.
        sphere: Whether the points are in the largest sphere of the box instead.
        layer: Whether z is the height of the lowest atom, not of the center of the molecule.
        lattice: Two lattice vectors of a slab or face, (2, 3); if given, points are uniform over the cell.
    """

    lower: FloatArray
    upper: FloatArray
    sphere: bool = False
    layer: bool = False
    lattice: FloatArray | None = None

    def distances(self, points: FloatArray) -> FloatArray:
        """Distances of points (n, 3) from the region, (n,), in A; 0 inside.

        Example:
            >>> box = Region(np.zeros(3), np.array([2.0, 2.0, 2.0]))
            >>> box.distances(np.array([[1.0, 1.0, 1.0], [5.0, 6.0, 1.0]])).tolist()
            [0.0, 5.0]
        """
        if self.sphere:
            middle, radius = 0.5 * (self.lower + self.upper), 0.5 * (self.upper - self.lower)[0]
            return np.asarray(np.maximum(np.linalg.norm(points - middle, axis=1) - radius, 0.0))
        outside = np.maximum(np.maximum(self.lower - points, points - self.upper), 0.0)
        return np.asarray(np.linalg.norm(outside, axis=1))

    def place(self, positions: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Rotate a molecule at random and put its center at a random point; positions (N, 3) in A."""
        turned = Rotation.random(rng=rng).apply(positions - positions.mean(axis=0))
        while True:
            point = rng.uniform(-1.0, 1.0, 3)
            if not self.sphere or point @ point <= 1.0:
                break
        point = 0.5 * (self.lower + self.upper) + 0.5 * point * (self.upper - self.lower)
        if self.lattice is not None:
            point[:2] = (rng.random(2) @ self.lattice)[:2]
        if self.layer:
            point[2] -= turned[:, 2].min()
        moved: FloatArray = turned + point
        return moved


def make_region(settings: RegionSettings, host: Host) -> Region:
    """Make the region that the settings describe.

    Args:
        settings: The settings.
        host: The host; without another region, poses begin over its surface.

    Returns:
        The region.

    Raises:
        DataError: No region is given for a host that has no surface.

    Example:
        >>> make_region(RegionSettings(heights=[2, 4]), Host(Atoms(), "surface")).upper
        array([0., 0., 4.])
    """
    if settings.around is not None:
        center = known_molecule(settings.around).GetConformer().GetPositions().mean(axis=0)
        radius = RADIUS if settings.radius is None else settings.radius
        return Region(center - radius, center + radius, sphere=True)
    if settings.sphere is not None:
        center, radius = np.array(settings.sphere[:3], dtype=float), settings.sphere[3]
        return Region(center - radius, center + radius, sphere=True)
    if settings.box is not None:
        corners = np.array(settings.box, dtype=float).reshape(2, 3)
        return Region(corners.min(axis=0), corners.max(axis=0))
    if host.name == SITE:
        raise DataError(
            "a site without atoms needs a region: region.around (the file of a ligand in the site), region.sphere or "
            "region.box, where the site of the model is at the origin"
        )
    if not host.is_surface:
        raise DataError(
            f"{host.name} is not a surface, so it needs a region: region.around (the file of a ligand in the site), "
            f"region.sphere or region.box. A surface is periodic along its first two cell vectors, with {VACUUM:g} A "
            f"of vacuum or more along z; got pbc {host.atoms.pbc.tolist()} and {host.vacuum:.1f} A"
        )
    heights, lateral = settings.heights or HEIGHTS, settings.lateral or 0.0
    lower, upper = np.full(3, -lateral), np.full(3, lateral)
    lower[2], upper[2] = (host.top + height for height in heights)
    return Region(lower, upper, layer=True, lattice=host.lattice)


def starting_poses(
    ligand: Ligand, host: Host, region: Region, count: int, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Poses in the region that do not clash with the host.

    Nothing but the training data tells where the walls of a site without atoms are: there, every pose is the best of
    200, that whose atoms are nearest to where atoms of their elements were.

    Args:
        ligand: The molecule.
        host: The host.
        region: The region.
        count: Number of poses.
        rng: Random-number generator.

    Returns:
        Positions (count, N, 3) in A, and the conformer of every pose, (count,).

    Raises:
        DataError: The region has no room for the molecule.
    """
    if host.name == SITE:
        return _poses_in_site(ligand, host, region, count, rng)
    poses: list[FloatArray] = []
    kinds: list[int] = []
    tries = 0
    while len(poses) < count:
        if tries >= TRIES * count or (tries >= HOPELESS and not poses):
            raise DataError(
                f"no room for {ligand.name}: {len(poses)} of {tries} random places in the region do not clash with "
                f"{host.name}; make the region larger or move it"
            )
        tries += 1
        kind = int(rng.integers(len(ligand.conformers)))
        positions = region.place(ligand.conformers[kind].positions, rng)
        if not clashes(positions, ligand.conformers[kind].numbers, host):
            poses.append(positions)
            kinds.append(kind)
    return np.array(poses), np.array(kinds)


def _poses_in_site(
    ligand: Ligand, host: Host, region: Region, count: int, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Poses in a site without atoms; see ``starting_poses``."""
    kinds = rng.integers(len(ligand.conformers), size=count)
    symbols = ligand.conformers[0].get_chemical_symbols()
    poses = []
    for kind in kinds:
        tried = [region.place(ligand.conformers[kind].positions, rng) for _ in range(IN_SITE)]
        distances = [np.minimum(host.from_places(pose, symbols), UNKNOWN) for pose in tried]
        poses.append(tried[int(np.argmin(np.square(distances).sum(axis=1)))])
    return np.array(poses), kinds


def check_reach(poses: FloatArray, numbers: NDArray[np.int64], host: Host, reach: float) -> None:
    """Refuse a search in which no pose is within reach of the host at the start.

    Args:
        poses: Starting positions, (P, N, 3), in A.
        numbers: Atomic numbers of the molecule, (N,).
        host: The host.
        reach: Largest range of an interaction, in A.

    Raises:
        DataError: Every pose is farther away.
    """
    if host.name == SITE:
        near = np.linalg.norm(poses, axis=-1).min() < reach
    elif len(host.atoms) == 0:
        near = poses[..., 2].min() < reach
    else:
        near = any(len(_contacts(pose, numbers, host, reach)) for pose in poses)
    if not near:
        raise DataError(
            f"all {len(poses)} poses begin farther than {reach:.1f} A from {host.name} and would stay there; "
            "move the region closer, or raise pocket if the interaction reaches farther"
        )


def clashes(positions: FloatArray, numbers: NDArray[np.int64], host: Host) -> bool:
    """Whether an atom is within 1.3 sums of covalent radii of a host atom, or below a surface without atoms."""
    if len(host.atoms) == 0:
        return bool(positions[:, 2].min() <= 0.0)
    reach = CLASH * (covalent_radii[numbers].max() + covalent_radii[host.atoms.numbers].max())
    return bool((_contacts(positions, numbers, host, reach) < CLASH).any())


def _contacts(positions: FloatArray, numbers: NDArray[np.int64], host: Host, reach: float) -> FloatArray:
    """Distances within reach between molecule and host, images included, divided by the sums of covalent radii."""
    near = Atoms(numbers, positions, cell=host.atoms.cell, pbc=host.atoms.pbc)
    low, high = positions.min(axis=0) - reach, positions.max(axis=0) + reach
    inside = ((host.atoms.positions > low) & (host.atoms.positions < high)).all(axis=1) | host.atoms.pbc.any()
    near.extend(host.atoms[inside])
    found = near_pairs(near, reach)
    return found.ratios[(found.sender < len(numbers)) & (found.receiver >= len(numbers))]
