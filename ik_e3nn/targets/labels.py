"""The places of labels in a graph."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.graph import fields
from ik_e3nn.targets.target import Target, check_names


class LabelLayout:
    """The places of the labels of some targets in a graph.

    Energy, forces and stress have one tensor each. The labels of all other targets are columns of one tensor for values
    of structures and of one tensor for values of atoms.

    Args:
        targets: The targets, in the order of their columns.

    Raises:
        ConfigError: Two targets have the same name.

    Example:
        >>> from ik_e3nn.targets import Dipole, Intensive
        >>> layout = LabelLayout([Dipole("mu", "D"), Intensive("gap", "eV")])
        >>> graph = {}
        >>> layout.put(graph, {"mu": torch.zeros(1, 3), "gap": torch.ones(1)})
        >>> graph["targets"].tolist(), layout.get(graph, "gap").tolist()
        ([[0.0, 0.0, 0.0, 1.0]], [1.0])
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        check_names(targets)
        self.targets = {target.name: target for target in targets}
        self.places: dict[str, tuple[str, slice | None]] = {}
        ends = {fields.TARGETS: 0, fields.ATOM_TARGETS: 0}
        for target in targets:
            if target.field is not None:
                self.places[target.name] = target.field, None
                continue
            key = fields.ATOM_TARGETS if target.per_atom else fields.TARGETS
            self.places[target.name] = key, slice(ends[key], ends[key] + target.width)
            ends[key] += target.width

    def put(self, graph: MutableMapping[str, Any] | Any, values: Mapping[str, Tensor]) -> None:
        """Add labels to a graph: by name of the target, (rows, *shape) with one row for each structure or atom."""
        parts: dict[str, list[Tensor]] = {}
        for name, (key, place) in self.places.items():
            value = values[name]
            parts.setdefault(key, []).append(value if place is None else value.reshape(len(value), -1))
        for key, tensors in parts.items():
            graph[key] = tensors[0] if len(tensors) == 1 else torch.cat(tensors, 1)

    def get(self, batch: Mapping[str, Tensor], name: str) -> Tensor:
        """The labels of a target in a batch, (rows, *shape); missing labels are NaN."""
        key, place = self.places[name]
        tensor, shape = batch[key], self.targets[name].shape
        return (tensor if place is None else tensor[:, place]).reshape(len(tensor), *shape)

    def residual(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
        """Predictions minus labels of a target.

        Args:
            outputs: Predictions of a model for the batch.
            batch: Graph with labels.
            name: Name of the target.

        Returns:
            The differences (rows, *shape) in the wider of both dtypes, zero for missing labels; and the mask of the
            values that have labels.
        """
        reference = self.get(batch, name)
        predicted = outputs[name].reshape(reference.shape)
        known, defined = ~torch.isnan(reference), self.targets[name].is_defined(batch)
        if defined is not None:
            known = known & defined
        # mask both sides before the difference: the gradient of a masked NaN would be NaN
        return torch.where(known, predicted, 0.0) - torch.where(known, reference, 0.0), known
