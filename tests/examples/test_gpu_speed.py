"""The script that measures potentials on a GPU runs, on a CPU too, and shows errors in its table."""

import importlib
import json
import sys

import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")


def test_a_quick_trial_on_a_cpu():
    script = importlib.import_module("gpu_speed.worker_ours")
    job = {"device": "cpu", "model": "small", "compile": False, "repeats": 1, "warm_up": 1, "timed": 2, "seconds": 0.0}
    found = script.run(job | {"task": "dynamics"})
    assert found["atoms"] == 8
    assert found["step_s"] > 0
    assert found["model_s"] > 0
    assert script.run(job | {"task": "train"})["train_edges_per_s"] > 0


def test_an_error_is_a_result(monkeypatch, capsys):
    worker = importlib.import_module("gpu_speed.worker")
    monkeypatch.setattr(sys, "argv", ["worker", "{}"])

    def fail(job):
        raise ValueError("no such device\nmore")

    worker.main(fail)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"error": "ValueError: no such device"}


def test_the_table(tmp_path):
    measured = {"atoms": 1000, "model_s": 0.01, "step_s": 0.02, "parameters": 17424}
    rows = [
        {"model": "small", "form": "eager", "largest": {"atoms": 8000}, "training": {"train_edges_per_s": 9}}
        | measured,
        {"model": "large", "form": "eager", "largest": {"atoms": 0}, "training": {"error": "out of memory"}} | measured,
        {"model": "mace", "form": "as it comes", "error": "out of memory"},
    ]
    (tmp_path / "results").mkdir()
    report = importlib.import_module("gpu_speed.report")
    report.write(rows, {"device": "a GPU", "torch": "2.13"}, tmp_path / "results" / "gpu_speed.json")
    lines = (tmp_path / "gpu_speed.md").read_text().splitlines()
    assert lines[-3] == "| small, eager | 17,424 | 10.00 | 20.00 | 50,000 | 8,000 | 9 |"
    assert lines[-2] == "| large, eager | 17,424 | 10.00 | 20.00 | 50,000 | 0 | out of memory |"
    assert lines[-1] == "| mace, as it comes | out of memory | | | | | |"
