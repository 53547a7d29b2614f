"""Checks of a potential as a function: its inputs stay unchanged, and its forces are not all zero."""

import torch

from ik_e3nn.graph import fields
from ik_e3nn.testing.report import PropertyResult
from ik_e3nn.testing.subject import Subject, largest


def inputs_untouched(subject: Subject) -> list[PropertyResult]:
    """The graph is the same after the call: no tensor changed, none added, none made to require gradients."""
    errors = []
    for index, atoms in enumerate(subject.structures):
        graph = subject.graph(atoms)
        before = {key: graph[key].clone() for key in graph.keys()}
        subject.model(graph, forces=True, stress=True)
        same = set(before) == set(graph.keys()) and all(
            torch.equal(graph[key], value) and not graph[key].requires_grad for key, value in before.items()
        )
        errors.append((index, 0.0 if same else 1.0))
    return [subject.row("inputs changed", errors, 0.0, "graphs")]


def not_all_zero(subject: Subject) -> list[PropertyResult]:
    """Forces are not zero everywhere, because then the other checks would prove nothing."""
    bound = [i for i, atoms in enumerate(subject.structures) if subject.graph(atoms)[fields.EDGE_INDEX].shape[1]]
    if not bound:
        return []
    size = max(largest(subject.reference[i].forces) for i in bound)
    return [PropertyResult("all forces are zero", float(not size > 100 * subject.tolerance), 0.0, "models")]
