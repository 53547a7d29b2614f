"""Edge vectors; only this module defines their direction and the sign of the lattice shifts."""

from torch import Tensor


def edge_vectors(positions: Tensor, edge_index: Tensor, edge_shifts: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
    r"""Vector of every edge, from the sender's image to the receiver.

    .. math:: r_{ij} = r_i - r_j + S_{ij}\, h

    with i the receiver, j the sender, S the lattice shift and the rows of h the cell vectors. It is differentiable in
    positions and cell, so that a strain applied to both gives the virial.

    Args:
        positions: Atom positions, (N, 3), in A.
        edge_index: Senders and receivers, (2, E).
        edge_shifts: Lattice shifts, (E, 3).
        cell: Cell vectors as rows, (B, 3, 3), in A.
        batch: Structure of each atom, (N,).

    Returns:
        Edge vectors, (E, 3), in A.

    Example:
        >>> import torch
        >>> positions, cell = torch.tensor([[0.0, 0, 0], [1.5, 0, 0]]), 2.0 * torch.eye(3)[None]
        >>> edge_index, shifts = torch.tensor([[0], [1]]), torch.tensor([[-1.0, 0, 0]])
        >>> edge_vectors(positions, edge_index, shifts, cell, torch.zeros(2, dtype=torch.long)).tolist()
        [[-0.5, 0.0, 0.0]]
    """
    sender, receiver = edge_index[0], edge_index[1]
    # index_select, because its gradient is summed in a fixed order on CPU for any number of threads
    cells = cell if cell.shape[0] == 1 else cell.index_select(0, batch.index_select(0, receiver))
    # three terms are several times faster on CPU than one product that is summed over an axis of length three
    a, b, c = (edge_shifts[:, k : k + 1] * cells[:, k] for k in range(3))
    return positions.index_select(0, receiver) - positions.index_select(0, sender) + (a + b + c)
