"""Compile the interactions of a potential one by one, for structures that are evaluated in tiles.

See :mod:`ik_e3nn.models.networks.layers`. The package has the functions ``features_t`` of all interactions t but the
last, and ``gradients_t`` of all.
"""

import contextlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models.compiled.graph import (
    Fusable,
    Part,
    padded,
    places,
    random_edges,
    replaced_operators,
    trace,
    write_package,
)
from ik_e3nn.models.compiled.package import for_one_thread, package_of
from ik_e3nn.models.compiled.potential import TOLERANCE, CompileWarning, probe_of
from ik_e3nn.models.networks.layers import FEATURES, GRADIENT, LayerFeatures, LayerGradients
from ik_e3nn.models.networks.modes import outside_inference_mode, renew, without_autocast
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.private_folder import is_trusted, keep_compiler_private, private_folder

_log = logging.getLogger(__name__)

OWNED = "owned"  # a tensor with as many rows as there are receivers


def compile_layers(model: StoredModel, *, cache: str | Path | None = None) -> bool:
    """Compile a potential for structures in tiles, in place; if that fails, warn and leave it eager.

    Args:
        model: The potential, or a model that has one, on its device and in its dtype.
        cache: See ``compile_potential``.

    Returns:
        Whether the model is compiled now. The first time takes some minutes, later times a second.

    Raises:
        DataError: The model predicts no energies.

    Warns:
        CompileWarning: The model could not be compiled; the message gives the reason.
    """
    if model.potential is None:
        raise DataError(f"only potentials are compiled, and {type(model).__name__} predicts no energies")
    model = model.potential
    model.compiled_layers, used = None, []
    try:
        with outside_inference_mode(), without_autocast():
            renew(model)
            used.append(package_of(model, cache=cache).with_suffix(".layers.pt2"))
            private_folder(used[0].parent)
            model.compiled_layers = _compiled(model, used[0])
    except Exception as error:  # noqa: BLE001  (a compiler can fail in many ways, and the eager model still works)
        for path in used:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        text = f"the model is not compiled for large structures and runs eagerly ({reason})"
        warnings.warn(text, CompileWarning, stacklevel=2)
    return model.compiled_layers is not None


def _compiled(model: InteratomicPotential, path: Path) -> dict[str, "CompiledLayer"]:
    """The functions of a model from its package, which is written if need be; both are compared with the eager ones."""
    probe = probe_of(model)
    if is_trusted(path):
        with contextlib.suppress(Exception):  # a damaged file is replaced
            return _checked(_loaded(model, path), probe)
    _log.info("compiling the model for large structures on %s in %s; this is done once", model.device, model.dtype)
    keep_compiler_private()
    package_layers(probe, path, {"cpp.threads": 1} if for_one_thread(model) else {"cpp.dynamic_threads": True})
    return _checked(_loaded(model, path), probe)


def _loaded(model: InteratomicPotential, path: Path) -> dict[str, "CompiledLayer"]:
    return {name: CompiledLayer(function, path, name) for name, function in functions_of(model).items()}


def _checked(found: dict[str, "CompiledLayer"], probe: InteratomicPotential) -> dict[str, "CompiledLayer"]:
    """The same functions, if they agree with the eager ones for a model with random weights."""
    for name, function in functions_of(probe).items():
        example = example_of(function)
        wanted = _of_one_argument(function, example)
        for g, w in zip(found[name].on_padded(example, function), wanted, strict=True):
            difference, largest = float((g - w).detach().abs().max()), float(w.detach().abs().max())
            if not difference <= TOLERANCE[probe.dtype] * largest:  # also true for NaN; some derivatives are zero
                raise RuntimeError(f"the relative difference to the eager model is {difference / largest:.1e}")
    return found


def functions_of(model: InteratomicPotential) -> dict[str, LayerFeatures]:
    """The functions of a model by their names in the package."""
    numbers = range(len(model.interactions))
    found: dict[str, LayerFeatures] = {f"features_{t}": LayerFeatures(model, t) for t in numbers[:-1]}
    return found | {f"gradients_{t}": LayerGradients(model, t) for t in numbers}


def example_of(function: LayerFeatures) -> dict[str, Tensor]:
    """Random inputs of a function, with two receivers in three atoms."""
    model, layer, generator = function.model, function.layer, torch.Generator().manual_seed(1)
    edges = padded(random_edges(model), model.r_max)
    atoms, widths = edges[fields.SPECIES].shape[0], [irreps.dim for irreps in model.irreps_features]
    receivers = 2 * atoms // 3
    edges[fields.OWNERS] = (edges[fields.OWNERS] % receivers).sort().values
    edges[OWNED] = edges[fields.VECTORS].new_zeros(receivers)
    if layer > 0:
        edges[FEATURES] = torch.randn(atoms, widths[layer - 1], generator=generator).to(edges[OWNED])
    if isinstance(function, LayerGradients) and not function.is_last:
        edges[GRADIENT] = torch.randn(receivers, widths[layer], generator=generator).to(edges[OWNED])
    return edges


def part_of(model: InteratomicPotential, function: LayerFeatures) -> Part:
    """The graph of a function of (state, inputs) for any number of atoms, receivers and blocks."""
    state, example = [store[name].detach() for store, name in places(model).values()], example_of(function)
    whole = trace(model, partial(_of_one_argument, function), example, replaced=replaced_operators(model))
    graph = Fusable(whole).transform()
    inputs, rows = [example[key] for key in sorted(example)], {0: torch.export.Dim.DYNAMIC}
    return Part(graph, (state, inputs), ([{}] * len(state), [rows] * len(inputs)))


def package_layers(model: InteratomicPotential, path: Path, configs: Mapping[str, Any]) -> None:
    """Compile the functions of a model and write the package, which only this user can write to."""
    parts = {name: part_of(model, function) for name, function in functions_of(model).items()}
    write_package(parts, path, configs=configs, mode=0o600)


def _of_one_argument(function: LayerFeatures, edges: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """A function with the number of receivers in a tensor."""
    inputs = {key: value for key, value in edges.items() if key != OWNED}
    found = function(inputs, edges[OWNED].shape[0])
    return found if isinstance(found, tuple) else (found,)


class CompiledLayer:
    """A function of a model that runs compiled code with its present weights.

    Args:
        function: The eager function.
        path: The package.
        name: Name of the function in the package.
    """

    def __init__(self, function: LayerFeatures, path: Path, name: str) -> None:
        self.function = function
        index = function.model.device.index
        self.package = torch._inductor.package.package.load_package(
            str(path), name, device_index=-1 if index is None else index
        )
        self._places = list(places(function.model).values())

    def __call__(self, edges: Mapping[str, Tensor], num_receivers: int, num_owned: int | None = None) -> Any:
        """See the eager function. A single receiver is left to it: no dimension of compiled code may be 1."""
        if num_receivers < 2 or num_owned is not None:
            return self.function(edges, num_receivers, *(() if num_owned is None else (num_owned,)))
        found = self.on_padded(self._padded(edges, num_receivers))
        if not isinstance(self.function, LayerGradients):
            return found[0]
        atoms, blocks = edges[fields.SPECIES].shape[0], edges[fields.OWNERS].shape[0]
        names = [name for name in (FEATURES, *fields.MOVING) if name in edges]
        rows = [blocks if name == fields.VECTORS else atoms for name in names]
        return found[0], *(part[:number] for part, number in zip(found[1:], rows, strict=True))

    def on_padded(self, inputs: Mapping[str, Tensor], function: LayerFeatures | None = None) -> Sequence[Tensor]:
        """The outputs of the compiled code for all its inputs, with the weights of this or of another function."""
        stores = self._places if function is None else places(function.model).values()
        state = [store[name] for store, name in stores]
        outputs: Sequence[Tensor] = self.package.loader.run([*state, *(inputs[key] for key in sorted(inputs))])
        return outputs

    def _padded(self, edges: Mapping[str, Tensor], num_receivers: int) -> dict[str, Tensor]:
        """The inputs with one more atom, which sends, and two more blocks, which the last receiver receives."""
        inputs = padded({key: value for key, value in edges.items() if key != GRADIENT}, self.function.model.r_max)
        inputs[fields.OWNERS][-2:] = num_receivers - 1
        inputs[OWNED] = inputs[fields.VECTORS].new_zeros(num_receivers)
        return inputs | ({GRADIENT: edges[GRADIENT]} if GRADIENT in edges else {})
