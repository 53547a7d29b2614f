"""From a state of TorchSim, which is a batch of structures, to a graph; with the checks that TorchSim does not make."""

import logging
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import SURROUNDINGS, edge_vectors, fields
from ik_e3nn.graph.build import SURFACE_FIELDS
from ik_e3nn.graph.neighbors.skin import SAME_PLACE

_log = logging.getLogger(__name__)

NeighborList = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""A neighbor list of TorchSim: from positions (N, 3), cell vectors as rows (B, 3, 3), pbc, cutoff in A and the system
of each atom (N,), to pairs of atoms (2, E), their systems (E,) and lattice shifts (E, 3)."""

# The extras of a state that may hold a number of each structure, and its usual value.
_NUMBERS = {fields.TOTAL_CHARGE: (("charge", "total_charge"), 0.0), fields.SPIN: (("spin",), 1.0)}
_MEANING = {fields.TOTAL_CHARGE: "total charge in e", fields.SPIN: "spin multiplicity 2S+1"}


def graph_of_state(
    state: Any, *, r_max: float, inputs: Collection[str], neighbor_list: NeighborList
) -> dict[str, Tensor]:
    """Build the graph of all structures of a state.

    Args:
        state: A ``torch_sim.SimState``; it is not changed.
        r_max: Cutoff in A.
        inputs: Inputs that the model declares.
        neighbor_list: A neighbor list of TorchSim.

    Returns:
        Tensors by the names of ``ik_e3nn.graph.fields``; positions, cell and shifts are float64.

    Raises:
        DataError: Positions or a cell are not finite, or two atoms are in the same place.
        MissingInputError: A declared input is not among the extras of the state.
    """
    positions, cell = state.positions.detach(), state.row_vector_cell.detach()
    batch = state.system_idx.long()
    _check_finite(positions, batch, "positions")
    _check_finite(cell, torch.arange(cell.shape[0]), "cell vectors")
    pairs, _, shifts = neighbor_list(positions, cell, state.pbc, r_max, batch)
    graph = {
        fields.ATOMIC_NUMBERS: state.atomic_numbers.long(),
        fields.POSITIONS: positions.double(),
        fields.CELL: cell.double(),
        fields.PBC: torch.atleast_2d(state.pbc).expand(cell.shape[0], 3),
        fields.BATCH: batch,
        fields.EDGE_INDEX: pairs.long().flip(0),  # TorchSim's vectors run from the first atom to the second
        fields.EDGE_SHIFTS: -shifts.double(),
    }
    _check_distances(graph)
    for name in inputs & _NUMBERS.keys():
        graph[name] = _number(state, name, cell.shape[0])
    if set(SURROUNDINGS) & set(inputs):
        vectors = {name: getattr(state, name, None) for name in SURFACE_FIELDS}
        graph |= {name: value.double() for name, value in vectors.items() if value is not None}
    return graph


def warn_unused(state: Any, inputs: Collection[str]) -> None:
    """Warn about charges, spins and surroundings in the extras of a state that the model does not use."""
    unused = [name for name in _NUMBERS if name not in inputs]
    given = [extra for name in unused for extra in _NUMBERS[name][0] if _differs(state, extra, _NUMBERS[name][1])]
    if not set(SURROUNDINGS) & set(inputs):
        given += [extra for extra in SURFACE_FIELDS if getattr(state, extra, None) is not None]
    if given:
        _log.warning("the state has %s, but the model does not use it", " and ".join(given))


def _differs(state: Any, extra: str, usual: float) -> bool:
    """Whether a state has an extra that is unusual for some structure."""
    value = getattr(state, extra, None)
    return value is not None and bool((value != usual).any())


def _number(state: Any, name: str, num_systems: int) -> Tensor:
    """A declared number of every structure, (B,)."""
    extras, _ = _NUMBERS[name]
    for extra in extras:
        value = getattr(state, extra, None)
        if value is not None:
            if value.numel() != num_systems or not bool(torch.isfinite(value).all()):
                raise DataError(
                    f"the extra {extra!r} of the state must be one finite number for each of the {num_systems} "
                    f"systems ({_MEANING[name]}), got a tensor of shape {tuple(value.shape)}: {value.tolist()}"
                )
            return value.detach().double().reshape(num_systems)
    raise MissingInputError(
        f"the model needs the {_MEANING[name]}, but the state does not have it. TorchSim reads atoms.info only on "
        f"request, and only what all structures have: torch_sim.io.atoms_to_state(structures, model.device, "
        f"model.dtype, system_extras_map={{{extras[0]!r}: {extras[0]!r}}})"
    )


def _check_finite(rows: Tensor, systems: Tensor, what: str) -> None:
    """Raise an error if rows of some systems are NaN or infinite."""
    finite = torch.isfinite(rows).flatten(1).all(1)
    if not bool(finite.all()):
        bad = sorted(set(systems.to(rows.device)[~finite].tolist()))
        raise DataError(f"{what} of {name_systems(bad)} are NaN or infinite: check the structures and the time step")


def _check_distances(graph: dict[str, Tensor]) -> None:
    """Raise an error if two atoms are in the same place."""
    names = (fields.POSITIONS, fields.EDGE_INDEX, fields.EDGE_SHIFTS, fields.CELL, fields.BATCH)
    squares = edge_vectors(*(graph[name] for name in names)).square().sum(1)
    if squares.numel() and float(squares.min()) < SAME_PLACE**2:
        pair = graph[fields.EDGE_INDEX][:, squares.argmin()]
        system = int(graph[fields.BATCH][pair[0]])
        first, second = sorted((pair - (graph[fields.BATCH] < system).sum()).tolist())
        raise DataError(
            f"atoms {first} and {second} of {name_systems([system])} are in the same place, so that the direction "
            "between them is undefined; remove one of them or move it"
        )


def name_systems(numbers: list[int], most: int = 5) -> str:
    """Name some systems in a message.

    Example:
        >>> name_systems([3]), name_systems([1, 4, 5])
        ('system 3', 'systems 1, 4, 5')
    """
    shown = ", ".join(map(str, numbers[:most])) + (f" and {len(numbers) - most} more" if len(numbers) > most else "")
    return f"system{'s' * (len(numbers) > 1)} {shown}"
