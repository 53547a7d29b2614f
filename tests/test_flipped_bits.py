"""Bits that flip in files of earlier runs are clear errors, or change nothing; the places are the same every time."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from ik_e3nn.data import StructureDataset
from ik_e3nn.data.generation.work_file import WorkFile
from ik_e3nn.data.properties.qm9_files import NAMES, UNITS, read_arrays
from ik_e3nn.errors import IKError
from ik_e3nn.models import (
    InteratomicPotential,
    LastLayerEnsemble,
    load_model,
    save_model,
    save_uncertainty,
    with_uncertainty,
)
from ik_e3nn.models.uncertainty.last_layer import directions_of
from ik_e3nn.training.run.checkpoint import _KEYS, load_checkpoint
from ik_e3nn_calculators.dock.search.relax import RelaxState
from ik_e3nn_calculators.dock.search.state import STATE, StateFile
from ik_e3nn_calculators.md.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ik_e3nn_calculators.md.prepare import read_start
from ik_e3nn_calculators.runs import file_digest


def text(value) -> str:
    """Everything in a result, in words."""
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, torch.Tensor | np.ndarray):
        value = np.asarray(value).tolist()
    if isinstance(value, dict):
        return repr([(name, text(one)) for name, one in sorted(value.items())])
    if isinstance(value, list | tuple):
        return repr([text(one) for one in value])
    return text(vars(value)) if hasattr(value, "__dict__") else repr(value)


def md_checkpoint(folder):
    path, x = folder / "md.npz", np.ones((3, 3))
    write_checkpoint(path, Checkpoint(1, x, 2 * x, 3 * x, {"state": 1}, {"a": 0.5}, {"log": 7}))
    return path, read_checkpoint


def dock_state(folder):
    file = StateFile(folder, {"model": "a"})
    file.write(RelaxState.start(np.ones((2, 3, 3))), np.zeros(2, dtype=np.int64))
    return folder / STATE, lambda path: file.read()


def start_of_md(folder):
    path = folder / "start.traj"
    molecule("H2O").write(path)
    digest = file_digest(path)
    return path, lambda path: read_start(path, digest)


def training_checkpoint(folder):
    path = folder / "last.ckpt"
    parts = {"state_dict": {"weights": torch.arange(9.0)}, "optimizer_states": [], "lr_schedulers": []}
    torch.save(dict.fromkeys(_KEYS, 0) | parts, path)
    return path, load_checkpoint


def work_file(folder):
    path = folder / "a.partial"
    with WorkFile(path, "run", resume=True) as work:
        work.add("frame", {"energy": 1.5})

    def read(path):
        with WorkFile(path, "run", resume=True) as work:
            return work.get("frame") or {"energy": 1.5}  # one that is damaged is made again

    return path, read


def qm9_arrays(folder):
    path = folder / "qm9.npz"
    np.savez(
        path, Z=np.array([8, 1], dtype=np.uint8), R=np.ones((2, 3), dtype=np.float32), offsets=np.array([0, 2]),
        index=np.array([1]), targets=np.ones((1, len(NAMES))), target_names=NAMES, target_units=UNITS,
    )  # fmt: skip
    return path, read_arrays


def neighbor_lists(folder):
    structures = [molecule("H2O"), molecule("CH4")]
    StructureDataset(structures, 4.0, cache=folder / "cache").prepare()
    (path,) = (folder / "cache").iterdir()

    def read(path):
        return [graph.to_dict() for graph in StructureDataset(structures, 4.0, cache=folder / "cache")]

    return path, read


def small_model() -> InteratomicPotential:
    torch.manual_seed(0)
    return InteratomicPotential(["H"], num_channels=1, num_layers=1, l_max=0, correlation=1).eval()


def model_file(folder):
    save_model(small_model(), folder / "m.safetensors")
    return folder / "m.safetensors", load_model


def uncertainty_file(folder):
    model = small_model()
    root = torch.eye(model.last_weights.numel(), dtype=torch.float64)
    save_uncertainty(LastLayerEnsemble(model, {"energy": root}, directions_of(root, 2)), folder / "l.safetensors")
    return folder / "l.safetensors", lambda path: with_uncertainty([model], path)


@pytest.mark.parametrize(
    "kind",
    [
        md_checkpoint, dock_state, start_of_md, training_checkpoint, work_file, qm9_arrays, model_file,
        uncertainty_file, neighbor_lists,
    ],
)  # fmt: skip
def test_flipped_bits_are_clear_errors_or_change_nothing(tmp_path, kind) -> None:
    path, read = kind(tmp_path)
    good, expected = path.read_bytes(), text(read(path))
    rng = np.random.default_rng(7)
    size, ends = len(good), min(len(good) // 2, 60)
    places = {*rng.integers(size, size=60).tolist(), *range(ends), *range(size - ends, size)}
    for place in sorted(places):
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(bad))
        try:
            found = text(read(path))
        except IKError as error:
            found = str(error)
        assert found == expected or str(path) in found, place
