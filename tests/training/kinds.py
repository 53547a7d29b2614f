"""One small run of every kind of training, for the contract that all of them keep."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.morse import MorsePotential
from ase.io import write

from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, save_model
from ik_e3nn.targets import Dipole, Extensive, Intensive
from ik_e3nn.training import DataConfig, FinetuneConfig, MethodConfig, OptimizerConfig, RunConfig, TrainConfig
from tests.data.molecule_sets import property_set
from tests.training.helpers import MODEL, RUN, structures

EPOCHS = 3
SMALL = ("H2O", "CH4", "CH3OH", "H2CO", "HCOOH", "CO2", "C2H4", "C2H6", "CH3CHO", "C2H2", "CH3CH2OH", "H2")
OLD = [Extensive("size", "eV"), Intensive("old gap", "eV"), Dipole("moment", "D")]
NEW = {"size": "extensive eV", "gap": "intensive eV", "moment": "dipole D"}
JOINT = {"energy": "energy eV", "forces": "forces eV/A", "moment": "dipole D", "gap": "intensive eV"}


def labeled(names: tuple[str, ...], seed: int, gap: str = "gap") -> list[Atoms]:
    """Rattled molecules with properties of their geometries, and energies and forces of a Morse potential."""
    rng, result = np.random.default_rng(seed), []
    for name in names:
        atoms = molecule(name)
        atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
        known = atoms.copy()
        known.calc = MorsePotential(r0=1.2, epsilon=0.3, rho0=2.0, rcut1=3.0, rcut2=3.9)
        spread = np.linalg.norm(atoms.positions - atoms.positions.mean(0), axis=1).mean()
        atoms.info = {
            "size": float(atoms.numbers.sum()), gap: 5.0 - spread, "moment": atoms.positions[0] - atoms.positions[-1],
            "REF_energy": known.get_potential_energy(),
        }  # fmt: skip
        atoms.arrays["REF_forces"] = known.get_forces()
        result.append(atoms)
    return result


def potential(species: tuple[str, ...], scale: float = 0.3) -> InteratomicPotential:
    """A base that knows its elements."""
    torch.manual_seed(1)
    model = InteratomicPotential(species, **(MODEL | {"num_layers": 2, "num_channels": 6}))
    model.set_energy_reference({z: -0.5 * z for z in model.species}, "the test")
    model.set_scale(scale)
    model.set_average_neighbors(2.0)
    return model.eval()


def property_model(scale: float = 0.3) -> MolecularPropertyModel:
    """A base that predicts something of every old target."""
    model = MolecularPropertyModel.from_potential(potential(("H", "C", "O"), scale), OLD)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model.scales.per_atom[0, :] = torch.tensor([1.0, 6.0, 8.0])
        model.scales.scale[:] = torch.tensor([0.2, 0.4, 0.6])
    return model.eval()


def write_structures() -> None:
    """Water and copper with the labels of a potential; old ones have water alone."""
    write("train.xyz", structures(12))
    write("old.xyz", structures(10, seed=3, crystals=False))
    save_model(potential(("H", "O")), "base.safetensors")
    save_model(potential(("H", "O"), 0.4), "other-base.safetensors")


def write_molecules() -> None:
    """Molecules with properties, new ones with nitrogen too."""
    write("train.xyz", labeled((*SMALL, "NH3", "HCN", "CH3CN"), 0))
    write("old.xyz", labeled(SMALL, 7, "old gap"))
    save_model(potential(("H", "C", "O")), "base.safetensors")
    save_model(property_model(), "properties.safetensors")
    save_model(potential(("H", "C", "O"), 0.4), "other-base.safetensors")
    save_model(property_model(0.4), "other-properties.safetensors")


def write_bonded() -> None:
    """Molecules with bonds, for the network of the paper."""
    known = property_set()
    for atoms, *values in zip(known.structures, *known.values.values(), strict=True):
        atoms.info |= dict(zip(known.values, values, strict=True))
    write("train.xyz", known.structures)


def write_over_wall() -> None:
    """Water over a wall, and old structures that know of none."""
    write_structures()
    frames = structures(12, crystals=False)
    for atoms in frames:
        atoms.positions[:, 2] += 3.0
    write("train.xyz", frames)


@dataclass(frozen=True)
class Kind:
    """A kind of training.

    Attributes:
        files: Writes the data, and bases, into the working folder.
        data: Settings of the data.
        model: Settings of a new model; None for a fine-tuning.
        method: Settings of a fine-tuning.
        added: Settings of the model that a fine-tuning adds to those of the base.
    """

    files: Callable[[], None]
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    model: dict[str, Any] | None = None
    method: dict[str, Any] = dataclasses.field(default_factory=dict)
    added: dict[str, Any] = dataclasses.field(default_factory=dict)

    def config(self, output: str = "straight", epochs: int = EPOCHS, **data: Any) -> TrainConfig:
        """Its configuration, with paths from the working folder."""
        parts = (
            DataConfig(**({"train": "train.xyz", "valid": 3, "test": 2} | self.data | data)),
            self.model or self.added,
        )
        shared = {
            "optimizer": OptimizerConfig(lr=0.02, warmup_steps=2),
            "run": RunConfig(**(RUN | {"output": output, "max_epochs": epochs})),
        }
        if self.model is not None:
            return TrainConfig(*parts, **shared)
        return FinetuneConfig(*parts, **shared, finetune=MethodConfig(**({"base": "base.safetensors"} | self.method)))

    @property
    def with_old_data(self) -> bool:
        """Whether old structures are replayed."""
        return "replay" in self.method

    @property
    def may_forget(self) -> bool:
        """Whether the base predicts something that the model made of it predicts too."""
        if self.method.get("method") == "surroundings":
            return False
        return "base" in self.method or "energy" in self.data.get("targets", ["energy"])


LORA, FROZEN = {"method": "lora"}, {"frozen_blocks": 1, "lr_decay": 0.5}
WALL = {"group": "SO2", "inputs": ["surface"]}
REPLAY = {"replay": "old.xyz", "replay_ratio": 0.5}
PROPERTIES = {"base": "properties.safetensors"}
KINDS = {
    "potential": Kind(write_structures, model=MODEL),
    "properties": Kind(
        write_bonded,
        {"targets": {"size": "extensive eV", "heteroatoms": "intensive", "moment": "dipole D"}},
        {"steerable": {"channels": 4, "num_layers": 1, "kernel_fields": 4}},
    ),
    "joint": Kind(
        write_molecules,
        {"targets": JOINT},
        {"edges": "radius", "r_max": 4.0, "potential": {"num_channels": 4, "num_layers": 1, "correlation": 1}},
    ),
    "potential further": Kind(write_structures, method=LORA),
    "potential further, replay": Kind(write_structures, method=LORA | REPLAY),
    "potential further, frozen, replay": Kind(write_structures, method=FROZEN | REPLAY),
    "potential beside a surface": Kind(write_over_wall, method={"method": "surroundings"}, added=WALL),
    "potential beside a surface, replay": Kind(write_over_wall, method=LORA | REPLAY, added=WALL),
    "potential to properties": Kind(write_molecules, {"targets": NEW}, method=LORA),
    "potential to properties, frozen": Kind(write_molecules, {"targets": NEW}, method=FROZEN),
    "potential to joint, replay": Kind(write_molecules, {"targets": JOINT}, method=REPLAY),
    "properties further": Kind(write_molecules, {"targets": NEW}, method=PROPERTIES | LORA),
    "properties further, replay": Kind(write_molecules, {"targets": NEW}, method=PROPERTIES | REPLAY),
}
