"""The training step is compiled if it is asked for, or if this pays; a continued run goes on as it began."""

import shutil
from pathlib import Path

import pytest
import torch
from ase.io import write

from ik_e3nn.models import InteratomicPotential
from ik_e3nn.models.files.checkpoint import load_model
from ik_e3nn.training import train
from ik_e3nn.training.loop import compilation, module
from tests.training.helpers import small_config, structures


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.xyz", structures(12))
    return tmp_path


@pytest.fixture
def compiled(monkeypatch):
    """The models whose training step was compiled; in these tests compiled code is the eager model."""
    found = []

    def compile_for_training(model):
        found.append(model)
        model.compiled_for_training = lambda edges: InteratomicPotential.energies_and_gradients(
            eager(model), edges, create_graph=True
        )

    monkeypatch.setattr(module, "compile_for_training", compile_for_training)
    return found


def eager(model):
    """The same weights without machine code."""
    twin = object.__new__(type(model))
    twin.__dict__ = model.__dict__ | {"compiled_for_training": None}
    return twin


def weights(folder):
    return load_model(Path(folder) / "model.safetensors").state_dict()


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(("setting", "does_pay", "wanted"), [
    (True, False, 1), (False, True, 0), ("auto", True, 1), ("auto", False, 0),
])  # fmt: skip
def test_which_runs_are_compiled(setting, does_pay, wanted, data, compiled, monkeypatch) -> None:
    monkeypatch.setattr(module, "pays", lambda *_, **__: does_pay)
    monkeypatch.setattr(module, "missing_compiler", str)
    train(small_config(data, compile=setting, max_epochs=1))
    assert len(compiled) == wanted


def test_looking_whether_it_pays_changes_nothing(data, compiled) -> None:
    train(small_config(data, compile=False, output="never", max_epochs=2))
    train(small_config(data, compile="auto", output="auto", max_epochs=2))
    assert not compiled
    assert same(weights("never"), weights("auto"))


@pytest.mark.parametrize("does_pay", [True, False])
def test_a_continued_run_goes_on_as_it_began(does_pay, data, compiled, monkeypatch) -> None:
    monkeypatch.setattr(module, "missing_compiler", str)
    monkeypatch.setattr(module, "pays", lambda *_, **__: does_pay)
    train(small_config(data, max_epochs=1))
    monkeypatch.setattr(module, "pays", lambda *_, **__: not does_pay)
    train(small_config(data, max_epochs=2), resume=True)
    assert len(compiled) == 2 * does_pay


def test_without_a_compiler_nothing_is_tried(data, compiled, monkeypatch) -> None:
    monkeypatch.setattr(module, "pays", lambda *_, **__: True)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    train(small_config(data, max_epochs=1))
    assert not compiled


@pytest.mark.parametrize(
    ("steps", "of_a_step", "limit", "wanted"),
    [
        (4_800, (0.1, 0.1), None, False),  # 480 s, of which a quarter is saved
        (4_900, (0.1, 0.1), None, True),
        (4_900, (5.0, 0.05), None, False),  # the first step is no measure
        (10**6, (0.1, 0.1), 480.0, False),
        (10**6, (0.1, 0.1), 490.0, True),
    ],
)
def test_when_compiling_pays(steps, of_a_step, limit, wanted, monkeypatch) -> None:
    now, times = [0.0], iter(of_a_step)

    def step():
        now[0] += next(times)

    monkeypatch.setattr(compilation.time, "perf_counter", lambda: now[0])
    assert compilation.pays(step, steps, seconds=limit) == wanted
