"""What a model was trained on goes with its file, and what is outside of it is named."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.data.bonds.completeness import geometry_problem
from ik_e3nn.errors import ModelFileError
from ik_e3nn.models import (
    InteratomicPotential,
    MolecularPropertyModel,
    extended,
    load_model,
    model_path,
    save_model,
)
from ik_e3nn.models.files import checkpoint
from ik_e3nn.models.files.pretrained import base_model_path
from ik_e3nn.models.networks.domain import Domain, domain_of
from ik_e3nn.models.transfer.retarget import retargeted
from ik_e3nn.targets import Intensive

BASE = Domain(max_atoms=20)
INSIDE = (
    "CCO", "c1ccccc1", "C[N+](=O)[O-]", "C[N+](C)(C)[O-]", "[C-]#[N+]C", "CC(=O)O", "NCC(=O)O", "CS(C)(=O)=O",
    "CN=[N+]=[N-]", "ClCl", "FC(F)(F)F", "C1CC1", "S=C=S", "[H][H]", "OCC(O)CO",
    "[C-]#[O+]", "O=O", "[O-][O+]=O", "C1C2CC1C2", "S(F)(F)(F)(F)(F)F", "[N-]=[N+]=O",
)  # fmt: skip
IONS = ("[NH3+]CC(=O)[O-]", "CC(=O)[O-]", "[NH4+]", "C[N+](C)(C)CC(=O)[O-]", "C[S-]", "NC(N)=[NH2+]")


RADICALS = {
    "CH3": "it has an odd number of electrons (9): it is a radical, an ion whose charge is not given, or lacks a ",
    "OH": "it has an odd number of electrons (9)",
    "C2H3": "it has an odd number of electrons (15)",
    "CH2_s1A1d": "atom 0 (C) has too few bonds: it is a radical, a carbene, or lacks hydrogens",
    "NH": "atom 0 (N) has too few bonds",
}


def two(smiles, distance):
    first = molecule_from_smiles(smiles)
    second = first.copy()
    second.positions += [0, 0, distance]
    return first + second


@pytest.mark.parametrize("smiles", INSIDE)
def test_molecules_one_by_one_are_inside(smiles):
    atoms = molecule_from_smiles(smiles)
    assert BASE.outside(atoms) == []
    assert BASE.outside(Atoms(atoms.numbers, atoms.positions)) == []
    assert BASE.outside(Atoms("C")) == []


@pytest.mark.parametrize("smiles", IONS)
def test_charged_groups_are_outside(smiles):
    atoms, reason = molecule_from_smiles(smiles), "it has charged groups (it is a zwitterion, a salt or an ion)"
    assert BASE.outside(atoms) == [reason]
    if smiles in IONS[:3]:  # found in the geometry alone
        assert BASE.outside(Atoms(atoms.numbers, atoms.positions)) == [reason]
    assert Domain(20, charged_groups=True).outside(atoms) == []


@pytest.mark.parametrize("name", RADICALS)
def test_radicals_are_outside(name):
    [reason] = BASE.outside(molecule(name))
    assert reason.startswith(RADICALS[name])
    assert Domain(20, unpaired=True).outside(molecule(name)) == []


def test_charge_and_spin_that_are_said_count():
    assert BASE.outside(molecule_from_smiles("[CH3]")) == ["it has unpaired electrons (its spin is 2)"]
    hydronium = molecule_from_smiles("[OH3+]")
    bare = Atoms(hydronium.numbers, hydronium.positions)
    assert (
        BASE.outside(hydronium)
        == BASE.outside(bare)
        == ["it has charged groups (it is a zwitterion, a salt or an ion)"]
    )
    bare.info = {"charge": "what a model does not read", "spin": [1]}
    assert len(BASE.outside(bare)) == 1
    assert BASE.outside(Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1})) == BASE.outside(hydronium)


def test_molecules_without_some_of_their_hydrogens_are_outside():
    """Two hydrogens of a glycol's oxygens, or of one carbon: the number of electrons stays even."""
    glycol = molecule_from_smiles("OCCO")
    oxygens = np.flatnonzero(glycol.numbers == 8)
    polar = [i for i in range(len(glycol)) if glycol.get_distances(i, oxygens).min() < 1.1 and glycol.numbers[i] == 1]
    bare = Atoms(glycol.numbers, glycol.positions)
    del bare[polar]
    assert BASE.outside(bare) == [
        "2 atoms, the first atom 0 (O), have too few bonds: it is a radical, a carbene, or lacks hydrogens"
    ]


@pytest.mark.parametrize(
    ("name", "gone", "reason"),
    [
        ("C2H6", [2, 5], "C 0 and C 1 have too few bonds and are 1.52 A apart, too far for a multiple bond"),
        ("CH3CH2OH", [4, 6], "C 0 and C 1 have too few bonds and are 1.51 A apart"),
        ("CH3OH", [2, 3], "C 0 and O 1 have too few bonds and are 1.42 A apart"),
        ("H3CNH2", [2, 4], "C 0 and N 1 have too few bonds and are 1.46 A apart"),
        ("C2H4", [2, 4], "C 0 and C 1 have too few bonds and are 1.33 A apart"),
        ("CH3OH", [2, 5], "C 0 has only two bonds, at an angle: it is a carbene, or lacks hydrogens"),
        ("C6H6", [6, 7], "2 atoms lack hydrogens by the angles between their bonds"),
    ],
)
def test_hydrogens_that_neighbors_lack_make_no_multiple_bond(name, gone, reason):
    """The same judgment for potentials and for properties, which also look for bond orders."""
    atoms = molecule(name)
    assert BASE.outside(atoms) == []
    assert geometry_problem(atoms) == ""
    del atoms[gone]
    [found] = BASE.outside(atoms)
    assert found.startswith(reason)
    assert geometry_problem(atoms) in (found, "it has a triple bond in a small ring; it lacks hydrogens")
    assert Domain(20, unpaired=True).outside(atoms) == []


@pytest.mark.parametrize("name", ["C2H4", "C2H2", "HCN", "CH3CH2OH", "C6H6", "C5H5N", "CH3CONH2", "CH3COOH"])
def test_noise_of_a_tenth_of_an_angstrom_makes_no_other_molecule(name):
    for seed in range(15):
        atoms = molecule(name)
        atoms.rattle(0.1, seed=seed)
        assert BASE.outside(atoms) == []


def test_a_stretched_bond_is_one_molecule_and_hydrogen_bonds_are_two():
    for seed in range(25):
        ethanol = molecule("CH3CH2OH")
        ethanol.rattle(0.15, seed=seed)
        assert not [reason for reason in BASE.outside(ethanol) if "separate" in reason]
    assert BASE.outside(two("O", 2.6)) == ["it is 2 separate molecules or atoms"]
    assert "it is 2 separate molecules or atoms" in BASE.outside(two("[H]", 4.0))


def test_several_molecules_periodic_directions_and_size_are_outside():
    assert BASE.outside(two("c1ccccc1", 3.4)) == ["it is 2 separate molecules or atoms"]
    assert BASE.outside(molecule_from_smiles("CCCCCCC")) == [
        "it has a molecule of 23 atoms, and the model was trained on at most 20"
    ]
    assert BASE.outside(bulk("Cu")) == ["it is periodic"]
    water = two("O", 2.8)
    water.pbc, water.cell = True, [9, 9, 9]
    assert BASE.outside(water) == ["it is periodic", "it is 2 separate molecules or atoms"]
    assert Domain(6, several=True).outside(two("O", 2.8)) == []
    assert Domain(4, periodic=True).outside(fcc111("Pt", (4, 4, 4), vacuum=5.0)) == []


def test_what_training_data_show():
    assert domain_of([molecule("CH4"), molecule("CH3CH2OH")]) == Domain(9)
    assert domain_of([molecule("CH4"), bulk("Cu") * 3, two("O", 2.8)]) == Domain(27, periodic=True, several=True)
    assert domain_of([molecule_from_smiles("CC(=O)[O-]")]) == Domain(7, charged_groups=True)
    assert domain_of([molecule("CH4"), molecule("OH")]) == Domain(5, unpaired=True)
    assert Domain(3).joined(None) == Domain(3)
    assert Domain(3, several=True).joined(Domain(5, charged_groups=True)) == Domain(5, False, True, True)


def test_it_goes_with_the_file(tmp_path, monkeypatch):
    model = InteratomicPotential(["H", "O"], num_channels=4)
    save_model(model, tmp_path / "new.safetensors")
    assert load_model(tmp_path / "new.safetensors").trained_on is None
    model.trained_on = Domain(12, several=True)
    save_model(model, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors", dtype=torch.float64)
    assert loaded.trained_on == extended(loaded, ["C"]).trained_on == model.trained_on
    assert load_model(base_model_path()).trained_on == BASE
    assert load_model(model_path("base-properties")).trained_on == Domain(max_atoms=22)
    properties = MolecularPropertyModel(
        ["H", "O"], [Intensive("gap", "eV")], potential={"num_channels": 4}, edges="radius"
    )
    properties.trained_on = Domain(3, unpaired=True)
    save_model(properties, tmp_path / "p.safetensors")
    loaded = load_model(tmp_path / "p.safetensors")
    assert loaded.trained_on == retargeted(loaded, loaded.targets, ["C"]).trained_on == Domain(3, unpaired=True)
    with monkeypatch.context() as patch:  # a file from before unpaired electrons were looked for
        patch.setattr(checkpoint, "asdict", lambda domain: {"max_atoms": domain.max_atoms})
        save_model(model, tmp_path / "old.safetensors")
    assert load_model(tmp_path / "old.safetensors").trained_on == Domain(12, unpaired=True)
    model.trained_on = None
    object.__setattr__(model, "trained_on", BASE)
    object.__setattr__(BASE, "max_atoms", "many")
    try:
        save_model(model, tmp_path / "bad.safetensors")
    finally:
        object.__setattr__(BASE, "max_atoms", 20)
    with pytest.raises(ModelFileError, match="trained_on must be a number of atoms and truth values"):
        load_model(tmp_path / "bad.safetensors")
