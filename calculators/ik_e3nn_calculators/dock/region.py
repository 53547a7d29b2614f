"""Where poses begin, and poses that do not clash."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ik_e3nn.data import read_structures
from ik_e3nn.errors import DataError
from ik_e3nn.graph import neighbour_list
from ik_e3nn_calculators.dock.host import Host
from ik_e3nn_calculators.dock.ligand import Ligand
from ik_e3nn_calculators.dock.settings import RegionSettings

FloatArray = NDArray[np.float64]

CLASH = 1.3  # sums of covalent radii; a bond is at 1, a contact at about 2
TRIES = 200  # for every pose


@dataclass(frozen=True)
class Region:
    """A box, a sphere, or a layer over a surface.

    Attributes:
        lower, upper: Corners of a box that holds all points, (3,), in A.
        sphere: Whether the points are in the largest sphere of the box instead.
        layer: Whether z is the height of the lowest atom, not of the middle of the molecule.
        lattice: Two cell vectors of a slab, (2, 3): the points are uniform over the cell instead.
    """

    lower: FloatArray
    upper: FloatArray
    sphere: bool = False
    layer: bool = False
    lattice: FloatArray | None = None

    @property
    def corners(self) -> FloatArray:
        """Points such that everything in the region is near one of them, (n, 3): a grid of about 2 A."""
        axes = [np.linspace(a, b, max(int((b - a) // 2) + 1, 2)) for a, b in zip(self.lower, self.upper, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)

    def place(self, positions: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A molecule turned at random, with its middle at a random point; positions (N, 3) in A."""
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
    """The region that the settings ask for.

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
        centre = read_structures(settings.around)[-1].positions.mean(axis=0)
        return Region(centre - settings.radius, centre + settings.radius, sphere=True)
    if settings.sphere is not None:
        centre, radius = np.array(settings.sphere[:3], dtype=float), settings.sphere[3]
        return Region(centre - radius, centre + radius, sphere=True)
    if settings.box is not None:
        corners = np.array(settings.box, dtype=float).reshape(2, 3)
        return Region(corners.min(axis=0), corners.max(axis=0))
    if not host.is_surface:
        raise DataError(
            f"{host.name} is no surface, so it needs a region: region.around (the file of a ligand in the site), "
            "region.sphere or region.box"
        )
    lower, upper = np.full(3, -settings.lateral), np.full(3, settings.lateral)
    lattice = host.atoms.cell.array[:2] if host.atoms.pbc[:2].all() else None
    lower[2], upper[2] = (host.top + height for height in settings.heights)
    return Region(lower, upper, layer=True, lattice=lattice)


def starting_poses(
    ligand: Ligand, host: Host, region: Region, count: int, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Poses in the region that do not clash with the host.

    Args:
        ligand: The molecule.
        host: The host.
        region: Where to put it.
        count: How many poses.
        rng: Source of randomness.

    Returns:
        Positions (count, N, 3) in A, and the conformer of every pose, (count,).

    Raises:
        DataError: The region has no room for the molecule.
    """
    poses: list[FloatArray] = []
    kinds: list[int] = []
    tries = 0
    while len(poses) < count:
        if tries >= TRIES * count or (tries >= 10 * TRIES and not poses):
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


def clashes(positions: FloatArray, numbers: NDArray[np.int64], host: Host) -> bool:
    """Whether an atom is closer to one of the host than 1.3 sums of covalent radii, periodic images included."""
    if len(host.atoms) == 0:
        return False
    near = Atoms(numbers, positions, cell=host.atoms.cell, pbc=host.atoms.pbc)
    reach = CLASH * (covalent_radii[numbers].max() + covalent_radii[host.atoms.numbers].max())
    low, high = positions.min(axis=0) - reach, positions.max(axis=0) + reach
    inside = ((host.atoms.positions > low) & (host.atoms.positions < high)).all(axis=1) | host.atoms.pbc.any()
    near.extend(host.atoms[inside])
    (sender, receiver), shifts = neighbour_list(near.positions, near.cell.array, near.pbc, reach)
    mixed = (sender < len(numbers)) & (receiver >= len(numbers))
    vectors = near.positions[receiver] - near.positions[sender] + shifts @ near.cell.array
    contact = CLASH * (covalent_radii[near.numbers[sender]] + covalent_radii[near.numbers[receiver]])
    return bool((np.linalg.norm(vectors, axis=1) < contact)[mixed].any())
