import json
import re
import subprocess
import sys
import time

import pytest
import torch
from ase.build import molecule
from ase.io import read, write

from ik_e3nn.cli import main
from ik_e3nn.cli.commands import COMMANDS
from ik_e3nn.cli.options import parse_settings
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, save_model
from ik_e3nn.targets import Intensive
from ik_e3nn.training import read_config
from ik_e3nn.training.loop.engine import MetricsLog
from ik_e3nn_calculators import ManyMDSettings
from ik_e3nn_calculators.md.settings import ExplosionLimits, MDSettings
from tests.training.helpers import structures

CONFIG = """
data: {train: train.xyz, valid: 3}
model: {r_max: 4.0, num_channels: 4, num_layers: 1, correlation: 1}
run: {output: out, max_epochs: 2, batch_size: 4, device: cpu, progress: false}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write(tmp_path / "train.xyz", structures(9))
    (tmp_path / "config.yaml").write_text(CONFIG)
    torch.manual_seed(0)
    model = InteratomicPotential([1, 8, 29], r_max=4.0, num_channels=4, num_layers=1, correlation=1)
    save_model(model, tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *words):
    status = main(list(words))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_train_eval_and_info(folder, capsys) -> None:
    status, out, err = run(capsys, "train", "config.yaml", "--run.max_epochs=3", "--loss.stress_weight", "2")
    assert status == 0
    assert "model: out/model.safetensors" in out
    assert "valid force_mae_meV_per_A" in out
    assert "train           6       6       6" in err
    assert len((folder / "out/metrics.csv").read_text().splitlines()) == 4
    status, out, err = run(capsys, "eval", "out/model.safetensors", "train.xyz", "-o", "p.xyz", "--progress=false")
    assert status == 0
    assert "force_mae_meV_per_A" in err
    assert "IK_energy" in read("p.xyz").info
    assert json.loads((folder / "p_metrics.json").read_text())["structures"] == 9
    status, out, _ = run(capsys, "info", "out/model.safetensors")
    assert status == 0
    assert "  num_channels: 4" in out
    assert "least squares" in out
    assert "batch_size" not in out
    assert "batch_size: 4" in run(capsys, "info", "out/model.safetensors", "--full")[1]


def test_resume_and_overwrite(folder, capsys) -> None:
    assert run(capsys, "train", "config.yaml")[0] == 0
    status, _, err = run(capsys, "train", "config.yaml")
    assert status == 2
    assert "already holds a run" in err
    assert run(capsys, "train", "config.yaml", "--resume", "--run.max_epochs=3")[0] == 0
    assert len((folder / "out/metrics.csv").read_text().splitlines()) == 4
    assert run(capsys, "train", "config.yaml", "--run.overwrite")[0] == 0
    assert len((folder / "out/metrics.csv").read_text().splitlines()) == 3


def test_md_relax_and_generate_reach_their_functions(folder, capsys) -> None:
    words = ["--model", "model.safetensors", "--device=cpu", "--progress=false", "--plots=false"]
    status, out, err = run(capsys, "md", "O", *words, "--steps", "3", "--temperature=1", "--limits.leaving=false")
    assert status == 0, err
    assert "finished" in out
    assert (folder / "md/final.extxyz").exists()
    status, out, err = run(capsys, "relax", "O", *words, "--steps=2", "--fmax=1e3", "-o", "relaxed")
    assert status == 0, err
    assert (folder / "relaxed/final.extxyz").exists()
    status, out, err = run(capsys, "relax", "O", *words, "--steps=1", "--fmax=1e-9", "-o", "short")
    assert status == 1
    assert (out + err).count("not converged: the largest force") == 1
    arguments = ["--smiles", "[OH-]", "O", "--calculator=emt", "--method", "rattle", "--num-frames=2", "-o", "g.xyz"]
    status, _, err = run(capsys, "data", "generate", *arguments)
    assert status == 0, err
    assert {len(atoms) for atoms in read("g.xyz", ":")} == {2, 3}
    status, out, _ = run(capsys, "data", "check", "train.xyz", "-o", "found")
    assert status == 0
    assert "9 structures of 3 to 4 atoms" in out
    assert (folder / "found.png").exists()


def test_show_kernel_of_a_model_and_of_a_group(folder, capsys) -> None:
    status, out, err = run(capsys, "show-kernel", "model.safetensors", "--pairs", "O-H", "O-O", "-o", "learned")
    assert status == 0, err
    assert float(out.split("inside of O3: relative error ")[1].split()[0]) < 1e-9
    assert {path.name for path in (folder / "learned").iterdir()} == {
        "slices.png",
        "sphere.png",
        "rotation.png",
        "cases.png",
    }
    words = ["--group", "C4v", "--irreps-in", "0e", "--irreps-out", "0e+1o", "-o", "random"]
    status, out, err = run(capsys, "show-kernel", *words)
    assert status == 0, err
    assert "turned by an element inside of C4v: relative error" in out
    assert float(out.split("inside of C4v: relative error ")[1].split()[0]) < 1e-9
    assert not (folder / "random/cases.png").exists()
    assert "exists: choose another folder" in run(capsys, "show-kernel", *words)[2]
    assert run(capsys, "show-kernel", *words[:-3], "0e", *words[-2:], "--overwrite")[0] == 0


def test_show_kernel_of_a_model_of_properties(folder, capsys) -> None:
    options = {"potential": {"num_channels": 4}, "r_max": 4.0, "edges": "radius"}
    target = Intensive("gap", "eV")
    save_model(MolecularPropertyModel(["H", "O"], [target], **options), folder / "gap.safetensors")
    status, out, err = run(capsys, "show-kernel", "gap.safetensors", "--pairs", "O-H", "-o", "learned")
    assert status == 0, err
    assert float(out.split("inside of O3: relative error ")[1].split()[0]) < 1e-9
    save_model(MolecularPropertyModel(["H", "O"], [target], steerable={"channels": 4}), folder / "paper.safetensors")
    status, _, err = run(capsys, "show-kernel", "paper.safetensors", "-o", "more")
    assert status == 2
    assert (
        "paper.safetensors has the network of the paper; kernels are shown only for models with the blocks of a "
        "potential" in err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "c.yaml"], "unknown command 'trian'; did you mean 'train'?"),
        (["data", "generat"], "unknown command 'data generat'; did you mean 'data generate'?"),
        (["train", "no.yaml"], "there is no configuration file 'no.yaml'"),
        (["train", "config.yaml", "--run.max_epoch=3"], "did you mean 'run.max_epochs'?"),
        (["train", "config.yaml", "--run.max_epochs=x"], "run.max_epochs is 'x', but it must be a whole number"),
        (["train", "config.yaml", "--run.device=tpu"], "unknown device 'tpu'; use 'auto' or"),
        (
            ["train", "config.yaml", "--model.num_channels=many"],
            "model.num_channels is 'many', but it must be a whole number or null",
        ),
        (
            ["train", "config.yaml", "--model.group=Q5", "--data.train=no.xyz"],
            "model.group: unknown symmetry group 'Q5'",
        ),
        (
            ["predict", "model.safetensors", "train.xyz", "-o", "o.csv", "--conformers=0"],
            "conformers is 0, but it must be",
        ),
        (["train", "config.yaml", "--data.train=no.xyz"], "there is no file no.xyz"),
        (["eval", "model.safetensors", "train.xyz"], "output"),
        (["eval", "model.safetensors", "train.xyz", "-o", "o.xyz", "--batchsize=3"], "did you mean 'batch_size'?"),
        (["eval", "config.yaml", "train.xyz", "-o", "o.xyz"], "not a readable model file"),
        (["md", "CCO", "--steps=5", "--time_ps=1"], "give either steps or time_ps"),
        (["info", "no.safetensors"], "there is no model file 'no.safetensors'"),
        (["show-kernel", "--group=C4x"], "unknown symmetry group 'C4x'"),
        (["show-kernel", "--attributes=1o"], "unknown setting 'attributes'; it is now called 'irreps_attributes'."),
        (["train", "--data.train=train.xyz", "--data.targets={a: polarisability}"], "now called 'polarizability'"),
        (["show-kernel", "--irreps-out="], "irreps_out is '', but it must be text that is not empty"),
        (["show-kernel", "--irreps-out=0o"], "O3 allows no kernel from 1x0e to 1x0o with fields up to l = 4"),
        (["show-kernel", "base", "--layer=99"], "the model has layers 0 to "),
        (["show-kernel", "--pairs", "O-H"], "pairs and channels are settings for a model; give a model file"),
        (["show-kernel", "model.safetensors", "--channels", "1"], "channels must be two numbers"),
    ],
)
def test_mistakes_are_one_line_and_status_2(folder, capsys, words, message) -> None:
    status, out, err = run(capsys, *words)
    assert status == 2
    assert out == ""
    assert err.startswith("ik-e3nn: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_debug_shows_the_traceback(folder) -> None:
    with pytest.raises(FileNotFoundError):
        main(["info", "no.safetensors", "--debug"])


def test_ctrl_c_is_status_130(folder, capsys, monkeypatch) -> None:
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("ik_e3nn.training.loop.engine.MetricsLog.on_validation_end", interrupt)
    status, _, err = run(capsys, "train", "config.yaml")
    assert status == 130
    assert err.endswith("interrupted\n")
    assert "--resume" not in err  # nothing is there yet


def test_a_stopped_run_reports_how_to_continue(folder, capsys, monkeypatch) -> None:
    original = MetricsLog.on_validation_end

    def interrupt(self, trainer, module):
        original(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(MetricsLog, "on_validation_end", interrupt)
    status, _, err = run(capsys, "train", "config.yaml", "--run.max_epochs=3")
    assert status == 130
    assert "the same command with --resume continues" in err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_every_command(command, capsys) -> None:
    status, out, _ = run(capsys, *command.name.split(), "--help")
    assert status == 0
    assert f"ik-e3nn {command.name}" in out
    for name in command.positional:
        assert name.upper() in out


def test_print_config_shows_all_settings_in_yaml_and_reads_back(folder, capsys) -> None:
    status, out, _ = run(capsys, "train", "config.yaml", "--run.seed=7", "--print_config")
    assert status == 0
    (folder / "all.yaml").write_text(out)
    assert read_config("all.yaml") == read_config("config.yaml", ["--run.seed=7"])
    status, out, _ = run(capsys, "md", "CCO", "[OH-]", "O", "--print_config", "--steps=3", "--limits.contact=0.3")
    assert status == 0
    (folder / "md.yaml").write_text(out)
    assert parse_settings(ManyMDSettings, (), ["--config", "md.yaml"]) == ManyMDSettings(
        "CCO", more=["[OH-]", "O"], steps=3, limits=ExplosionLimits(contact=0.3)
    )
    assert not (folder / "md").exists()
    assert not (folder / "out").exists()


def test_later_words_replace_a_file_and_a_file_earlier_words(folder) -> None:
    (folder / "md.yaml").write_text("structure: CCO\nsteps: 3\nlimits: {contact: 0.3}\n")
    chosen = parse_settings(MDSettings, ("structure",), ["--steps=1", "--config=md.yaml", "--limits.contact=0.2", "O"])
    assert (chosen.structure, chosen.steps, chosen.limits.contact) == ("O", 3, 0.2)
    with pytest.raises(ConfigError, match="command line: 'N' belongs to no option; see --help"):
        parse_settings(MDSettings, ("structure",), ["O", "N"])


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_the_short_help_names_every_setting_of_the_full_one(command, capsys) -> None:
    short, full = (run(capsys, command, word, "--data.targets")[1] for word in ("--help", "--help=full"))
    settings = set(re.findall(r"^  --(\w+\.\w+)", short, re.MULTILINE))
    assert settings == set(re.findall(r"^  --(\w+\.\w+)", full, re.MULTILINE))
    assert {"data.train", "run.seed", "optimizer.lr"} < settings
    assert len(short.splitlines()) < 90 < len(full.splitlines())
    assert "--help=full" in short
    assert "``" not in short


def test_overview_and_version(capsys) -> None:
    assert run(capsys)[1] == run(capsys, "--help")[1]
    assert run(capsys)[1] == run(capsys, "data")[1] == run(capsys, "data", "--help")[1]
    assert "ik-e3nn train config.yaml" in run(capsys, "--help")[1]
    assert run(capsys, "--version")[1].startswith("ik-e3nn ")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ik_e3nn.cli import main; main(['--help']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'lightning', 'ase')))"
    )
    start = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(("fmax", "status"), [("1e-9", 1), ("1e3", 0)])
def test_exit_status_tells_whether_a_relaxation_converged(tmp_path, fmax, status):
    write(tmp_path / "water.xyz", molecule("H2O"))
    save_model(InteratomicPotential(["H", "O"], num_channels=4, l_max=1), tmp_path / "m.safetensors")
    words = ["relax", str(tmp_path / "water.xyz"), "--model", str(tmp_path / "m.safetensors")]
    assert main([*words, "--steps", "1", "--fmax", fmax, "-o", str(tmp_path / "out")]) == status
