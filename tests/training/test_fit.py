import contextlib
import csv
import dataclasses
import json
import logging
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from torch.multiprocessing.spawn import start_processes

from ik_e3nn.cli.app import main
from ik_e3nn.errors import ConfigError, DataError, TrainingError, UnknownSpeciesError
from ik_e3nn.models import load_model, read_model_info
from ik_e3nn.training import (
    DataConfig,
    FinetuneConfig,
    MethodConfig,
    OptimizerConfig,
    RunConfig,
    finetune,
    read_config,
    train,
)
from ik_e3nn.training.run.checkpoint import _KEYS, load_checkpoint
from ik_e3nn.training.run.resuming import check_same_data
from tests.training.helpers import refused, structures
from tests.training.helpers import small_config as config


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "train.xyz", structures(12))
    write(tmp_path / "test.xyz", structures(4, seed=5))
    return tmp_path


def test_a_run_leaves_model_metrics_logs_and_plots(data) -> None:
    alone = [
        Atoms(symbol, info={"REF_energy": e, "config_type": "IsolatedAtom"}) for symbol, e in (("H", 0.1), ("O", 0.2))
    ]
    write(data / "atoms.xyz", alone)
    result = train(
        config(
            data,
            data={"test": str(data / "test.xyz"), "isolated_atoms": str(data / "atoms.xyz")},
            loss={"stress_weight": 10.0},
            max_epochs=8,
        )
    )
    files = {path.name for path in result.folder.iterdir()}
    assert files >= {
        "config.yaml", "train.log", "metrics.csv", "metrics.jsonl", "metrics.json", "tensorboard", "checkpoints",
        "loss.png", "model.safetensors", "parity_valid_energy.png", "parity_test_forces.png", "parity_test_stress.png",
    }  # fmt: skip
    assert not [name for name in files if "partial" in name]
    with (result.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["valid/loss"]) < float(rows[0]["valid/loss"])
    assert result.metrics == json.loads((result.folder / "metrics.json").read_text())
    trained = load_model(result.model)
    assert trained.trained_on is not None
    assert trained.trained_on.periodic
    weights = trained.parameters()
    assert result.metrics["parameters"] == sum(weight.numel() for weight in weights)
    best = rows[result.metrics["best_epoch"] - 1]
    assert result.metrics["valid"]["force_mae_meV_per_A"] == pytest.approx(
        float(best["valid/force_mae_meV_per_A"]), rel=1e-4
    )
    info = read_model_info(result.model)
    assert info["training"]["config"]["loss"]["stress_weight"] == 10.0
    assert info["training"]["data"]["sets"]["train"]["energy"] == 9
    assert info["training"]["versions"]["torch"] == version("torch")
    assert info["energy_reference"]["values"]["H"] == pytest.approx(0.1)
    assert "isolated atoms (H, O)" in info["energy_reference"]["provenance"]
    log = (result.folder / "train.log").read_text()
    assert "set    structures  energy  forces  stress" in log
    assert "train           9       9       9       3" in log
    assert read_config(result.folder / "config.yaml").run.batch_size == 3


def test_the_model_file_knows_the_geometries_of_its_training_data(data) -> None:
    result = train(config(data, data={"valid": str(data / "test.xyz")}, max_epochs=1))
    geometry = read_model_info(result.model)["training"]["geometry"]
    water = [atoms.get_all_distances() for atoms in structures(12) if len(atoms) == 3]
    copper = [atoms.get_all_distances(mic=True)[np.triu_indices(4, 1)] for atoms in structures(12) if len(atoms) == 4]
    assert geometry["bonds"]["H-O"] == pytest.approx(min(one[0, 1:].min() for one in water), abs=1e-4)
    assert geometry["bonds"]["Cu-Cu"] == pytest.approx(np.min(copper), abs=1e-4)
    assert geometry["contacts"].keys() <= {"Cu-Cu"}  # two bonds join the hydrogen atoms of water
    assert geometry["heights"] == {}


def test_the_model_file_is_the_best_average_and_predicts_the_same(data) -> None:
    result = train(config(data))
    best = torch.load(result.folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    for name, value in load_model(result.model).state_dict().items():
        assert torch.equal(value, best[f"average.model.{name}"])


@pytest.mark.parametrize("ambient", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_the_configured_one_whatever_the_ambient_one(data, dtype, ambient) -> None:
    torch.set_default_dtype(ambient)
    try:
        model = load_model(train(config(data, dtype=dtype, max_epochs=1)).model)
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.dtype == getattr(torch, dtype)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    write(folder / "train.xyz", structures(12))
    with contextlib.chdir(folder):
        train(config(Path(), max_epochs=1))
    return folder


@pytest.fixture
def finished(finished_run, tmp_path, monkeypatch):
    """A finished run of one epoch in the folder ``run`` of the working folder."""
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("run")


def test_a_run_is_resumed_with_the_data_that_it_began_with(finished, caplog) -> None:
    shutil.copy("train.xyz", "moved.xyz")
    changed = read("train.xyz", ":")
    changed[0].info["REF_energy"] += 0.1
    write("other.xyz", changed)
    changed[0].info["REF_energy"] -= 0.1
    changed[0].info["charge"] = 1
    write("charged.xyz", changed)
    for epochs, other, message in (
        (
            1,
            {"train": "other.xyz"},
            r"of data.train are not those of the start \(data.train was .*other.xyz'\): a run can be",
        ),
        (2, {"valid": "other.xyz"}, r"of data.(train|valid) are not those of the start"),
        (2, {"train": "charged.xyz"}, "the structures, labels, charges or bonds of data.train are not those"),
    ):
        with refused(finished, message):
            train(config(Path(), data=other, max_epochs=epochs), resume=True)
    digests = json.loads((finished / "data.json").read_text())
    old = {name: digest.split("-")[0] for name, digest in digests.items() if name != "isolated atoms"}
    (finished / "data.json").write_text(json.dumps(old))  # as earlier versions wrote it
    caplog.clear()
    train(config(Path(), data={"train": "moved.xyz", "test": "other.xyz"}, max_epochs=2), resume=True)
    assert [line.partition("data.")[2].split()[0] for line in caplog.messages if "resuming with a change" in line] == [
        "train", "test",
    ]  # fmt: skip
    now = json.loads((finished / "data.json").read_text())
    assert {name: now[name] for name in digests} == digests


def test_without_digests_only_the_same_files_are_taken(finished, caplog) -> None:
    path = finished / "data.json"
    digests = json.loads(path.read_text())
    shutil.copy("train.xyz", "moved.xyz")
    same, moved = (config(Path(), data={"train": name}, max_epochs=2) for name in ("train.xyz", "moved.xyz"))
    for content in (None, "[", '{"train": 1}', "{}"):
        path.unlink()
        if content:
            path.write_text(content)
        with pytest.raises(
            ConfigError, match=r"data.json .*the data are those of the start is not known, and data.train"
        ):
            check_same_data(digests, moved, finished)
        caplog.clear()
        check_same_data(digests, same, finished)
        assert "whether the data are those of the start is not known" in caplog.text
        path.touch()
    train(same, resume=True)
    assert json.loads(path.read_text()) == digests


def test_settings_of_a_run_that_cannot_be_read_are_named_with_their_file(finished) -> None:
    path = finished / "config.yaml"
    for content in (None, " ", "run: [", "run:\n  seed: many\n", "\xff", "sun: {}"):
        path.unlink(missing_ok=True)
        if content:
            path.write_text(content, encoding="latin1")
        with refused(finished, r"run/config.yaml, the settings of the run, cannot be read: .*\. Put back a copy, or"):
            train(config(Path(), max_epochs=2), resume=True)


def test_resume_refuses_another_model_and_reports_other_changes(data, caplog) -> None:
    train(config(data, max_epochs=1))
    with pytest.raises(ConfigError, match=r"model.num_channels was 4 and is now 6: a run cannot be resumed"):
        train(config(data, model={"num_channels": 6}), resume=True)
    with pytest.raises(ConfigError, match=r"run.dtype was 'float32' and is now 'float64'"):
        train(config(data, dtype="float64"), resume=True)
    with pytest.raises(
        ConfigError, match=r"loss.forces_weight was 100.0 and is now 5.0: a run can be resumed only with the loss"
    ):
        train(config(data, loss={"forces_weight": 5.0}, max_epochs=2), resume=True)
    with pytest.raises(ConfigError, match=r"data.E0s was 'fit' and is now {'H': -13.0}"):
        train(config(data, data={"E0s": {"H": -13.0}}, max_epochs=2), resume=True)
    slower = dataclasses.replace(config(data), optimizer=OptimizerConfig(lr=0.001, warmup_steps=2))
    with pytest.raises(
        ConfigError, match=r"optimizer.lr was 0.02 and is now 0.001: .* choose another run.output; .* finet"
    ):
        train(slower, resume=True)
    with caplog.at_level(logging.WARNING):
        train(config(data, max_epochs=2, batch_size=2), resume=True)
    assert "resuming with a change: run.batch_size was 3 and is now 2" in caplog.text
    assert caplog.text.count("resuming with a change") == 1
    train(config(data, max_epochs=3, batch_size=2), resume=True)
    notes = (data / "run" / "config.yaml").read_text().splitlines()
    assert notes[:3] == [
        "# after epoch 1: run.max_epochs was 1 and is now 2",
        "# after epoch 1: run.batch_size was 3 and is now 2",
        "# after epoch 2: run.max_epochs was 2 and is now 3",
    ]
    assert not notes[3].startswith("#")


def test_damaged_files_of_a_run_are_clear_errors_or_made_again(data, caplog) -> None:
    train(config(data, max_epochs=1))
    folder, go_on = data / "run", config(data, max_epochs=2)
    last, best = (folder / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    good = last.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for content, message in [
        (b"", "last.ckpt cannot be read as a checkpoint"),
        (b"garbage" * 99, "last.ckpt cannot be read as a checkpoint: File is not a zip file. Copy best.ckpt over it"),
        (good[: len(good) // 2], "last.ckpt cannot be read as a checkpoint"),
        (bytes(flipped), "last.ckpt (is damaged: the checksum of|cannot be read)"),
    ]:
        last.write_bytes(content)
        with pytest.raises(TrainingError, match=message):
            train(go_on, resume=True)
    torch.save({"epoch": 0}, last)
    with pytest.raises(TrainingError, match="last.ckpt is not a checkpoint of a training: it has no 'state_dict'"):
        train(go_on, resume=True)
    torch.save([1], last)
    with pytest.raises(TrainingError, match="it has no 'state_dict'"):
        train(go_on, resume=True)
    last.write_bytes(good)
    best.write_bytes(bytes(flipped))  # told at once, and not after the training
    with pytest.raises(TrainingError, match="best.ckpt .*Copy last.ckpt over it"):
        train(go_on, resume=True)
    best.write_bytes(good)
    (folder / "metrics.json").write_text("")
    (folder / "data.json").write_text("[")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("{broken}\n")
    with caplog.at_level(logging.WARNING):
        assert train(go_on, resume=True).metrics["epochs"] == 2
    for said in (
        r"metrics.json is damaged \(.*\): restore a copy, or start the run anew; the model is measured again",
        r"data.json is damaged \(.*; whether the data are those of the start is not known",
        r"metrics.jsonl has a damaged line, which is left out: b'{broken}",
    ):
        assert re.search(said, caplog.text), said


def test_every_flipped_bit_of_the_weights_is_noticed(tmp_path) -> None:
    """Of 50 places in the records of a checkpoint, none goes unseen."""
    path = tmp_path / "last.ckpt"
    weights = torch.arange(100_000, dtype=torch.float32)
    parts = {"state_dict": {"weights": weights}, "optimizer_states": [], "lr_schedulers": []}
    torch.save(dict.fromkeys(_KEYS, 0) | parts, path)
    good = path.read_bytes()
    assert torch.equal(load_checkpoint(path)["state_dict"]["weights"], weights)
    start = good.index(weights[:100].numpy().tobytes())
    for place in range(start, start + 400_000, 8_000):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bytes(bad))
        with pytest.raises(TrainingError, match="is damaged: the checksum of"):
            load_checkpoint(path)


def test_resume_without_a_checkpoint_starts_anew(data, caplog) -> None:
    (data / "run").mkdir()
    with caplog.at_level(logging.WARNING):
        train(config(data, max_epochs=1), resume=True)
    assert "has no checkpoint yet: starting from the beginning" in caplog.text


def test_an_earlier_run_is_not_overwritten(data) -> None:
    train(config(data, max_epochs=1))
    with pytest.raises(ConfigError, match=r"already holds a run .* continue it with --resume"):
        train(config(data, max_epochs=1))
    (data / "run" / "notes.txt").write_text("mine")
    again = train(config(data, max_epochs=2, overwrite=True))
    assert again.metrics["epochs"] == 2
    assert (data / "run" / "notes.txt").exists()


def test_a_run_does_not_replace_what_it_reads(finished, caplog) -> None:
    replaced = "is read by this command, and would be replaced by its output; choose another run.output"
    shutil.copy("train.xyz", finished / "set_aside")
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=f"run/config.yaml {replaced}"):
        main(["train", "run/config.yaml", "--run.overwrite=true", "--debug"])
    for changes in ({"test": "run/set_aside/*.xyz"}, {"train": ["train.xyz", "run/set_aside/train.xyz"]}):
        with pytest.raises(DataError, match=f"run/set_aside/.*.xyz {replaced}"):
            train(config(Path(), data=changes, overwrite=True))
    given = FinetuneConfig(DataConfig("train.xyz"), finetune=MethodConfig(base="run/model.safetensors"))
    given = dataclasses.replace(given, run=RunConfig(output="run", overwrite=True))
    with pytest.raises(DataError, match=f"model.safetensors {replaced}"):
        finetune(given)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before
    assert main(["train", "run/config.yaml", "--resume", "--run.overwrite=true"]) == 0
    assert "is complete" in caplog.text
    Path("mine").mkdir()
    shutil.copy(finished / "config.yaml", "mine")
    with pytest.raises(DataError, match=f"mine/config.yaml {replaced}"):
        main(["train", "mine/config.yaml", "--run.output=mine", "--resume", "--debug"])


def test_a_folder_that_cannot_be_written_is_a_clear_error(data) -> None:
    (data / "file").touch()
    with pytest.raises(ConfigError, match=r"run.output: cannot write to the folder .*Not a directory"):
        train(config(data, output=str(data / "file" / "run")))


def test_a_read_only_folder_is_a_clear_error(data, monkeypatch) -> None:
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # a superuser may write to read-only folders
    with pytest.raises(ConfigError, match=r"run.output: cannot write to the folder .*Permission denied"):
        train(config(data))


def test_a_weighted_label_that_is_absent_is_an_error(data) -> None:
    molecules = structures(6, crystals=False)
    write(data / "molecules.xyz", molecules)
    with pytest.raises(DataError, match="has the stress label 'REF_stress'"):
        train(config(data, data={"train": str(data / "molecules.xyz")}, loss={"stress_weight": 1.0}))
    with pytest.raises(DataError, match=r"forces label 'REF_force'.*did you mean data.forces_key: REF_forces"):
        train(config(data, data={"forces_key": "REF_force"}, overwrite=True))


def test_partial_labels_are_masked(data) -> None:
    some = structures(12)
    for number, atoms in enumerate(some):
        if number % 2:
            del atoms.info["REF_energy"]
        if number % 3 == 0:
            atoms.arrays["REF_forces"][:] = np.nan
    write(data / "some.xyz", some)
    result = train(config(data, data={"train": str(data / "some.xyz")}))
    counts = read_model_info(result.model)["training"]["data"]["sets"]
    assert counts["train"]["energy"] + counts["valid"]["energy"] == 6
    assert counts["train"]["forces"] + counts["valid"]["forces"] == 8
    assert np.isfinite(list(result.metrics["valid"].values())).all()


def test_missing_bonds_are_named_once(data, caplog) -> None:
    chosen = config(data, data={"valid": 2, "test": 2}, model={"inputs": ["bond_types"]}, max_epochs=1)
    train(chosen)
    assert len([message for message in caplog.messages if "the model uses bonds" in message]) == 1


def test_forces_alone(data) -> None:
    some = structures(8)
    for atoms in some:
        del atoms.info["REF_energy"]
    write(data / "forces.xyz", some)
    result = train(config(data, data={"train": str(data / "forces.xyz")}, loss={"energy_weight": 0.0}))
    assert set(result.metrics["valid"]) == {
        "force_mae_meV_per_A", "force_rmse_meV_per_A", "stress_mae_meV_per_A3", "stress_rmse_meV_per_A3"
    }  # fmt: skip


def test_split_is_random_seeded_and_disjoint(data) -> None:
    from ik_e3nn.training.sets.prepare import prepare_data

    def energies(seed):
        sets = prepare_data(config(data, data={"valid": 0.25}, seed=seed)).sets
        return [{round(one.energy, 9) for one in sets[name].labels} for name in ("train", "valid")]

    train_set, valid_set = energies(0)
    assert (len(train_set), len(valid_set)) == (9, 3)
    assert not train_set & valid_set
    assert energies(0)[1] == valid_set != energies(1)[1]


def test_given_e0s_are_used(data, caplog) -> None:
    result = train(config(data, data={"E0s": {"H": -1.0, "8": -2.0, "Cu": -3.0, "Au": -4.0}}, max_epochs=1))
    assert "data.E0s has a value for Au, which no training structure has; it is not used" in caplog.text
    assert read_model_info(result.model)["energy_reference"]["values"] == {"H": -1.0, "O": -2.0, "Cu": -3.0}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": {"E0s": {"Xyz": 1.0}}}, ConfigError, "data.E0s has the key 'Xyz'"),
        ({"data": {"E0s": {"H": 1.0, "1": 2.0}}}, ConfigError, "data.E0s names an element twice, .*: H, 1"),
        ({"data": {"train": "nowhere.xyz"}}, DataError, "there is no file nowhere.xyz"),
        (
            {"data": {"valid": 12}},
            DataError,
            "12 structures to validate on and 0 to test on are requested, but there are only 12",
        ),
        ({"data": {"test": "neon.xyz"}}, UnknownSpeciesError, "data.test has Ne, which no training structure has"),
        ({"data": {"train": "neon.xyz"}}, DataError, "contains only isolated atoms, which have no"),
        ({"data": {"train": "flat.xyz"}}, DataError, r"structure 1 of flat.xyz \(Ne\): the periodic cell vectors"),
        ({"model": {"num_layers": 0}}, ConfigError, "model.num_layers must be a whole number of at least 1"),
        (
            {"device": "cpu:0", "num_processes": 2},
            ConfigError,
            "run.device is 'cpu:0', one device, but run.num_processes",
        ),
        ({"device": "cuda:99"}, ConfigError, "device 'cuda:99' was asked for, but torch sees"),
        ({"model": {"cutoff": 3}}, ConfigError, "unknown setting 'model.cutoff'"),
    ],
)
def test_mistakes_are_clear_errors(data, monkeypatch, changes, error, message) -> None:
    neon = Atoms("Ne", info={"REF_energy": 0.0})
    neon.arrays["REF_forces"] = np.zeros((1, 3))
    write(data / "neon.xyz", [neon])
    flat = neon.copy()
    flat.set_cell([[3, 0, 0], [3, 0, 0], [0, 0, 3]])
    flat.pbc = True
    write(data / "flat.xyz", [neon, flat], format="extxyz")
    monkeypatch.chdir(data)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(error, match=message):
        train(config(data, **changes))


@pytest.mark.slow
def test_several_processes_are_started(data, monkeypatch) -> None:
    """Two processes run, end well, and train together: as many steps as one process, and the same errors."""
    started = []

    def start(*args, **options):
        started.append(start_processes(*args, **options))
        return started[-1]

    monkeypatch.setattr("ik_e3nn.training.loop.parallel.start_processes", start)
    one = train(config(data, output=str(data / "serial")))
    assert not started
    two = train(config(data, num_processes=2))
    (context,) = started
    assert len({os.getpid(), *context.pids()}) == 3
    assert [process.exitcode for process in context.processes] == [0, 0]
    assert two.metrics["steps"] == one.metrics["steps"] == 9
    assert two.metrics["valid"] == pytest.approx(one.metrics["valid"], rel=1e-3)
    assert load_model(two.model).species == load_model(one.model).species


def test_a_failed_start_leaves_nothing_and_an_overwritten_run_comes_back(tmp_path):
    from ik_e3nn.training.run import run_folder

    folder = run_folder.open_run_folder(tmp_path / "run", resume=False, overwrite=False)
    run_folder.abandon(folder)
    assert not folder.exists()
    folder = run_folder.open_run_folder(folder, resume=False, overwrite=False)
    (folder / run_folder.MODEL).write_text("old model")
    (folder / run_folder.CHECKPOINTS / "last.ckpt").write_text("old state")
    (folder / "mine.txt").write_text("the user's")
    run_folder.open_run_folder(folder, resume=False, overwrite=True)
    assert not (folder / run_folder.MODEL).exists()
    run_folder.abandon(folder)
    assert (folder / run_folder.MODEL).read_text() == "old model"
    assert (folder / run_folder.CHECKPOINTS / "last.ckpt").read_text() == "old state"
    run_folder.open_run_folder(folder, resume=False, overwrite=True)
    run_folder.settle(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoints", "mine.txt", "train.log"]


def test_neighbor_lists_on_the_disk_change_nothing(data) -> None:
    results = []
    for name, cache in (("memory", None), ("written", "cache"), ("found", "cache")):
        chosen = {"cache": None if cache is None else str(data / cache)}
        results.append(train(config(data, data=chosen, output=str(data / name), max_epochs=2)).metrics)
    assert len(list((data / "cache").iterdir())) == 2
    for one in results:
        del one["seconds"]
    assert results[0] == results[1] == results[2]
