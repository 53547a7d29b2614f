"""A potential under test, with the structures it is tested on."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import nn

from ik_e3nn.arrays import FloatArray
from ik_e3nn.graph import batch_graphs, build_graph, fields
from ik_e3nn.models.networks.interface import PotentialFunction
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing.report import PropertyResult
from ik_e3nn.testing.tolerances import POTENTIAL_TOLERANCE, floating_dtype

ATOMS_PER_BATCH = 512


@dataclass(frozen=True)
class Prediction:
    """The prediction of a potential for one structure, in float64.

    Attributes:
        energy: eV.
        energies: (N,), eV.
        forces: (N, 3), eV/A.
        stress: (3, 3), eV/A^3; NaN if the cell has no volume.
    """

    energy: float
    energies: FloatArray
    forces: FloatArray
    stress: FloatArray


@dataclass(frozen=True)
class Subject:
    """A potential and structures, with the values that the checks share.

    Attributes:
        model: A function that is called like a potential.
        structures: Structures that the model can evaluate.
        r_max: Cutoff of the neighbor lists (A).
        group: Symmetry group that the energy must have.
        seed: Seed of all random numbers.
    """

    model: PotentialFunction
    structures: Sequence[Atoms]
    r_max: float
    group: SymmetryGroup
    seed: int = 0

    @cached_property
    def dtype(self) -> torch.dtype:
        """Floating type of the model."""
        return floating_dtype(self.model)

    @cached_property
    def device(self) -> torch.device:
        """Device of the model."""
        tensors = [*self.model.parameters(), *self.model.buffers()] if isinstance(self.model, nn.Module) else []
        return tensors[0].device if tensors else torch.device("cpu")

    @cached_property
    def reference(self) -> list[Prediction]:
        """Predictions for the structures as they are, one by one."""
        return [self.predict([atoms])[0] for atoms in self.structures]

    @cached_property
    def in_double(self) -> "Subject":
        """The same subject with a copy of the model in float64."""
        if not isinstance(self.model, nn.Module) or self.dtype == torch.float64:
            return self
        return Subject(copy.deepcopy(self.model).double(), self.structures, self.r_max, self.group, self.seed)

    @cached_property
    def tolerance(self) -> float:
        """Allowed error of energies per atom (eV) and forces (eV/A)."""
        forces = max((float(np.abs(p.forces).max(initial=0.0)) for p in self.reference), default=0.0)
        return POTENTIAL_TOLERANCE[self.dtype] * max(1.0, forces)

    @cached_property
    def stress_tolerance(self) -> float:
        """Allowed error of stresses (eV/A^3)."""
        stress = max((float(np.nan_to_num(np.abs(p.stress)).max()) for p in self.reference), default=0.0)
        return POTENTIAL_TOLERANCE[self.dtype] * max(0.1, stress)

    @cached_property
    def free_directions(self) -> FloatArray:
        """Projector (3, 3) on the directions along which moving a structure changes nothing.

        These are all directions, except for a model with surroundings; its structures must use the axis of its group.
        """
        surroundings = getattr(self.model, "surroundings", None)
        if surroundings is None:
            return np.eye(3)
        projector: FloatArray = np.eye(3) - surroundings.projector.detach().cpu().double().numpy()
        return projector

    def random(self) -> np.random.Generator:
        """A new source of random numbers, the same for every check."""
        return np.random.default_rng(self.seed)

    def graph(self, atoms: Atoms) -> Any:
        """Graph of a structure, on the model's device."""
        return build_graph(atoms, self.r_max, dtype=self.dtype).to(self.device)

    def predict(self, structures: Sequence[Atoms]) -> list[Prediction]:
        """Predictions for structures that are evaluated together, in batches of bounded size."""
        predictions: list[Prediction] = []
        for chunk in _chunks(structures):
            batch = batch_graphs([self.graph(atoms) for atoms in chunk])
            out = self.model(batch, forces=True, stress=True)
            names = (fields.ENERGY, fields.ENERGIES, fields.FORCES, fields.STRESS)
            energy, energies, forces, stress = (out[name].detach().cpu().double().numpy() for name in names)
            ends = np.cumsum([len(atoms) for atoms in chunk])[:-1]
            split = zip(np.split(energies, ends), np.split(forces, ends), strict=True)
            for index, (e, f) in enumerate(split):
                predictions.append(Prediction(float(energy[index]), e, f, stress[index]))
        return predictions

    def label(self, index: int) -> str:
        """Number and formula of a structure."""
        return f"#{index} {self.structures[index].get_chemical_formula()}"

    def row(self, name: str, errors: Sequence[tuple[int, float]], tolerance: float, unit: str) -> PropertyResult:
        """The largest of the errors, each with the number of its structure; NaN counts as the largest."""
        index, value = max(errors, key=lambda e: (np.isnan(e[1]), e[1]))
        return PropertyResult(name, float(value), tolerance, unit, self.label(index))


@contextmanager
def evaluation_mode(model: PotentialFunction) -> Iterator[None]:
    """Put a module into evaluation mode, and back afterwards."""
    training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield
    finally:
        if isinstance(model, nn.Module):
            model.train(training)


def largest(difference: FloatArray) -> float:
    """Largest absolute value; 0 for an empty array, NaN if one is NaN."""
    return float(np.abs(difference).max()) if difference.size else 0.0


def _chunks(structures: Sequence[Atoms]) -> Iterator[list[Atoms]]:
    """Consecutive structures with the same inputs, of at most ``ATOMS_PER_BATCH`` atoms."""
    chunk: list[Atoms] = []
    for atoms in structures:
        full = sum(map(len, chunk)) + len(atoms) > ATOMS_PER_BATCH
        if chunk and (full or _inputs(chunk[0]) != _inputs(atoms)):
            yield chunk
            chunk = []
        chunk.append(atoms)
    if chunk:
        yield chunk


def _inputs(atoms: Atoms) -> tuple[bool, bool]:
    return atoms.info.get("charge") is not None, atoms.info.get("spin") is not None
