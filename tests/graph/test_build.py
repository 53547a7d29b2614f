"""Graphs hold what the structure holds, alone, in batches and through PyG."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list as ase_neighbor_list
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from ik_e3nn.errors import DataError
from ik_e3nn.graph import FIELDS, batch_graphs, build_graph, edge_vectors, fields, neighbor_list

STRUCTURES = {
    "atom": Atoms("Na"),
    "molecule": molecule("CH3CH2OH"),
    "crystal": bulk("NaCl", "rocksalt", a=5.6),
    "slab": fcc111("Pt", (1, 2, 2), vacuum=5.0),
    "tilted": bulk("Cu") * (1, 2, 1),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_graph_has_the_documented_tensors(name, dtype):
    atoms = STRUCTURES[name]
    graph = build_graph(atoms, 4.0, dtype=dtype)
    assert set(graph.keys()) <= set(FIELDS)
    sizes = {"N": len(atoms), "E": graph["edge_index"].shape[1], "B": 1}
    for key in graph.keys():
        field = FIELDS[key]
        shape = tuple(
            sizes.get(word.strip(), word.strip()) for word in field.shape.strip("()").split(",") if word.strip()
        )
        assert tuple(map(int, shape)) == tuple(graph[key].shape)
        expected = dtype if field.dtype == "float" else getattr(torch, field.dtype)
        if key in ("positions", "cell"):  # rounded after their differences are taken, not before
            expected = torch.float64
        assert graph[key].dtype == expected
    assert graph.num_nodes == len(atoms)


@pytest.mark.parametrize("name", STRUCTURES)
def test_edge_vectors_are_those_of_ase(name):
    atoms = STRUCTURES[name]
    graph = build_graph(atoms, 4.3, dtype=torch.float64)
    ours = edge_vectors(graph.positions, graph.edge_index, graph.edge_shifts, graph.cell, graph.batch).numpy()
    i, j, shifts, vectors = ase_neighbor_list("ijSD", atoms, 4.3)
    theirs = {tuple(row): vector for row, vector in zip(np.c_[i, j, shifts].tolist(), vectors, strict=True)}
    rows = np.c_[graph.edge_index.numpy().T, graph.edge_shifts.numpy()].astype(int).tolist()
    assert len(rows) == len(theirs)
    for row, vector in zip(rows, ours, strict=True):
        assert np.allclose(theirs[tuple(row)], vector, atol=1e-12)


def test_cell_is_kept_as_given():
    dummy = molecule("H2O")
    dummy.cell = [50, 50, 50]
    slab = fcc111("Pt", (2, 2, 2))
    slab.cell[2] = 0
    slab.pbc = [True, True, False]
    for atoms in (dummy, slab):
        before = atoms.copy()
        graph = build_graph(atoms, 5.0, dtype=torch.float64)
        assert np.array_equal(graph.cell[0].numpy(), before.cell.array)
        assert graph.pbc.tolist() == [before.pbc.tolist()]
        assert atoms == before


def test_batch_is_the_graphs_side_by_side():
    graphs = [build_graph(atoms, 4.0) for atoms in STRUCTURES.values()]
    batch = batch_graphs(graphs)
    assert batch.cell.shape == (len(graphs), 3, 3)
    assert batch.pbc.shape == (len(graphs), 3)
    assert batch.num_graphs == len(graphs)
    together = edge_vectors(batch.positions, batch.edge_index, batch.edge_shifts, batch.cell, batch.batch)
    apart = [edge_vectors(g.positions, g.edge_index, g.edge_shifts, g.cell, g.batch) for g in graphs]
    assert torch.equal(together, torch.cat(apart))
    assert torch.equal(batch.batch, torch.repeat_interleave(torch.tensor([len(a) for a in STRUCTURES.values()])))
    assert torch.equal(batch.batch[batch.edge_index[0]], batch.batch[batch.edge_index[1]])


def test_pyg_loader_and_back():
    graphs = [build_graph(atoms, 4.0) for atoms in STRUCTURES.values()]
    batches = list(DataLoader(graphs, batch_size=2))
    assert [b.num_graphs for b in batches] == [2, 2, 1]
    back = [graph for batch in batches for graph in batch.to_data_list()]
    for graph, copy in zip(graphs, back, strict=True):
        for key in ("positions", "edge_index", "edge_shifts", "cell", "bond_types"):
            assert torch.equal(graph[key], copy[key])
    assert isinstance(batches[0], Batch)


def test_charge_and_spin_only_where_known():
    atoms = molecule("OH")
    assert "total_charge" not in build_graph(atoms, 3.0)
    atoms.info.update(charge=-1, spin=1)
    graph = build_graph(atoms, 3.0)
    assert graph["total_charge"].tolist() == [-1.0]
    assert graph["spin"].tolist() == [1.0]


@pytest.mark.parametrize("value", ["much", [1, 2], np.nan])
def test_charge_must_be_a_number(value):
    with pytest.raises(DataError, match=r'info\["charge"\] must be one finite number'):
        build_graph(Atoms("H", info={"charge": value}), 3.0)


def test_uneven_batches_are_refused():
    charged = build_graph(Atoms("Na", info={"charge": 1}), 3.0)
    with pytest.raises(DataError, match=r"graph 1 and graph 0 do not carry the same tensors \(total_charge\)"):
        batch_graphs([build_graph(Atoms("Na"), 3.0), charged])
    with pytest.raises(DataError, match="empty list"):
        batch_graphs([])


def test_nan_positions_are_refused():
    atoms = molecule("H2O")
    atoms.positions[1] = np.nan
    with pytest.raises(DataError, match="positions hold NaN"):
        build_graph(atoms, 3.0)


def test_ready_made_pairs_and_bonds_are_used():
    atoms = molecule("N2")
    pairs = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, 2.0)
    graph = build_graph(atoms, 2.0, bonds=[[0, 1, 3]], pairs=pairs)
    assert graph["bond_types"].tolist() == [3, 3]
    assert "bonds" not in atoms.info


@pytest.mark.parametrize("ambient", [torch.float64, torch.float16])
def test_hostile_default_dtype(ambient):
    before = torch.get_default_dtype()
    torch.set_default_dtype(ambient)
    try:
        graph = build_graph(bulk("Cu"), 3.0)
        assert graph[fields.POSITIONS].dtype == torch.float64
        assert graph[fields.EDGE_SHIFTS].dtype == torch.float32
    finally:
        torch.set_default_dtype(before)
