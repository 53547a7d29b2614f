"""Batches of cached graphs as plain dicts of tensors, with as little work per step as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.training.sets.sampler import EpochSampler, Size

Graph = Any  # torch_geometric Data, or a dict of tensors


class Graphs(Protocol):
    """A list of graphs, or a data set of graphs."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Graph: ...


def collate(graphs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join graphs into one dict of tensors, like ``ik_e3nn.graph.batch_graphs`` but several times faster.

    Args:
        graphs: Graphs as dicts that share their keys.

    Returns:
        A batch that models accept.
    """
    device = graphs[0][fields.POSITIONS].device
    atoms = torch.tensor([len(graph[fields.ATOMIC_NUMBERS]) for graph in graphs], device=device)
    edges = torch.tensor([graph[fields.EDGE_INDEX].shape[1] for graph in graphs], device=device)
    batch = {
        key: torch.cat([graph[key] for graph in graphs], dim=1 if key == fields.EDGE_INDEX else 0)
        for key in graphs[0]
        if key != fields.BATCH
    }
    first_atom = atoms.cumsum(0) - atoms
    batch[fields.EDGE_INDEX] += torch.repeat_interleave(first_atom, edges)
    batch[fields.BATCH] = torch.repeat_interleave(torch.arange(len(graphs), device=device), atoms)
    return batch


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch on a device; the same object if it is there already."""
    if batch[fields.POSITIONS].device == device:
        return batch
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


class BatchLoader:
    """An iterable over the batches of a data set, which Lightning uses as a data loader.

    It is not a ``torch.utils.data.DataLoader``: graphs are in memory and workers would only copy them, and a DataLoader
    draws from the global random state in each epoch. It has no length: the number of batches limited by atoms or edges
    differs between epochs, and Lightning would cut every epoch to the length of the first.

    Args:
        graphs: Graphs with the same tensors.
        sampler: Chooses the graphs of each batch; Lightning calls its ``set_epoch``.

    Raises:
        DataError: Some graphs have a tensor (such as a charge) that others lack.
    """

    def __init__(self, graphs: Graphs, sampler: EpochSampler) -> None:
        self.sampler = sampler
        self.batch_sampler = None  # Lightning expects this attribute beside a sampler
        self._graphs = [_tensors(graphs[index]) for index in range(len(graphs))]
        for number, graph in enumerate(self._graphs):
            uneven = graph.keys() ^ self._graphs[0].keys()
            if uneven:
                raise DataError(
                    f"structures 0 and {number} do not have the same inputs ({', '.join(sorted(uneven))}); "
                    "give charge and spin for all structures or for none."
                )

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for indices in self.sampler:
            yield self.batch(indices)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """One batch of the graphs with these indices."""
        return collate([self._graphs[index] for index in indices])


def sizes_of(graphs: Graphs) -> list[Size]:
    """Atoms and edges of every graph."""
    every = (graphs[index] for index in range(len(graphs)))
    return [Size(len(graph[fields.ATOMIC_NUMBERS]), graph[fields.EDGE_INDEX].shape[1]) for graph in every]


def _tensors(graph: Graph) -> dict[str, Tensor]:
    return {key: graph[key] for key in fields.FIELDS if key in graph}
