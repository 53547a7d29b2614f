"""Neighbor lists in a memory-mapped file are those of the search, and belong to just these structures."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch_geometric.loader import DataLoader

import ik_e3nn.data.graphs.dataset as module
from ik_e3nn.data import StructureDataset
from ik_e3nn.data.graphs.edge_file import EDGE_FIELDS, edge_key
from ik_e3nn.errors import DataError
from ik_e3nn.graph import set_bonds

R_MAX = 4.0


def structures():
    """A molecule with bonds, an odd number of atoms in a crystal, and an atom without any edge."""
    water = molecule("H2O")
    set_bonds(water, [[0, 1, 1], [0, 2, 1]])
    return [water, bulk("Cu") * (3, 1, 1), Atoms("Na"), bulk("NaCl", "rocksalt", a=5.6)]


@pytest.fixture
def searches(monkeypatch):
    """Counts the neighbor lists that are searched."""
    calls, build = [], module.build_graph
    monkeypatch.setattr(
        module, "build_graph", lambda *args, **kwargs: calls.append("pairs" in kwargs) or build(*args, **kwargs)
    )
    return lambda: calls.count(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_graphs_as_without_a_file(tmp_path, dtype):
    plain = StructureDataset(structures(), R_MAX, dtype=dtype)
    for _ in ("written", "found"):
        mapped = StructureDataset(structures(), R_MAX, dtype=dtype, cache=tmp_path / "cache")
        for one, other in zip(plain, mapped, strict=True):
            assert set(one.keys()) == set(other.keys())
            for key in one.keys():
                assert one[key].dtype == other[key].dtype
                torch.testing.assert_close(other[key], one[key], rtol=0, atol=0, equal_nan=True)
    assert plain[0]["bond_types"].sum() == 4
    assert plain[1]["edge_shifts"].any()
    a, b = (next(iter(DataLoader(one, batch_size=4))) for one in (plain, mapped))
    assert torch.equal(a.edge_index, b.edge_index)


def test_lists_are_searched_once_for_all_data_sets(tmp_path, searches):
    StructureDataset(structures(), R_MAX, cache=tmp_path).prepare()
    assert searches() == 4
    again = StructureDataset(structures(), R_MAX, cache=tmp_path)
    again.prepare()
    assert again.average_neighbors() > 1
    assert searches() == 4
    assert [path.suffix for path in tmp_path.iterdir()] == [".edges"]


def test_the_key_holds_all_that_edges_depend_on():
    def key(change=lambda atoms: None, r_max=R_MAX, dtype=torch.float32, order=1):
        changed = structures()
        change(changed[1])
        return edge_key(changed[::order], r_max, dtype)

    def move(atoms):
        atoms.positions[0, 0] += 1e-9

    def stretch(atoms):
        atoms.cell[0, 0] += 1e-9

    def open_one(atoms):
        atoms.pbc[2] = False

    def bond(atoms):
        set_bonds(atoms, [[0, 1, 1]])

    keys = [key(change) for change in (lambda atoms: None, move, stretch, open_one, bond)]
    keys += [key(r_max=4.5), key(dtype=torch.float64), key(order=-1)]
    assert len(set(keys)) == len(keys)
    assert key() == key(lambda atoms: atoms.info.update(energy=1.0))


def test_the_file_stays_as_it_is(tmp_path):
    dataset = StructureDataset(structures(), R_MAX, cache=tmp_path)
    dataset.prepare()
    [path] = tmp_path.iterdir()
    before = path.read_bytes()
    dataset[0]["edge_index"].zero_()
    assert path.read_bytes() == before
    assert StructureDataset(structures(), R_MAX, cache=tmp_path)[0]["edge_index"].any()


def test_memory_is_the_file(tmp_path):
    dataset = StructureDataset(structures(), R_MAX, cache=tmp_path)
    storages = {dataset[i][name].untyped_storage().data_ptr() for i in range(4) for name in EDGE_FIELDS}
    assert len(storages) == 1


def test_a_failed_search_leaves_nothing(tmp_path):
    broken = [*structures(), Atoms("H", positions=[[np.nan, 0, 0]])]
    with pytest.raises(DataError, match=r"structure 4 \(H\): the positions hold NaN"):
        StructureDataset(broken, R_MAX, cache=tmp_path).prepare()
    assert not list(tmp_path.iterdir())
    broken[4] = Atoms("H", info={"bonds": [0, 1, 1]})
    with pytest.raises(DataError, match=r"structure 4 \(H\): a bond refers to atom 1"):
        StructureDataset(broken, R_MAX, cache=tmp_path).prepare()


@pytest.mark.parametrize("size", [0, 16, -8])
def test_a_damaged_file_is_named(tmp_path, size):
    StructureDataset(structures(), R_MAX, cache=tmp_path).prepare()
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=f"the neighbor lists in {path} are damaged; delete the file"):
        StructureDataset(structures(), R_MAX, cache=tmp_path)[0]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write the neighbor lists to"):
        StructureDataset(structures(), R_MAX, cache=tmp_path / "file" / "cache").prepare()
