"""Energies of a model that knows bonds, charge and spin do not depend on what was done to a structure before."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import sort
from ase.io import write

from ik_e3nn.data import molecule_from_smiles, read_structures
from ik_e3nn.errors import DataError
from ik_e3nn.graph import batch_graphs, build_graph, fitting_bonds, remove_bonds, set_bonds
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators import IKCalculator, MDSettings, run_md
from tests.calculators.pair_potential import PairPotential


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = InteratomicPotential(
        [1, 6, 7, 8], r_max=4.0, num_channels=8, num_layers=2, correlation=1, inputs=["bond_types"]
    )
    made.set_average_neighbors(8.0)
    return made.double().eval()


@pytest.fixture
def acetamide():
    return molecule_from_smiles("CC(N)=O")


def energy(atoms, model):
    atoms = atoms.copy()
    atoms.calc = IKCalculator(model, device="cpu")
    return atoms.get_potential_energy()


def test_bonds_matter_here(acetamide, model):
    other = acetamide.copy()
    set_bonds(other, [])
    assert abs(energy(other, model) - energy(acetamide, model)) > 1e-3


def test_a_charge_of_one_copy_is_doubted_in_the_whole(caplog):
    salt = Atoms("NaCl", [[0, 0, 0], [2.8, 0.1, 0]], cell=[5.6, 5.0, 6.0], pbc=True, info={"charge": 1})
    calculator = IKCalculator(InteratomicPotential(["Na", "Cl"], 4.0, num_channels=2, inputs=["total_charge"]))
    for atoms, said in ((salt, 0), (salt * (2, 1, 1), 1)):
        atoms.calc = calculator
        for _ in range(2):
            atoms.get_potential_energy()
            atoms.positions[0] += 0.01
        assert caplog.text.count("consists of 2 equal parts: if it was repeated") == said


def test_order_copies_and_cells(acetamide, model):
    alone = energy(acetamide, model)
    for moved in (sort(acetamide), acetamide[::-1], acetamide[np.random.default_rng(0).permutation(9)]):
        assert energy(moved, model) == pytest.approx(alone, abs=1e-9)
    far = acetamide.copy()
    far.positions += 20.0
    assert energy(acetamide + far, model) == pytest.approx(2 * alone, abs=1e-9)
    crystal = acetamide.copy()
    crystal.cell, crystal.pbc = [4.5, 4.7, 5.0], True
    crystal.wrap()
    dense = energy(crystal, model)
    assert abs(dense - alone) > 1e-3
    for big in (crystal * (2, 1, 1), sort(crystal * (1, 2, 1))):
        assert energy(big, model) == pytest.approx(2 * dense, abs=1e-9)


def test_one_calculator_sees_every_change(acetamide, model):
    alone, calculator = energy(acetamide, model), IKCalculator(model, device="cpu")
    hydrogens = np.flatnonzero(acetamide.symbols == "H")
    order = np.arange(9)
    order[hydrogens] = hydrogens[::-1]  # the same elements at the same places of the list
    other = acetamide.copy()
    set_bonds(other, [])
    without = energy(other, model)
    for atoms, expected in ((acetamide, alone), (acetamide[order], alone), (other, without), (acetamide, alone)):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-9)


def test_training_graphs_have_them_too(acetamide, model):
    graphs = [build_graph(atoms, 4.0, dtype=torch.float64) for atoms in (acetamide, acetamide[::-1])]
    first, second = model(batch_graphs(graphs))["energy"].tolist()
    assert second == pytest.approx(first, abs=1e-9)


def test_a_list_out_of_date_is_refused(acetamide, model):
    old = Atoms(acetamide.numbers, acetamide.positions, info=dict(acetamide.info))
    assert energy(old, model) == pytest.approx(energy(acetamide, model), abs=1e-9)
    with pytest.raises(DataError, match="the bonds do not fit the structure"):
        energy(sort(old), model)
    calculator = IKCalculator(model, device="cpu")
    old.calc = calculator
    old.get_potential_energy()
    hydrogens = np.flatnonzero(old.symbols == "H")
    old.positions[hydrogens] = old.positions[hydrogens[::-1]]
    with pytest.raises(DataError, match="the bonds do not fit the structure"):
        old.get_potential_energy()


@pytest.mark.parametrize("trajectory", ["traj", "extxyz"])
def test_frames_and_restarts_of_dynamics_keep_the_bonds(tmp_path, acetamide, model, trajectory):
    save_model(model, tmp_path / "model.safetensors")
    write(tmp_path / "start.xyz", sort(acetamide))
    settings = MDSettings(
        structure=str(tmp_path / "start.xyz"), model=str(tmp_path / "model.safetensors"), steps=2, timestep=0.1,
        output=str(tmp_path / "run"), trajectory=trajectory, frame_interval=1, checkpoint_interval=1, progress=False,
        plots=False, device="cpu",
    )  # fmt: skip
    run_md(settings)
    run_md(dataclasses.replace(settings, steps=4, restart=True))
    frames = read_structures(tmp_path / "run" / f"trajectory.{trajectory}")
    assert len(frames) == 5
    for frame in frames:
        assert kinds(frame) == kinds(acetamide)
        assert energy(frame, model) == pytest.approx(frame.get_potential_energy(), abs=1e-6)


def kinds(atoms):
    return sorted((*sorted(atoms.symbols[[i, j]]), t) for i, j, t in fitting_bonds(atoms).tolist())


@pytest.mark.parametrize(("key", "value"), [("charge", 1), ("spin", 3)])
def test_one_warning_of_a_charge_or_spin_that_is_set_later_and_not_used(cluster, caplog, key, value):
    cluster.calc = IKCalculator(PairPotential(), device="cpu")
    with caplog.at_level(logging.WARNING):
        cluster.get_potential_energy()
        assert not caplog.messages
        cluster.info[key] = value
        for _ in range(3):
            cluster.get_potential_energy()
            cluster.positions += 0.01
    lacks = {"charge": "total_charge", "spin": "spin"}[key]
    assert caplog.messages == [
        f"atoms.info['{key}'] is {value}, but the model does not use it (its inputs lack {lacks})"
    ]


IMPOSSIBLE = [
    ({"charge": "one"}, r'atoms.info\["charge"\] must be one finite number; got .one'),
    ({"charge": [1, 2]}, r'atoms.info\["charge"\] must be one finite number; got \[1, 2'),
    ({"spin": float("nan")}, r'atoms.info\["spin"\] must be one finite number; got nan'),
    ({"bonds": "some"}, "bonds must be whole numbers .* got 'some'"),
    ({"bonds": [0, 999, 1]}, "a bond refers to atom 999, but the structure has"),
    ({"bonds": [0, 1, 9]}, "bond types must be 0 to 4"),
]


@pytest.mark.parametrize(("info", "message"), IMPOSSIBLE)
def test_an_impossible_charge_spin_or_bond_is_refused_by_models_that_do_not_use_it(cluster, info, message):
    cluster.calc = IKCalculator(PairPotential(), device="cpu")
    cluster.get_potential_energy()
    cluster.info.update(info)
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            cluster.get_potential_energy()
    del cluster.info[next(iter(info))]
    cluster.get_potential_energy()


def test_bonds_that_went_away_are_missed(acetamide, model, caplog):
    acetamide.calc = IKCalculator(model, device="cpu")
    with caplog.at_level(logging.WARNING):
        before = acetamide.get_potential_energy()
        assert not caplog.messages
        del acetamide.info["bonds"]
        assert acetamide.get_potential_energy() == before
        assert not caplog.messages
        remove_bonds(acetamide)
        assert acetamide.get_potential_energy() != before
        acetamide.get_potential_energy()
    assert [message[:66] for message in caplog.messages] == [
        "the model uses bonds, but this molecule has none in atoms.info['bo"
    ]


def test_charges_of_joined_ions_are_refused():
    calculator = IKCalculator(PairPotential(inputs=["total_charge"]), device="cpu")
    ion = molecule_from_smiles("[NH4+]")
    far = ion.copy()
    far.positions += 9.0
    both = ion + far
    both.numbers[:], both.calc = 18, calculator
    with pytest.raises(DataError, match="formal charges of its atoms sum to 2"):
        both.get_potential_energy()
    both.info["charge"] = 2
    assert np.isfinite(both.get_potential_energy())


def test_atoms_that_were_overwritten_in_place_are_refused_at_the_next_call(acetamide, model):
    acetamide.calc = IKCalculator(model, device="cpu")
    acetamide.get_potential_energy()
    order = np.arange(9)[::-1]
    acetamide.positions[:], acetamide.numbers[:] = acetamide.positions[order], acetamide.numbers[order]
    with pytest.raises(DataError, match="atom 0 is H, but was C when they were set"):
        acetamide.get_potential_energy()
    other = molecule_from_smiles("CC(N)=O")
    other.calc = acetamide.calc
    other.get_potential_energy()
    other.symbols[3] = "N"
    with pytest.raises(DataError, match="atom 3 is N, but was O when they were set"):
        other.get_potential_energy()


@pytest.mark.parametrize("suffix", ["xyz", "traj", "db", "json", "sdf", "pdb", "xsf"])
def test_bonds_come_back_from_a_file_or_are_missed(acetamide, model, tmp_path, caplog, suffix):
    alone = energy(acetamide, model)
    write(tmp_path / f"a.{suffix}", acetamide)
    (atoms,) = read_structures(tmp_path / f"a.{suffix}")
    found = energy(atoms, model)
    if suffix in ("xyz", "traj"):
        assert found == pytest.approx(alone, abs=1e-7)
    else:
        assert (
            "its edges count as non-bonded. Of the files that ASE writes, only extxyz keeps bonds: .db" in caplog.text
        )
    assert "hydrogens" not in caplog.text
    if suffix == "traj":
        write(tmp_path / "b.traj", sort(acetamide))
        (atoms,) = read_structures(tmp_path / "b.traj")
        with pytest.raises(
            DataError, match="the bonds do not fit the structure: .*.traj files of ASE keep only this list. Set"
        ):
            energy(atoms, model)
