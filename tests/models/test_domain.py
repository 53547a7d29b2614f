"""What a model was trained on goes with its file, and what is outside of it is named."""

import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.errors import ModelFileError
from ik_e3nn.models import InteratomicPotential, extended, load_model, save_model
from ik_e3nn.models.domain import Domain, domain_of
from ik_e3nn.models.pretrained import base_model_path

BASE = Domain(max_atoms=20)
INSIDE = (
    "CCO", "c1ccccc1", "C[N+](=O)[O-]", "C[N+](C)(C)[O-]", "[C-]#[N+]C", "CC(=O)O", "NCC(=O)O", "CS(C)(=O)=O",
    "CN=[N+]=[N-]", "ClCl", "FC(F)(F)F", "C1CC1", "S=C=S", "[H][H]", "OCC(O)CO", "[CH3]",
)  # fmt: skip
IONS = ("[NH3+]CC(=O)[O-]", "CC(=O)[O-]", "[NH4+]", "C[N+](C)(C)CC(=O)[O-]", "C[S-]", "NC(N)=[NH2+]")


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


def test_several_molecules_periodic_directions_and_size_are_outside():
    assert BASE.outside(two("c1ccccc1", 3.4)) == ["it is 2 separate molecules or atoms"]
    assert BASE.outside(molecule_from_smiles("CCCCCCC")) == ["it has 23 atoms in one piece, more than 20"]
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
    assert Domain(3, several=True).joined(Domain(5, charged_groups=True)) == Domain(5, False, True, True)


def test_it_goes_with_the_file(tmp_path):
    model = InteratomicPotential(["H", "O"], num_channels=4)
    save_model(model, tmp_path / "new.safetensors")
    assert load_model(tmp_path / "new.safetensors").trained_on is None
    model.trained_on = Domain(12, several=True)
    save_model(model, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors", dtype=torch.float64)
    assert loaded.trained_on == extended(loaded, ["C"]).trained_on == model.trained_on
    assert load_model(base_model_path()).trained_on == BASE
    model.trained_on = None
    object.__setattr__(model, "trained_on", BASE)
    object.__setattr__(BASE, "max_atoms", "many")
    try:
        save_model(model, tmp_path / "bad.safetensors")
    finally:
        object.__setattr__(BASE, "max_atoms", 20)
    with pytest.raises(ModelFileError, match="trained_on must be a number of atoms and true or false"):
        load_model(tmp_path / "bad.safetensors")
