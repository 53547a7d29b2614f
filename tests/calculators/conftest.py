"""Argon-like structures and calculators for the tests of the simulation engines."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.calculator import code
from tests.calculators.pair_potential import PairPotential
from tests.calculators.switching import Compiler


@pytest.fixture
def calculator():
    return IKCalculator(PairPotential(), device="cpu")


@pytest.fixture
def compiler(monkeypatch) -> Compiler:
    """A compiler that takes no time, and pays at once."""
    made = Compiler()
    monkeypatch.setattr(code, "load_compiled", made.load)
    monkeypatch.setattr(code, "compile_potential", made.compile)
    monkeypatch.setattr(code, "compile_layers", lambda model: False)
    monkeypatch.setattr(code, "Compilation", made.process)
    monkeypatch.setattr(code, "missing_compiler", lambda: "")
    for name in ("COMPILING", "WAITING", "_SURE"):
        monkeypatch.setattr(code, name, 1e-9)
    return made


@pytest.fixture
def box():
    """A rattled, periodic box of argon."""
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def cluster():
    """A compact open cluster of seven argon atoms."""
    angles = np.arange(5) * 2 * np.pi / 5
    ring = np.stack([3.1 * np.cos(angles), 3.1 * np.sin(angles), np.zeros(5)], axis=1)
    return Atoms("Ar7", positions=[*ring, [0, 0, 1.9], [0, 0, -1.9]])


def triclinic() -> Atoms:
    cell = [[6.0, 0.3, -0.2], [1.5, 5.5, 0.4], [-0.8, 1.1, 6.2]]
    atoms = Atoms("Ar3", scaled_positions=[[0, 0, 0], [0.45, 0.55, 0.1], [1.3, -0.4, 0.6]], cell=cell, pbc=True)
    return atoms


def left_handed() -> Atoms:
    atoms = triclinic()
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    return atoms


def slab() -> Atoms:
    cell = [[5.6, 0.4, 0.0], [-1.2, 5.9, 0.0], [0.7, 0.3, 15.0]]
    positions = [[0, 0, 0], [2.8, 2.9, 1.4], [0.2, -0.1, 3.4], [2.6, 3.2, 5.1]]
    return Atoms("Ar4", positions=positions, cell=cell, pbc=(True, True, False))


def wire() -> Atoms:
    cell = [[4.1, 0.0, 0.0], [0.3, 12.0, 0.0], [0.0, 0.4, 12.0]]
    return Atoms("Ar2", positions=[[0, 0, 0], [1.9, 3.1, 0.2]], cell=cell, pbc=(True, False, False))


@pytest.fixture(params=[triclinic, left_handed, slab, wire], ids=lambda build: build.__name__)
def periodic(request):
    """Sheared cells with three, two and one periodic directions."""
    return request.param()
