"""What every kind of training keeps: runs are resumed bit for bit, and other data are refused; files and reports."""

import contextlib
import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from ase.io import read, write

from ik_e3nn.errors import ConfigError
from ik_e3nn.models import load_model, read_model_info
from ik_e3nn.training import FinetuneConfig, train
from ik_e3nn.training.fit import task_type
from tests.pictures import faults
from tests.shared import made_once
from tests.training.helpers import interrupted_in_epoch, refused
from tests.training.kinds import EPOCHS, KINDS

FURTHER = [name for name, kind in KINDS.items() if kind.model is None]


@pytest.fixture
def kind(request, tmp_path, tmp_path_factory, monkeypatch):
    """A kind of training, and its finished run in the folder ``straight`` of the working folder."""
    chosen = KINDS[request.param]

    def fill(folder):
        with contextlib.chdir(folder):
            chosen.files()
            train(chosen.config())

    done = made_once(tmp_path_factory, f"run-{list(KINDS).index(request.param)}", fill)
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return chosen


every_kind = pytest.mark.parametrize("kind", KINDS, indirect=True)
every_finetuning = pytest.mark.parametrize("kind", FURTHER, indirect=True)


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text()) | {"seconds": 0}


def changed_labels(path):
    """The same structures, one of which has another label."""
    structures = read(path, ":")
    first = structures[0].info
    name = "REF_energy" if "REF_energy" in first else "size"
    first[name] += 0.1
    first.update({key: value + 0.1 for key, value in first.items() if key in ("gap", "size") and key != name})
    write(path, structures)


@every_kind
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(kind, tmp_path, caplog) -> None:
    """Weights are the same bit for bit, and so is all that is measured."""
    config = kind.config("split")
    with interrupted_in_epoch(EPOCHS - 2):
        train(config)
    rows = (tmp_path / "split/metrics.jsonl").read_text().splitlines()
    assert len(rows) == EPOCHS - 1
    resumed = train(config, resume=True)
    assert "resuming with a change" not in caplog.text
    one, two = (load_model(tmp_path / name / "model.safetensors").state_dict() for name in ("straight", "split"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert metrics_of(tmp_path / "straight") == metrics_of(resumed.folder)


@pytest.mark.parametrize("kind", ["potential further", "joint"], indirect=True)
def test_pictures_of_a_run_can_be_read(kind, drawn) -> None:
    train(kind.config("again", epochs=1))
    assert len(drawn) > 4
    assert not [fault for figure in drawn for fault in faults(figure)]


@every_kind
def test_a_finished_run_is_not_trained_again(kind, tmp_path, caplog) -> None:
    folder = tmp_path / "straight"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with caplog.at_level(logging.INFO):
        assert train(kind.config(), resume=True).metrics == json.loads((folder / "metrics.json").read_text())
    assert "the run in straight is complete; raise run.max_epochs or run.max_minutes" in caplog.text
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@every_kind
def test_other_data_are_refused_and_nothing_is_changed(kind, tmp_path) -> None:
    """Another label, another split, other old data, and another base."""
    folder, longer = tmp_path / "straight", kind.config(epochs=EPOCHS + 1)
    with refused(folder, r"of data.(train|valid|test) are not those of the start \(data.valid was 3 and is now 2\)"):
        train(kind.config(epochs=EPOCHS + 1, valid=2), resume=True)
    shutil.copy("train.xyz", "kept.xyz")
    changed_labels("train.xyz")
    with refused(folder, r"of data.(train|valid|test) are not those of the start: a run can be resumed"):
        train(longer, resume=True)
    shutil.copy("kept.xyz", "train.xyz")
    if kind.with_old_data:
        shutil.copy("old.xyz", "kept.xyz")
        write("old.xyz", read("old.xyz", ":")[::-1])
        with refused(folder, "of finetune.replay are not those of the start: a run can be resumed"):
            train(longer, resume=True)
        shutil.copy("kept.xyz", "old.xyz")
    if longer.data.targets is not None:
        fewer = {name: text for name, text in longer.data.targets.items() if name != "moment"}
        with refused(folder, r"data.targets was .* a run cannot be resumed with another model"):
            train(kind.config(epochs=EPOCHS + 1, targets=fewer), resume=True)
    if isinstance(longer, FinetuneConfig):
        name, value = ("E0s", "refit") if longer.finetune.method == "surroundings" else ("lr_decay", 0.9)
        other = dataclasses.replace(longer, finetune=dataclasses.replace(longer.finetune, **{name: value}))
        with refused(folder, rf"finetune.{name} was .* a run cannot be resumed with another fine-tuning"):
            train(other, resume=True)
        shutil.copy(f"other-{longer.finetune.base}", longer.finetune.base)
        with pytest.raises(ConfigError, match=r"safetensors is not the file that the run began with"):
            train(longer, resume=True)
    else:
        other = dataclasses.replace(longer, model=longer.model | {"r_max": 3.0})
        with refused(folder, r"model.r_max was .* and is now 3.0: a run cannot be resumed with another model"):
            train(other, resume=True)


@every_kind
def test_sets_that_are_set_aside_are_files_with_the_same_labels(kind, tmp_path) -> None:
    folder, config = tmp_path / "straight/set_aside", kind.config()
    names = {"valid", "test"} | ({"old_domain"} if kind.with_old_data else set())
    assert {path.stem for path in folder.iterdir()} == names
    asked = task_type(config)(config).data.sets
    again = kind.config(**{name: f"straight/set_aside/{name}.xyz" for name in ("valid", "test")})
    found = task_type(again)(again).data.sets
    for name in ("valid", "test"):
        assert len(found[name]) == len(asked[name]) == {"valid": 3, "test": 2}[name]
        for key, values in asked[name].values.items():
            for one, other in zip(found[name].values[key], values, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
        for one, other in zip(found[name].structures, asked[name].structures, strict=True):
            np.testing.assert_array_equal(one.numbers, other.numbers)
            np.testing.assert_allclose(one.positions, other.positions, atol=1e-7)
            np.testing.assert_array_equal(one.info.get("bonds", []), other.info.get("bonds", []))
    if kind.with_old_data:
        assert len(read(folder / "old_domain.xyz", ":")) == len(asked["old domain"])


@every_finetuning
def test_the_report_of_a_fine_tuning_has_errors_before_and_after(kind, tmp_path) -> None:
    folder = tmp_path / "straight"
    report = json.loads((folder / "finetune.json").read_text())
    page = (folder / "finetune.md").read_text()
    errors, metrics = report["errors"], metrics_of(folder)
    assert set(errors) == {"valid", "test"} | ({"old domain"} if kind.with_old_data else set())
    for name, both in errors.items():
        shown = {key for key in both["before"] if "_mae_" in key}
        assert shown
        assert both["before"].keys() == both["after"].keys()
        assert all(both["before"][key] != both["after"][key] for key in shown)
        if name in metrics:
            assert both["after"] == metrics[name]
        assert all(f"| {name} | {key} |" in page for key in shown)
    unmeasured = kind.may_forget and not kind.with_old_data
    assert ("**What the model has forgotten was not measured**" in page) == unmeasured
    said = "what the model forgets is not measured, because there are no data of the old domain"
    assert (said in (folder / "train.log").read_text()) == unmeasured
    replayed = 0
    if kind.with_old_data:
        replayed = len(read("old.xyz", ":")) - len(read(folder / "set_aside/old_domain.xyz", ":"))
        assert replayed == pytest.approx(0.5 * (len(read("train.xyz", ":")) - 5), abs=0.5)
    assert report["replayed"] == replayed
    assert read_model_info(folder / "model.safetensors")["training"]["finetune"]["base"] == report["base"]
