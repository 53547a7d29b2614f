"""Structures of all kinds in the calculator: the energy by ASE's neighbor list, or a clear error."""

from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from hypothesis import strategies as st

from ik_e3nn.graph import build_graph
from ik_e3nn_calculators import IKCalculator
from tests.fuzz.engine import NUMBERS, VALUES, assert_clear, one_of, sizes, try_many

KEYS = ["charge", "spin", "bonds", "surface_normal", "surface_x", "energy"]


@st.composite
def structures(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, 5))
    numbers = [draw(one_of([1, 6, 8] * 5 + [0, 26, 118])) for _ in range(count)]
    positions = rng.uniform(0.0, draw(one_of([1.0, 4.0, 4.0, 4.0, 30.0])), (count, 3))
    positions += draw(one_of([0.0, 0.0, 0.0, 1e3, 1e6, 1e12]))
    cell = rng.uniform(-1.0, 1.0, (3, 3)) + draw(one_of([0.0, 2.0, 4.0, 8.0])) * np.eye(3)
    cell *= draw(one_of([1.0] * 12 + [0.0, 1e-8, 1e-3, 0.1, 1e6, 1e200, 1e300]))
    if draw(st.integers(0, 5)) == 0:
        cell[draw(st.integers(0, 2))] = draw(one_of(NUMBERS))
    if count and draw(st.integers(0, 5)) == 0:
        positions[draw(st.integers(0, count - 1)), 1] = draw(one_of(NUMBERS))
    if count and draw(st.integers(0, 9)) == 0:
        positions[-1] = positions[0]
    atoms = Atoms(numbers, positions, cell=cell, pbc=draw(st.lists(st.booleans(), min_size=3, max_size=3)))
    if draw(st.integers(0, 3)) == 0:
        atoms.info[draw(one_of(KEYS))] = draw(one_of(VALUES))
    return atoms


def reference_pairs(atoms, r_max):
    """Pairs of atoms and their shifts: by ASE, or in cells that are too wide for it every pair by itself."""
    if np.abs(atoms.cell.array).max() < 1e4:
        return neighbor_list("ijS", atoms, r_max, self_interaction=False)
    count, cell = len(atoms), atoms.cell.complete()
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell.array), axis=0)
    around = [range(-n, n + 1) for n in np.where(atoms.pbc, np.ceil(r_max / heights), 0).astype(int)]
    images = np.array(list(product(*around)))
    sender, receiver = (one.ravel().repeat(len(images)) for one in np.indices((count, count)))
    vectors = atoms.positions[receiver] - atoms.positions[sender]
    shifts = np.tile(images, (count**2, 1)) - np.round(cell.scaled_positions(vectors)) * atoms.pbc
    near = np.linalg.norm(vectors + shifts @ atoms.cell.array, axis=1) < r_max
    near &= (sender != receiver) | shifts.any(axis=1)
    return sender[near], receiver[near], shifts[near]


def reference_energy(potential, atoms):
    """The potential's energy with pairs of our own, and nothing else of the structure."""
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    sender, receiver, shifts = reference_pairs(atoms, potential.r_max)
    pairs = np.stack([sender, receiver]).astype(np.int64), shifts.astype(np.float64)
    graph = build_graph(atoms, potential.r_max, dtype=torch.float64, pairs=pairs)
    return potential(graph, forces=False)["energy"].item()


@sizes(100)
@pytest.mark.filterwarnings("ignore")  # overflows of hostile numbers, in ASE too
def test_a_structure_has_the_right_energy_or_a_clear_error(number, potential):
    calculated = []

    def check(atoms):
        before = atoms.copy()
        try:
            calculator = IKCalculator(potential, device="cpu")
            atoms.calc = calculator
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        except Exception as error:  # noqa: BLE001 - whatever comes is judged
            return assert_clear(error)
        assert np.isfinite(energy)
        assert np.isfinite(forces).all()
        scale = 1.0 + np.abs(atoms.positions).max()
        assert energy == pytest.approx(reference_energy(potential, before), rel=1e-9, abs=1e-13 * scale * 1e3)
        np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-9 * (1.0 + np.abs(forces).max()))
        np.testing.assert_array_equal(atoms.positions, before.positions)
        calculated.append(energy)

    try_many(check, number, structures())
    assert len({round(energy, 6) for energy in calculated}) > number // 10


ARGUMENTS = ["model", "device", "dtype", "compile", "max_edges", "skin", "skip_fixed", "uncertainty"]


@sizes(30)
@pytest.mark.filterwarnings("ignore")
def test_an_argument_of_the_calculator_is_usable_or_a_clear_error(number, potential):
    atoms = Atoms("CO", [[0.1, 0.2, 0.3], [0.5, 0.7, 1.2]])
    right = reference_energy(potential, atoms)

    def check(name, value):
        if name == "compile" and value is True:
            return  # minutes of a compiler
        try:
            calculator = IKCalculator(**({"model": potential, "device": "cpu"} | {name: value}))
            energy = calculator.get_potential_energy(atoms)
        except Exception as error:  # noqa: BLE001 - whatever comes is judged
            assert_clear(error, also=(TypeError, ValueError))
        else:
            assert name == "model" or energy == pytest.approx(right, abs=1e-5)

    try_many(check, number, one_of(ARGUMENTS), one_of(VALUES))
