"""The symmetry of a slab, for potentials that replace it by a "surface" or, with its lattice, by a "face"."""

import itertools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.errors import DataError
from ik_e3nn.optional import needed
from ik_e3nn.symmetry import PlaneGroup, SymmetryGroup
from ik_e3nn.symmetry.plane import with_usual_origin

SAME_PLACE = 0.1  # A
SCHOENFLIES = {
    "1": "C1", "-1": "Ci", "2": "C2", "m": "Cs", "2/m": "C2h", "222": "D2", "mm2": "C2v", "mmm": "D2h",
    "4": "C4", "-4": "S4", "4/m": "C4h", "422": "D4", "4mm": "C4v", "-42m": "D2d", "4/mmm": "D4h",
    "3": "C3", "-3": "S6", "32": "D3", "3m": "C3v", "-3m": "D3d",
    "6": "C6", "-6": "C3h", "6/m": "C6h", "622": "D6", "6mm": "C6v", "-6m2": "D3h", "6/mmm": "D6h",
    "23": "T", "m-3": "Th", "432": "O", "-43m": "Td", "m-3m": "Oh",
}  # fmt: skip


def suggest_group(slab: Atoms, *, tolerance: float = 0.01) -> SymmetryGroup:
    """Point group of the surroundings that a slab makes for a molecule on its upper side.

    The group consists of the operations of the slab's space group that keep its normal (the cross product of the first
    two cell vectors), as rotations and mirrors. A "surface" of this group has no lateral period: energies do not change
    along it. Where corrugation matters, use a "face", see ``suggest_face``. If directions within the surface do not
    matter either, "Cinfv" is the simpler choice.

    Args:
        slab: Periodic along its first two cell vectors.
        tolerance: How far atoms may be from their symmetric places in A.

    Returns:
        The group in the orientation of the slab, named by its Schoenflies symbol; its axis is the normal. Structures in
        the slab's frame need neither ``surface_normal`` nor ``surface_x``.

    Raises:
        DataError: The structure is not a slab, or spglib finds no symmetry.
        MissingDependencyError: spglib is not installed.

    Example:
        >>> from ase.build import fcc100
        >>> suggest_group(fcc100("Cu", (1, 1, 3), vacuum=8.0)).name  # doctest: +SKIP
        'C4v'
    """
    rotations, _, exact, normal = _operations(slab, tolerance)
    spglib = needed("spglib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.get_pointgroup(rotations)
    if found is None:
        raise DataError("the operations that keep the normal of the slab are no point group; try another tolerance")
    symbol = found[0].strip()
    matrices = exact.T @ rotations @ np.linalg.inv(exact.T)
    return SymmetryGroup.from_generators(matrices, SCHOENFLIES[symbol], tuple(normal.tolist()))


def slab_operations(slab: Atoms, *, tolerance: float = 0.01) -> tuple[FloatArray, FloatArray]:
    r"""All operations that map a slab onto itself and keep its normal, up to lattice translations.

    .. math:: r \to R r + t

    They are rotations, mirrors and glides, and the translations by primitive cell vectors within a larger cell: a
    2 x 2 cell has 8 operations of C4v times 4 translations.

    Args:
        slab: Periodic along its first two cell vectors.
        tolerance: How far atoms may be from their symmetric places in A.

    Returns:
        R, (n, 3, 3), and t, (n, 3), in A; the identity is among them.

    Raises:
        DataError: The structure is not a slab, or spglib finds no symmetry.
        MissingDependencyError: spglib is not installed.

    Example:
        >>> from ase.build import fcc100
        >>> len(slab_operations(fcc100("Cu", (2, 2, 3), vacuum=8.0))[0])  # doctest: +SKIP
        32
    """
    rotations, translations, exact, _ = _operations(slab, tolerance)
    matrices: FloatArray = exact.T @ rotations @ np.linalg.inv(exact.T)
    return matrices, translations @ exact


@dataclass(frozen=True)
class SlabFace:
    """The upper face of a slab: its plane group, and where its lattice is.

    Attributes:
        group: The plane group, for ``InteratomicPotential(group=..., inputs=["face"])``.
        cell: The two shortest lattice vectors of the face in the frame of the slab, (2, 3), in A.
        origin: The point to which the operations of the group refer, (3,), in A, in the plane of the highest atoms.
    """

    group: PlaneGroup
    cell: FloatArray
    origin: FloatArray

    @property
    def info(self) -> dict[str, Any]:
        """Entries of ``atoms.info`` for structures over the face."""
        return {"surface_cell": self.cell.tolist(), "surface_origin": self.origin.tolist()}


def suggest_face(slab: Atoms, *, tolerance: float = 0.01) -> SlabFace:
    """Plane group and lattice of the face that a slab has on its upper side.

    The group consists of the operations of the slab that keep its normal (the cross product of the first two cell
    vectors), with those of a larger cell reduced to the smallest one.

    Args:
        slab: Periodic along its first two cell vectors.
        tolerance: How far atoms may be from their symmetric places in A.

    Returns:
        The face; structures over the slab need the entries of its ``info``.

    Raises:
        DataError: The structure is not a slab, or spglib finds no symmetry.
        MissingDependencyError: spglib is not installed.

    Example:
        >>> from ase.build import fcc111
        >>> suggest_face(fcc111("Cu", (3, 2, 3), vacuum=8.0)).group.name  # doctest: +SKIP
        'p3m1'
    """
    rotations, translations, cell, normal = _operations(slab, tolerance)
    pure = (rotations == np.eye(3, dtype=int)).all((1, 2))
    primitive = _primitive(slab, translations[pure, :2] @ cell[:2], normal)
    rotations, translations, cell, _ = _operations(primitive, tolerance)
    pairs = list(zip(rotations[:, :2, :2].tolist(), translations[:, :2].tolist(), strict=True))
    group, origin = with_usual_origin(PlaneGroup("found", cell[:2].tolist(), pairs))
    lattice = primitive.cell.array[:2].copy()
    return SlabFace(group, lattice, (slab.positions @ normal).max() * normal + origin.numpy() @ lattice)


def _primitive(slab: Atoms, translations: FloatArray, normal: FloatArray) -> Atoms:
    """The slab in the cell of its two shortest lattice vectors, right-handed about the normal."""
    cell = slab.cell.array
    wide = [x * cell[0] + y * cell[1] for x, y in itertools.product((-1, 0, 1), repeat=2)]
    vectors = np.concatenate([translations + vector for vector in wide])
    vectors = vectors[np.linalg.norm(vectors, axis=1) > SAME_PLACE]
    lengths = np.linalg.norm(vectors, axis=1).round(3)
    vectors = vectors[np.lexsort((-vectors[:, 1].round(3), -vectors[:, 0].round(3), lengths))]  # along x, if possible
    first = vectors[0]
    areas = np.cross(first, vectors) @ normal
    second = vectors[np.flatnonzero(areas > 1e-3)[0]]
    own = slab.copy()
    own.set_constraint()
    own.cell = [first, second, normal * (np.ptp(slab.positions @ normal) + 30.0)]
    own.pbc = (True, True, False)
    u = np.linalg.solve(own.cell.array.T, own.positions.T).T
    kept: list[int] = []
    for i in range(len(own)):
        gaps = u[kept] - u[i]
        gaps[:, :2] -= np.round(gaps[:, :2])
        far = np.linalg.norm(gaps @ own.cell.array, axis=1) > SAME_PLACE
        if far[own.numbers[kept] == own.numbers[i]].all():
            kept.append(i)
    count = len(slab) * np.dot(np.cross(first, second), normal) / np.dot(np.cross(*cell[:2]), normal)
    if len(kept) != round(count):
        raise DataError(
            f"the slab has {len(slab)} atoms, but {len(kept)} instead of {count:.2f} in its smallest cell; check that "
            "no atoms are in the same place, or try another tolerance"
        )
    return own[kept]


def _operations(slab: Atoms, tolerance: float) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Rotations (n, 3, 3) and translations (n, 3) in fractions of a cell, this cell (3, 3), and the slab's normal."""
    spglib = needed("spglib")
    cell = slab.cell.array.copy()
    if not slab.pbc[:2].all() or np.linalg.norm(np.cross(cell[0], cell[1])) == 0:
        raise DataError(f"a slab is periodic along its first two cell vectors; pbc is {slab.pbc.tolist()}")
    normal = np.cross(cell[0], cell[1])
    normal /= np.linalg.norm(normal)
    heights = slab.positions @ normal
    cell[2] = normal * (np.ptp(heights) + 30.0)  # orthogonal, because a skewed third vector would hide mirrors
    scaled = np.linalg.solve(cell.T, slab.positions.T).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about how spglib >= 2.7 reports failures
        try:
            symmetry = spglib.get_symmetry((cell.tolist(), scaled.tolist(), slab.numbers.tolist()), symprec=tolerance)
        except Exception as error:
            raise DataError(f"spglib finds no symmetry in the slab: {error}") from error
    if symmetry is None:
        raise DataError("spglib finds no symmetry in the slab; are atoms in the same place?")
    rotations = symmetry["rotations"]
    kept = np.abs(cell.T @ rotations @ np.linalg.inv(cell.T) @ normal - normal).max(1) < 1e-3
    return rotations[kept], symmetry["translations"][kept], _symmetric_cell(cell, rotations[kept]), normal


def _symmetric_cell(cell: FloatArray, rotations: IntArray) -> FloatArray:
    """The cell that the rotations map exactly onto itself, with the orientation of the given cell.

    A relaxed cell has its symmetry only to a tolerance, so that its operations would not form a group.
    """
    metric = np.mean([r.T @ cell @ cell.T @ r for r in rotations], axis=0)  # metric of fractional coordinates
    values, vectors = np.linalg.eigh(metric)
    root = (vectors * np.sqrt(values)) @ vectors.T  # rows of a cell with this metric
    u, _, vh = np.linalg.svd(np.linalg.inv(root) @ cell)
    symmetric: FloatArray = root @ (u @ vh)
    return symmetric
