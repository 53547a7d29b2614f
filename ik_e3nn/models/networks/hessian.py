"""Second derivatives of the energy: Hessians, parts of them, and their products with vectors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields, joined_graphs
from ik_e3nn.models.networks.energies import Structures, batch_of, energies_of

LIKELY_EDGES = 2_000  # edges of the copies in one call: 200 MB in float64; more take as long


def hessian_products(
    model: nn.Module, structure: Structures, vectors: Tensor, *, max_edges: int | None = None
) -> Tensor:
    r"""Products of the Hessian with vectors, without the Hessian.

    .. math:: (H v)_i = \frac{\partial}{\partial r_i} \sum_j v_j \cdot \frac{\partial E}{\partial r_j}

    Several products are computed at once, with one copy of the structure for each, because small structures take as
    long as one.

    Args:
        model: As for ``energies_of``.
        structure: One structure or its graph.
        vectors: Vectors, (K, N, 3).
        max_edges: Edges of the copies in one call, of which there is at least one; limits the memory. By default 2,000,
            which take about 200 MB.

    Returns:
        Products, (K, N, 3), in eV/A^2 times the unit of the vectors, float64.

    Raises:
        DataError: There is not one structure, or the vectors do not fit it.
    """
    graph = batch_of(model, structure)
    num_atoms, count = graph[fields.ATOMIC_NUMBERS].shape[0], graph[fields.CELL].shape[0]
    if count != 1:
        raise DataError(f"a Hessian belongs to one structure, got {count}")
    if vectors.dim() != 3 or vectors.shape[1:] != (num_atoms, 3):
        raise DataError(f"vectors must have the shape (K, {num_atoms}, 3), got {tuple(vectors.shape)}")
    if vectors.shape[0] == 0:
        return graph[fields.POSITIONS].new_zeros(vectors.shape)
    bound = LIKELY_EDGES if max_edges is None else max_edges
    copies = max(bound // max(graph[fields.EDGE_INDEX].shape[1], 1), 1)
    parts = vectors.to(graph[fields.POSITIONS]).split(copies)
    return torch.cat([_products(model, graph, part) for part in parts])


def hessian(
    model: nn.Module, structure: Structures, *, atoms: Sequence[int] | None = None, max_edges: int | None = None
) -> Tensor:
    r"""Second derivatives of the energy by positions.

    .. math:: H_{ia, jb} = \frac{\partial^2 E}{\partial r_{ia} \, \partial r_{jb}}

    Args:
        model: As for ``energies_of``.
        structure: One structure or its graph.
        atoms: Indices of n of the atoms, for the part of the Hessian of these with the others held; all by default.
        max_edges: See ``hessian_products``.

    Returns:
        The Hessian, (3n, 3n), in eV/A^2, float64; rows are x, y and z of the first atom, then those of the second, ...

    Raises:
        DataError: There is not one structure, or an index is not that of an atom or occurs twice.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.models import InteratomicPotential
        >>> model = InteratomicPotential(["H", "O"], num_channels=4).double().eval()
        >>> hessian(model, molecule("H2O")).shape, hessian(model, molecule("H2O"), atoms=[0]).shape
        (torch.Size([9, 9]), torch.Size([3, 3]))
    """
    graph = batch_of(model, structure)
    positions = graph[fields.POSITIONS]
    chosen = list(range(len(positions))) if atoms is None else [int(index) for index in atoms]
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(len(positions))):
        raise DataError(f"atoms must be different numbers from 0 to {len(positions) - 1}, got {chosen}")
    columns = torch.tensor([3 * index + axis for index in chosen for axis in range(3)], dtype=torch.long)
    units = torch.nn.functional.one_hot(columns, 3 * len(positions)).view(-1, len(positions), 3)
    rows = hessian_products(model, graph, units.double(), max_edges=max_edges).flatten(1)
    block = rows[:, columns.to(rows.device)]
    return 0.5 * (block + block.mT)


def _products(model: nn.Module, graph: dict[str, Tensor], vectors: Tensor) -> Tensor:
    """Products with a few vectors, each with a copy of the structure."""
    with torch.inference_mode(False), torch.enable_grad():
        vectors = vectors.clone()  # tensors that were made in inference mode cannot be differentiated
        batch = joined_graphs([{name: tensor.detach().clone() for name, tensor in graph.items()}] * len(vectors))
        positions = batch[fields.POSITIONS].requires_grad_()
        energy = energies_of(model, {**batch, fields.POSITIONS: positions}).sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
        (products,) = torch.autograd.grad((gradient * vectors.flatten(0, 1)).sum(), positions, materialize_grads=True)
    return products.detach().view_as(vectors)
