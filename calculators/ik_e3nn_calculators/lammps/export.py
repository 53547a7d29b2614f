"""Export of a potential to LAMMPS: machine code of the energies of owned atoms and of their derivatives."""

import copy
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models import InteratomicPotential, load_model, model_path
from ik_e3nn.models.compiled.graph import Fusable, padded, places, random_edges, trace, write_package
from ik_e3nn.models.networks.interface import Receivers
from ik_e3nn.private_folder import keep_compiler_private
from ik_e3nn.settings import check_settings
from ik_e3nn.user_path import user_path
from ik_e3nn_calculators.lammps.inputs import SURROUNDINGS, declared
from ik_e3nn_calculators.lammps.operators import copied, exchanged

_log = logging.getLogger(__name__)

FORMAT = 1  # of the metadata, which the pair style reads
OWNED, POSITIONS = "owned", fields.POSITIONS
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-9}  # relative to the largest energy or derivative


@dataclass
class LammpsExportSettings:
    """Settings of ``ik-e3nn export lammps``.

    Charge, spin and surroundings hold for the whole simulation, because LAMMPS has no place for them.

    Args:
        model: Model file of a potential, or "base".
        output: The package to write, which ``pair_coeff`` names.
        dtype: float32 or float64; by default that of the model.
        charge: Total charge in e, for models that use it.
        spin: Spin multiplicity 2S+1, for models that use it.
        surface_normal: Direction of the normal of a surface, of a wire or of the main axis of a site, for models that
            have such surroundings; by default the axis of the group of the model.
        surface_origin: A point of the surface or wire, or the site, in A; by default zero.
        surface_x: Direction across the normal, for groups that distinguish them.
        overwrite: Replace a package that exists.
    """

    model: str
    output: str
    dtype: Literal["float32", "float64"] | None = None
    charge: float | None = None
    spin: float | None = None
    surface_normal: Sequence[float] | None = None
    surface_origin: Sequence[float] | None = None
    surface_x: Sequence[float] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


def export_lammps(settings: LammpsExportSettings) -> str:
    """Write a package for ``pair_style ik_e3nn``; this takes a minute or two.

    Args:
        settings: The settings.

    Returns:
        A sentence about the package.

    Raises:
        FileExistsError: The output exists, and ``overwrite`` is False.
        DataError: The model predicts no energies, or has an input that LAMMPS cannot give it.
        MissingInputError: An input of the model is not given.
        RuntimeError: The compiled model differs from the eager one.
    """
    path = user_path(settings.output)
    if path.exists() and not settings.overwrite:
        raise FileExistsError(f"{path} exists: choose another file with -o, or give --overwrite")
    stored = load_model(model_path(settings.model), device="cpu")
    if stored.potential is None:
        raise DataError(f"the model {settings.model} predicts no energies, which LAMMPS needs")
    model = stored.potential if settings.dtype is None else stored.potential.to(getattr(torch, settings.dtype))
    info = {"charge": settings.charge, "spin": settings.spin} | {key: getattr(settings, key) for key in SURROUNDINGS}
    package_for_lammps(model, path, {key: value for key, value in info.items() if value is not None})
    return (
        f"{path}: {', '.join(chemical_symbols[z] for z in model.species)}, {_name(model.dtype)}, cutoff {model.r_max} A"
    )


def package_for_lammps(model: InteratomicPotential, path: Path, info: Mapping[str, Any] | None = None) -> None:
    """Write a package for ``pair_style ik_e3nn``, after a comparison with the eager model.

    Args:
        model: The potential, on the CPU.
        path: The file to write.
        info: Declared inputs of the model, as in ``atoms.info``.

    Raises:
        DataError: The model has an input that LAMMPS cannot give it, or does not use one that is given.
        MissingInputError: An input of the model is not given.
        RuntimeError: The compiled model differs from the eager one.
    """
    owned = OwnedEnergies(model, info or {})
    example = owned.example()
    inputs = [example[key] for key in sorted(example)]
    graph = Fusable(trace(owned, owned, example)).transform()
    _log.info("compiling the model in %s; this takes a minute or two", model.dtype)
    keep_compiler_private()
    rows = [{0: torch.export.Dim.DYNAMIC}] * len(inputs)
    configs = {"cpp.threads": 1, "aot_inductor.metadata": owned.metadata()}  # one process for each core
    path.parent.mkdir(parents=True, exist_ok=True)
    unchecked = path.with_name(f"{path.name}.unchecked.pt2")
    try:
        write_package(_WithWeights(graph, owned), (inputs,), (rows,), unchecked, configs=configs)
        _compare(torch._inductor.aoti_load_package(str(unchecked)), owned)
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)


class OwnedEnergies(nn.Module):
    """Energies of owned atoms and their derivatives, as a function of the tensors that LAMMPS gives.

    Args:
        model: The potential.
        info: Declared inputs of the model, which are constants.

    Raises:
        DataError: The model has an input that LAMMPS cannot give it, or does not use one that is given.
        MissingInputError: An input of the model is not given.
    """

    frame: Tensor
    origin: Tensor
    fixed: Tensor

    def __init__(self, model: InteratomicPotential, info: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.model.max_edges = None
        graph = declared(model, info)
        self.numbers = {name: float(graph[name]) for name in model.node_embedding.inputs}
        identity = torch.eye(3, dtype=torch.float64)
        frame, free, origin = identity, identity, torch.zeros(3, dtype=torch.float64)
        if model.surroundings is not None:
            frame = model.surroundings.checked(graph)[0]
            free = model.surroundings.free_directions(frame[None])[0]
            origin = graph.get(fields.SURFACE_ORIGIN, origin[None])[0].double()
        self.free = free
        self.register_buffer("frame", frame.to(model.dtype))
        self.register_buffer("origin", origin)
        self.register_buffer("fixed", identity - free)

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Energies and derivatives.

        Args:
            inputs: ``species`` (N,), ``vectors`` (K, w, 3), ``senders`` (K, w) and ``owners`` (K,) as in
                ``fields.PREPARED``; ``owned`` (R,), of which only the size is used; and, for a model with surroundings,
                ``positions`` (N, 3) in A.

        Returns:
            Energies (R,) in eV; derivatives by edge vectors, (K, w, 3), and, with surroundings, by positions (N, 3).
        """
        species = inputs[fields.SPECIES]
        edges = {key: value for key, value in inputs.items() if key not in (OWNED, POSITIONS)}
        for name, value in self.numbers.items():
            edges[name] = inputs[fields.VECTORS].new_full(species.shape, value)
        if self.model.surroundings is not None:
            displacements = (inputs[POSITIONS] - self.origin) @ self.fixed
            edges[fields.DISPLACEMENTS] = displacements.to(self.model.dtype)
            edges[fields.FRAMES] = self.frame.expand(species.shape[0], 3, 3)
        counts = (inputs[OWNED].shape[0],) * len(self.model.interactions)
        receivers = Receivers(counts, lambda x: exchanged(x, species))
        return self.model.energies_and_gradients(edges, create_graph=False, receivers=receivers)

    def example(self) -> dict[str, Tensor]:
        """Random atoms, two thirds of them owned; their ghosts are copies of owned atoms in turn."""
        edges = padded(random_edges(self.model), self.model.r_max)
        number = edges[fields.SPECIES].shape[0]
        size = 2 * number // 3
        owner = copied(size, number)
        kept = {
            fields.SPECIES: edges[fields.SPECIES][owner],
            fields.OWNERS: owner[edges[fields.OWNERS]].sort().values,
            fields.SENDERS: edges[fields.SENDERS],
            fields.VECTORS: edges[fields.VECTORS],
            OWNED: torch.zeros(size, dtype=torch.float64),
        }
        if self.model.surroundings is not None:
            kept[POSITIONS] = edges[fields.DISPLACEMENTS].double()[owner]
        return kept

    def metadata(self) -> dict[str, str]:
        """The facts about the model that the pair style reads."""
        digest = hashlib.sha256()
        for tensor in self.model.state_dict().values():
            digest.update(tensor.contiguous().numpy().tobytes())
        between = [irreps.dim for irreps in self.model.irreps_features[:-1]]
        return {
            "ik_format": str(FORMAT),
            "ik_version": version("ik-e3nn"),
            "ik_torch": torch.__version__.partition("+")[0],
            "ik_species": " ".join(chemical_symbols[z] for z in self.model.species),
            "ik_r_max": repr(self.model.r_max),
            "ik_layers": str(len(self.model.interactions)),
            "ik_dtype": _name(self.model.dtype),
            "ik_exchanged": str(max(between, default=0)),
            "ik_places": str(int(self.model.surroundings is not None)),
            "ik_free_directions": " ".join(map(repr, self.free.flatten().tolist())),
            "ik_inputs": " ".join(f"{name}={value:g}" for name, value in self.numbers.items()),
            "ik_weights": digest.hexdigest(),
        }


class _WithWeights(nn.Module):
    """A traced graph with its weights, as a function of its inputs alone."""

    def __init__(self, graph: nn.Module, traced: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        stores = places(traced).values()
        self.names = [f"tensor_{number}" for number in range(len(stores))]
        for name, (store, key) in zip(self.names, stores, strict=True):
            self.register_buffer(name, store[key].detach())

    def forward(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """The outputs of the graph."""
        result: tuple[Tensor, ...] = self.graph([getattr(self, name) for name in self.names], inputs)
        return result


def _compare(package: Any, owned: OwnedEnergies) -> None:
    """Raise an error unless a package gives what the eager model gives."""
    example = owned.example()
    got, wanted = package([example[key] for key in sorted(example)]), owned(example)
    E0 = owned.model.atomic_energy.reference[example[fields.SPECIES][: len(wanted[0])]]  # would hide errors of energies
    for g, w in zip((got[0] - E0, *got[1:]), (wanted[0] - E0, *wanted[1:]), strict=True):
        worst = float((g - w).abs().max() / w.abs().max())
        if not worst <= TOLERANCE[owned.model.dtype]:  # also true for NaN
            raise RuntimeError(f"the compiled model differs from the eager one by {worst:.1e}; please report it")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
