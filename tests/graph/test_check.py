"""Graphs that somebody else has made."""

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import build_graph, build_molecular_graph, set_bonds
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel
from ik_e3nn.targets import Intensive

MODELS = {
    "potential": lambda: InteratomicPotential(["H", "O"], num_channels=4),
    "properties": lambda: MolecularPropertyModel(
        ["H", "O"], [Intensive("gap", "eV")], edges="radius", steerable={"channels": 4}
    ),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("edge_index", lambda x: x.int(), r"edge_index is torch.int32 of shape \(2, 6\); expected int64 of"),
        ("edge_index", lambda x: x.T, r"torch.int64 of shape \(6, 2\); expected int64 of shape \(2, E\).*sender"),
        ("edge_index", lambda x: x + 1, "edge_index holds numbers from 1 to 3; expected 0 to 2"),
        ("edge_index", lambda x: x - 1, "edge_index holds numbers from -1 to 1; expected 0 to 2"),
        ("batch", lambda x: x + 1, "batch holds numbers from 1 to 1; expected 0 to 0"),
        ("positions", lambda x: x[:2], r"positions is .* of shape \(2, 3\); expected float of shape \(N, 3\), N = 3"),
        ("positions", lambda x: x.long(), "positions is torch.int64 .* expected float"),
        ("atomic_numbers", lambda x: x.float(), r"atomic_numbers is torch.float32 of shape \(3,\); expected int64"),
        ("edge_shifts", lambda x: x[:, 0], r"edge_shifts is .* expected float of shape \(E, 3\)"),
        ("cell", lambda x: x[0], r"cell is .* of shape \(3, 3\); expected float of shape \(B, 3, 3\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_graph_is_said(kind, name, change, message):
    model = MODELS[kind]().eval()
    graph = build_graph(molecule("H2O"), model.r_max, dtype=model.dtype).to_dict()
    model(graph)
    with pytest.raises(DataError, match=message):
        model({**graph, name: change(graph[name])})
    with pytest.raises(MissingInputError, match=f"the model needs '{name}'"):
        model({key: value for key, value in graph.items() if key != name})


def test_types_of_bonds_that_there_are_not():
    steerable = {"channels": 4, "num_layers": 1, "conditions": ["bonds"]}
    model = MolecularPropertyModel(["H", "O"], [Intensive("gap", "eV")], steerable=steerable)
    water = molecule("H2O")
    set_bonds(water, [[0, 1, 1], [0, 2, 1]])
    graph = build_molecular_graph(water, model.edges, model.r_max).to_dict()
    with pytest.raises(DataError, match="bond_types holds numbers from 10 to 10; expected 0 to 4: 0 none, 1 single"):
        model({**graph, "bond_types": graph["bond_types"] + 9})


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("atoms", [molecule("O"), Atoms()])
def test_a_graph_without_edges_or_atoms_is_one(kind, atoms):
    model = MODELS[kind]().eval()
    graph = build_graph(atoms, model.r_max, dtype=model.dtype)
    assert graph["edge_index"].shape == (2, 0)
    assert all(torch.isfinite(value).all() for value in model(graph).values())
