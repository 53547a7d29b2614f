"""Hostile command lines: one line that says what is wrong and nothing left behind, or a command that has worked."""

import logging
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import strategies as st

from ik_e3nn.cli import main
from ik_e3nn.cli.commands import COMMANDS
from ik_e3nn.models import MolecularPropertyModel, save_model
from ik_e3nn.targets import Intensive
from ik_e3nn.training.config.options import options_of
from tests.fuzz.engine import NUMBERS, WORDS, damaged_text, one_of, sizes, try_many

# Commands that would take long if all of their options were good: they get at least one bad one.
LONG = {"md": ["--steps=1"], "relax": ["--steps=1"], "dock": ["--poses=1"], "data generate": ["--num_frames=1"]}
FILES = ["model.safetensors", "gap.safetensors", "train.xyz", "config.yaml", "smiles.csv", "empty", "folder", "absent"]
OUTSIDE = ["/dev/null", "/", "~", "../x", "$HOME"]  # would be written to in earnest


@pytest.fixture
def folder(model_file, tmp_path, monkeypatch):
    """A folder with a file of every kind that commands take."""
    water = molecule("H2O")
    water.info["REF_energy"] = -1.0
    ase.io.write(tmp_path / "train.xyz", [water, Atoms("H", info={"REF_energy": -0.5, "config_type": "IsolatedAtom"})])
    body = {"potential": {"num_channels": 4}, "edges": "radius", "r_max": 4.0}
    gap = MolecularPropertyModel(["H", "C", "O"], [Intensive("gap", "eV")], **body)
    save_model(gap, tmp_path / "gap.safetensors")
    (tmp_path / "config.yaml").write_text("data: {train: train.xyz, valid: 1}\nrun: {output: out, max_epochs: 0}\n")
    (tmp_path / "smiles.csv").write_text("smiles,gap\nCO,1.0\nC,2.0\n")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@st.composite
def command_lines(draw):
    command = draw(one_of(COMMANDS))
    words = [draw(one_of([*FILES, "C", *WORDS])) for _ in range(draw(st.integers(0, len(command.positional) + 1)))]
    options = list(options_of(command.load()[0]))
    for _ in range(draw(st.integers(1, 3))):
        value = draw(one_of([*FILES, *WORDS, *map(str, NUMBERS)]))
        words.append(f"--{draw(one_of(options))}={value}")
    if draw(st.integers(0, 2)):
        words += ["-o", draw(one_of(["new", "new.xyz", "new/deep.csv", "folder", "train.xyz"]))]
    words += LONG.get(command.name, [])
    return [*command.name.split(), *words]


def files_in(folder):
    return {path: path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()}


@sizes(80)
@pytest.mark.filterwarnings("ignore")
def test_a_command_works_or_says_what_is_wrong_and_leaves_nothing(number, folder, capsys):
    def check(words):
        if any(value in word.partition("=")[2] for word in words for value in OUTSIDE if word.startswith("--output")):
            return
        before = files_in(folder)
        try:
            status = main(words)
        finally:
            logging.getLogger("ik_e3nn").setLevel(logging.NOTSET)
        _, err = capsys.readouterr()
        assert status in (0, 1, 2), words
        assert "Traceback" not in err, words
        if status == 2:
            lines = [line for line in err.splitlines() if line.startswith("ik-e3nn: error: ")]
            assert len(lines) == 1, (words, err)
            assert 25 < len(lines[0]) < 2000, (words, lines)
            assert files_in(folder) == before, words

    try_many(check, number, command_lines())


TABLE = "smiles,gap\nCCO,1.0\nC,2.0\nCO,3.5\n"


@sizes(25)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_table_is_predicted_row_by_row_or_refused(number, folder, capsys):
    def check(text, encoding):
        Path("damaged.csv").write_bytes(text.encode(encoding, errors="replace"))
        status = main(["predict", "gap.safetensors", "damaged.csv", "-o", "out.csv", "--overwrite", "--device=cpu"])
        _, err = capsys.readouterr()
        assert status in (0, 2)
        assert "Traceback" not in err

    try_many(check, number, damaged_text([TABLE]), one_of(["utf-8"] * 4 + ["latin-1", "utf-16"]))
