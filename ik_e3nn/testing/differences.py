"""Checks of derivatives: forces and stress by finite differences, smoothness where atoms cross the cutoff.

All of them use a copy of the model in float64: they are properties of the function, and float32 would hide them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import FloatArray
from ik_e3nn.graph import near_pairs
from ik_e3nn.testing.report import PropertyResult
from ik_e3nn.testing.subject import Subject, largest
from ik_e3nn.testing.variants import transformed

FORCE_TOLERANCE = 1e-6  # eV/A
STRESS_TOLERANCE = 1e-7  # eV/A^3
ENERGY_JUMP = 1e-6  # eV
FORCE_JUMP = 1e-5  # eV/A
COORDINATES = 12  # number of coordinates of a structure whose forces are checked
PAIRS = 2  # number of pairs of a structure that are moved across the cutoff
STEP = 1e-4  # A
STRAIN_STEP = 3e-5
CROSSING_STEP = 2e-4  # A

# f'(0) = (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h, exact for polynomials of degree 4
STENCIL = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}


def forces_by_differences(subject: Subject) -> list[PropertyResult]:
    """Forces are minus the gradient of the energy, for some coordinates of every structure."""
    subject, random = subject.in_double, subject.random()
    errors = []
    for index, (atoms, found) in enumerate(zip(subject.structures, subject.reference, strict=True)):
        size = 3 * len(atoms)
        chosen = random.choice(size, min(size, COORDINATES), replace=False)

        def displaced(h: float, c: int, atoms: Atoms = atoms) -> Atoms:
            new = atoms.copy()
            new.positions.reshape(-1)[c] += h
            return new

        slopes = _slopes(subject, [partial(displaced, c=c) for c in chosen], STEP)
        errors += [(index, abs(slope + found.forces.reshape(-1)[c])) for c, slope in zip(chosen, slopes, strict=True)]
    return [subject.row("forces by finite differences", errors, FORCE_TOLERANCE, "eV/A")] if errors else []


def stress_by_differences(subject: Subject) -> list[PropertyResult]:
    """Stress is the derivative of the energy by strain over the volume, if the cell has a volume."""
    subject = subject.in_double
    free, errors = subject.free_directions, []
    for index, (atoms, found) in enumerate(zip(subject.structures, subject.reference, strict=True)):
        volume = abs(np.linalg.det(atoms.cell.array))
        if volume == 0 or not len(atoms):
            continue
        units = [(np.outer(a, b) + np.outer(b, a)) / 2 for a, b in combinations_with_replacement(np.eye(3), 2)]

        def deformed(h: float, unit: FloatArray, atoms: Atoms = atoms) -> Atoms:
            return transformed(atoms, np.eye(3) + h * (free @ unit @ free))

        slopes = _slopes(subject, [partial(deformed, unit=unit) for unit in units], STRAIN_STEP)
        wanted = [(found.stress * unit).sum() for unit in units]
        errors += [(index, abs(slope / volume - value)) for slope, value in zip(slopes, wanted, strict=True)]
        errors.append((index, largest(found.stress - found.stress.T)))
    return [subject.row("stress by finite differences", errors, STRESS_TOLERANCE, "eV/A^3")] if errors else []


def smoothness_at_cutoff(subject: Subject) -> list[PropertyResult]:
    """Energy and forces do not jump while the distance of two atoms crosses r_max."""
    subject = subject.in_double
    energy, forces = [], []
    for index, atoms in enumerate(subject.structures):
        crossings, steps = _crossings(atoms, subject.r_max), np.arange(1, 4) * CROSSING_STEP
        found = subject.predict([crossing(h) for crossing in crossings for h in (*-steps, *steps)])
        for number in range(len(crossings)):
            inside, outside = found[6 * number :][:3], found[6 * number + 3 :][:3]
            energy.append((index, largest(_limit([p.energy for p in inside]) - _limit([p.energy for p in outside]))))
            forces.append((index, largest(_limit([p.forces for p in inside]) - _limit([p.forces for p in outside]))))
    if not energy:
        return []
    return [
        subject.row("cutoff: jump of the energy", energy, ENERGY_JUMP, "eV"),
        subject.row("cutoff: jump of the forces", forces, FORCE_JUMP, "eV/A"),
    ]


def _slopes(subject: Subject, paths: Sequence[Callable[[float], Atoms]], step: float) -> list[float]:
    """Derivative at 0 of the energy of path(h), for each path; all structures are evaluated together."""
    found = subject.predict([path(k * step) for path in paths for k in STENCIL])
    slopes = []
    for first in range(0, len(found), len(STENCIL)):
        energies = [p.energies for p in found[first : first + len(STENCIL)]]
        # the sum over sites keeps digits that a difference of total energies would lose
        terms = [w * (e - energies[0]).sum() for w, e in zip(STENCIL.values(), energies, strict=True)]
        slopes.append(float(sum(terms) / step))
    return slopes


def _limit(values: list[float] | list[FloatArray]) -> FloatArray:
    """Value at 0 of the parabola through values at h, 2h, 3h."""
    first, second, third = (np.asarray(v) for v in values)
    limit: FloatArray = 3 * first - 3 * second + third
    return limit


def _crossings(atoms: Atoms, r_max: float) -> list[Callable[[float], Atoms]]:
    """Functions of h that return the structure with a pair of its atoms at the distance r_max + h."""
    if not len(atoms):
        return []
    if len(atoms) == 1:
        # its own images move with it: a second atom is needed
        atoms = atoms.repeat([2 if p else 1 for p in atoms.pbc]) if atoms.pbc.any() else _pair(atoms, r_max)
    sender, receiver, vectors, lengths, _ = near_pairs(atoms, r_max + 1.0)
    lengths = np.where(sender < receiver, lengths, np.inf)
    order = np.argsort(np.abs(lengths - r_max))
    chosen = [edge for edge in order[:PAIRS] if np.isfinite(lengths[edge]) and lengths[edge] > 0]

    def crossing(edge: int) -> Callable[[float], Atoms]:
        def at(h: float) -> Atoms:
            new = atoms.copy()
            new.positions[receiver[edge]] += vectors[edge] * ((r_max + h) / lengths[edge] - 1)
            return new

        return at

    return [crossing(int(edge)) for edge in chosen]


def _pair(atoms: Atoms, r_max: float) -> Atoms:
    new = atoms.copy()
    new.extend(atoms)
    new.positions[1] += [r_max, 0.0, 0.0]
    return new
