"""Models are compiled beside a run if this pays, used where they are ready, and never a reason to stop."""

import copy
import logging
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms

from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.models import Committee
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.calculator import code
from ik_e3nn_calculators.calculator.choice import code_for
from ik_e3nn_calculators.calculator.code import AtOnce, Beside, Code
from ik_e3nn_calculators.calculator.code_watch import CodeWatch
from ik_e3nn_calculators.calculator.evaluator import Evaluator
from tests.calculators.pair_potential import PairPotential
from tests.calculators.switching import FACTOR, potential, water

TIMES = {name: getattr(code, name) for name in ("COMPILING", "WAITING", "_SURE")}  # before fixtures change them


def energies(calculator, count: int) -> list[float]:
    """Energies of the same structure, each computed anew."""
    found = []
    for _ in range(count):
        calculator.reset()
        found.append(calculator.get_property("energy", water()))
    return found


def test_a_calculator_switches_when_the_code_is_ready(compiler, caplog):
    calculator = IKCalculator(potential(), device="cpu", compile="auto")
    eager = IKCalculator(potential(), device="cpu").get_property("energy", water())
    with caplog.at_level(logging.INFO):
        found = energies(calculator, 12)
    assert eager != 0.0
    ratios = np.array(found) / eager
    switch = int(np.argmax(ratios != 1.0))
    assert 5 <= switch <= 8  # the first two evaluations are not timed, and the process lasts for five
    np.testing.assert_allclose(ratios[:switch], 1.0, rtol=1e-14)
    np.testing.assert_allclose(ratios[switch:], FACTOR, rtol=1e-12)
    assert len(compiler.asked) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "compiling the model beside the run, which takes a minute or two, once for models of its size"
    ]


def test_code_in_the_cache_is_used_at_once_if_the_run_is_not_short(compiler):
    compiler.cached = True
    for evaluations, sure in ((code.LOADING, True), (code.LOADING - 1, True), (code.LOADING, False)):
        calculator = IKCalculator(potential(), device="cpu", compile="auto")
        calculator.code.expect(evaluations, sure=sure)
        energies(calculator, 1)
        assert calculator.compiled is (sure and evaluations == code.LOADING)
    assert not compiler.asked


@pytest.mark.parametrize(("left", "seconds", "first"), [(None, 0.3, 6), (1000, 0.3, 6), (15, 2.0, 3), (15, 0.1, None)])
def test_code_in_the_cache_is_used_after_a_second_if_the_length_is_not_known(
    compiler, monkeypatch, left, seconds, first
):
    """The first evaluation is not counted; fifteen short ones end before."""
    for name, value in TIMES.items():
        monkeypatch.setattr(code, name, value)
    compiler.cached, beside, states = True, Beside([potential()]), []
    if left is not None:
        beside.expect(left, sure=False)
    for _ in range(10):
        beside.prepare()
        beside.took(seconds)
        states.append(beside.is_compiled)
    assert states == [first is not None and number >= first for number in range(1, 11)]
    assert not compiler.asked


@pytest.mark.parametrize(
    ("left", "sure", "seconds", "starts"),
    [
        (20_000, True, 0.0063, True),  # ten picoseconds of a small molecule
        (200, True, 0.0063, False),
        (1000, False, 0.5, True),  # a relaxation that has taken a while
        (1000, False, 0.0063, False),  # and one that cannot take long
        (15, True, 10.0, True),
    ],
)
def test_compiling_starts_where_it_pays(compiler, monkeypatch, left, sure, seconds, starts):
    for name, value in TIMES.items():
        monkeypatch.setattr(code, name, value)
    beside, done = Beside([potential()]), 0
    beside.expect(left, sure=sure)
    while done < min(left, 200):
        beside.prepare()
        beside.took(seconds)
        done += 1
    assert bool(compiler.asked) is starts


def test_a_run_of_unknown_length_is_waited_for(compiler, monkeypatch):
    monkeypatch.setattr(code, "WAITING", 20.0)
    beside, waited = Beside([potential()]), 0
    while not compiler.asked:
        beside.prepare()
        beside.took(1.0)
        waited += 1
    assert waited == 1 + 20 + 1  # the first is not counted


def test_members_of_one_size_share_the_code_and_switch_together(compiler):
    committee = Committee([potential(seed) for seed in range(3)])
    calculator = IKCalculator(committee, device="cpu", compile="auto")
    energies(calculator, 12)
    assert calculator.compiled
    assert [len(models) for models in compiler.asked] == [3]
    assert calculator.code._packages == 1
    assert Beside([potential(), potential(num_channels=3)])._packages == 2


def test_without_a_compiler_there_is_a_word_and_no_attempt(compiler, monkeypatch, caplog):
    monkeypatch.setattr(code, "missing_compiler", lambda: "g++")
    calculator = IKCalculator(potential(), device="cpu", compile="auto")
    with caplog.at_level(logging.INFO):
        energies(calculator, 9)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "there is no C++ compiler (g++), with which the model would run faster"
    assert not compiler.asked
    assert not calculator.compiled


@pytest.mark.parametrize("fault", ["failure", "cannot start"])
def test_a_failure_is_told_once_and_the_run_goes_on(compiler, monkeypatch, caplog, fault):
    def refuse(models):
        raise OSError("no processes are left")

    compiler.failure = "the disk is full"
    if fault == "cannot start":
        monkeypatch.setattr(code, "Compilation", refuse)
    calculator = IKCalculator(potential(), device="cpu", compile="auto")
    with caplog.at_level(logging.INFO):
        energies(calculator, 20)
    last = caplog.records[-1]
    assert last.levelno == logging.INFO
    told = {
        "failure": "the model could not be compiled beside the run, which goes on eagerly (the disk is full)",
        "cannot start": "the model is not compiled beside the run (no processes are left)",
    }
    assert last.getMessage() == told[fault]
    assert len(caplog.records) == (2 if fault == "failure" else 1)
    assert not calculator.compiled


def test_code_that_is_wrong_is_not_used(compiler, monkeypatch, caplog):
    def refuse(model):
        if compiler.cached:
            code.warnings.warn("the relative difference is 1.0e-03", code.CompileWarning, stacklevel=1)
        return False

    monkeypatch.setattr(code, "load_compiled", refuse)
    calculator = IKCalculator(potential(), device="cpu", compile="auto")
    with caplog.at_level(logging.INFO):
        energies(calculator, 20)
    assert caplog.records[-1].getMessage() == "the relative difference is 1.0e-03"
    assert len(compiler.asked) == 1
    assert not calculator.compiled


def test_a_system_that_grows_gets_code_for_more_threads(compiler, monkeypatch):
    compiler.cached = True
    beside = Beside([potential()])
    beside.expect(1000)
    states = []
    for threads in (1, 1, 2, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda now=threads: now)
        if threads > 1:
            compiler.cached = False
        beside.prepare()
        states.append(beside.is_compiled)
    assert states == [True, True, False, False]


def test_a_system_that_grows_keeps_code_and_compilation_with_the_same_threads(compiler, monkeypatch):
    """If the user has set the number of threads, small and large systems have the same."""
    compiler.looks = 1000
    calculator = IKCalculator(potential(), device="cpu", compile="auto")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    row = Atoms("H100", positions=[[1.0 * i, 0.0, 0.0] for i in range(100)])  # 588 edges
    for structure in (water(0), water(1), water(2), row, water(3)):
        calculator.get_property("energy", structure)
    assert calculator.code.is_compiling
    assert len(compiler.asked) == 1


def test_a_compilation_ends_with_the_run_and_is_not_copied(compiler):
    compiler.looks = 1000
    beside = Beside([potential()])
    for _ in range(5):
        beside.prepare()
        beside.took(0.1)
    (models,) = compiler.asked
    assert models is not None
    copies = [copy.deepcopy(beside), pickle.loads(pickle.dumps(beside))]
    assert all(one._compilation is None for one in copies)
    beside.stop()
    beside.stop()
    assert compiler.asked == [None]


def test_what_cannot_be_compiled_stays_eager(compiler):
    calculator = IKCalculator(PairPotential(), device="cpu", compile="auto")
    assert type(calculator.code) is Code
    dimer = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.9]], calculator=calculator)
    assert dimer.get_potential_energy() < 0.0
    assert not calculator.compiled
    assert not compiler.asked
    with pytest.raises(DataError, match="only an InteratomicPotential can be compiled, got PairPotential"):
        code_for(PairPotential(), True)


@pytest.mark.parametrize(("choice", "kind"), [(False, Code), (True, AtOnce), ("auto", Beside)])
def test_each_choice_has_its_code(choice, kind):
    assert type(Evaluator(potential(), compile=choice).code) is kind
    with pytest.raises(ConfigError, match="compile must be True, False or 'auto', got 'maybe'"):
        code_for(potential(), "maybe")


def test_the_parts_of_a_system_with_fixed_atoms_use_the_same_code(compiler):
    calculator = IKCalculator(potential(), device="cpu", compile="auto", skip_fixed=True)
    assert calculator.evaluator.part.code is calculator.evaluator.whole.code is calculator.code


def test_the_length_of_one_of_many_runs_does_not_count(compiler):
    calculator = IKCalculator(potential(), device="cpu", compile="auto")
    runs = [calculator.sharing(calculator.whole.predict) for _ in range(2)]
    for run, left in zip(runs, (10_000, 0), strict=True):
        run.code.expect(left)
    found = [energies(run, 6) for run in runs]
    assert len(compiler.asked) == 1
    assert found[1][-1] != found[0][0]
    assert runs[0].compiled
    assert calculator.compiled
    runs[0].code.resume(compiled=True)
    assert calculator.code._must


@pytest.mark.parametrize(
    ("kind", "compiled_from", "before", "now"),
    [(Code, 7, "machine code", "the eager model"), (AtOnce, None, "the eager model", "machine code")],
)
def test_other_code_than_before_gets_a_warning(compiler, caplog, kind, compiled_from, before, now):
    def resumed(made: Code, compiled_from: int | None) -> int | None:
        made.resume(compiled=compiled_from is not None)
        made.prepare()
        watch = CodeWatch(made)
        watch.resume(9, compiled_from)
        return watch.compiled_from

    assert resumed(kind([potential()]), None if compiled_from else 7) == (None if compiled_from else 7)
    resumed(Code([]), 7)  # another calculator
    assert not caplog.records
    assert resumed(kind([potential()]), compiled_from) == (None if compiled_from else 9)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"the run used {before} until its last checkpoint, and goes on with {now}: from here" in caplog.text


def test_a_watch_says_where_code_changes(compiler, caplog):
    models = [potential()]
    eager = Code(models)
    watch = CodeWatch(eager)
    watch.begin(-4)
    assert not watch.look(-3)
    models[0].compiled = lambda edges: ()
    assert not watch.look(-2)  # it has not been used yet
    eager.prepare()
    with caplog.at_level(logging.INFO):
        assert watch.look(1234)
        assert not watch.look(1235)
        assert watch.compiled_from == 1234
        models[0].compiled = None
        eager.prepare()
        assert watch.look(1300)
    assert watch.compiled_from is None
    assert [record.getMessage() for record in caplog.records] == [
        "step 1,234: compiled code from here on", "step 1,300: the eager model from here on",
    ]  # fmt: skip


@pytest.mark.parametrize("choice", [True, "auto"])
@pytest.mark.parametrize(("bound", "is_used"), [(5, False), (6, True), (7, True)])
def test_systems_in_tiles_do_not_use_the_code_for_one_piece(compiler, choice, bound, is_used):
    """Water has 6 edges."""
    compiler.cached = True
    calculator = IKCalculator(potential(), device="cpu", compile=choice, max_edges=bound)
    eager = IKCalculator(potential(), device="cpu").get_property("energy", water())
    found = energies(calculator, 4)[-1]
    np.testing.assert_allclose(found / eager, FACTOR if is_used else 1.0, rtol=1e-12)
    assert calculator.compiled is is_used


def test_the_code_is_that_of_the_last_structure(compiler):
    calculator = IKCalculator(potential(), device="cpu", compile=True, max_edges=6)
    two = water() + Atoms("H", positions=[[0.0, 0.0, 3.0]])
    for structure, is_used in ((water(), True), (two, False), (water(), True)):
        calculator.get_property("energy", structure)
        assert calculator.compiled is is_used


def test_copies_are_compiled_again(compiler):
    calculator = IKCalculator(potential(), device="cpu", compile=True)
    energies(calculator, 1)
    for copied in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        assert energies(copied, 1) == energies(calculator, 1)
        assert copied.compiled
    assert len(compiler.foreground) == 3


def no_home(*arguments, **options):
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("asked", ["load_compiled", "Compilation"])
def test_without_a_home_a_run_goes_on_eagerly(compiler, monkeypatch, caplog, asked):
    monkeypatch.setattr(code, asked, no_home)
    calculator = IKCalculator(potential(), device="cpu", compile="auto")
    with caplog.at_level(logging.INFO):
        energies(calculator, 9)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "the model is not compiled beside the run (Could not determine home directory.)"
    assert not calculator.compiled
    assert not compiler.asked
