"""New models start with energies of the order of the forces' scale, however sparse or uneven their data are."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ik_e3nn.data import StructureDataset
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel
from ik_e3nn.targets import Intensive
from ik_e3nn.training.inference.prediction import predict

SETS = {
    "dissociation": [Atoms("Cu2", [[0, 0, 0], [0, 0, r]]) for r in np.linspace(1.9, 12.0, 20)],
    "dilute gas": [Atoms("Cu12", np.random.default_rng(seed).uniform(0, 22, (12, 3))) for seed in range(3)],
    "atoms among crystals": [*[Atoms("Cu")] * 100, bulk("Cu", cubic=True), bulk("Cu", "bcc", a=2.9)],
    "dimers among crystals": [*[Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])] * 100, bulk("Cu"), bulk("Cu", "bcc", a=2.9)],
    "atoms": [Atoms("Cu")] * 3,
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", [0, 1])
def test_energies_at_the_start(name, seed):
    torch.manual_seed(seed)
    model = InteratomicPotential(["Cu"], 5.0, preset="small").eval()
    data = StructureDataset(SETS[name], model.r_max)
    model.set_average_neighbors(data.average_neighbors())
    found = predict(model, data)
    per_atom = np.abs(found.values["energy"]) / data.num_atoms
    assert per_atom.max() < 10.0
    assert np.abs(found.values["forces"]).max() < 30.0


SMALL = [molecule(name) for name in ("H2", "N2", "O2", "CO", "CO2", "H2O")]


@pytest.mark.parametrize("preset", ["small", "medium"])
def test_small_molecules_at_the_start(preset):
    """With a mean of 1, O2 began with 21,000 eV per atom, N2 with 64,000, and CO2 with 30,000 with a mean of 2."""
    data = StructureDataset(SMALL, 5.0)
    assert average_neighbors_of(SMALL[:4]) == 1.0
    found = []
    for seed in range(6):
        torch.manual_seed(seed)
        model = InteratomicPotential(["H", "C", "N", "O", "F", "Cu"], preset=preset).eval()
        model.set_average_neighbors(1.0)
        found.append(np.abs(predict(model, data).values["energy"]) / data.num_atoms)
    assert np.max(found) < 10.0


def average_neighbors_of(structures):
    return StructureDataset(structures, 5.0).average_neighbors()


def test_a_number_below_four_counts_as_four():
    torch.manual_seed(0)
    model = InteratomicPotential(["Cu"], 5.0, preset="small").eval()
    graphs = StructureDataset(SETS["dissociation"], 5.0)
    model.set_average_neighbors(4.0)
    expected = predict(model, graphs).values["energy"]
    for number in (0.2, 1.0, 3.9):
        model.set_average_neighbors(number)
        np.testing.assert_array_equal(predict(model, graphs).values["energy"], expected)
    model.set_average_neighbors(12.0)  # ordinary numbers are used as they are
    assert all(float(layer.normalization) == np.float32(1 / 12) for layer in model.interactions)
    with pytest.raises(ValueError, match="must be positive and finite; got inf"):
        model.set_average_neighbors(float("inf"))


def test_properties_of_a_sparse_set():
    """A molecule among atoms has the number of neighbors that it has alone."""
    water = molecule("H2O")
    alone = StructureDataset([water], 3.0, edges="radius")
    among = StructureDataset([water, *[Atoms("O")] * 20], 3.0, edges="radius")
    assert alone.average_neighbors() == among.average_neighbors() == 2.0
    model = MolecularPropertyModel(["H", "O"], [Intensive("gap", "eV")], steerable={"channels": 2})
    model.set_average_neighbors(0.01)
    assert all(float(layer.conv.normalization) == 1.0 for layer in model.body.network.layers)
