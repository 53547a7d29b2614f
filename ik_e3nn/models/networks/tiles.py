"""Tiles: some atoms with all edges to them, so that memory does not grow with the structure and data stay in the cache.

Atoms of a tile should lie near each other, because features of all senders are looked up for each tile.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ik_e3nn.graph import fields

EDGES_OF_A_THREAD = 8192  # places of edges in a tile for each thread of a CPU; what they need stays in its cache
OF_ATOMS = (fields.SPECIES, fields.DISPLACEMENTS, fields.FRAMES, fields.UNSTRAIN, fields.TOTAL_CHARGE, fields.SPIN)
OF_BLOCKS = (fields.VECTORS, fields.BONDS)


def tile_size(num_edges: int, device: torch.device, max_edges: int | None) -> int | None:
    """Largest number of edges in a tile; None if all edges are treated in one piece.

    On a CPU, so many edges that one piece takes longer and needs far more memory are divided to fit into the cache;
    elsewhere only a bound makes tiles.

    Args:
        num_edges: Number of edges.
        device: Where they are.
        max_edges: A bound on the number of edges, or None.

    Example:
        >>> tile_size(1000, torch.device("cpu"), None), tile_size(1000, torch.device("cpu"), 100)
        (None, 100)
    """
    sizes = [] if max_edges is None else [max_edges]
    cached = EDGES_OF_A_THREAD * torch.get_num_threads()
    if device.type == "cpu" and num_edges > 4 * cached:
        sizes.append(cached)
    return min(sizes) if sizes and num_edges > min(sizes) else None


class Tile(NamedTuple):
    """Some receivers with all their edges.

    Attributes:
        atoms: The receivers and then the other senders, (M,).
        num_receivers: Number of the receivers.
        blocks: The blocks of edges to the receivers, (K,).
        senders: Senders of the edges among these atoms, (K, w).
        owners: Receivers of the blocks among these atoms, (K,).
    """

    atoms: Tensor
    num_receivers: int
    blocks: Tensor
    senders: Tensor
    owners: Tensor

    @property
    def receivers(self) -> Tensor:
        """The receivers, (R,)."""
        return self.atoms[: self.num_receivers]

    def edges(self, edges: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of this tile, by the names of ``fields.PREPARED``, from those of the whole."""
        of_atoms = {name: edges[name].index_select(0, self.atoms) for name in OF_ATOMS if name in edges}
        of_blocks = {name: edges[name].index_select(0, self.blocks) for name in OF_BLOCKS if name in edges}
        return {**of_atoms, **of_blocks, fields.SENDERS: self.senders, fields.OWNERS: self.owners}


def tiles(edges: Mapping[str, Tensor], size: int, order: Tensor) -> Iterator[Tile]:
    """Tiles of at most so many edges; each has at least one receiver.

    Args:
        edges: The output of ``prepare``.
        size: Number of edges.
        order: The atoms that receive, in an order in which neighbors are near each other, (R,).
    """
    senders, owners = edges[fields.SENDERS], edges[fields.OWNERS]
    number_of_atoms = edges[fields.SPECIES].shape[0]
    counts = torch.bincount(owners, minlength=number_of_atoms)
    starts = (counts.cumsum(0) - counts)[order]  # blocks are sorted by receiver
    counts = counts[order]
    ends = counts.cumsum(0)
    blocks = torch.arange(int(counts.sum()), device=owners.device)
    blocks += (starts - (ends - counts)).repeat_interleave(counts)
    cost = counts.clamp(min=1).cumsum(0).cpu()  # an atom without edges needs some memory too
    stops, first, last = ends.cpu(), 0, 0
    number = torch.full((number_of_atoms,), -1, device=owners.device)
    most = max(size // senders.shape[1], 1)
    while first < order.shape[0]:
        bound = most + (int(cost[first - 1]) if first else 0)
        stop = max(int(torch.searchsorted(cost, bound, right=True)), first + 1)
        receivers, part = order[first:stop], blocks[last : int(stops[stop - 1])]
        own = torch.arange(stop - first, device=owners.device)
        number[receivers] = own
        of_edges = senders.index_select(0, part)
        others = of_edges[number[of_edges] < 0].unique()
        number[others] = torch.arange(stop - first, stop - first + others.shape[0], device=owners.device)
        atoms = torch.cat([receivers, others])
        yield Tile(atoms, stop - first, part, number[of_edges], own.repeat_interleave(counts[first:stop]))
        number[atoms] = -1
        first, last = stop, int(stops[stop - 1])


def order_in_space(positions: Tensor, cell: Tensor, batch: Tensor, width: float) -> Tensor:
    """Atoms along a curve that fills space, (N,), structure after structure.

    The curve goes through cubes in the order of their interleaved binary coordinates. Positions count modulo the cell,
    because atoms that leave it on one side have neighbors on the other.

    Args:
        positions: Atom positions, (N, 3), in A.
        cell: Cell vectors as rows, (B, 3, 3), in A; absent vectors are zero.
        batch: Structure of each atom, (N,).
        width: Width of the cubes in A.

    Example:
        >>> x = torch.tensor([0.5, 3.5, 1.5, -1.5])  # in a cell of length 4, the last one is at 2.5
        >>> positions, batch = torch.stack([x, 0 * x, 0 * x], 1), torch.zeros(4, dtype=torch.long)
        >>> order_in_space(positions, 4 * torch.eye(3)[None], batch, 1.0).tolist()
        [0, 2, 3, 1]
    """
    inverse = torch.linalg.pinv(cell).index_select(0, batch)
    wraps = (positions[:, None] @ inverse).floor() @ cell.index_select(0, batch)
    cubes = ((positions - wraps[:, 0]) / width).floor().long()
    cubes = (cubes - cubes.amin(0)).clamp(max=2**16 - 1)
    code = batch << 48
    for bit in range(16):
        for axis in range(3):
            code = code | ((cubes[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code.argsort(stable=True)
