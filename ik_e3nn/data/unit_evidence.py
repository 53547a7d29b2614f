"""What geometries, energies, forces and stress say of each other's units, from physics that no label takes part in."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from ik_e3nn.data.label_values import StructureLabels
from ik_e3nn.errors import DataError
from ik_e3nn.graph import neighbour_list

FloatArray = NDArray[np.float64]

# Total energies of atoms up to argon in Hartree: the exact non-relativistic ones, which DFT has to about one percent
# (E. R. Davidson et al., Phys. Rev. A 44, 7071 (1991)).
ATOMS = dict(
    enumerate(
        [0.5, 2.904, 7.478, 14.667, 24.654, 37.845, 54.589, 75.067, 99.734, 128.938, 162.255, 200.053, 242.346,
         289.359, 341.259, 398.110, 460.148, 527.540], start=1,
    )
)  # fmt: skip
# Force constants of bonds to hydrogen in eV/A^2, as in every force field (C-H 340 kcal/mol/A^2 for k/2).
STIFFNESS = {6: 32.0, 7: 42.0, 8: 50.0, 16: 26.0}
NOBLE = (2, 10, 18, 36, 54, 86)
_TYPICAL_DISTANCE = 2.5  # A
_FRAMES, _GROUPS, _MOST_COORDINATES = 40, 8, 20_000
_STRUCTURES, _MOST_ATOMS = 100, 1000


class Slopes(NamedTuple):
    """Differences of energies over the work that forces and stress have done; 1 where all units are the same.

    Attributes:
        forces: Difference of energies over work of the forces, None if it is not known.
        stress: The same for work of the stress.
    """

    forces: float | None
    stress: float | None


def energy_slopes(structures: Sequence[Atoms], labels: Sequence[StructureLabels]) -> Slopes:
    r"""Energies of pairs of similar structures against the work between them.

    .. math:: E_2 - E_1 \approx -\tfrac12 (F_1 + F_2) \cdot \Delta u + \tfrac12 (V_1 \sigma_1 + V_2 \sigma_2) : \epsilon

    with the displacements u after the strain is taken off, to third order in both.

    Args:
        structures: The structures.
        labels: Their labels.

    Returns:
        Medians of the ratios over the pairs with the largest work, where most of them agree.

    Example:
        >>> chain = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * k]]) for k in range(20)]
        >>> def label(z):
        ...     return StructureLabels((z - 0.75) ** 2, np.outer([2, -2], [0, 0, z - 0.75]), np.full((3, 3), np.nan))
        >>> round(energy_slopes(chain, [label(atoms.positions[1, 2]) for atoms in chain]).forces, 6)
        1.0
    """
    rows = np.array(list(_work(structures, labels))).reshape(-1, 3)
    if not len(rows):
        return Slopes(None, None)
    change, by_forces, by_stress = rows.T
    strained = np.isfinite(by_stress) & (np.abs(by_stress) > 3.0 * np.abs(by_forces))
    forces = _agreed(change, np.where(np.abs(np.nan_to_num(by_stress)) < 0.1 * np.abs(by_forces), by_forces, 0.0))
    rest = change - by_forces * (1.0 if forces is None else forces)
    return Slopes(forces, _agreed(rest, np.where(strained, by_stress, 0.0)))


def _agreed(change: FloatArray, work: FloatArray) -> float | None:
    """The median of the ratios, if there are enough and three of four are within a third of it."""
    usable = np.abs(work) > 1e-9
    if usable.sum() < 6:
        return None
    usable &= np.abs(work) >= np.median(np.abs(work[usable]))
    ratios = change[usable] / work[usable]
    middle = float(np.median(ratios))
    near = np.abs(ratios - middle) < abs(middle) / 3
    if usable.sum() >= 4 and near.mean() >= 0.75:
        return middle
    correlation = np.corrcoef(change[usable], work[usable])[0, 1] if usable.sum() >= 15 else 0.0
    return middle if abs(correlation) > 0.85 and np.sign(correlation) == np.sign(middle) else None


def _work(structures: Sequence[Atoms], labels: Sequence[StructureLabels]) -> Iterator[tuple[float, float, float]]:
    """Energy difference, work of forces and of stress (NaN if unknown) of structures and their most similar others."""
    groups: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for number, (atoms, one) in enumerate(zip(structures, labels, strict=True)):
        if len(atoms) and np.isfinite(one.energy) and np.isfinite(one.forces).all() and _is_sound(atoms):
            groups[atoms.numbers.tobytes(), atoms.pbc.tobytes()].append(number)
    for members in sorted(groups.values(), key=len, reverse=True)[:_GROUPS]:
        count = min(len(members), _FRAMES, max(2, _MOST_COORDINATES // (3 * len(structures[members[0]]))))
        chosen = [members[k] for k in np.unique(np.linspace(0, len(members) - 1, count).astype(int))]
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
    """From one structure to another: displacements, rotation of the other's forces, strain, volumes."""

    displacements: FloatArray
    rotation: FloatArray
    strain: FloatArray
    volumes: tuple[float, float]

    @property
    def size(self) -> float:
        """Mean square displacement in A^2, that of the strain too."""
        return float(np.mean(self.displacements**2) + np.mean(self.strain**2))


def _is_sound(atoms: Atoms) -> bool:
    """Whether positions and cell can be used."""
    cell = atoms.cell.array
    periodic = not atoms.pbc.any() or abs(np.linalg.det(cell)) > 1e-6
    return bool(np.isfinite(atoms.positions).all() and np.isfinite(cell).all() and periodic)


def _move(first: Atoms, second: Atoms) -> _Move | None:
    """The way from one structure to another of the same atoms; None where cells of another kind do not allow it."""
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
    """Energy difference, work of the forces, work of the stress (NaN where there is a strain and no stress)."""
    forces = 0.5 * (first.forces + second.forces @ move.rotation)
    by_stress = 0.0
    if move.strain.any():
        by_stress = 0.5 * float(
            np.sum((move.volumes[0] * first.stress + move.volumes[1] * second.stress) * move.strain)
        )
    return second.energy - first.energy, -float(np.sum(forces * move.displacements)), by_stress


def hydrogen_stiffness(structures: Sequence[Atoms], labels: Sequence[StructureLabels]) -> float | None:
    """Force constants of bonds to hydrogen, as forces and positions give them, over what they are; None if unknown.

    Args:
        structures: The structures.
        labels: Their labels.

    Returns:
        About 1 in eV/A, 23 in kcal/mol/A, and negative for gradients instead of forces.
    """
    pairs: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for atoms, one in islice(_some(structures, labels), _STRUCTURES):
        if 1 in atoms.numbers and np.isfinite(one.forces).all():
            for element, length, force in _bonds_to_hydrogen(atoms, one.forces):
                pairs[element].append((length, force))
    found = []
    for element, values in pairs.items():
        lengths, forces = np.array(values).T
        if len(values) >= 20 and lengths.std() > 0.004 and forces.std() > 0:
            correlation = np.corrcoef(lengths, forces)[0, 1]
            if abs(correlation) > 0.7:
                slope = -correlation * forces.std() / lengths.std()
                found.append((len(values), slope / STIFFNESS[element]))
    return max(found)[1] if found else None


def _bonds_to_hydrogen(atoms: Atoms, forces: FloatArray) -> Iterator[tuple[int, float, float]]:
    """Partner, length and the force that pulls at the hydrogen, of hydrogens with one neighbor."""
    try:
        edges, shifts = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, 1.5)
    except DataError:
        return
    vectors = atoms.positions[edges[1]] - atoms.positions[edges[0]] + shifts @ atoms.cell.array
    counts = np.bincount(edges[1], minlength=len(atoms))
    for (sender, receiver), vector in zip(edges.T, vectors, strict=True):
        element = int(atoms.numbers[sender])
        if atoms.numbers[receiver] == 1 and counts[receiver] == 1 and element in STIFFNESS:
            length = float(np.linalg.norm(vector))
            yield element, length, float(forces[receiver] @ vector / length)


def total_energy_ratio(structures: Sequence[Atoms], labels: Sequence[StructureLabels]) -> float | None:
    """Energies over the sums of the total energies of the atoms in Hartree, over structures of light elements.

    Args:
        structures: The structures.
        labels: Their labels.

    Returns:
        The median, about 27.2 for all-electron energies in eV; None without structures of elements up to argon.

    Example:
        >>> water = StructureLabels(-76.4, np.zeros((3, 3)), np.zeros((3, 3)))
        >>> round(total_energy_ratio([Atoms("H2O")], [water]), 2)
        1.0
    """
    ratios = [
        -one.energy / sum(ATOMS[int(z)] for z in atoms.numbers)
        for atoms, one in zip(structures, labels, strict=True)
        if len(atoms) and 5 <= atoms.numbers.max() <= max(ATOMS) and atoms.numbers.min() > 0
        if np.isfinite(one.energy)
    ]
    if not ratios:
        return None
    middle = float(np.median(ratios))
    return middle if np.mean(np.abs(np.array(ratios) - middle) < 0.05 * abs(middle)) > 0.8 else None


def stress_size(structures: Sequence[Atoms], labels: Sequence[StructureLabels]) -> float | None:
    """Anisotropic stress times volume over the size of the forces, which both come from the same pairs of atoms.

    Args:
        structures: The structures.
        labels: Their labels.

    Returns:
        The median, 0.05 to 0.5 in crystals and liquids; None without stress on structures with forces.
    """
    found = []
    for atoms, one in zip(structures, labels, strict=True):
        if np.isfinite(one.stress).all() and np.isfinite(one.forces).all() and len(atoms) > 1:
            force = float(np.sqrt(np.mean(one.forces**2)))
            if force > 0:
                shear = one.stress - np.trace(one.stress) / 3 * np.eye(3)
                work = abs(np.linalg.det(atoms.cell.array)) * np.sqrt(np.mean(shear**2))
                found.append(work / (force * _TYPICAL_DISTANCE * np.sqrt(len(atoms))))
    large = [value for value in found if value > 0]
    return float(np.median(large)) if len(large) >= 5 else None


def nearest_ratio(structures: Sequence[Atoms], labels: Sequence[StructureLabels]) -> float | None:
    """Distances of atoms from their nearest neighbor over the sum of the covalent radii; None where that varies much.

    Args:
        structures: The structures.
        labels: Their labels; they are only counted.

    Returns:
        The median over all atoms with others near them: about 1 in A, 1.9 in bohr.
    """
    ratios: list[FloatArray] = []
    for atoms, _ in islice(_some(structures, labels), _STRUCTURES):
        if len(atoms) < 2 or set(atoms.numbers.tolist()) & {*NOBLE, 0}:
            continue
        radii = covalent_radii[atoms.numbers]
        try:
            edges, shifts = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, 4.4 * float(radii.max()))
        except DataError:
            continue
        vectors = atoms.positions[edges[1]] - atoms.positions[edges[0]] + shifts @ atoms.cell.array
        nearest = np.full(len(atoms), np.inf)
        np.minimum.at(nearest, edges[1], np.linalg.norm(vectors, axis=1) / (radii[edges[0]] + radii[edges[1]]))
        ratios.append(nearest)
    values = np.concatenate(ratios) if ratios else np.zeros(0)
    if len(values) < 10:
        return None
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return float(middle) if high < 1.4 * middle and low > 0.7 * middle else None


def _some(structures: Sequence[Atoms], labels: Sequence[StructureLabels]) -> Iterator[tuple[Atoms, StructureLabels]]:
    """Structures from all of the data that are not too large to search for neighbors."""
    step = max(1, len(structures) // (2 * _STRUCTURES))
    for atoms, one in zip(structures[::step], labels[::step], strict=True):
        if 0 < len(atoms) <= _MOST_ATOMS and _is_sound(atoms):
            yield atoms, one
