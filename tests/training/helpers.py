"""Small labeled data and module factories shared by the training tests."""

import contextlib

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.morse import MorsePotential

from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import build_graph
from ik_e3nn.training.config.schema import DataConfig, LossConfig, OptimizerConfig, RunConfig, TrainConfig
from ik_e3nn.training.loop.callbacks import MetricsLog
from ik_e3nn.training.loop.module import TrainingModule
from ik_e3nn.training.objective.loss import Loss
from ik_e3nn.training.run.clock import RunClock
from tests.training.stand_in import PairModel

R_MAX = 4.0


def structures(count=12, seed=0, crystals=True):
    """Rattled water molecules and copper crystals with the labels of a Morse potential, under REF_ keys."""
    generator = np.random.default_rng(seed)
    result = []
    for number in range(count):
        atoms = bulk("Cu", cubic=True) if crystals and number % 3 == 2 else molecule("H2O")
        atoms.positions += 0.1 * generator.standard_normal(atoms.positions.shape)
        labeled = atoms.copy()
        labeled.calc = MorsePotential(r0=1.5, epsilon=0.2, rho0=2.0, rcut1=3.0, rcut2=3.9)
        atoms.info["REF_energy"] = labeled.get_potential_energy()
        atoms.arrays["REF_forces"] = labeled.get_forces()
        if atoms.pbc.all():
            atoms.info["REF_stress"] = labeled.get_stress(voigt=False)
        result.append(atoms)
    return result


def graphs(atoms_list, dtype=torch.float32):
    """Graphs with labels, NaN where missing."""
    result = []
    for atoms in atoms_list:
        graph = build_graph(atoms, R_MAX, dtype=dtype)
        nan = np.full((3, 3), np.nan)
        graph["energy"] = torch.tensor([atoms.info.get("REF_energy", np.nan)], dtype=torch.float64)
        graph["forces"] = torch.tensor(atoms.arrays["REF_forces"], dtype=torch.float64)
        graph["stress"] = torch.tensor(atoms.info.get("REF_stress", nan), dtype=torch.float64)[None]
        result.append(graph)
    return result


@contextlib.contextmanager
def interrupted_in_epoch(epoch):
    """Training in this block is killed, as by Ctrl-C, after the validation of an epoch; the first is 0."""
    original = MetricsLog.on_validation_end

    def interrupted(self, trainer, module):
        original(self, trainer, module)
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt

    MetricsLog.on_validation_end = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        MetricsLog.on_validation_end = original


@contextlib.contextmanager
def refused(folder, message):
    """A resume in this block is refused, and no file of the run changes."""
    before = _contents(folder)
    with pytest.raises(ConfigError, match=message):
        yield
    assert _contents(folder) == before


def _contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_module(*, optimizer=None, loss=None, limit=None, **model):
    """A module with the stand-in model."""
    return TrainingModule(
        PairModel(r_max=R_MAX, **model),
        Loss(loss or LossConfig(forces_weight=10.0)),
        optimizer=optimizer or OptimizerConfig(lr=0.02, warmup_steps=5),
        clock=RunClock(limit),
    )


RUN = {"max_epochs": 3, "batch_size": 3, "device": "cpu", "progress": False}
MODEL = {"r_max": 4.0, "num_channels": 4, "num_layers": 1, "l_max": 1, "correlation": 1}


def small_config(folder, *, data=None, loss=None, model=None, **run):
    """A short run of a tiny real model on ``train.xyz`` in the folder."""
    return TrainConfig(
        data=DataConfig(**({"train": str(folder / "train.xyz"), "valid": 3} | (data or {}))),
        model=MODEL | (model or {}),
        loss=LossConfig(**(loss or {})),
        optimizer=OptimizerConfig(lr=0.02, warmup_steps=2),
        run=RunConfig(**(RUN | {"output": str(folder / "run")} | run)),
    )
