"""Where a run takes compiled code over, its log and trajectory say so, and it is continued bit for bit."""

import json
import logging

import pytest
from ase import Atoms
from ase.io import read

from ik_e3nn.models import save_model
from ik_e3nn_calculators import (
    ManyMDSettings,
    ManyRelaxSettings,
    MDSettings,
    RelaxSettings,
    run_many_md,
    run_many_relax,
    run_md,
    run_relax,
)
from ik_e3nn_calculators.md import integrate
from tests.calculators.switching import potential, water

FILES = ("log.csv", "trajectory.extxyz", "final.extxyz")
QUIET = {"device": "cpu", "progress": False, "plots": False}


@pytest.fixture
def model(tmp_path) -> str:
    save_model(potential(), tmp_path / "model.safetensors")
    return str(tmp_path / "model.safetensors")


def settings(model, folder, **changes) -> MDSettings:
    values = {"steps": 20, "log_interval": 1, "frame_interval": 1, "checkpoint_interval": 100}
    values |= {"timestep": 0.1, "temperature": 20.0}
    return MDSettings("unused", model, output=str(folder), **QUIET, **{**values, **changes})


def killed(monkeypatch, step: int, *arguments, **options) -> None:
    """Run, and be killed before a step."""
    one_step = integrate.Dynamics._one_step

    def until(dynamics, bar):
        if dynamics.step + 1 == step:
            raise KeyboardInterrupt
        one_step(dynamics, bar)

    with monkeypatch.context() as patch:
        patch.setattr(integrate.Dynamics, "_one_step", until)
        with pytest.raises(KeyboardInterrupt):
            run_md(*arguments, **options)


def compiled_steps(folder) -> list[int]:
    return [frame.info["step"] for frame in read(folder / "trajectory.extxyz", ":") if frame.info["compiled"]]


def bytes_of(folder) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_a_run_that_has_switched_is_continued_bit_for_bit(compiler, monkeypatch, tmp_path, model, caplog, ensemble):
    with caplog.at_level(logging.INFO):
        straight = run_md(settings(model, tmp_path / "straight", ensemble=ensemble), atoms=water())
    switch = straight.compiled_from
    assert 5 < switch < 12
    assert f"step {switch}: compiled code from here on" in caplog.text
    assert compiled_steps(tmp_path / "straight") == list(range(switch, 21))
    assert json.loads((tmp_path / "straight" / "summary.json").read_text())["compiled_from"] == switch
    compiler.cached = False
    killed(monkeypatch, 15, settings(model, tmp_path / "md", ensemble=ensemble), atoms=water())
    assert not compiler.foreground
    again = run_md(settings(model, tmp_path / "md", ensemble=ensemble, restart=True))
    assert len(compiler.foreground) == 1  # before its first step
    assert again.compiled_from == switch
    assert bytes_of(tmp_path / "md") == bytes_of(tmp_path / "straight")
    eager = run_md(settings(model, tmp_path / "eager", ensemble=ensemble, compile=False), atoms=water())
    assert eager.compiled_from is None
    assert bytes_of(tmp_path / "eager") != bytes_of(tmp_path / "straight")  # the switch can be seen


def test_a_run_that_was_eager_goes_on_eagerly(compiler, monkeypatch, tmp_path, model):
    """Machine code that another run has made meanwhile would change the last bits."""
    for name in ("COMPILING", "_SURE"):
        monkeypatch.setattr(f"ik_e3nn_calculators.calculator.code.{name}", 90.0)
    run_md(settings(model, tmp_path / "straight", steps=200), atoms=water())
    killed(monkeypatch, 31, settings(model, tmp_path / "md", steps=200, checkpoint_interval=10), atoms=water())
    compiler.cached = True
    run_md(settings(model, tmp_path / "md", steps=200, restart=True))
    assert bytes_of(tmp_path / "md") == bytes_of(tmp_path / "straight")
    assert not compiled_steps(tmp_path / "md")
    assert run_md(settings(model, tmp_path / "new", steps=200), atoms=water()).compiled_from == 0


def test_equilibration_may_switch_too(compiler, tmp_path, model):
    chosen = settings(model, tmp_path / "md", equilibrate_ps=0.004)
    summary = run_md(chosen, atoms=water())
    assert -34 < summary.compiled_from < -25  # of 40 steps
    assert compiled_steps(tmp_path / "md") == list(range(21))


def test_other_settings_of_compile_in_a_restart(compiler, monkeypatch, tmp_path, model, caplog):
    compiler.cached = True
    chosen = settings(model, tmp_path / "md", steps=200, checkpoint_interval=10)
    killed(monkeypatch, 31, chosen, atoms=water())
    compiler.works = False
    begun = {"steps": 40, "restart": True}
    summary = run_md(settings(model, tmp_path / "md", **begun))
    assert "the run used machine code until its last checkpoint, and goes on with the eager model" in caplog.text
    assert summary.compiled_from is None
    caplog.clear()
    compiler.works = True
    summary = run_md(settings(model, tmp_path / "md", compile=True, **{**begun, "steps": 50}))
    assert "the run used the eager model until its last checkpoint, and goes on with machine code" in caplog.text
    assert summary.compiled_from == 40


def test_a_compilation_ends_with_its_run(compiler, tmp_path, model):
    compiler.looks = 1000
    run_md(settings(model, tmp_path / "md"), atoms=water())
    run_relax(RelaxSettings("unused", model, steps=9, fmax=1e-9, output=str(tmp_path / "r"), **QUIET), atoms=water())
    many = ManyMDSettings("unused", model, steps=9, output=str(tmp_path / "many"), **QUIET)
    run_many_md(many, structures=[water(), water(1)])
    assert compiler.asked == [None, None, None]


def test_a_relaxation_switches_and_says_so(compiler, tmp_path, model, caplog):
    chosen = RelaxSettings("unused", model, steps=20, fmax=1e-9, output=str(tmp_path / "relax"), **QUIET)
    with caplog.at_level(logging.INFO):
        summary = run_relax(chosen, atoms=water())
    assert 3 < summary.compiled_from < 12
    assert f"step {summary.compiled_from}: compiled code from here on" in caplog.text
    assert compiled_steps(tmp_path / "relax") == list(range(summary.compiled_from, 21))


def test_many_runs_switch_together(compiler, tmp_path, model):
    chosen = ManyMDSettings(
        "unused", model, steps=20, log_interval=1, frame_interval=1, output=str(tmp_path / "many"), **QUIET
    )
    assert run_many_md(chosen, structures=[water(), water(1)]).finished == 2
    steps = [compiled_steps(folder) for folder in sorted((tmp_path / "many").glob("[01]_*"))]
    assert steps[0] == steps[1] == list(range(steps[0][0], 21))
    assert 3 < steps[0][0] < 12


def test_the_end_of_one_of_many_runs_does_not_end_the_compilation(compiler, tmp_path, model):
    chosen = ManyRelaxSettings("unused", model, steps=20, fmax=1e-9, output=str(tmp_path / "many"), **QUIET)
    run_many_relax(chosen, structures=[Atoms("H"), water()])  # the atom is at rest
    assert len(compiler.asked) == 1
    assert 3 < compiled_steps(tmp_path / "many" / "1_H2O")[0] < 12


def test_the_mark_of_a_trajectory_is_not_that_of_the_next_run(compiler, tmp_path, model):
    compiler.cached = True
    run_md(settings(model, tmp_path / "first", steps=100), atoms=water())
    last = tmp_path / "first" / "final.extxyz"
    assert read(last).info["compiled"]
    run_md(settings(model, tmp_path / "second", steps=5, compile=False), atoms=read(last))
    assert compiled_steps(tmp_path / "second") == []
