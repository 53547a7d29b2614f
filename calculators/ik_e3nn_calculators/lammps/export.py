"""Export of a potential to LAMMPS: machine code of its interactions and of their derivatives."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from ase.data import atomic_masses, chemical_symbols
from torch import Tensor, nn

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models import InteratomicPotential, load_model, model_path
from ik_e3nn.models.compiled.graph import TENSOR_OPERATIONS, Fusable, Part, places, trace, write_package
from ik_e3nn.models.networks.domain import domain_of_model
from ik_e3nn.models.networks.layers import LayerGradients
from ik_e3nn.private_folder import keep_compiler_private
from ik_e3nn.settings import check_settings
from ik_e3nn.user_path import user_path
from ik_e3nn_calculators.lammps.build import compiler
from ik_e3nn_calculators.lammps.inputs import SURROUNDINGS
from ik_e3nn_calculators.lammps.layers import Layer, layers

_log = logging.getLogger(__name__)

FORMAT = 2  # of the package, which the pair style reads
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
    """Write a package for ``pair_style ik_e3nn``; this takes about three minutes.

    Args:
        settings: The settings.

    Returns:
        A sentence about the package.

    Raises:
        FileExistsError: The output exists, and ``overwrite`` is False.
        DataError: The model predicts no energies, or has an input that LAMMPS cannot give it.
        MissingInputError: An input of the model is not given.
        MissingDependencyError: There is no C++ compiler.
        RuntimeError: The compiled model differs from the eager one.
    """
    compiler(None)
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
        f"{path}: {', '.join(chemical_symbols[z] for z in model.species)}, {_name(model.dtype)}, cutoff {model.r_max} "
        f"A, trained on {domain_of_model(model) or 'unknown data'}"
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
    functions = layers(model, info or {})
    _log.info("compiling the model in %s; this takes about three minutes", model.dtype)
    keep_compiler_private()
    parts = {name: _part(layer) for name, layer in functions.items()}
    configs = {"cpp.threads": 1, "aot_inductor.metadata": metadata(functions)}  # one process for each core
    path.parent.mkdir(parents=True, exist_ok=True)
    unchecked = path.with_name(f"{path.name}.unchecked.pt2")
    try:
        write_package(parts, unchecked, configs=configs)
        for name, layer in functions.items():
            _compare(
                torch._inductor.package.package.load_package(str(unchecked), name, run_single_threaded=True), layer
            )
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)


def metadata(functions: Mapping[str, Layer]) -> dict[str, str]:
    """The facts about a model that the pair style reads, from its functions."""
    first = functions["gradients_0"]
    model = first.function.model
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return {
        "ik_format": str(FORMAT),
        "ik_version": version("ik-e3nn"),
        "ik_torch": torch.__version__.partition("+")[0],
        "ik_species": " ".join(chemical_symbols[z] for z in model.species),
        "ik_masses": " ".join(f"{atomic_masses[z]:.6g}" for z in model.species),
        "ik_trained_on": str(domain_of_model(model) or "unknown data"),
        "ik_r_max": repr(model.r_max),
        "ik_widths": " ".join(str(irreps.dim) for irreps in model.irreps_features),
        "ik_dtype": _name(model.dtype),
        "ik_places": str(int(model.surroundings is not None)),
        "ik_free_directions": " ".join(map(repr, first.free.flatten().tolist())),
        "ik_inputs": " ".join(f"{name}={value:g}" for name, value in first.numbers.items()),
        "ik_weights": digest.hexdigest(),
    }


def _part(layer: Layer) -> Part:
    """The graph of a function, to be compiled for any number of atoms and edges."""
    example = layer.example()
    inputs = [example[key] for key in sorted(example)]
    graph = Fusable(trace(layer, layer, example, replaced=TENSOR_OPERATIONS)).transform()
    rows = [{0: torch.export.Dim.DYNAMIC}] * len(inputs)
    return Part(_WithWeights(graph, layer), (inputs,), (rows,))


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


def _compare(compiled: Any, layer: Layer) -> None:
    """Raise an error unless a compiled function gives what the eager one gives."""
    example = layer.example()
    got, wanted = compiled([example[key] for key in sorted(example)]), layer(example)
    E0 = torch.zeros_like(wanted[0])
    if isinstance(layer.function, LayerGradients) and layer.function.is_last:  # they would hide errors of energies
        E0 += layer.function.model.atomic_energy.reference[example[fields.SPECIES][: E0.shape[0]]]
    for g, w in zip((got[0] - E0, *got[1:]), (wanted[0] - E0, *wanted[1:]), strict=True):
        worst = float((g - w).abs().max() / w.abs().max())
        if not worst <= TOLERANCE[layer.function.model.dtype]:  # also true for NaN
            raise RuntimeError(f"the compiled model differs from the eager one by {worst:.1e}; please report it")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
