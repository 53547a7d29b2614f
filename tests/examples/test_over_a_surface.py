"""The tutorial of a molecule over graphite: it runs, and says what was measured."""

import functools
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("over_a_surface", EXAMPLES / "05_over_a_surface.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs_from_data_to_dynamics(example, tmp_path, monkeypatch, capsys, drawn):
    pytest.importorskip("tblite")
    for name, value in {
        "FRAMES": {"train": 8, "test": 3},
        "VALID": 3,
        "EPOCHS": 1,
        "POSES": 2,
        "TIME_PS": 0.01,
    }.items():
        monkeypatch.setattr(example, name, value)
    monkeypatch.setattr(example, "DockSettings", functools.partial(example.DockSettings, steps=4))
    monkeypatch.setattr(sys, "argv", ["05", "--smiles", "O", "--output", str(tmp_path)])
    example.main()
    assert re.search(r"best pose +-?\d+\.\d+ eV, [12] distinct of 2", capsys.readouterr().out)
    for name in ("scan.png", "dock/best.png", "dynamics/log.csv"):
        assert (tmp_path / name).stat().st_size > 100


def test_the_errors_it_names_are_those_of_the_benchmark(example):
    rows = json.loads((EXAMPLES / "benchmarks" / "results" / "nbody.json").read_text())
    for group in ("Cinfv", "O3", "C1"):
        (error,) = (
            row["test_mse"] for row in rows
            if (row["stiffness"], row["group"], row["seed"], row["trajectories"]) == (10, group, 0, 3000)
        )  # fmt: skip
        assert f"{error:.4f}" in example.__doc__
