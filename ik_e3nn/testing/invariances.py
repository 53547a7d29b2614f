"""Checks that equivalent descriptions of a structure give equivalent predictions."""

import numpy as np
import torch
from ase import Atoms

from ik_e3nn.testing.report import PropertyResult
from ik_e3nn.testing.subject import Prediction, Subject, largest
from ik_e3nn.testing.variants import joined, moved_to_images, permuted, repeated, shifted, transformed

ELEMENTS_OF_GROUP = 3
FAR = 5.0  # cutoffs between fragments; beyond the receptive fields of usual potentials


def equivariance(subject: Subject) -> list[PropertyResult]:
    """Under the group, energies stay, forces rotate, stresses transform as tensors."""
    elements = subject.group.random_elements(ELEMENTS_OF_GROUP, torch.Generator().manual_seed(subject.seed)).numpy()
    energy, forces, stress = [], [], []
    for index, (atoms, before) in enumerate(zip(subject.structures, subject.reference, strict=True)):
        moved = subject.predict([transformed(atoms, g) for g in elements])
        for g, after in zip(elements, moved, strict=True):
            energy.append((index, largest(after.energies - before.energies)))
            forces.append((index, largest(after.forces - before.forces @ g.T)))
            difference = after.stress - g @ before.stress @ g.T
            stress.append((index, 0.0 if np.isnan(before.stress).all() else largest(difference)))
    return [
        subject.row("equivariance: energy", energy, subject.tolerance, "eV/atom"),
        subject.row("equivariance: forces", forces, subject.tolerance, "eV/A"),
        subject.row("equivariance: stress", stress, subject.stress_tolerance, "eV/A^3"),
    ]


def permutation(subject: Subject) -> list[PropertyResult]:
    """Predictions do not depend on the order of the atoms."""
    random = subject.random()
    orders = [random.permutation(len(atoms)) for atoms in subject.structures]
    variants = [permuted(atoms, order) for atoms, order in zip(subject.structures, orders, strict=True)]
    return _compare(subject, "permutation", variants, orders)


def lattice_translation(subject: Subject) -> list[PropertyResult]:
    """Predictions do not depend on which periodic image of an atom is given."""
    random = subject.random()
    return _compare(subject, "lattice translation", [moved_to_images(atoms, random) for atoms in subject.structures])


def translation(subject: Subject) -> list[PropertyResult]:
    """Predictions do not depend on the position of the structure in space."""
    random, free = subject.random(), subject.free_directions
    moved = [shifted(atoms, free @ random.normal(size=3)) for atoms in subject.structures]
    return _compare(subject, "translation", moved)


def batching(subject: Subject) -> list[PropertyResult]:
    """Predictions for a structure do not depend on the other structures in its batch."""
    return _rows(subject, "batch", subject.predict(subject.structures), subject.reference)


def repetition(subject: Subject) -> list[PropertyResult]:
    """The same call gives the same numbers, bit for bit on CPU."""
    again = [subject.predict([atoms])[0] for atoms in subject.structures]
    errors = [
        (index, max(largest(b.energies - a.energies), largest(b.forces - a.forces)))
        for index, (a, b) in enumerate(zip(again, subject.reference, strict=True))
    ]
    tolerance = 0.0 if subject.device.type == "cpu" else subject.tolerance
    return [subject.row("repeatable", errors, tolerance, "eV, eV/A")]


def extensivity(subject: Subject) -> list[PropertyResult]:
    """Fragments far apart do not interact, and a doubled cell has twice the energy."""
    open_ones = [i for i, atoms in enumerate(subject.structures) if not atoms.pbc.any() and len(atoms)]
    errors = []
    for index, atoms in enumerate(subject.structures):
        if atoms.pbc.any():
            double, partner = repeated(atoms), index
        elif len(atoms) and subject.free_directions[0, 0] > 0.5:  # free to be moved along x
            partner = _partner(subject, index, open_ones)
            double = joined(atoms, subject.structures[partner], FAR * subject.r_max)
        else:
            double = None
        if double is not None:
            parts = subject.reference[index].energy + subject.reference[partner].energy
            errors.append((index, abs(subject.predict([double])[0].energy - parts) / len(double)))
    return [subject.row("extensivity: energy", errors, subject.tolerance, "eV/atom")] if errors else []


def sums(subject: Subject) -> list[PropertyResult]:
    """Site energies sum to the energy, and forces sum to zero along free directions."""
    pairs = list(enumerate(subject.reference))
    energy = [(index, abs(p.energies.sum() - p.energy) / max(len(p.energies), 1)) for index, p in pairs]
    forces = [(index, largest(subject.free_directions @ p.forces.sum(0)) / max(len(p.forces), 1)) for index, p in pairs]
    return [
        subject.row("site energies sum to the energy", energy, subject.tolerance, "eV/atom"),
        subject.row("forces sum to zero", forces, subject.tolerance, "eV/A"),
    ]


def _partner(subject: Subject, index: int, candidates: list[int]) -> int:
    """The next structure that has the same charge and spin; the structure itself if there is none."""
    mine = [subject.structures[index].info.get(key) for key in ("charge", "spin")]
    later = [i for i in candidates if i > index] + [i for i in candidates if i < index]
    for i in later:
        if [subject.structures[i].info.get(key) for key in ("charge", "spin")] == mine:
            return i
    return index


def _compare(
    subject: Subject, name: str, variants: list[Atoms], orders: list[np.ndarray] | None = None
) -> list[PropertyResult]:
    found = [subject.predict([atoms])[0] for atoms in variants]
    if orders is not None:
        found = [
            Prediction(p.energy, p.energies[np.argsort(order)], p.forces[np.argsort(order)], p.stress)
            for p, order in zip(found, orders, strict=True)
        ]
    return _rows(subject, name, found, subject.reference)


def _rows(subject: Subject, name: str, found: list[Prediction], expected: list[Prediction]) -> list[PropertyResult]:
    pairs = list(enumerate(zip(found, expected, strict=True)))
    energy = [(i, largest(a.energies - b.energies)) for i, (a, b) in pairs]
    forces = [(i, largest(a.forces - b.forces)) for i, (a, b) in pairs]
    stress = [(i, 0.0 if np.isnan(b.stress).all() else largest(a.stress - b.stress)) for i, (a, b) in pairs]
    return [
        subject.row(f"{name}: energy", energy, subject.tolerance, "eV/atom"),
        subject.row(f"{name}: forces", forces, subject.tolerance, "eV/A"),
        subject.row(f"{name}: stress", stress, subject.stress_tolerance, "eV/A^3"),
    ]
