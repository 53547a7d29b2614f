"""Declared inputs of a model in LAMMPS, which has no place for them: they hold for the whole simulation."""

from collections.abc import Mapping
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import build_graph, fields
from ik_e3nn.models import InteratomicPotential

SURROUNDINGS = (fields.SURFACE_NORMAL, fields.SURFACE_ORIGIN, fields.SURFACE_X)


def declared(model: InteratomicPotential, info: Mapping[str, Any]) -> dict[str, Tensor]:
    """The graph of one atom with declared inputs, which are checked as for every structure.

    Args:
        model: The potential.
        info: Its declared inputs, as in ``atoms.info``: ``charge``, ``spin`` and the surroundings.

    Raises:
        DataError: The model has an input that LAMMPS cannot give it, or does not use one that is given.
        MissingInputError: An input of the model is not given.
    """
    if fields.BOND_TYPES in model.inputs:
        raise DataError(
            "the model uses bond types, which LAMMPS cannot give it: LAMMPS knows bonds, but not whether they are "
            "single, double or aromatic. Use the ASE calculator, or a model without bond_types"
        )
    if "face" in model.inputs:
        raise DataError(
            "the model knows a crystal face, and LAMMPS would not check that its box keeps the period of the face: use "
            "the ASE calculator or i-PI, which do"
        )
    keys = {fields.TOTAL_CHARGE: "charge", fields.SPIN: "spin"}
    for name, key in keys.items():
        if name in model.inputs and key not in info:
            raise MissingInputError(
                f"the model uses {name}: give its value, which holds for the whole box, with --{key}"
            )
    used = {keys[name] for name in keys if name in model.inputs}
    unused = sorted(set(info) - used - (set(SURROUNDINGS) if model.surroundings is not None else set()))
    if unused:
        raise DataError(f"the model does not use {', '.join(unused)}: leave it out")
    graph = build_graph(Atoms([model.species[0]], [[0, 0, 0]], info=dict(info)), model.r_max, dtype=torch.float64)
    return {key: graph[key] for key in graph.keys()}


def constants(model: InteratomicPotential, info: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a graph that stay the same in a simulation: declared inputs, and a cell of unit vectors."""
    graph = declared(model, info)
    kept = (fields.TOTAL_CHARGE, fields.SPIN, *SURROUNDINGS, fields.PBC)
    cell = {fields.CELL: torch.eye(3, dtype=torch.float64)[None]}
    return cell | {name: graph[name] for name in kept if name in graph}
