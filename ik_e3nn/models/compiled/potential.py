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
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models.compiled.graph import padded, places, random_edges, traced
from ik_e3nn.models.compiled.package import Graph, compile_to, is_damaged, key_of, load_graph, package_of
from ik_e3nn.models.networks.interface import Core
from ik_e3nn.models.networks.modes import outside_inference_mode, renew, without_autocast
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.private_folder import is_trusted, keep_compiler_private, private_folder

_log = logging.getLogger(__name__)

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
    return _use_package(model.potential, cache, make=True)


def load_compiled(model: InteratomicPotential, *, cache: str | Path | None = None) -> bool:
    """Use the package of a potential if it is in the cache; nothing is compiled.

    Args:
        model: The potential, on its device and in its dtype.
        cache: See ``compile_potential``.

    Returns:
        Whether the model is compiled now.

    Raises:
        OSError: The folder cannot be read.
        RuntimeError: The user has no home folder, and no other one is given.

    Warns:
        CompileWarning: There is a package, but it cannot be used; the message gives the reason.
    """
    return os.path.lexists(package_of(model, cache=cache)) and _use_package(model, cache, make=False)


def make_package(model: InteratomicPotential, path: Path) -> None:
    """Write the package of a potential, completely or not at all, unless it is there.

    Args:
        model: The potential; only its architecture matters, not its weights.
        path: The file, see ``package_of``.

    Raises:
        DataError: The file is for other models.
        PermissionError: Others can write to its folder.
    """
    if path.stem != key_of(model):
        raise DataError(f"{path.name} is machine code for other models")
    path = private_folder(path.parent) / path.name
    if not is_trusted(path):
        keep_compiler_private()
        compile_to(probe_of(model), path)


def _use_package(model: InteratomicPotential, cache: str | Path | None, *, make: bool) -> bool:
    """Let a model use its package if it agrees with the eager model; if not, warn.

    A package that is damaged or gives wrong results is removed; one that fails otherwise, as without memory, is kept.
    """
    used = []

    def build(probe: InteratomicPotential) -> Graph:
        path = package_of(model, cache=cache)
        file = private_folder(path.parent) / path.name
        used.append(file)
        if is_trusted(file, level=logging.WARNING if make else logging.INFO):
            if not make:
                return load_graph(file, model.device)
            with contextlib.suppress(Exception):  # a damaged file is replaced
                return load_graph(file, model.device)
        if not make:
            raise FileNotFoundError(f"there is no machine code in {file}")
        _log.info("compiling the model for %s in %s; this is done once", model.device, model.dtype)
        keep_compiler_private()
        compile_to(probe, file)
        return load_graph(file, model.device)

    model.compiled = None
    with outside_inference_mode(), without_autocast():
        renew(model)
        model.compiled, is_wrong = _checked(model, build, "inference")
    if model.compiled is None:
        for file in used:
            with contextlib.suppress(OSError):
                if is_wrong or is_damaged(file):
                    file.unlink()
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
        # one C++ file for each of the two passes, instead of one for each of 170 loops, compiles in half the time
        options: Any = {"cpp_wrapper": True} if probe.device.type == "cpu" else None
        return torch.compile(traced(probe, training=True), dynamic=True, options=options)

    model.compiled_for_training = None
    with without_autocast():
        model.compiled_for_training, _ = _checked(model, build, "training")
    return model.compiled_for_training is not None


class _Runner:
    """A compiled graph that uses the present weights of a model in each call."""

    def __init__(self, graph: Graph, model: InteratomicPotential) -> None:
        self.graph, self.r_max, self.places = graph, model.r_max, list(places(model).values())
        self.width = model.block_width

    def __call__(self, edges: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        width = edges[fields.SENDERS].shape[1]
        if width != self.width:
            raise DataError(
                f"edges are in blocks of {width}, but the code is compiled for blocks of {self.width}: prepare the "
                "graph with this model"
            )
        inputs = padded(edges, self.r_max)
        state = [store[name] for store, name in self.places]
        energies, by_edges, *by_atoms = self.graph(state, [inputs[key] for key in sorted(inputs)])
        atoms, blocks = edges[fields.SPECIES].shape[0], edges[fields.OWNERS].shape[0]
        return energies[:atoms], by_edges[:blocks], *(gradient[:atoms] for gradient in by_atoms)


def _checked(
    model: InteratomicPotential, build: Callable[[InteratomicPotential], Graph], purpose: str
) -> tuple[Core | None, bool]:
    """The result of ``build`` if it succeeds and agrees with the eager model; otherwise None, with a warning.

    The second value tells whether it has disagreed.

    Both are compared with random weights and without E0s: the weights of a model may give zero forces, and E0s would
    hide errors of energies.
    """
    is_wrong = False
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
            return _Runner(graph, model), False
        is_wrong = True
        reason = f"the relative difference to the eager model is {worst:.1e}"
    level = 3 if purpose == "training" else 4  # of the caller
    warnings.warn(
        f"the model is not compiled for {purpose} and runs eagerly ({reason})", CompileWarning, stacklevel=level
    )
    return None, is_wrong


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
