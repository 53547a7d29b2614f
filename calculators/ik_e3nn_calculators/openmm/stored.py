"""A potential as the bytes of its model files, which OpenMM can copy and write into the XML of a system."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ik_e3nn.errors import DataError
from ik_e3nn.graph import SURROUNDINGS, fields
from ik_e3nn.memory import keep_freed_memory
from ik_e3nn.models import InteratomicPotential, load_model, save_model
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn_calculators.calculator.evaluator import Evaluator
from ik_e3nn_calculators.calculator.model import ModelLike, check_arguments, prepare_model


@dataclass(frozen=True)
class StoredPotential:
    """A potential, or a committee, as model files in memory with the settings of its evaluation.

    Args:
        files: Contents of the model files, one for each member.
        device: Device of the evaluation.
        compile: Compile the model at the first structure.
        max_edges: Number of edges to process at once; None for all.

    Example:
        >>> stored = StoredPotential.of(InteratomicPotential(["H", "O"], num_channels=2), device="cpu")
        >>> stored.evaluator().species
        (1, 8)
    """

    files: tuple[bytes, ...]
    device: str
    compile: bool = False
    max_edges: int | None = None

    @classmethod
    def of(
        cls,
        model: ModelLike,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype | None = None,
        compile: bool = False,  # noqa: A002
        max_edges: int | None = None,
    ) -> StoredPotential:
        """Store a model; see ``IKPotential`` for the arguments and errors."""
        check_arguments(skin=0.0, max_edges=max_edges, compile=compile)
        resolve_device(device)
        frozen = prepare_model(model, device="cpu", dtype=dtype)
        _check_inputs(frozen.inputs)
        members = list(getattr(frozen, "members", [frozen]))
        return cls(tuple(_written(member) for member in members), str(device), compile, max_edges)

    @cached_property
    def members(self) -> tuple[InteratomicPotential, ...]:
        """The potentials, on the CPU."""
        return tuple(_read(data) for data in self.files)

    def evaluator(self) -> Evaluator:
        """A new evaluator of the potential."""
        keep_freed_memory()
        members = list(self.members)
        model = prepare_model(members if len(members) > 1 else members[0], device=self.device)
        evaluator = Evaluator(model, compile=self.compile)
        if self.max_edges is not None:
            evaluator.max_edges = self.max_edges
        return evaluator

    def energies_of_atoms(self) -> dict[int, float]:
        """Energy of an isolated atom, E0, in eV, by atomic number; the mean over a committee."""
        rows = torch.stack([member.atomic_energy.reference.double() for member in self.members])
        return dict(zip((int(z) for z in self.members[0].species), rows.mean(0).tolist(), strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """Without the potentials, which the files contain."""
        return {name: value for name, value in self.__dict__.items() if name != "members"}


def _check_inputs(inputs: Any) -> None:
    """Refuse a model with inputs that OpenMM cannot give it.

    Raises:
        DataError: It uses bond types or surroundings.
    """
    if fields.BOND_TYPES in inputs:
        raise DataError(
            "the model uses bond types, and OpenMM cannot give it any: its topologies know bonds, but seldom whether "
            "they are single, double or aromatic. Use the ASE calculator, or a model without bond_types"
        )
    around = sorted(set(inputs).intersection(SURROUNDINGS))
    if around:
        raise DataError(
            f"the model knows a {around[0]} at a fixed place, but OpenMM moves atoms between periodic images and stops "
            "the motion of the center of mass. Use the ASE calculator or LAMMPS, or a model without surroundings"
        )


def _written(model: Any) -> bytes:
    """The model file of a potential."""
    if not isinstance(model, InteratomicPotential):
        raise DataError(f"OpenMM needs an InteratomicPotential, which has a model file; got {type(model).__name__}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(model, path)
        return path.read_bytes()


def _read(data: bytes) -> InteratomicPotential:
    """The potential in a model file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(data)
        return load_model(path, device="cpu", kind=InteratomicPotential)
