"""Runs say first which model computes their energies, and for which structures it is."""

import logging

import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import write

from ik_e3nn.cli.app import main
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn_calculators import IKCalculator, MDSettings, RelaxSettings, run_md, run_relax
from ik_e3nn_calculators.calculator.code import Code
from ik_e3nn_calculators.phonons.settings import PhononSettings
from ik_e3nn_calculators.runs import engine_for, introduction
from ik_e3nn_calculators.vibrations.settings import VibrationSettings
from tests.calculators.switching import potential

BASE = (
    "model base: H, C, N, O, F, S, Cl at GFN2-xTB level; it is for single molecules of up to 20 atoms "
    "without charged groups and unpaired electrons"
)
COMMANDS = {
    "md": ["md", "O", "--steps=1"],
    "relax": ["relax", "O", "--fmax=10"],
    "dock": ["dock", "O", "--host=neon.xyz", "--region.sphere=[0,0,3,0]", "--poses=1"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = InteratomicPotential(["H", "O", "Cu"], 4.0, num_channels=4, num_layers=1, l_max=1)
    model.trained_on = Domain(64, periodic=True)
    save_model(model, tmp_path / "oxide.safetensors")
    write(tmp_path / "neon.xyz", Atoms("Ne"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_line_of_a_command_is_the_base_model(folder, capsys, command):
    status = main([*COMMANDS[command], "--device=cpu", "--progress=false", "--plots=false"])
    assert capsys.readouterr().err.splitlines()[0] == BASE
    assert status == (2 if command == "dock" else 0)  # it does not know neon


def test_a_model_is_introduced_by_its_file(folder, caplog):
    quiet = {"device": "cpu", "progress": False, "plots": False}
    with caplog.at_level(logging.INFO, "ik_e3nn_calculators"):
        run_md(MDSettings("O", "oxide.safetensors", steps=0, **quiet))
        run_relax(RelaxSettings("O", "oxide.safetensors", steps=0, **quiet))
        lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
        line = "model oxide.safetensors: H, O, Cu; it is for structures of up to 64 atoms, periodic ones among them"
        assert lines == [line, line]
        caplog.clear()
        run_relax(RelaxSettings("O", steps=0, output="copper", **quiet), atoms=Atoms("Cu"), calculator=EMT())
    assert not [record for record in caplog.records if "model" in record.getMessage()]


def test_a_committee_is_introduced_by_what_its_members_share():
    models = [InteratomicPotential(symbols, num_channels=2, num_layers=1) for symbols in (["H", "O"], ["H", "C", "O"])]
    line = introduction("two models", IKCalculator(models, device="cpu").model)
    assert line == "model two models: H, O; its file does not name the structures it is for"


@pytest.mark.parametrize("settings", [MDSettings, RelaxSettings])
def test_the_model_of_a_run_is_a_file_or_base(settings):
    assert settings("O").model == "base"
    with pytest.raises(ConfigError, match="model is null, but it must be text"):
        settings("O", None)


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        (Domain(5), "single molecules of up to 5 atoms without charged groups and unpaired electrons"),
        (Domain(5, unpaired=True), "single molecules of up to 5 atoms without charged groups"),
        (Domain(5, charged_groups=True), "single molecules of up to 5 atoms without unpaired electrons"),
        (
            Domain(5, several=True, charged_groups=True, unpaired=True),
            "molecules and groups of molecules, each of up to 5 atoms",
        ),
    ],
)
def test_what_a_model_was_trained_on_in_words(domain, words):
    assert str(domain) == words


@pytest.mark.parametrize("kind", [VibrationSettings, PhononSettings])
def test_differences_of_forces_are_those_of_one_code(tmp_path, kind):
    save_model(potential(), tmp_path / "model.safetensors")
    chosen = kind("unused", str(tmp_path / "model.safetensors"), device="cpu")
    assert type(engine_for(chosen, None).code) is Code
