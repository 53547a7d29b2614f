"""Many structures at once are computed as one by one, each with its own cell, constraints, charge and seed."""

import csv
import json
import logging
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLengths
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE

from ik_e3nn.cli import main
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators import (
    IKCalculator,
    ManyMDSettings,
    ManyRelaxSettings,
    MDSettings,
    run_many_md,
    run_many_relax,
    run_md,
)
from ik_e3nn_calculators.calculator.evaluator import Evaluator
from tests.shared import made_once

QUIET = {"dtype": "float64", "device": "cpu", "progress": False, "plots": False}
STEPS = {"steps": 20, "log_interval": 1, "frame_interval": 5, "checkpoint_interval": 6, "timestep": 0.5}


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.set_constraint(FixAtoms([0, 1]))
    return atoms


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.set_constraint(FixBondLengths([[0, 1], [0, 2]]))
    return atoms


def crystal() -> Atoms:
    atoms = molecule("CH4")
    atoms.set_cell([[4.4, 0, 0], [0.2, 4.5, 0], [0, 0.1, 4.6]])
    atoms.pbc = True
    return atoms


def film() -> Atoms:
    atoms = molecule("CH3OH")
    atoms.set_cell([4.6, 5.0, 12.0])
    atoms.pbc = (True, True, False)
    return atoms


def structures() -> list[Atoms]:
    """Five structures that differ in size, cell, periodic directions and constraints, in motion."""
    found = [ethanol(), water(), crystal(), film(), molecule("HCOOH")]
    for number, atoms in enumerate(found):
        rng = np.random.default_rng(number)
        atoms.rattle(0.02, rng=rng)
        atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses() * units.kB * 200)[:, None])
    return found


def base() -> IKCalculator:
    return IKCalculator("base", dtype="float64", device="cpu")


def rows(folder) -> list[dict[str, str]]:
    with (folder / "structures.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def charged(tmp_path_factory):
    """A model that uses the charge."""

    def fill(folder):
        torch.manual_seed(0)
        model = InteratomicPotential(["H", "C", "O"], 4.0, num_channels=4, num_layers=2, inputs=["total_charge"])
        save_model(model.double(), folder / "model.safetensors")

    return str(made_once(tmp_path_factory, "many-charged", fill) / "model.safetensors")


def test_dynamics_are_those_of_ase_one_by_one(tmp_path):
    settings = ManyMDSettings("unused", velocities="file", output=str(tmp_path), **QUIET, **STEPS)
    summary = run_many_md(settings, structures=structures())
    assert (summary.structures, summary.finished, summary.failed, summary.converged) == (5, 5, 0, True)
    for row, atoms in zip(rows(tmp_path), structures(), strict=True):
        folder, start = tmp_path / row["folder"], atoms.positions.copy()
        table = np.genfromtxt(folder / "log.csv", delimiter=",", names=True)
        frames = ase.io.read(folder / "trajectory.extxyz", ":")
        atoms.calc = base()
        dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
        for step in range(21):
            assert table["epot"][step] == pytest.approx(
                atoms.get_potential_energy(), abs=1e-9
            )  # the digits of the file
            if step % 5 == 0:
                frame = frames[step // 5]
                np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-8)
                forces = atoms.get_forces(apply_constraint=False)
                np.testing.assert_allclose(frame.get_forces(apply_constraint=False), forces, atol=1e-8)
                assert np.abs(forces).max() > 0.1
            if step < 20:
                dynamics.run(1)
        saved = np.load(folder / "checkpoint.npz")  # all digits
        np.testing.assert_allclose(saved["positions"], atoms.positions, atol=1e-10)
        np.testing.assert_allclose(saved["momenta"], atoms.get_momenta(), atol=1e-10)
        assert np.abs(atoms.positions - start).max() > 0.01
        assert ("pressure" in table.dtype.names) is bool(atoms.pbc.all())
        assert (row["status"], row["steps"], row["num_atoms"]) == ("finished", "20", str(len(atoms)))
    held = np.load(tmp_path / "0_C2H6O" / "checkpoint.npz")["positions"][:2]
    np.testing.assert_array_equal(held, structures()[0].positions[:2])
    bonds = Atoms("OH2", np.load(tmp_path / "1_H2O" / "checkpoint.npz")["positions"]).get_distances(0, [1, 2])
    np.testing.assert_allclose(bonds, structures()[1].get_distances(0, [1, 2]), atol=1e-9)


@pytest.mark.parametrize("cell", ["fixed", "full"])
def test_relaxations_are_those_of_ase_one_by_one(tmp_path, cell):
    chosen = structures() if cell == "fixed" else [film(), crystal()]
    settings = ManyRelaxSettings("unused", output=str(tmp_path), steps=40, fmax=0.05, cell=cell, **QUIET)
    summary = run_many_relax(settings, structures=chosen)
    ended = []
    assert [row["structure"] for row in rows(tmp_path)] == ["0", "1", "2", "3", "4"][: len(chosen)]
    for row, atoms in zip(rows(tmp_path), chosen, strict=True):
        atoms.calc = base()
        mask = [1, 1, 0, 0, 0, 1] if not atoms.pbc.all() else None
        target = atoms if cell == "fixed" else FrechetCellFilter(atoms, mask=mask)
        optimizer = FIRE(target, logfile=None)
        ended.append(bool(optimizer.run(fmax=0.05, steps=40)))
        assert row["status"] == ("finished" if ended[-1] else "not converged")
        assert int(row["steps"]) == optimizer.nsteps
        assert float(row["energy_eV"]) == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
        assert float(row["fmax_eV_per_A"]) == pytest.approx(largest, abs=1e-10)
        final = ase.io.read(tmp_path / row["folder"] / "final.extxyz")
        np.testing.assert_allclose(final.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(final.cell.array, atoms.cell.array, atol=1e-8)
        written = json.loads((tmp_path / row["folder"] / "summary.json").read_text())
        assert written["energy_eV"] == float(row["energy_eV"])
    assert summary.finished == sum(ended)
    assert summary.not_converged == len(ended) - sum(ended)
    assert summary.converged is all(ended)


def test_each_ion_has_its_charge(tmp_path, charged):
    ions = [Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": charge}) for charge in (-1, 0, 1)]
    settings = ManyRelaxSettings("unused", charged, output=str(tmp_path), steps=0, **QUIET)
    run_many_relax(settings, structures=ions)
    energies = [float(row["energy_eV"]) for row in rows(tmp_path)]
    for atoms in ions:
        atoms.calc = IKCalculator(charged, device="cpu")
    assert energies == pytest.approx([atoms.get_potential_energy() for atoms in ions], abs=1e-10)
    assert len({round(energy, 6) for energy in energies}) == 3


def test_structure_k_has_the_seed_plus_k(tmp_path):
    """The same molecule three times gives three trajectories, each that of a single run with the seed in the table."""
    options = {"ensemble": "langevin", "relax_fmax": 0.5, **QUIET, **STEPS}
    run_many_md(ManyMDSettings("CO", more=["CO", "CO"], seed=7, output=str(tmp_path / "many"), **options))
    ends = []
    for row in rows(tmp_path / "many"):
        assert row["seed"] == str(7 + int(row["structure"]))
        one, many = tmp_path / row["seed"], tmp_path / "many" / row["folder"]
        run_md(MDSettings("CO", seed=int(row["seed"]), output=str(one), **options))
        assert {path.name for path in one.iterdir()} == {path.name for path in many.iterdir()}
        first, second = (np.load(folder / "checkpoint.npz") for folder in (one, many))
        np.testing.assert_allclose(first["positions"], second["positions"], atol=1e-10)
        np.testing.assert_allclose(first["momenta"], second["momenta"], atol=1e-10)
        ends.append(first["positions"])
        settings = [json.loads((folder / "settings.json").read_text()) for folder in (one, many)]
        assert {**settings[0], "start_sha256": ""} == {**settings[1], "start_sha256": ""}
    assert np.abs(ends[0] - ends[1]).max() > 0.01


def test_a_bad_structure_does_not_stop_the_others(tmp_path, caplog):
    broken, close = molecule("CH4"), molecule("CH4")
    broken.positions[2, 1] = np.nan
    close.positions[1] = close.positions[0] + [0.1, 0, 0]
    chosen = [molecule("H2O"), molecule("SiH4"), broken, close, molecule("CH3OH")]
    settings = ManyMDSettings("unused", output=str(tmp_path / "many"), **QUIET, **STEPS)
    summary = run_many_md(settings, structures=chosen)
    assert (summary.finished, summary.exploded, summary.failed, summary.converged) == (2, 1, 2, False)
    table = rows(tmp_path / "many")
    assert [row["status"] for row in table] == ["finished", "failed", "failed", "exploded", "finished"]
    assert "Si, but the model knows only" in table[1]["message"]
    assert "the positions hold NaN or infinite values in row(s) [2]" in table[2]["message"]
    assert "below the limit of 0.4" in table[3]["message"]
    for number in (1, 2, 3):
        assert f"{table[number]['folder']} (structure {number}): {table[number]['message']}" in caplog.text
    for number in (0, 4):
        one = tmp_path / str(number)
        run_md(MDSettings("unused", seed=number, output=str(one), **QUIET, **STEPS), atoms=chosen[number])
        first, second = (
            np.load(folder / "checkpoint.npz") for folder in (one, tmp_path / "many" / table[number]["folder"])
        )
        np.testing.assert_allclose(first["positions"], second["positions"], atol=1e-10)


def test_stopped_dynamics_is_continued_exactly(tmp_path, monkeypatch, caplog):
    options = {"ensemble": "langevin", "equilibrate_ps": 0.003, **QUIET, **STEPS}
    run_many_md(ManyMDSettings("O", more=["C"], output=str(tmp_path / "straight"), **options))
    predict, calls = Evaluator.predict, []

    def stopping(self, *arguments, **more):
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return predict(self, *arguments, **more)

    settings = {"output": str(tmp_path / "md"), **options}
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "predict", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_many_md(ManyMDSettings("O", more=["C"], **settings))
    assert "stopped; 0 of 2 structures have ended" in caplog.text
    assert "the same command with --restart continues all runs from their last checkpoints" in caplog.text
    assert {row["status"] for row in rows(tmp_path / "md")} == {"waiting"}
    assert not list(tmp_path.glob("md/**/.lock"))
    with pytest.raises(DataError, match="already holds a run"):
        run_many_md(ManyMDSettings("O", more=["C"], **settings))
    with pytest.raises(DataError, match="the source of structure 1 was 'C', and is 'CO' now; give the same structures"):
        run_many_md(ManyMDSettings("O", more=["CO"], restart=True, **settings))
    with pytest.raises(DataError, match="were of 2 structures, and 3 are given"):
        run_many_md(ManyMDSettings("O", more=["C", "O"], restart=True, **settings))
    run_many_md(ManyMDSettings("O", more=["C"], restart=True, **settings))
    for folder in ("0_O", "1_C"):
        first, second = (np.load(tmp_path / name / folder / "checkpoint.npz") for name in ("straight", "md"))
        np.testing.assert_allclose(first["positions"], second["positions"], atol=1e-10)
        frames = [ase.io.read(tmp_path / name / folder / "trajectory.extxyz", ":") for name in ("straight", "md")]
        assert [len(one) for one in frames] == [5, 5]
        np.testing.assert_allclose(frames[0][4].positions, frames[1][4].positions, atol=1e-8)


def test_overwriting_removes_what_was_there(tmp_path):
    options = {"steps": 1, "output": str(tmp_path), **QUIET}
    run_many_relax(ManyRelaxSettings("O", more=["C", "[H][H]"], **options))
    (tmp_path / "2_H_H" / "mine.txt").touch()
    run_many_relax(ManyRelaxSettings("C", more=["[H][H]"], overwrite=True, **options))
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    run = ["final.extxyz", "log.csv", "summary.json", "trajectory.extxyz"]
    new = {f"{folder}/{name}" for folder in ("0_C", "1_H_H") for name in run}
    assert names == {"structures.csv", "0_C", "1_H_H", *new, "2_H_H", "2_H_H/mine.txt"}


def test_files_frames_and_smiles(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    frames = [molecule("H2O"), molecule("CH4")]
    ase.io.write("two.xyz", frames)
    ase.io.write("none.xyz", Atoms("C", info={"missing_hydrogens": 4}))  # as from an SDF file without them
    run_many_relax(
        ManyRelaxSettings("two.xyz", more=["C/C=C/C", "none.xyz", "two.xyz"], all_frames=True, steps=0, **QUIET)
    )
    table = rows(tmp_path / "relax")
    assert [(row["folder"], row["source"]) for row in table] == [
        ("0_two_0", "frame 0 of two.xyz"), ("1_two_1", "frame 1 of two.xyz"), ("2_C_C_C_C", "C/C=C/C"),
        ("3_none_0", "frame 0 of none.xyz"), ("4_two_0", "frame 0 of two.xyz"), ("5_two_1", "frame 1 of two.xyz"),
    ]  # fmt: skip
    assert table[3]["status"] == "failed"
    assert table[3]["message"].startswith("C lacks 4 hydrogens; add them first")
    assert "3_none_0 (frame 0 of none.xyz): " in caplog.text
    for number, atoms in ((0, frames[0]), (5, frames[1])):
        final = ase.io.read(tmp_path / "relax" / table[number]["folder"] / "final.extxyz")
        np.testing.assert_allclose(final.positions, atoms.positions, atol=1e-7)
    run_many_relax(ManyRelaxSettings("two.xyz", more=["two.xyz"], frame=0, steps=0, output="first", **QUIET))
    assert [row["folder"] for row in rows(tmp_path / "first")] == ["0_two", "1_two"]
    assert ase.io.read("first/1_two/final.extxyz").get_chemical_formula() == "H2O"


def test_fixed_atoms_that_are_left_out(tmp_path, charged):
    """``skip_fixed`` evaluates parts of each structure, in the same calls."""
    chain = Atoms("CO" * 12, [[1.4 * k, 0, 0] for k in range(24)], info={"charge": 0}, constraint=FixAtoms(range(20)))
    settings = {"skip_fixed": True, "steps": 3, "output": str(tmp_path), **QUIET}
    run_many_relax(ManyRelaxSettings("unused", charged, **settings), structures=[chain, chain[6:]])
    for row, atoms in zip(rows(tmp_path), [chain, chain[6:]], strict=True):
        atoms.calc = IKCalculator(charged, device="cpu")
        FIRE(atoms, logfile=None).run(fmax=0.02, steps=3)
        assert float(row["energy_eV"]) == pytest.approx(atoms.get_potential_energy(), abs=1e-8)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (lambda: ManyMDSettings("a.xyz", all_frames=True, frame=3), ConfigError, "all_frames takes all frames, and"),
        (lambda: ManyMDSettings("CCO", batch_atoms=10), ConfigError, "batch_atoms is 10, but has no effect"),
        (lambda: ManyMDSettings("CCO", more="CO"), ConfigError, "more is 'CO', but it must be a list"),
        (lambda: ManyMDSettings("CCO", all_frames=True, **QUIET), ConfigError, "none of CCO is a structure file"),
        (lambda: ManyMDSettings("CCO", more=["b.xyz"], **QUIET), DataError, "'b.xyz' is neither an existing file nor"),
        (lambda: ManyMDSettings("CCO", more=["CO"], seed=2**32 - 1, **QUIET), ConfigError, "seed is 4294967296"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(tmp_path, monkeypatch, settings, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        run_many_md(settings())
    assert list(tmp_path.iterdir()) == []


def test_no_input_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="there are no structures"):
        run_many_md(ManyMDSettings("unused", **QUIET), structures=[])
    run_many_relax(ManyRelaxSettings("O", more=["C"], steps=1, **QUIET))
    again = ManyRelaxSettings("C", more=["relax/1_C/final.extxyz"], overwrite=True, **QUIET)
    with pytest.raises(DataError, match=r"relax/1_C/final.extxyz"):
        run_many_relax(again)
    assert ase.io.read("relax/1_C/final.extxyz").get_chemical_formula() == "CH4"
    (tmp_path / "relax" / "structures.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="structures.csv is not a table of runs"):
        run_many_relax(ManyRelaxSettings("O", more=["C"], overwrite=True, **QUIET))


def test_an_error_of_an_unknown_kind_has_its_name(tmp_path, monkeypatch, caplog):
    def fail(*arguments, **options):
        raise TypeError("no\nsuch thing")

    monkeypatch.setattr("ik_e3nn_calculators.relax.run.finish", fail)
    with caplog.at_level(logging.DEBUG, "ik_e3nn_calculators"):
        summary = run_many_relax(ManyRelaxSettings("O", more=["C"], steps=0, output=str(tmp_path), **QUIET))
    assert summary.failed == 2
    assert [row["message"] for row in rows(tmp_path)] == ["TypeError: no such thing"] * 2
    assert any(record.exc_info for record in caplog.records)


def test_one_structure_leaves_what_it_always_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--steps=2", "--device=cpu", "--progress=false", "--plots=false"]
    assert main(["relax", "[H][H]", "--fmax=5", *words]) == 0
    names = {"final.extxyz", "log.csv", "summary.json", "trajectory.extxyz"}
    assert {path.name for path in (tmp_path / "relax").iterdir()} == names
    assert "energy_eV" in capsys.readouterr().out


def test_the_commands_take_many_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--device=cpu", "--progress=false", "--plots=false"]
    assert main(["md", "O", "[H][H]", "--steps=2", *words]) == 0
    out = capsys.readouterr().out.split()
    assert out == ["structures", "2", "finished", "2", "exploded", "0", "failed", "0",
                   "output", "md", "table", "md/structures.csv"]  # fmt: skip
    assert {path.name for path in (tmp_path / "md").iterdir()} == {"structures.csv", "0_O", "1_H_H"}
    assert main(["md", "O", "[H][H]", "--steps=4", "--restart", *words]) == 0
    assert [row["steps"] for row in rows(tmp_path / "md")] == ["4", "4"]
    assert main(["md", "--restart", "-o", "md/1_H_H", "[H][H]", "--seed=1", "--steps=6", *words]) == 0  # one alone
    assert main(["relax", "O", "[SiH4]", "--steps=0", *words]) == 1
    errors = capsys.readouterr().err
    assert "error: 1_SiH4 ([SiH4]): the structure holds Si" in errors
    assert "Traceback" not in errors
    assert main(["dock", "O", "O"]) == 2  # other commands take one


def test_ctrl_c_ends_all_runs_and_says_how_to_go_on(tmp_path):
    words = ["md", "O", "[H][H]", "--steps=1000000", "--checkpoint_interval=1", "--device=cpu", "--plots=false"]
    command = [sys.executable, "-m", "ik_e3nn.cli", *words, "-o", str(tmp_path / "md")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(600):
            if (tmp_path / "md" / "1_H_H" / "checkpoint.npz").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "stopped; 0 of 2 structures have ended" in errors
    assert "the same command with --restart continues all runs" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob(".lock"))
