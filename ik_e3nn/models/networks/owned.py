"""Energies of the atoms that one process of a simulation engine owns, and their derivatives.

An engine with domain decomposition, like LAMMPS, gives every process some atoms to *own*, and *ghosts*: copies of the
atoms of other processes and of periodic images. Ghosts are senders of owned atoms, and forces on ghosts are added to
those of the atoms that they are copies of. After the first interaction, features of ghosts depend on the neighbors of
ghosts, and there are two ways to have them:

* exchange: before every further interaction, the engine copies the features of owned atoms to their ghosts, which are
  all atoms within one cutoff.
* halo: the process computes these features itself. Ghosts are all atoms within one cutoff for each interaction.

In both cases the interactions compute only the atoms whose features are used.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ik_e3nn.conv import ReceiverBlocks
from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models.networks.interface import Exchange, Receivers
from ik_e3nn.models.networks.potential import InteratomicPotential

EDGE_GRADIENTS = "edge_gradients"
_OF_ATOMS = (fields.ATOMIC_NUMBERS, fields.POSITIONS, fields.BATCH)
_OF_EDGES = (fields.EDGE_SHIFTS, fields.BOND_TYPES)


def predict_owned(
    model: InteratomicPotential, graph: Mapping[str, Tensor], num_owned: int, *, exchange: Exchange | None = None
) -> dict[str, Tensor]:
    r"""Energies of the owned atoms of a process, with forces and virials on all its atoms.

    .. math:: E = \sum_{i\ \mathrm{owned}} E_i, \qquad F_j = -\partial E / \partial r_j

    If features are exchanged, E is the sum over the owned atoms of all processes, differentiated with respect to the
    edges of this one. In both cases, forces on an atom and its ghosts add up to the force on it.

    Args:
        model: The potential.
        graph: Tensors by the names of ``ik_e3nn.graph.fields``. Owned atoms come first, then ghosts in any order, at
            their own positions. The edges that are needed are those to owned atoms and, for a halo of n interactions,
            to all ghosts within n - 1 cutoffs; further edges are left out.
        num_owned: Number of owned atoms R, out of N.
        exchange: Exchange of features with other processes; None for a halo.

    Returns:
        By the names of ``fields.OUTPUTS``: ``energy`` (1,) and ``energies`` (R,) in eV, float64; ``forces`` (N, 3) in
        eV/A; ``atomic_virials`` (N, 3, 3) in eV, whose sum over all processes is stress times volume. And
        ``edge_gradients`` (E, 3) in eV/A, the derivative of E with respect to each edge vector.

    Raises:
        UnknownSpeciesError: The graph has an element for which the model was not made.
        MissingInputError: The graph lacks an input of the model.
        DataError: A tensor of the graph is wrong, or there are fewer atoms than owned atoms.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.graph import build_graph
        >>> model = InteratomicPotential(["H", "O"], num_channels=8).eval()
        >>> graph = build_graph(molecule("H2O"), model.r_max)
        >>> predict_owned(model, graph, 1)["energies"].shape  # of the oxygen atom
        torch.Size([1])
    """
    num_atoms = graph[fields.ATOMIC_NUMBERS].shape[0]
    if not 0 <= num_owned <= num_atoms:
        raise DataError(f"the number of owned atoms must be between 0 and the {num_atoms} atoms, got {num_owned}")
    num_layers = len(model.interactions)
    near = 1 if exchange is not None else num_layers  # cutoffs within which ghosts are needed
    distance = _distances(graph[fields.EDGE_INDEX], num_owned, num_atoms, near)
    if exchange is not None:
        kept, counts = torch.arange(num_atoms, device=distance.device), (num_owned,) * num_layers
    else:
        kept = torch.argsort(distance, stable=True)[: int((distance <= near).sum())]
        counts = tuple(int((distance < near - layer).sum()) for layer in range(num_layers))
    used = (distance < near)[graph[fields.EDGE_INDEX][1]]
    part = _subgraph(graph, kept, used)
    with torch.no_grad():
        edges = model.prepare(part)
        energies, *gradients = model.energies_and_gradients(
            edges, create_graph=False, receivers=Receivers(counts, exchange)
        )
        out = model.assembled(part, edges, energies, gradients, forces=True, stress=False, atomic_stress=True)
    for name in (fields.FORCES, fields.ATOMIC_VIRIALS):
        rows = out[name]
        out[name] = rows.new_zeros(num_atoms, *rows.shape[1:]).index_copy(0, kept, rows)
    out[EDGE_GRADIENTS] = _by_edges(gradients[0], part[fields.EDGE_INDEX][1], used)
    return out


def _distances(edge_index: Tensor, num_owned: int, num_atoms: int, largest: int) -> Tensor:
    """Number of edges from every atom to the next owned one, (N,); one more than the largest if it is farther."""
    senders, receivers = edge_index
    distance = torch.full((num_atoms,), largest + 1, device=edge_index.device)
    distance[:num_owned] = 0
    for number in range(largest):
        reached = senders[distance[receivers] == number]
        distance[reached] = distance[reached].clamp(max=number + 1)
    return distance


def _by_edges(gradient: Tensor, receivers: Tensor, used: Tensor) -> Tensor:
    """Derivatives by all edge vectors (E, 3) from those in blocks (K, w, 3) of the used ones (E,)."""
    number = int(receivers.max()) + 1 if receivers.numel() else 0
    slots = ReceiverBlocks.from_receivers(receivers, number, gradient.shape[1]).slots
    rows = gradient.new_zeros(receivers.shape[0] + 1, 3)  # the last row is that of empty places
    found = gradient.new_zeros(used.shape[0], 3)
    found[used] = rows.index_copy(0, slots.flatten(), gradient.flatten(0, 1))[:-1]
    return found


def _subgraph(graph: Mapping[str, Tensor], atoms: Tensor, used: Tensor) -> dict[str, Tensor]:
    """The graph of some atoms, in this order, with some of the edges, (E,)."""
    edge_index = graph[fields.EDGE_INDEX]
    number = torch.full((graph[fields.ATOMIC_NUMBERS].shape[0],), -1, device=atoms.device)
    number[atoms] = torch.arange(len(atoms), device=atoms.device)
    of_atoms = {name: graph[name][atoms] for name in _OF_ATOMS}
    of_edges = {name: graph[name][used] for name in _OF_EDGES if name in graph}
    return {**graph, **of_atoms, **of_edges, fields.EDGE_INDEX: number[edge_index[:, used]]}
