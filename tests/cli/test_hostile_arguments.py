"""Arguments that stand for no file that can be used, and disks that are full: one clear line, nothing left behind."""

import errno
import json
import os
import re
import signal
import subprocess
import sys

import ase.io
import pytest
from ase.build import molecule

from ik_e3nn.cli import app, main
from ik_e3nn.cli.commands import COMMANDS
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, save_model
from ik_e3nn.targets import Intensive
from ik_e3nn.user_path import user_path

SMALL = {"num_channels": 4, "num_layers": 1}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A file of every kind that commands read."""
    folder = tmp_path_factory.mktemp("files")
    frames = [molecule(name, info={"REF_energy": -1.0 - n}) for n, name in enumerate(["H2O", "CH3OH", "CH4", "H2"])]
    ase.io.write(folder / "train.xyz", frames)
    targets = [Intensive("gap", "eV")]
    save_model(MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", potential=SMALL), folder / "gap.st")
    save_model(InteratomicPotential(["H", "C", "O"], **SMALL), folder / "model.st")
    (folder / "smiles.csv").write_text("smiles,gap\nCO,1.0\nC,2.0\n")
    (folder / "settings.yaml").write_text("seed: 1\n")
    return folder


@pytest.fixture
def folder(originals, tmp_path, monkeypatch):
    """A working folder with links to these files."""
    for file in originals.iterdir():
        (tmp_path / file.name).hardlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND_LINES = {
    "data generate": "--substrate {} --heights 2 5 --calculator emt --smiles CO -o new.xyz",
    "data check": "{}",
    "train": "{}",
    "finetune": "{} settings.yaml --data.train=train.xyz --data.valid=1",
    "eval": "model.st {} -o new.xyz",
    "calibrate": "{} train.xyz -o new.st",
    "predict": "gap.st {} -o new.csv",
    "md": "{} --model model.st --steps=1 -o new",
    "relax": "CO --model {} -o new",
    "vibrations": "CO --model {} -o new",
    "phonons": "{} --model model.st -o new",
    "dock": "CO --model model.st --host {} --poses=1 -o new",
    "info": "{}",
    "export lammps": "{} -o new.pt2",
    "export ipi": "-o {}",
    "lammps build": "-o {}",
    "show-kernel": "{} -o new",
}
ARGUMENTS = {
    "pipe": "pipe.csv", "device": "/dev/null", "loop": "loop", "stranger": "~nobody-of-this-name/a.csv",
    "long": "a" * 5000, "deep": "a/" * 2500 + "a", "under": "train.xyz/a.csv", "archive": "no.gz", "bytes": "bytes.csv",
}  # fmt: skip


def run(words, capsys):
    """The only line that a command says, where it is refused."""
    signal.alarm(60)  # a command that waits for a pipe fails
    try:
        assert main(words) == 2
    finally:
        signal.alarm(0)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ik-e3nn: error: ")]
    assert len(lines) == 1
    assert 25 < len(lines[0]) < 1000
    return lines[0]


def refused(folder, capsys, command, kind):
    """Give a command something of a kind that is no file, and see that it writes nothing."""
    before = sorted(folder.iterdir())
    run([*command.split(), *COMMAND_LINES[command].format(ARGUMENTS[kind]).split()], capsys)
    assert sorted(folder.iterdir()) == before


def test_every_command_is_tried():
    assert [command.name for command in COMMANDS] == list(COMMAND_LINES)


@pytest.fixture
def hostile(folder):
    """The folder with what is no file that can be used."""
    os.mkfifo("pipe.csv")
    (folder / "loop").symlink_to("loop")
    (folder / "no.gz").write_text("no archive")
    (folder / "bytes.csv").write_bytes(bytes(range(256)))
    return folder


@pytest.mark.parametrize("command", COMMAND_LINES)
def test_no_command_waits_for_a_pipe(hostile, capsys, command):
    refused(hostile, capsys, command, "pipe")


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_what_is_no_file_is_refused_in_one_line(hostile, capsys, kind):
    for command in ("info", "predict"):
        refused(hostile, capsys, command, kind)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("predict gap.st pipe.csv -o a.csv", "pipe.csv is not a file but a folder, a pipe or a device"),
        ("info ~nobody-of-this-name/a", "begins with the home folder of an unknown user"),
        ("data check train.xyz -o ~nobody-of-this-name/a", "begins with the home folder of an unknown user"),
        ("info " + "a" * 5000, "there is no model file '" + "a" * 59 + "..." + "a" * 19 + "'"),
        (
            "eval model.st train.xyz -o train.xyz/a.xyz",
            "cannot write to the folder train.xyz: .* is no folder",
        ),
        ("eval model.st train.xyz -o gone.xyz", "gone.xyz is a link to a file that does not exist; remove the link"),
        ("md CO --model model.st --steps=1 -o train.xyz", "train.xyz"),
        ("eval model.st train.xyz -o .xyz", r"\.xyz is only the ending of a name; .* like output\.xyz"),
        ("eval model.st train.xyz -o new/.xyz.gz", r"only the ending of a name; .* like new/output\.xyz"),
        ("predict gap.st smiles.csv -o .csv", "only the ending of a name"),
        ("calibrate model.st train.xyz -o .st", "only the ending of a name"),
    ],
)
def test_what_the_line_says(folder, capsys, words, message):
    os.mkfifo("pipe.csv")
    (folder / "gone.xyz").symlink_to("nowhere")
    assert re.search(message, run(words.split(), capsys))


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_all_commands_have_the_same_words_for_devices(folder, capsys, device):
    (folder / "run.yaml").write_text("data: {train: train.xyz}\nrun: {output: out}")
    found = {
        run([*words.split(), f"--{'run.' if words.startswith('train') else ''}device={device}"], capsys)
        for words in (
            "train run.yaml",
            "eval model.st train.xyz -o new.xyz",
            "calibrate model.st train.xyz --train train.xyz -o new.st",
            "predict gap.st smiles.csv -o new.csv",
            "md CO --model model.st --steps=1 -o new",
            "relax CO --model model.st -o new",
            "dock CO --model model.st --host train.xyz --poses=1 -o new",
        )
    }
    assert len(found) == 1, found
    assert re.search(rf"device '{device}'.* 'auto'", *found)


def test_home_folders_are_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(user_path("~/a.xyz")) == "/home/somebody/a.xyz"


def test_a_file_that_must_not_be_read_is_named(folder, capsys, monkeypatch):
    def closed(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", closed)
    assert run(["info", "model.st"], capsys) == "ik-e3nn: error: Permission denied: model.st"


NEW = {
    "eval model.st train.xyz -o new/a.xyz": ["ik_e3nn.training.inference.evaluation.write_json", "a_metrics.json"],
    "predict gap.st smiles.csv -o new/a.csv": ["ik_e3nn.atomic.os.fsync", "a.csv"],
    "data check train.xyz -o new/a": ["ik_e3nn.data.checking.check.plot_check", "a.png"],
    "show-kernel model.st -o new": ["matplotlib.figure.Figure.savefig", "slices.png"],
}


@pytest.mark.parametrize("words", NEW)
def test_a_full_disk_names_the_file_and_leaves_nothing_half_written(folder, capsys, monkeypatch, drawn, words):
    """Pictures are drawn, because an error of drawing is one of them."""
    place, name = NEW[words]
    error = OSError(errno.ENOSPC, "No space left on device")
    if "write_json" in place:
        error.filename = name  # which is what `written_at_once` adds

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(place, full)
    line = run(words.split(), capsys)
    assert line.startswith("ik-e3nn: error: No space left on device: ")
    assert line.endswith(name)
    assert not list(folder.glob("new/*"))
    assert not list(folder.glob("new/.*"))


def test_input_that_cannot_be_used_leaves_no_folder(folder, capsys):
    (folder / "empty.csv").write_text("smiles,gap\n")
    assert "has no rows" in run(["predict", "gap.st", "empty.csv", "-o", "new/a.csv"], capsys)
    assert "forces label" in run(
        ["calibrate", "model.st", "train.xyz", "--train", "train.xyz", "-o", "new/a.st"], capsys
    )
    assert not (folder / "new").exists()


STOP = """
import os, signal, sys
from ik_e3nn.cli import app, commands
commands.Command.load = lambda self: os.kill(os.getpid(), signal.SIGTERM)
sys.exit(app.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["eval", "md"])
def test_sigterm_is_143_and_says_how_to_go_on(command):
    done = subprocess.run(
        [sys.executable, "-c", STOP, command, "a", "b", "-o", "c"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 143
    again = "interrupted; the same command starts again from the beginning\n"
    assert done.stderr == (again if command == "eval" else "interrupted\n")


def test_a_training_that_is_stopped_has_the_same_status(folder, capsys, monkeypatch):
    def stopped(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("ik_e3nn.training.loop.callbacks.MetricsLog.on_validation_end", stopped, raising=False)
    (folder / "run.yaml").write_text(
        json.dumps(
            {
                "data": {"train": "train.xyz", "valid": 1, "E0s": {"H": 0.0, "C": 0.0, "O": 0.0}},
                "model": SMALL,
                "loss": {"forces_weight": 0.0},
                "run": {"output": "out", "max_epochs": 2, "device": "cpu", "progress": False},
            }
        )
    )
    assert main(["train", "run.yaml"]) == 128 + signal.SIGTERM
    assert "Traceback" not in capsys.readouterr().err


def test_statuses_are_documented():
    assert "129 after SIGHUP (a terminal that was closed), 130 after Ctrl-C and 143 after SIGTERM" in app.__doc__
