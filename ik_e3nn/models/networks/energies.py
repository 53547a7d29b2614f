"""Energies for other programs in torch.

``energies_of`` is a function of tensors like any other: its result can be differentiated by positions, cell, charge,
spin and surroundings, as often as you like, whether the model is in evaluation or in training mode, on any device.
Models called directly, ``model(graph)``, give forces and stress, but in evaluation mode nothing that can be
differentiated.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from ase import Atoms
from torch import Tensor, nn

from ik_e3nn.conv import segment_sum
from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph, fields, joined_graphs
from ik_e3nn.models.networks.modes import in_own_precision, renew
from ik_e3nn.models.networks.potential import InteratomicPotential

Structures: TypeAlias = Atoms | Sequence[Atoms] | Mapping[str, Tensor]
"""One structure, several, or a graph or batch with the names of ``ik_e3nn.graph.fields``."""


def batch_of(model: nn.Module, structures: Structures) -> dict[str, Tensor]:
    """The tensors of structures on the device of a model, float64, with edges within its cutoff.

    Args:
        model: A potential, a joint model or an ensemble of these.
        structures: The structures; their charge, spin, bonds and surroundings are read from ``atoms.info``. A graph
            is only moved to the device.

    Returns:
        Tensors by the names of ``ik_e3nn.graph.fields``; call ``requires_grad_()`` on those to differentiate by.

    Raises:
        DataError: A structure cannot be used, some have inputs that others lack, or there are none.
    """
    device = cast(Any, model).device
    if isinstance(structures, Mapping) or hasattr(structures, "keys"):
        given = cast(Mapping[str, Tensor], structures)
        return {name: given[name].to(device) for name in fields.FIELDS if name in given}
    several = [structures] if isinstance(structures, Atoms) else structures
    if not several:
        raise DataError("cannot evaluate an empty list of structures")
    graphs = [build_graph(atoms, cast(Any, model).r_max, dtype=torch.float64) for atoms in several]
    plain = [{name: graph[name].to(device) for name in fields.FIELDS if name in graph} for graph in graphs]
    for number, graph in enumerate(plain):
        if uneven := graph.keys() ^ plain[0].keys():
            raise DataError(
                f"structures {number} and 0 do not have the same inputs ({', '.join(sorted(uneven))}); give charge, "
                "spin and surroundings for all structures or for none"
            )
    return joined_graphs(plain)


@in_own_precision
def energies_of(model: nn.Module, structures: Structures) -> Tensor:
    """Energies that can be differentiated, any number of times.

    Neighbors are those of the structures as they are given: if positions change, make a new batch. ``max_edges``
    and machine code of the model are not used. Weights are differentiated too if they require gradients.

    Args:
        model: A potential, a joint model or an ensemble of these, whose mean is taken.
        structures: The structures, or a result of ``batch_of``.

    Returns:
        Energies, (B,), in eV, float64.

    Raises:
        UnknownSpeciesError: The model does not know an element.
        MissingInputError: An input of the model is absent.
        DataError: The model predicts no energies, or a structure cannot be used.

    Example:
        >>> from ase.build import molecule
        >>> model = InteratomicPotential(["H", "O"], num_channels=4).eval()
        >>> batch = batch_of(model, [molecule("H2O"), molecule("H2")])
        >>> positions = batch["positions"].requires_grad_()
        >>> energies = energies_of(model, batch)
        >>> forces = -torch.autograd.grad(energies.sum(), positions)[0]
        >>> energies.shape, forces.shape
        (torch.Size([2]), torch.Size([5, 3]))
    """
    batch = batch_of(model, structures)
    each = []
    for potential in _potentials(model):
        weight = next(potential.parameters())
        if weight.is_inference() and not torch.is_inference_mode_enabled():
            renew(potential)
        energies = potential.site_energies(potential.prepare(batch))
        each.append(segment_sum(energies, batch[fields.BATCH], batch[fields.CELL].shape[0]))
    return each[0] if len(each) == 1 else torch.stack(each).mean(0)


def _potentials(model: nn.Module) -> Iterator[InteratomicPotential]:
    """The potential of a model, or those of an ensemble.

    Raises:
        DataError: A model predicts no energies.
    """
    for member in getattr(model, "members", [model]):
        potential = getattr(member, "potential", None)
        if not isinstance(potential, InteratomicPotential):
            raise DataError(
                f"{type(member).__name__} predicts no energies that can be differentiated here; expected an "
                "InteratomicPotential, a joint model of energies and properties, or an ensemble of these"
            )
        yield potential
