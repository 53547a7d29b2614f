"""Runs that are made together: one call for all, bounded batches, errors of one run, and a clean end."""

import logging
import threading

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.many import group
from ik_e3nn_calculators.many.group import Group, Job

NAMES = ("CH3CH2OH", "H2O", "CH4", "H2", "CO")  # 9, 3, 5, 2 and 2 atoms


@pytest.fixture
def calculator():
    model = InteratomicPotential(["H", "C", "O"], 4.0, num_channels=4, num_layers=2)
    return IKCalculator(model.double(), device="cpu")


@pytest.fixture
def sizes(monkeypatch):
    """Number of atoms in each call of a model."""
    seen, forward = [], InteratomicPotential.forward

    def counted(self, graph, **options):
        seen.append(len(graph["positions"]))
        return forward(self, graph, **options)

    monkeypatch.setattr(InteratomicPotential, "forward", counted)
    return seen


def walk(calculator, name, found, *, steps=3):
    """A job that evaluates a molecule, moves it along the forces, and so on."""
    atoms = molecule(name)

    def work(predict):
        atoms.calc = calculator.sharing(predict)
        for _ in range(steps):
            atoms.positions += 0.01 * atoms.get_forces()
        return atoms.get_potential_energy()

    return Job(name, len(atoms), work, lambda outcome: found.__setitem__(name, outcome))


def alone(calculator, name, *, steps=3):
    atoms = molecule(name)
    atoms.calc = calculator
    for _ in range(steps):
        atoms.positions += 0.01 * atoms.get_forces()
    return atoms.get_potential_energy()


def test_all_runs_share_each_call(calculator, sizes):
    found, seen = {}, []
    jobs = [walk(calculator, name, found) for name in NAMES]
    Group(calculator.whole, batch_atoms=100).run(jobs, lambda running, calls: seen.append((running, calls)))
    assert sizes == [21] * 4
    assert seen == [(5, 1), (5, 2), (5, 3), (5, 4), (0, 4)]
    for name in NAMES:
        assert found[name] == pytest.approx(alone(calculator, name), abs=1e-10)
    assert len({round(energy, 6) for energy in found.values()}) == 5


@pytest.mark.parametrize("most", [1, 5, 11])
def test_batches_are_bounded_and_refilled(calculator, sizes, most):
    found = {}
    steps = dict(zip(NAMES, (1, 4, 2, 3, 6), strict=True))
    jobs = [walk(calculator, name, found, steps=steps[name]) for name in NAMES]
    Group(calculator.whole, batch_atoms=most).run(jobs)
    assert max(sizes) == {1: 9, 5: 9, 11: 10}[most]  # ethanol, larger than the bound, has calls of its own
    assert sum(sizes) == sum(len(molecule(name)) * (steps[name] + 1) for name in NAMES)
    for name in NAMES:
        assert found[name] == pytest.approx(alone(calculator, name, steps=steps[name]), abs=1e-10)


def test_the_number_of_runs_at_once_is_bounded(calculator, sizes, monkeypatch):
    monkeypatch.setattr(group, "MOST", 2)
    seen = []
    Group(calculator.whole, batch_atoms=100).run(
        [walk(calculator, name, {}) for name in NAMES], lambda running, calls: seen.append(running)
    )
    assert max(seen) == 2
    assert sizes[0] == 12


@pytest.mark.parametrize(("few", "threads"), [(2000, 1), (10, 2)])
def test_small_batches_run_on_one_thread(calculator, monkeypatch, few, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(group, "FEW", few)
    monkeypatch.setattr("ik_e3nn_calculators.calculator.evaluator.SMALL", 0)  # of single structures
    seen, forward, before = [], InteratomicPotential.forward, torch.get_num_threads()

    def watched(self, graph, **options):
        seen.append(torch.get_num_threads())
        return forward(self, graph, **options)

    monkeypatch.setattr(InteratomicPotential, "forward", watched)
    torch.set_num_threads(2)
    try:
        Group(calculator.whole, batch_atoms=100).run([walk(calculator, name, {}) for name in NAMES])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {threads}


def test_each_run_gets_what_it_asks_for(calculator):
    """Stresses of cells and of atoms, beside molecules that have none."""
    cell = Atoms("H2", positions=[[0, 0, 0], [0.8, 0, 0]], cell=[3.0, 3.1, 3.2], pbc=True)
    crystals, found = [cell, cell * (3, 1, 1), cell * (1, 1, 2)], {}

    def job(name, number):
        atoms = crystals[number].copy()

        def work(predict):
            atoms.calc = calculator.sharing(predict)
            return atoms.calc.get_property(name, atoms)

        return Job(f"{name} {number}", len(atoms), work, lambda outcome: found.__setitem__((name, number), outcome))

    names = [("stress", 0), ("stresses", 1), ("stresses", 2), ("stress", 2)]
    jobs = [walk(calculator, "H2O", found), *(job(*one) for one in names), walk(calculator, "CO", found)]
    Group(calculator.whole, batch_atoms=100).run(jobs)
    for name, number in names:
        crystals[number].calc = calculator
        expected = calculator.get_property(name, crystals[number])
        assert np.abs(expected).max() > 1e-6
        np.testing.assert_allclose(found[name, number], expected, atol=1e-12)
    for name in ("H2O", "CO"):
        assert found[name] == pytest.approx(alone(calculator, name), abs=1e-10)


def test_standard_deviations_of_a_committee():
    models = [InteratomicPotential(["H", "C", "O"], 4.0, num_channels=2, num_layers=1).double() for _ in range(2)]
    committee, found = IKCalculator(models, device="cpu"), {}

    def job(name):
        atoms = molecule(name)

        def work(predict):
            return committee.sharing(predict).get_property("forces_std", atoms)

        return Job(name, len(atoms), work, lambda outcome: found.__setitem__(name, outcome))

    Group(committee.whole, batch_atoms=100).run([job(name) for name in NAMES])
    for name in NAMES:
        expected = committee.get_property("forces_std", molecule(name))
        assert np.abs(expected).max() > 1e-6
        np.testing.assert_allclose(found[name], expected, atol=1e-12)


def test_a_sharing_calculator_begins_without_results(calculator):
    atoms, asked = molecule("CH4"), []
    atoms.calc = calculator
    energy = atoms.get_potential_energy()

    def predict(graph, **outputs):
        asked.append(outputs)
        return calculator.whole.predict(graph, **outputs)

    atoms.calc = calculator.sharing(predict)
    assert atoms.get_potential_energy() == energy
    assert asked == [{"stress": False, "atomic_stress": False, "std": False}]
    atoms.positions += 0.01
    atoms.get_forces()
    assert calculator.get_property("energy", allow_calculation=False) == energy


def test_an_error_ends_one_run(calculator):
    found = {}

    def fail(predict):
        helium = Atoms("He")
        helium.calc = calculator.sharing(predict)
        return helium.get_potential_energy()

    jobs = [walk(calculator, "H2O", found), Job("He", 1, fail, lambda outcome: found.update(He=outcome))]
    Group(calculator.whole, batch_atoms=100).run(jobs)
    assert "He, but the model knows only H, C, O" in str(found["He"])
    assert found["H2O"] == pytest.approx(alone(calculator, "H2O"), abs=1e-10)


def test_a_lack_of_memory_makes_the_batches_smaller(calculator, monkeypatch, caplog):
    forward, sizes = InteratomicPotential.forward, []

    def small(self, graph, **options):
        sizes.append(len(graph["positions"]))
        if sizes[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, graph, **options)

    expected = {name: alone(calculator, name) for name in NAMES[1:]}
    monkeypatch.setattr(InteratomicPotential, "forward", small)
    found = {}
    with caplog.at_level(logging.WARNING):
        Group(calculator.whole, batch_atoms=100).run([walk(calculator, name, found) for name in NAMES])
    assert isinstance(found.pop("CH3CH2OH"), torch.OutOfMemoryError)  # too large even alone
    assert found == {name: pytest.approx(energy, abs=1e-10) for name, energy in expected.items()}
    assert "the memory does not suffice for 5 structures at once; going on with batches of 10 atoms" in caplog.text
    assert [size for size in sizes if size > 8] == [21, 12, 9, 9]  # all in the first evaluation


@pytest.mark.parametrize("where", ["model", "run", "report"])
def test_an_interruption_ends_all_runs(calculator, monkeypatch, where):
    cleaned, found, forward, calls = [], {}, InteratomicPotential.forward, []

    def interrupt(*unused):
        raise KeyboardInterrupt

    def interrupted(self, graph, **options):
        calls.append(1)
        return interrupt() if len(calls) == 3 else forward(self, graph, **options)

    if where == "model":
        monkeypatch.setattr(InteratomicPotential, "forward", interrupted)

    def careful(predict):
        atoms = molecule("CH4")
        atoms.calc = calculator.sharing(predict)
        try:
            for _ in range(100):
                atoms.positions += 0.01 * atoms.get_forces()
        finally:
            cleaned.append(True)
            with pytest.raises(BaseException):  # noqa: B017  (a stopped run gets no more results)
                atoms.rattle(), atoms.get_forces()

    last = {
        "model": walk(calculator, "CO", found, steps=50),
        "run": Job("CO", 2, interrupt, found.update),
        "report": Job("CO", 2, lambda predict: None, interrupt),
    }[where]
    jobs = [Job("careful", 5, careful, found.update), Job("again", 5, careful, found.update), last]
    with pytest.raises(KeyboardInterrupt):
        Group(calculator.whole, batch_atoms=100).run(jobs)
    assert cleaned == [True, True]
    assert not found
    assert not [thread for thread in threading.enumerate() if thread.name in ("careful", "again", "CO")]


def test_messages_name_their_run(calculator, caplog):
    def warn(predict):
        logging.getLogger("ik_e3nn_calculators").warning("a share of %d %%", 3)

    Group(calculator.whole, batch_atoms=100).run([Job("3_water", 3, warn, lambda outcome: None)])
    logging.getLogger("ik_e3nn_calculators").warning("done")
    assert [record.getMessage() for record in caplog.records] == ["3_water: a share of 3 %", "done"]
