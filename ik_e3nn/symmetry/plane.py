r"""Plane groups: the symmetries of a crystal face, operations u -> R u + t on fractional coordinates of its lattice."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.symmetry.group import SymmetryGroup

MOST_OPERATIONS = 192  # products of generators that are more are no group of a lattice of this cell
SAME_SHIFT = 1e-3  # of fractional coordinates; operations that spglib finds in a relaxed slab are not exact
NEAR_FRACTION = 0.01  # of shifts from multiples of 1/12, for slabs that are not exactly symmetric
ROUNDING = 1e-14  # strain up to which a given cell is kept, so that a stored group is read as the same
LARGEST_STRAIN = 0.01  # between a given cell and the nearest one that has the symmetry

_E, _TURN2 = [[1, 0], [0, 1]], [[-1, 0], [0, -1]]
_MIRROR_X, _TURN4 = [[-1, 0], [0, 1]], [[0, -1], [1, 0]]
_TURN3, _TURN6 = [[0, -1], [1, -1]], [[1, -1], [1, 0]]
_ACROSS, _ALONG = [[0, -1], [-1, 0]], [[0, 1], [1, 0]]  # mirrors across and along the long diagonal of a hexagonal cell
_NOT, _HALF = [0.0, 0.0], [0.5, 0.5]

# Generators in the standard cells of the International Tables, vol. A: rectangular, square, or hexagonal with 120
# degrees between its vectors. "cm" and "cmm" are in their centered rectangular cells.
GENERATORS: dict[str, list[tuple[list[list[int]], list[float]]]] = {
    "p1": [],
    "p2": [(_TURN2, _NOT)],
    "pm": [(_MIRROR_X, _NOT)],
    "pg": [(_MIRROR_X, [0.0, 0.5])],
    "cm": [(_MIRROR_X, _NOT), (_E, _HALF)],
    "pmm": [(_TURN2, _NOT), (_MIRROR_X, _NOT)],
    "pmg": [(_TURN2, _NOT), (_MIRROR_X, [0.5, 0.0])],
    "pgg": [(_TURN2, _NOT), (_MIRROR_X, _HALF)],
    "cmm": [(_TURN2, _NOT), (_MIRROR_X, _NOT), (_E, _HALF)],
    "p4": [(_TURN4, _NOT)],
    "p4m": [(_TURN4, _NOT), (_MIRROR_X, _NOT)],
    "p4g": [(_TURN4, _NOT), (_MIRROR_X, _HALF)],
    "p3": [(_TURN3, _NOT)],
    "p3m1": [(_TURN3, _NOT), (_ACROSS, _NOT)],
    "p31m": [(_TURN3, _NOT), (_ALONG, _NOT)],
    "p6": [(_TURN6, _NOT)],
    "p6m": [(_TURN6, _NOT), (_ACROSS, _NOT)],
}
FULL_NAMES = {
    "p1m1": "pm", "p1g1": "pg", "c1m1": "cm", "p2mm": "pmm", "p2mg": "pmg", "p2gg": "pgg", "c2mm": "cmm",
    "p4mm": "p4m", "p4gm": "p4g", "p6mm": "p6m",
}  # fmt: skip


class PlaneGroup:
    r"""A plane group with its lattice: what maps a crystal face onto itself and keeps its upper side.

    .. math:: u \to R u + t

    for fractional coordinates :math:`r = u_1 a_1 + u_2 a_2`, up to lattice vectors.

    Args:
        name: One of the 17 plane groups, "p1", "p2", "pm", "pg", "cm", "pmm", "pmg", "pgg", "cmm", "p4", "p4m", "p4g",
            "p3", "p3m1", "p31m", "p6", "p6m", or its full symbol, like "p4mm"; or any name if operations are given.
        cell: The vectors a_1 and a_2 in A, right-handed, each with two components, or with three, of which only lengths
            and angle count. For a named group it is the standard cell of the International Tables; the vectors of a
            hexagonal cell may also enclose 60 degrees.
        operations: Pairs of R (2, 2), whole numbers, and t (2,), whose products give all operations.

    Attributes:
        rotations: R of all operations, (n, 2, 2), float64.
        shifts: t of all operations, (n, 2), float64, from 0 to below 1.
        cell: (2, 2), float64, rows; exactly symmetric.
        matrices: The orthogonal matrices of the operations in space, (n, 3, 3), with the normal as z axis.

    Raises:
        ValueError: The name is unknown, the cell has no area, is left-handed or does not have the symmetry, or the
            operations are no group.

    Example:
        >>> plane = PlaneGroup("p4m", [[2.5, 0.0], [0.0, 2.5]])
        >>> plane.order, plane.point_group.order
        (8, 8)
    """

    def __init__(
        self,
        name: str,
        cell: Sequence[Sequence[float]] | Tensor,
        operations: Sequence[tuple[Any, Any]] | None = None,
    ) -> None:
        given = _plane_cell(cell)
        self.name = FULL_NAMES.get(name, name)
        self._given = None if operations is None else [(_whole(R), [float(x) for x in t]) for R, t in operations]
        if self._given is not None:
            generators = self._given
        elif self.name in GENERATORS:
            generators = [(R, list(t)) for R, t in GENERATORS[self.name]]
            generators = _in_acute_cell(generators) if self.name[1] in "36" and _is_acute(given) else generators
        else:
            raise ValueError(f"unknown plane group {name!r}: expected one of {', '.join(GENERATORS)}, or operations")
        self.rotations, self.shifts = _closed(generators)
        self.cell = _symmetric(given, self.rotations, self.name)
        plane = self.cell.T @ self.rotations @ torch.linalg.inv(self.cell.T)
        self.matrices = torch.eye(3, dtype=torch.float64).repeat(len(plane), 1, 1)
        self.matrices[:, :2, :2] = plane

    @property
    def order(self) -> int:
        """Number of operations in one cell."""
        return len(self.rotations)

    @property
    def point_group(self) -> SymmetryGroup:
        """The rotations and mirrors of the operations, without shifts, about the normal z."""
        return SymmetryGroup.from_generators(self.matrices, self.name)

    @property
    def translations(self) -> Tensor:
        """Shifts of the operations that are pure translations, (k, 2): zero, and those that center a cell."""
        return self.shifts[(self.rotations == torch.eye(2, dtype=torch.float64)).all(2).all(1)]

    def to_config(self) -> dict[str, Any]:
        """Plain data from which ``from_config`` makes the same group."""
        config: dict[str, Any] = {"plane": self.name, "cell": self.cell.tolist()}
        if self._given is not None:
            pairs = zip(self.rotations.tolist(), self.shifts.tolist(), strict=True)
            config["operations"] = [[[[round(x) for x in row] for row in R], t] for R, t in pairs]
        return config

    @classmethod
    def from_config(cls, config: "PlaneGroup | dict[str, Any]") -> "PlaneGroup":
        """A group from the data of ``to_config``; a group is returned as it is.

        Raises:
            ValueError: ``config`` is neither.

        Example:
            >>> PlaneGroup.from_config({"plane": "p1", "cell": [[3, 0], [1, 2]]}).order
            1
        """
        if isinstance(config, PlaneGroup):
            return config
        if not isinstance(config, dict) or not {"plane", "cell"} <= config.keys() <= {"plane", "cell", "operations"}:
            raise ValueError(
                "the plane group of a face is a mapping with 'plane' (its name), 'cell' (two vectors in A) and, for "
                f"other than standard cells, 'operations'; got {config!r:.80}"
            )
        return cls(config["plane"], config["cell"], config.get("operations"))

    def __repr__(self) -> str:
        return f"PlaneGroup({self.name!r}, {[[round(x, 4) for x in row] for row in self.cell.tolist()]})"


def identified(plane: PlaneGroup) -> str:
    """The name of a plane group from its operations in a primitive cell.

    Args:
        plane: The group; its name is not used.

    Example:
        >>> identified(PlaneGroup("found", [[2.0, 0.0], [0.0, 3.0]], [([[-1, 0], [0, 1]], [0.1, 0.5])]))
        'pg'
    """
    traces = [round(float(R.trace())) for R in plane.rotations if torch.linalg.det(R) > 0]
    order = {2: 1, -2: 2, -1: 3, 0: 4, 1: 6}
    n = max(order[trace] for trace in traces)
    lines = [_line(plane, R, t) for R, t in zip(plane.rotations, plane.shifts, strict=True) if torch.linalg.det(R) < 0]
    kinds = [kind for kind, _ in lines]
    if not lines:
        return f"p{n}"
    if n == 3:
        return "p31m" if any(along for _, along in lines) else "p3m1"
    if n > 3:
        return "p6m" if n == 6 else "p4g" if "glide" in kinds else "p4m"
    if "both" in kinds:
        return "cm" if n == 1 else "cmm"
    return {1: ("pm", "pg"), 2: ("pmm", "pmg", "pgg")}[n][kinds.count("glide")]


def with_usual_origin(plane: PlaneGroup) -> tuple[PlaneGroup, Tensor]:
    """The same plane group about a point of high symmetry, where its shifts are fractions like 1/2 and 1/3.

    Args:
        plane: The group about any origin, in a primitive cell.

    Returns:
        The group, by name alone if that gives the same operations, and the new origin (2,) in fractional coordinates.

    Example:
        >>> found = PlaneGroup("found", [[2.0, 0.0], [0.0, 2.0]], [([[0, -1], [1, 0]], [0.3, 0.1])])
        >>> with_usual_origin(found)
        (PlaneGroup('p4', [[2.0, 0.0], [0.0, 2.0]]), tensor([0.1000, 0.2000], dtype=torch.float64))
    """
    name = identified(plane)
    choices = []
    for origin in _origins(plane):
        shifts = plane.shifts + plane.rotations @ origin - origin
        if (12 * shifts - (12 * shifts).round()).abs().max() > 12 * NEAR_FRACTION:
            continue
        shifts = (12 * shifts).round() / 12
        operations = list(zip(plane.rotations.tolist(), shifts.tolist(), strict=True))
        group = PlaneGroup(name, plane.cell, operations)
        try:
            usual: PlaneGroup | None = PlaneGroup(name, plane.cell)
        except ValueError:  # the standard cell has another shape
            usual = None
        same = usual is not None and usual.order == group.order and _same_operations(usual, group)
        best = usual if usual is not None and same else group
        choices.append((best is group, int((group.shifts != 0).sum()), float(origin.norm()), best, origin))
    if not choices:
        return plane, torch.zeros(2, dtype=torch.float64)
    *_, best, origin = min(choices, key=lambda choice: choice[:3])
    return best, origin


def _origins(plane: PlaneGroup) -> list[Tensor]:
    """Centers of rotations of the highest order, (2,) each; without rotations, one point on a line of reflection."""
    identity = torch.eye(2, dtype=torch.float64)
    turns = [i for i, R in enumerate(plane.rotations) if torch.linalg.det(R) > 0 and bool((identity != R).any())]
    if turns:
        R = min((plane.rotations[i] for i in turns), key=lambda R: 1 + abs(1 - float(R.trace())))
        t = next(s for S, s in zip(plane.rotations, plane.shifts, strict=True) if bool((S == R).all()))
        centers = torch.linalg.solve(identity - R, (t + _small_vectors(1)).T).T
        return list(_wrapped(centers))
    lines = [i for i, R in enumerate(plane.rotations) if torch.linalg.det(R) < 0]
    if not lines:
        return [torch.zeros(2, dtype=torch.float64)]
    R, t = plane.rotations[lines[0]], plane.shifts[lines[0]]
    return [0.25 * (t + vector - R @ (t + vector)) for vector in _small_vectors(1)]


def _same_operations(first: PlaneGroup, second: PlaneGroup) -> bool:
    """Whether two groups in the same cell have the same operations."""
    found = list(zip(second.rotations, second.shifts, strict=True))
    return all(_index(found, R, t) is not None for R, t in zip(first.rotations, first.shifts, strict=True))


def _line(plane: PlaneGroup, R: Tensor, t: Tensor) -> tuple[str, bool]:
    """Kind of the lines of a reflection: "mirror", "glide" or "both"; and if a shortest lattice vector is along it."""
    found = set()
    for shift in _small_vectors(1):
        along = 0.5 * (t + shift + R @ (t + shift))  # the part of the shift along the line
        found.add(bool((along - along.round()).abs().max() < SAME_SHIFT))
    vectors = _small_vectors(2)
    vectors = vectors[vectors.abs().sum(1) > 0]
    lengths = (vectors @ plane.cell).norm(dim=1)
    shortest = vectors[lengths < lengths.min() * (1 + LARGEST_STRAIN)]
    kind = "both" if len(found) == 2 else "mirror" if True in found else "glide"
    return kind, bool(((shortest @ R.T - shortest).abs().amax(1) < SAME_SHIFT).any())


def _small_vectors(most: int) -> Tensor:
    steps = torch.arange(-most, most + 1, dtype=torch.float64)
    return torch.cartesian_prod(steps, steps)


def _plane_cell(cell: Any) -> Tensor:
    """Two vectors with two components, (2, 2), from vectors with two or three."""
    vectors = torch.as_tensor(cell, dtype=torch.float64).detach().cpu()
    if vectors.shape not in ((2, 2), (2, 3)) or not torch.isfinite(vectors).all():
        raise ValueError(f"the cell of a face must be two finite vectors, in A; got {vectors.tolist()}")
    if vectors.shape == (2, 3):
        length = vectors[0].norm()
        along = vectors[1] @ vectors[0] / length
        across = torch.linalg.cross(vectors[0], vectors[1]).norm() / length
        vectors = torch.stack([torch.stack([length, 0 * length]), torch.stack([along, across])])
    if not torch.linalg.det(vectors) > 1e-6:
        raise ValueError(
            f"the cell of a face must be right-handed with an area; got {vectors.tolist()}: exchange the vectors, or "
            "turn the second one"
        )
    return vectors


def _whole(R: Any) -> list[list[int]]:
    matrix = torch.as_tensor(R, dtype=torch.float64)
    if matrix.shape != (2, 2) or (matrix - matrix.round()).abs().max() > SAME_SHIFT:
        raise ValueError(f"R of an operation must be a 2 x 2 matrix of whole numbers; got {matrix.tolist()}")
    return [[round(x) for x in row] for row in matrix.tolist()]


def _is_acute(cell: Tensor) -> bool:
    """Whether the angle between the vectors is below 90 degrees."""
    return bool(cell[0] @ cell[1] > 0)


def _in_acute_cell(generators: list[tuple[list[list[int]], list[float]]]) -> list[tuple[list[list[int]], list[float]]]:
    """Generators for hexagonal cells of 120 degrees, in the cell of 60 degrees with the same first vector."""
    B = torch.tensor([[1.0, -1.0], [0.0, 1.0]], dtype=torch.float64)
    inverse = torch.linalg.inv(B)
    return [(_whole(B @ torch.tensor(R, dtype=torch.float64) @ inverse), t) for R, t in generators]


def _closed(generators: Sequence[tuple[list[list[int]], list[float]]]) -> tuple[Tensor, Tensor]:
    """All products of operations: R (n, 2, 2) and t (n, 2), the identity first."""
    found: list[tuple[Tensor, Tensor]] = [(torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))]
    steps = [(torch.tensor(R, dtype=torch.float64), torch.tensor(t, dtype=torch.float64)) for R, t in generators]
    index = 0
    while index < len(found):
        R, t = found[index]
        for S, s in steps:
            product = (S @ R, S @ t + s)
            if _index(found, *product) is None:
                found.append(product)
        if len(found) > MOST_OPERATIONS:
            raise ValueError(
                f"the operations are no plane group: they have more than {MOST_OPERATIONS} products; check that R and "
                "t are in fractional coordinates of the cell"
            )
        index += 1
    rotations, shifts = (torch.stack(part) for part in zip(*found, strict=True))
    return rotations, _consistent(found, rotations, shifts)


def _index(found: Sequence[tuple[Tensor, Tensor]], R: Tensor, t: Tensor) -> int | None:
    """The place of an operation in a list."""
    for place, (other, shift) in enumerate(found):
        if bool((other == R).all()) and _wrapped(shift - t).abs().max() < SAME_SHIFT:
            return place
    return None


def _consistent(found: Sequence[tuple[Tensor, Tensor]], rotations: Tensor, shifts: Tensor) -> Tensor:
    r"""Shifts that are exactly those of a group, near shifts that are almost.

    .. math:: t_i' = t_i - \frac1n \sum_j (t_i + R_i t_j - t_k), \qquad g_i g_j = g_k

    in which the deviations in brackets are near zero up to lattice vectors. They are a cocycle, so one step is exact.
    """
    n = len(found)
    total = torch.zeros_like(shifts)
    for i in range(n):
        for j in range(n):
            shift = shifts[i] + rotations[i] @ shifts[j]
            k = _index(found, rotations[i] @ rotations[j], shift)
            if k is None:
                raise ValueError("the operations are no plane group: a product of two of them is none of them")
            total[i] -= _wrapped(shift - shifts[k])
    exact = shifts + total / n
    exact = exact - exact.floor()
    return torch.where(exact > 1 - 1e-12, 0.0, exact)


def _wrapped(u: Tensor) -> Tensor:
    return u - u.round()


def _symmetric(cell: Tensor, rotations: Tensor, name: str) -> Tensor:
    """The cell that the rotations map onto itself, to rounding, with the first vector in the given direction."""
    metric = cell @ cell.T  # of fractional coordinates: |r|^2 = u^T metric u
    symmetric = (rotations.mT @ metric @ rotations).mean(0)
    length = math.sqrt(symmetric[0, 0])
    across = math.sqrt(torch.linalg.det(symmetric)) / length
    own = torch.tensor([[length, 0.0], [float(symmetric[0, 1]) / length, across]], dtype=torch.float64)
    x = cell[0] / cell[0].norm()
    exact = own @ torch.stack([x, torch.stack([-x[1], x[0]])])
    strain = float((torch.linalg.inv(exact) @ cell - torch.eye(2, dtype=torch.float64)).abs().max())
    if strain > LARGEST_STRAIN:
        raise ValueError(
            f"the cell {cell.tolist()} does not have the symmetry {name}: it differs by {100 * strain:.0f} % from one "
            "that has; a square cell is expected for p4, p4m and p4g, a hexagonal one for p3... and p6..., a "
            "rectangular one for pm, pg, cm, pmm, pmg, pgg and cmm"
        )
    return cell if strain < ROUNDING else exact
