"""Compare differences of energies with the work of forces and stress; the two use different labels."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.values import StructureLabels
from ik_e3nn.data.suspicions.unit_evidence import correlated, is_sound

_FRAMES, _GROUPS, _MOST_COORDINATES = 40, 8, 20_000


class Slopes(NamedTuple):
    """Differences of energies divided by the work of forces and of stress; 1 if all units agree.

    Attributes:
        forces: Differences of energies divided by the work of the forces, None if unknown.
        stress: Differences of energies divided by the work of the stress, None if unknown.
    """

    forces: float | None
    stress: float | None


def energy_slopes(data: LabeledSet) -> Slopes:
    r"""Compare the energies of pairs of similar structures with the work between them.

    .. math:: E_2 - E_1 \approx -\tfrac12 (F_1 + F_2) \cdot \Delta u + \tfrac12 (V_1 \sigma_1 + V_2 \sigma_2) : \epsilon

    to third order, with the strain and the displacements u that remain after it.

    Args:
        data: Structures with labels.

    Returns:
        Medians of the ratios over the pairs with the largest work; None if most of them disagree.

    Example:
        >>> chain = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * k]]) for k in range(20)]
        >>> def label(z):
        ...     return StructureLabels((z - 0.75) ** 2, np.outer([2, -2], [0, 0, z - 0.75]), np.full((3, 3), np.nan))
        >>> labels = [label(atoms.positions[1, 2]) for atoms in chain]
        >>> round(energy_slopes(LabeledSet.of_labels(chain, labels)).forces, 6)
        1.0
    """
    rows = np.array(list(_work(data))).reshape(-1, 3)
    if not len(rows):
        return Slopes(None, None)
    change, by_forces, by_stress = rows.T
    strained = np.isfinite(by_stress) & (np.abs(by_stress) > 3.0 * np.abs(by_forces))
    forces = _agreed(change, np.where(np.abs(np.nan_to_num(by_stress)) < 0.1 * np.abs(by_forces), by_forces, 0.0))
    rest = change - by_forces * (1.0 if forces is None else forces)
    return Slopes(forces, _agreed(rest, np.where(strained, by_stress, 0.0)))


def _agreed(change: FloatArray, work: FloatArray) -> float | None:
    """The median of the ratios, if enough are known and three of four are within a third of it."""
    usable = np.abs(work) > 1e-9
    if usable.sum() < 6:
        return None
    usable &= np.abs(work) >= np.median(np.abs(work[usable]))
    ratios = change[usable] / work[usable]
    middle = float(np.median(ratios))
    near = np.abs(ratios - middle) < abs(middle) / 3
    if usable.sum() >= 4 and near.mean() >= 0.75:
        return middle
    correlation = correlated(change[usable], work[usable]) if usable.sum() >= 15 else 0.0
    return middle if abs(correlation) > 0.85 and np.sign(correlation) == np.sign(middle) else None


def _work(data: LabeledSet) -> Iterator[tuple[float, float, float]]:
    """Energy difference, work of forces and of stress (NaN if unknown) from structures to their most similar ones."""
    groups: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for number, (atoms, one) in enumerate(zip(data.structures, data.labels, strict=True)):
        if len(atoms) and np.isfinite(one.energy) and np.isfinite(one.forces).all() and is_sound(atoms):
            groups[atoms.numbers.tobytes(), atoms.pbc.tobytes()].append(number)
    structures, labels = data.structures, data.labels
    for members in sorted(groups.values(), key=len, reverse=True)[:_GROUPS]:
        count = min(len(members), _FRAMES, max(2, _MOST_COORDINATES // (3 * len(structures[members[0]]))))
        chosen = np.sort(np.random.default_rng(0).choice(members, count, replace=False)).tolist()
        moves: dict[tuple[int, int], _Move] = {}
        for place, first in enumerate(chosen):
            for second in chosen[place + 1 :]:
                move = _move(structures[first], structures[second])
                if move is not None and move.size > 1e-6:
                    moves[first, second] = move
        nearest = set()
        for one in chosen:
            own = [pair for pair in moves if one in pair]
            nearest |= {min(own, key=lambda pair: moves[pair].size)} if own else set()
        for first, second in sorted(nearest):
            yield _work_of(moves[first, second], labels[first], labels[second])


class _Move(NamedTuple):
    """The change between two structures: displacements, rotation of the second's forces, strain, volumes."""

    displacements: FloatArray
    rotation: FloatArray
    strain: FloatArray
    volumes: tuple[float, float]

    @property
    def size(self) -> float:
        """Mean square displacement in A^2, plus the mean square strain."""
        return float(np.mean(self.displacements**2) + np.mean(self.strain**2))


def _move(first: Atoms, second: Atoms) -> _Move | None:
    """The change from one structure to another of the same atoms; None if their cells do not allow it."""
    nothing = np.zeros((3, 3))
    if not first.pbc.any():
        a, b = (atoms.positions - atoms.positions.mean(0) for atoms in (first, second))
        left, _, right = np.linalg.svd(b.T @ a)
        sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
        rotation = left @ sign @ right
        return _Move(b @ rotation - a, rotation, nothing, (0.0, 0.0))
    cells = first.cell.array, second.cell.array
    same = np.allclose(*cells, atol=1e-8)
    if not same and not first.pbc.all():
        return None
    scaled = [atoms.positions @ np.linalg.inv(cell) for atoms, cell in zip((first, second), cells, strict=True)]
    steps = scaled[1] - scaled[0]
    for reference in (steps[0], None):
        steps = steps - (steps.mean(0) if reference is None else reference)
        steps -= np.round(steps) * first.pbc
    deformation = np.linalg.inv(cells[0]) @ cells[1]
    strain = 0.5 * (deformation + deformation.T) - np.eye(3)
    volumes = abs(float(np.linalg.det(cells[0]))), abs(float(np.linalg.det(cells[1])))
    return _Move(steps @ (0.5 * (cells[0] + cells[1])), np.eye(3), nothing if same else strain, volumes)


def _work_of(move: _Move, first: StructureLabels, second: StructureLabels) -> tuple[float, float, float]:
    """Energy difference, work of the forces, work of the stress (NaN for a strain without stress)."""
    forces = 0.5 * (first.forces + second.forces @ move.rotation)
    by_stress = 0.0
    if move.strain.any():
        by_stress = 0.5 * float(
            np.sum((move.volumes[0] * first.stress + move.volumes[1] * second.stress) * move.strain)
        )
    return second.energy - first.energy, -float(np.sum(forces * move.displacements)), by_stress
