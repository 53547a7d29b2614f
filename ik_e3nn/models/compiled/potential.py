"""Compile energies and their gradient, as one graph of plain tensor operations, to machine code.

``torch.compile`` cannot compile ``torch.autograd.grad``. Therefore the gradient is traced together with the energies,
for any number of atoms and edges, and the graph is compiled:

* for inference by AOTInductor to a package on disk, one for every architecture: the weights are inputs of the graph, so
  that models which differ only in their weights share it;
* for training by ``torch.compile``, which differentiates the graph again, with respect to the weights.

Both are compared with the eager model on a random structure before they are used.
"""

import contextlib
import copy
import hashlib
import json
import logging
import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models.compiled.graph import Fusable, Part, padded, places, random_edges, trace, write_package
from ik_e3nn.models.networks.interface import Core
from ik_e3nn.models.networks.modes import outside_inference_mode, renew, without_autocast
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.private_folder import cache_folder, keep_compiler_private, private_folder, why_not_private

_log = logging.getLogger(__name__)

Graph = Callable[[list[Tensor], list[Tensor]], Sequence[Tensor]]
"""Function from the tensors of a model and the edges, both in fixed orders, to energies and gradients."""

TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-9}  # relative to the largest energy or gradient


class CompileWarning(UserWarning):
    """A model could not be compiled and runs eagerly."""


def compile_potential(model: StoredModel, *, cache: str | Path | None = None) -> bool:
    """Compile a potential for inference, in place; if that fails, warn and leave it eager.

    If a model predicts energies and properties, ``model.potential`` is compiled; heads of properties run eagerly.

    Forces, stress and atomic virials all use the same graph; energies alone are computed eagerly. After
    ``model.to(...)`` the model is eager again, and copies are eager. If torch uses one CPU thread, the code is for one
    thread, otherwise for any number.

    Args:
        model: The potential, or a model that has one, on its device and in its dtype.
        cache: Folder of compiled packages; by default ``$IK_E3NN_CACHE`` or the user's cache folder. The code in it is
            run, so that a folder which others can write to is not used.

    Returns:
        Whether the model is compiled now. The first time takes a minute or two, later times less than a second.

    Raises:
        DataError: The model predicts no energies.

    Warns:
        CompileWarning: The model could not be compiled; the message gives the reason.

    Example:
        >>> model = InteratomicPotential(["H", "O"], num_channels=8).eval()
        >>> compile_potential(model)  # doctest: +SKIP
        True
    """
    if model.potential is None:
        raise DataError(f"only potentials are compiled, and {type(model).__name__} predicts no energies")
    model, used = model.potential, []

    def build(probe: InteratomicPotential) -> Graph:
        path = private_folder(cache_folder(cache)) / f"{key_of(model)}.pt2"
        used.append(path)
        if is_trusted(path):
            with contextlib.suppress(Exception):  # a damaged file is replaced
                return _load(path, model.device)
        _log.info("compiling the model for %s in %s; this is done once", model.device, model.dtype)
        keep_compiler_private()
        _package(probe, path)
        return _load(path, model.device)

    model.compiled = None
    with outside_inference_mode(), without_autocast():
        renew(model)
        model.compiled = _checked(model, build, "inference")
    if model.compiled is None:
        for path in used:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return model.compiled is not None


def compile_for_training(model: InteratomicPotential) -> bool:
    """Compile a model for training, in place; if that fails, warn and leave the model eager.

    Args:
        model: The model, on its device and in its dtype.

    Returns:
        Whether training steps are compiled now. The first time takes some minutes, later times about one.

    Warns:
        CompileWarning: The model could not be compiled; the message gives the reason.
    """

    def build(probe: InteratomicPotential) -> Graph:
        keep_compiler_private()
        return torch.compile(_traced(probe, training=True), dynamic=True)

    model.compiled_for_training = None
    with without_autocast():
        model.compiled_for_training = _checked(model, build, "training")
    return model.compiled_for_training is not None


class _Runner:
    """A compiled graph that uses the present weights of a model in each call."""

    def __init__(self, graph: Graph, model: InteratomicPotential) -> None:
        self.graph, self.r_max, self.places = graph, model.r_max, list(places(model).values())

    def __call__(self, edges: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        inputs = padded(edges, self.r_max)
        state = [store[name] for store, name in self.places]
        energies, by_edges, *by_atoms = self.graph(state, [inputs[key] for key in sorted(inputs)])
        atoms, blocks = edges[fields.SPECIES].shape[0], edges[fields.OWNERS].shape[0]
        return energies[:atoms], by_edges[:blocks], *(gradient[:atoms] for gradient in by_atoms)


def _checked(model: InteratomicPotential, build: Callable[[InteratomicPotential], Graph], purpose: str) -> Core | None:
    """The result of ``build`` if it succeeds and agrees with the eager model; otherwise None, with a warning.

    Both are compared with random weights and without E0s: the weights of a model may give zero forces, and E0s would
    hide errors of energies.
    """
    try:
        probe, training = probe_of(model), purpose == "training"
        graph, edges = build(probe), random_edges(model)
        wanted = _results(probe, probe.energies_and_gradients(edges, create_graph=training), training)
        got = _results(probe, _Runner(graph, probe)(edges), training)
    except Exception as error:  # noqa: BLE001  (a compiler can fail in many ways, and the eager model still works)
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    else:
        worst = torch.stack([(g - w).abs().max() / w.abs().max() for g, w in zip(got, wanted, strict=True)]).max()
        if worst <= TOLERANCE[model.dtype]:  # also false for NaN
            return _Runner(graph, model)
        reason = f"the relative difference to the eager model is {worst:.1e}"
    warnings.warn(f"the model is not compiled for {purpose} and runs eagerly ({reason})", CompileWarning, stacklevel=3)
    return None


def probe_of(model: InteratomicPotential) -> InteratomicPotential:
    """A copy with random weights that all require gradients, without E0s and without a bound on edges."""
    probe = copy.deepcopy(model).train(model.training).requires_grad_(True)
    probe.max_edges = None
    probe.atomic_energy.reference.zero_()
    probe.set_scale(1.0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for weight in probe.parameters():
            weight.normal_()
    return probe


def _results(model: InteratomicPotential, outputs: tuple[Tensor, ...], training: bool) -> list[Tensor]:
    """Energies, gradients, and for training the derivatives of a function of both with respect to all weights."""
    results = [output.detach() for output in outputs]
    if training:
        weights = [p for p in model.parameters() if p.requires_grad]
        loss = torch.stack([output.double().square().sum() for output in outputs]).sum()
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        results.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return results


def _traced(model: InteratomicPotential, *, training: bool) -> torch.fx.GraphModule:
    """Energies and gradient as one graph of (state, edges)."""
    example = padded(random_edges(model), model.r_max)
    return trace(
        model, lambda edges: model.energies_and_gradients(edges, create_graph=training), example, training=training
    )


def _package(model: InteratomicPotential, path: Path) -> None:
    """Compile the graph to a file that only this user can write to."""
    example = padded(random_edges(model), model.r_max)
    edges = [example[key] for key in sorted(example)]
    state = [store[name].detach() for store, name in places(model).values()]
    atoms_or_blocks = {0: torch.export.Dim.DYNAMIC}
    graph = Fusable(_traced(model, training=False)).transform()
    part = Part(graph, (state, edges), ([{}] * len(state), [atoms_or_blocks] * len(edges)))
    configs = {"cpp.threads": 1} if for_one_thread(model) else {"cpp.dynamic_threads": True}
    write_package({"model": part}, path, configs=configs)
    path.chmod(0o600)  # for every umask


def is_trusted(path: Path) -> bool:
    """Whether a package exists that only this user can have written; other packages are removed."""
    if not os.path.lexists(path):
        return False
    reason = why_not_private(path)
    if reason is not None:
        _log.warning("the machine code in %s is compiled again, because %s", path, reason)
        path.unlink()
    return reason is None


def _load(path: Path, device: torch.device) -> Graph:
    """A package as a function of (state, edges)."""
    where: dict[str, Any] = {} if device.index is None else {"device_index": device.index}
    package = torch._inductor.aoti_load_package(str(path), **where)
    # its __call__ first sorts nested inputs, which takes a tenth of the time for the energy of a small molecule
    return lambda state, edges: package.loader.run([*state, *edges])


def key_of(model: InteratomicPotential) -> str:
    """Digest of everything that determines the machine code: architecture, dtype, device, and all source code."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[2]
    layers = ("symmetry", "basis", "nn", "graph", "kernels", "conv", "blocks", "targets", "models")
    for source in sorted(
        [*package.glob("*.py"), *(file for layer in layers for file in (package / layer).rglob("*.py"))]
    ):
        digest.update(source.read_bytes())
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else _processor()
    parts = [model.config, str(model.dtype), model.device.type, device, torch.__version__, for_one_thread(model)]
    parts.append(list(places(model)))  # low-rank updates are further inputs of the graph
    digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def for_one_thread(model: InteratomicPotential) -> bool:
    """Whether torch has one thread: code for several would take a tenth more time for a small molecule."""
    return model.device.type == "cpu" and torch.get_num_threads() == 1


def _processor() -> str:
    """The instruction sets of this processor, for all of which code is compiled."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    return f"{platform.machine()} {flags}"
