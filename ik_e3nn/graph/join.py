"""Join graphs that are plain dicts of tensors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ik_e3nn.graph import fields


def joined_graphs(graphs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join graphs with the same tensors to a batch; for the small graphs of one step faster than ``batch_graphs``.

    Args:
        graphs: Plain dicts of tensors by the names of ``fields.FIELDS``, at least one, each of one structure.

    Returns:
        The tensors of the batch; gradients reach the tensors of the graphs.

    Example:
        >>> one = {"batch": torch.zeros(2, dtype=torch.long), "edge_index": torch.tensor([[0, 1], [1, 0]])}
        >>> joined_graphs([one, one])["edge_index"].tolist()
        [[0, 1, 2, 3], [1, 0, 3, 2]]
    """
    if len(graphs) == 1:
        return dict(graphs[0])
    batch = {name: torch.cat([graph[name] for graph in graphs], int(name == fields.EDGE_INDEX)) for name in graphs[0]}
    device = batch[fields.BATCH].device
    atoms = torch.tensor([graph[fields.BATCH].shape[0] for graph in graphs], device=device)
    edges = torch.tensor([graph[fields.EDGE_INDEX].shape[1] for graph in graphs], device=device)
    batch[fields.BATCH] = torch.arange(len(graphs), device=device).repeat_interleave(atoms)
    batch[fields.EDGE_INDEX] = batch[fields.EDGE_INDEX] + (atoms.cumsum(0) - atoms).repeat_interleave(edges)
    return batch
