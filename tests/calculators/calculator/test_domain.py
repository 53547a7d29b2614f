"""Structures that a model was not trained on are said, once."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.calculator.model import prepare_model
from ik_e3nn_calculators.dock.run import _energies
from ik_e3nn_calculators.dock.settings import DockSettings
from ik_e3nn_calculators.dock.system.host import Host
from ik_e3nn_calculators.dock.system.ligand import read_ligand

TEXT = "the model was not trained on structures like"


@pytest.fixture
def dimer():
    first = molecule("C6H6")
    second = first.copy()
    second.positions += [0, 0, 3.6]
    return first + second


def told(caplog):
    return [message for message in caplog.messages if TEXT in message]


def test_the_base_model_warns_once_of_each(dimer, caplog):
    calculator = IKCalculator("base", device="cpu")
    good = molecule_from_smiles("CCO")
    good.calc = dimer.calc = calculator
    with caplog.at_level(logging.WARNING):
        good.get_potential_energy()
        assert not told(caplog)
        dimer.get_potential_energy()
        dimer.rattle(0.01, seed=0)
        dimer.get_potential_energy()
        assert [message.split(": ")[1][:36] for message in told(caplog)] == ["it is 2 separate molecules or atoms."]
        dimer.cell, dimer.pbc = [12, 12, 9], True
        dimer.get_potential_energy()
        assert ["it is periodic." in message for message in told(caplog)] == [False, True]
        glycine = molecule_from_smiles("[NH3+]CC(=O)[O-]")
        glycine.calc = calculator
        glycine.get_potential_energy()
    assert len(told(caplog)) == 3
    assert "charged groups" in told(caplog)[-1]


def test_another_molecule_of_the_same_atoms_is_judged_anew(caplog):
    """Glycine and its zwitterion, with the atoms in one order: a hydrogen of the oxygen is moved to the nitrogen."""
    zwitterion = molecule_from_smiles("[NH3+]CC(=O)[O-]")
    neutral = Atoms(zwitterion.numbers, zwitterion.positions)
    nitrogen, oxygens = neutral.symbols.search("N")[0], neutral.symbols.search("O")
    moved = max(np.flatnonzero(neutral.get_distances(nitrogen, range(10)) < 1.2)[1:])
    far = oxygens[np.argmax(neutral.get_distances(nitrogen, oxygens))]
    carbon = min(range(10), key=lambda i: neutral.get_distance(far, i) if neutral.numbers[i] == 6 else 9.0)
    along = neutral.positions[far] - neutral.positions[carbon]
    neutral.positions[moved] = neutral.positions[far] + 0.97 * along / np.linalg.norm(along)
    bare = Atoms(zwitterion.numbers, zwitterion.positions)
    calculator = IKCalculator("base", device="cpu")
    neutral.calc = bare.calc = calculator
    with caplog.at_level(logging.WARNING):
        neutral.get_potential_energy()
        assert not told(caplog)
        bare.get_potential_energy()
        neutral.get_potential_energy()
        bare.get_potential_energy()
    assert ["charged groups" in message for message in told(caplog)] == [True]


def test_what_moves_step_by_step_is_judged_ever_more_seldom(monkeypatch):
    judged = []
    monkeypatch.setattr(Domain, "outside", lambda self, atoms: judged.append(atoms.positions[1, 2]) or [])
    hydrogen = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    hydrogen.calc = IKCalculator("base", device="cpu")
    steps = np.arange(40)
    for step in steps:
        hydrogen.positions[1, 2] = 0.7 + 0.5 * step  # each step needs a new neighbor list
        hydrogen.get_potential_energy()
    hydrogen.positions[1, 2] = 0.7
    hydrogen.get_potential_energy()
    assert judged == pytest.approx([0.7 + 0.5 * step for step in (0, 1, 3, 7, 15, 31)] + [0.7])


def test_one_warning_of_radicals_and_ions_without_a_charge_for_each_kind(caplog):
    calculator = IKCalculator("base", device="cpu")
    hydronium = molecule_from_smiles("[OH3+]")
    with caplog.at_level(logging.WARNING):
        for atoms in (molecule("CH3"), molecule("OH"), molecule("CH2_s1A1d"), Atoms("OH3", hydronium.positions)):
            atoms.calc = calculator
            atoms.get_potential_energy()
    assert [
        next(word for word in ("odd number", "too few bonds", "charged groups") if word in text)
        for text in told(caplog)
    ] == ["odd number", "too few bonds", "charged groups"]


def test_parts_that_a_calculation_is_cut_into_are_not_judged(caplog):
    chain = molecule_from_smiles("C=CC=CC=CC=C")
    chain.set_constraint(FixAtoms(np.arange(2, len(chain))))
    chain.calc = IKCalculator("base", device="cpu", skip_fixed=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            chain.get_forces()
            chain.positions[0] += 0.01
    assert not told(caplog)


@pytest.mark.parametrize("height", [0.0, 4.0])
def test_a_pose_search_warns_too(caplog, height):
    """The ligand of a SMILES is at the origin, also where the host is."""
    water = molecule("H2O")
    water.positions += [0, 0, height]
    everywhere = SimpleNamespace(distances=lambda positions: np.zeros(len(positions)))
    settings = DockSettings(ligand="C", host="water.xyz", output="out")
    model = prepare_model("base", device="cpu")
    with caplog.at_level(logging.WARNING):
        _energies(settings, model, read_ligand("C", 1, 0), Host(water, "water"), everywhere)
        assert "it is 2 separate molecules or atoms" in told(caplog)[0]
        cut = Host(water[:2], "water", left_out=water.positions[2:])
        _energies(settings, model, read_ligand("C", 1, 0), cut, everywhere)
        _energies(settings, model, read_ligand("C", 1, 0), Host(water[:2], "water"), everywhere)
    assert ["unpaired electrons" in message for message in told(caplog)] == [False, False, True]
