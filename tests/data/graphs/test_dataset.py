"""The data set gives graphs with labels that any PyG loader can batch."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from torch_geometric.loader import DataLoader

import ik_e3nn.data.graphs.dataset as module
from ik_e3nn.data import LabeledSet, StructureDataset, StructureLabels, force_rms, molecule_from_smiles, read_labels
from ik_e3nn.errors import DataError, MissingInputError

STRUCTURES = [molecule("CH3CH2OH"), bulk("NaCl", "rocksalt", a=5.6), Atoms("Na"), fcc111("Pt", (1, 1, 2), vacuum=4.0)]


def labeled():
    structures = [atoms.copy() for atoms in STRUCTURES]
    structures[0].info["REF_energy"] = -4.0
    structures[1].arrays["REF_forces"] = np.ones((2, 3))
    structures[1].info["REF_stress"] = np.eye(3)
    return structures


def test_mixed_structures_in_one_batch():
    structures = labeled()
    data = read_labels(structures)
    dataset = StructureDataset(data, r_max=4.0)
    [batch] = DataLoader(dataset, batch_size=4)
    assert batch.cell.shape == batch.stress.shape == (4, 3, 3)
    assert batch.energy.tolist()[0] == -4.0
    assert batch.energy.isnan().tolist() == [False, True, True, True]
    assert batch.forces.isfinite().all(dim=1).sum() == 2
    assert batch.energy.dtype == batch.forces.dtype == batch.stress.dtype == torch.float64
    assert batch.positions.dtype == batch.cell.dtype == torch.float64
    assert batch.edge_shifts.dtype == torch.float32
    assert torch.equal(batch.stress[1], torch.eye(3, dtype=torch.float64))
    assert batch.batch.bincount().tolist() == dataset.num_atoms == [9, 2, 1, 2]
    assert dataset.data.species == [1, 6, 8, 11, 17, 78]


def test_neighbor_lists_are_searched_once(monkeypatch):
    dataset = StructureDataset(STRUCTURES, r_max=4.0)
    calls = []
    build = module.build_graph
    monkeypatch.setattr(module, "build_graph", lambda *args, **kwargs: calls.append(1) or build(*args, **kwargs))
    dataset.prepare()
    for _ in range(3):
        list(DataLoader(dataset, batch_size=2))
    assert len(calls) == len(STRUCTURES)


def test_what_a_caller_adds_is_not_kept():
    dataset = StructureDataset(LabeledSet.of_labels([molecule("H2O")]), r_max=4.0)
    graph = dataset[0]
    graph["extra"] = torch.ones(1)
    graph["energy"] = torch.ones(1)
    assert "extra" not in dataset[0]
    assert dataset[0]["energy"].isnan().all()


def test_workers_give_the_same_graphs():
    dataset = StructureDataset(STRUCTURES, r_max=4.0)
    alone = next(iter(DataLoader(dataset, batch_size=4)))
    shared = next(iter(DataLoader(dataset, batch_size=4, num_workers=1)))
    assert torch.equal(alone.edge_index, shared.edge_index)


def test_charge_is_in_all_graphs_or_in_none():
    ion, atom = Atoms("Na", info={"charge": 1, "spin": 1}), Atoms("Na", info={"spin": 2})
    dataset = StructureDataset([ion, atom], r_max=4.0)
    [batch] = DataLoader(dataset, batch_size=2)
    assert batch.spin.tolist() == [1.0, 2.0]
    assert "total_charge" not in batch
    with pytest.raises(
        MissingInputError,
        match=r'needs total_charge, but 1 of 2 structures have no info\["charge"\] \(first: structure 1\)',
    ):
        StructureDataset([ion, atom], r_max=4.0, inputs=["total_charge"])


def test_average_neighbors():
    """Atoms without neighbors do not count, and the most crowded atom has at most four times the number."""
    assert StructureDataset([molecule("H2O"), Atoms("Na")], r_max=4.0).average_neighbors() == 2.0
    assert StructureDataset([Atoms("Na")], r_max=4.0).average_neighbors() == 1.0
    crystal, gas = bulk("Cu", cubic=True), Atoms("Cu50", np.arange(50)[:, None] * [20.0, 0, 0])
    assert StructureDataset([crystal, gas], r_max=3.0).average_neighbors() == 12.0
    curve = [Atoms("Cu2", [[0, 0, 0], [0, 0, r]]) for r in (2.0, 2.5, 6.0, 8.0, 10.0)]
    assert StructureDataset(curve, r_max=3.0).average_neighbors() == 1.0
    assert StructureDataset([crystal, *[curve[0]] * 100], r_max=3.0).average_neighbors() == 3.0


def test_force_rms():
    labels = [StructureLabels(0.0, np.array([[3.0, 0.0, 4.0]]), np.eye(3)), StructureLabels.empty(2)]
    data = LabeledSet.of_labels([Atoms("H"), Atoms("H2")], labels)
    assert force_rms(data.values["forces"]) == pytest.approx(np.sqrt(25 / 3))
    assert force_rms(np.zeros((0, 3))) == force_rms(StructureLabels.empty(1).forces) == 0.0


def test_broken_structures_are_named():
    broken = molecule("H2O")
    broken.positions[0, 0] = np.nan
    dataset = StructureDataset([molecule("H2O"), broken], r_max=4.0)
    with pytest.raises(DataError, match=r"structure 1 \(H2O\): the positions hold NaN"):
        dataset.prepare()


@pytest.mark.parametrize(
    ("structures", "labels", "inputs", "message"),
    [
        ([Atoms("H")], [], (), "1 structures, but labels for 0"),
        ([Atoms("H"), Atoms()], None, (), r"structure\(s\) \[1\] have no atoms"),
        ([Atoms("H")], None, ["field"], r"unknown input\(s\) \['field'\]"),
    ],
)
def test_errors(structures, labels, inputs, message):
    with pytest.raises(DataError, match=message):
        StructureDataset(LabeledSet.of_labels(structures, labels), r_max=4.0, inputs=inputs)


def test_molecules_without_bonds_are_counted_for_a_model_that_knows_bonds(caplog) -> None:
    bonded, bare, crystal = molecule_from_smiles("C"), molecule("H2O"), bulk("Cu")
    labels = [StructureLabels(0.0, np.zeros((len(a), 3)), np.zeros((3, 3))) for a in (bonded, bare, crystal)]
    StructureDataset(LabeledSet.of_labels([bonded, crystal], [labels[0], labels[2]]), 3.0, inputs=["bond_types"])
    assert not caplog.messages
    StructureDataset(LabeledSet.of_labels([bonded, bare, crystal], labels), 3.0, inputs=["bond_types"])
    assert "1 of 3 structures are molecules without bonds (first: structure 1)" in caplog.text


def test_a_charge_of_other_atoms_is_refused_where_the_model_reads_it() -> None:
    ion = molecule_from_smiles("[NH4+]")
    far = ion.copy()
    far.positions += 9.0
    labels = [StructureLabels(0.0, np.zeros((10, 3)), np.zeros((3, 3)))]
    StructureDataset(LabeledSet.of_labels([ion + far], labels), 3.0)
    with pytest.raises(DataError, match="structure 0: .*formal charges of its atoms sum to 2"):
        StructureDataset(LabeledSet.of_labels([ion + far], labels), 3.0, inputs=["total_charge"])
