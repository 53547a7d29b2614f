"""The example relaxes molecules and runs dynamics of all of them."""

import runpy
import sys
from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import read, write

from ik_e3nn_calculators import IKCalculator

pytest.importorskip("torch_sim", reason="needs TorchSim, which needs Python 3.12")

EXAMPLE = Path(__file__).parents[3] / "examples" / "engines" / "many_molecules.py"


def test_the_molecules_are_relaxed_and_then_move(tmp_path, monkeypatch, capsys):
    structures = [molecule("H2O"), molecule("CH4")]
    write(tmp_path / "start.extxyz", structures)
    words = ["--input", str(tmp_path / "start.extxyz"), "--time_ps", "0.01", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *words])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    relaxed = read(tmp_path / "out" / "relaxed.extxyz", ":")
    for before, after in zip(structures, relaxed, strict=True):
        assert after.get_chemical_formula() == before.get_chemical_formula()
        energy = after.get_potential_energy()
        before.calc = after.calc = IKCalculator("base", device="cpu")
        assert energy == pytest.approx(after.get_potential_energy(), abs=1e-5)
        assert energy < before.get_potential_energy() - 1e-4
        assert abs(after.get_forces()).max() < 0.01
    assert len(list((tmp_path / "out" / "dynamics").glob("*.h5"))) == 2
    assert "mean temperature at the end" in capsys.readouterr().out
