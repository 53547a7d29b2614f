"""Where a structure is, and by how many cells its atoms are unwrapped, changes nothing in any way to a prediction."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from ik_e3nn.data import LabeledSet, StructureDataset
from ik_e3nn.errors import DataError
from ik_e3nn.graph import batch_graphs, build_graph
from ik_e3nn.models import Committee, InteratomicPotential, MolecularPropertyModel
from ik_e3nn.targets import Dipole, Intensive, Polarizability, SpatialExtent
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.sets.loader import collate
from ik_e3nn_calculators import IKCalculator

PLACES = (1e3, 1e5, 1e7)
EXACT = {1e3: 1e-6, 1e5: 1e-6, 1e7: 3e-5}  # eV/A: at 1e7 A the positions themselves are known to 2e-9 A


def potential(*species, **options):
    torch.manual_seed(0)
    model = InteratomicPotential(species, 4.0, num_channels=4, l_max=2, **options)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model.eval()


def ethanol(shift=0.0):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    atoms.positions += shift
    return atoms


@pytest.mark.parametrize("cache", [False, True])
def test_evaluation_of_a_data_set(cache, tmp_path):
    model = potential("H", "C", "O")
    structures = [ethanol(), *(ethanol(place) for place in PLACES)]
    data = StructureDataset(structures, model.r_max, cache=tmp_path if cache else None)
    found = predict(model, data)
    near = found.of_atoms("forces")[0]
    assert np.abs(near).max() > 0.05
    for place, energy, forces in zip(PLACES, found.values["energy"][1:], found.of_atoms("forces")[1:], strict=True):
        assert energy == pytest.approx(found.values["energy"][0], abs=EXACT[place])
        assert np.abs(forces - near).max() < EXACT[place]
        atoms = ethanol(place)
        atoms.calc = IKCalculator(model)
        assert np.abs(atoms.get_forces() - forces).max() < 1e-6


def test_a_crystal_whose_atoms_are_many_cells_apart():
    model = potential("Cu")
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=0)
    unwrapped = crystal.copy()
    unwrapped.positions += np.array([[300, -200, 0], [0, 100, 300], [-300, 0, 0], [1000, 5000, -300]]) @ crystal.cell
    outputs = [model(build_graph(atoms, model.r_max), stress=True) for atoms in (crystal, unwrapped)]
    assert outputs[0]["forces"].abs().max() > 1e-3
    assert outputs[0]["stress"].abs().max() > 1e-4
    for name, tolerance in (("energy", 1e-7), ("forces", 1e-6), ("stress", 1e-8)):
        assert (outputs[0][name] - outputs[1][name]).abs().max() < tolerance
    unwrapped.positions[0] += 2.0**24 * crystal.cell[0]
    with pytest.raises(DataError, match="cells apart, more than torch.float32 can represent exactly: wrap the"):
        build_graph(unwrapped, model.r_max)


def test_training_sees_the_same_gradients():
    model = potential("H", "C", "O").train()
    gradients = []
    for place in (0.0, 1e5):
        graph = build_graph(ethanol(place), model.r_max)
        out = model(collate([{key: graph[key] for key in graph.keys()}]))
        loss = out["forces"].square().sum() + out["energy"].square().sum()
        weights = [p for p in model.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        gradients.append(torch.cat([one.flatten() for one in found]))
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[0].abs().max()
    assert gradients[0].dtype == torch.float32


def test_committees():
    model = potential("H", "C", "O")
    committee = Committee([model, potential("H", "C", "O", correlation=2)])
    near, far = (committee(batch_graphs([build_graph(ethanol(place), 4.0)])) for place in (0.0, 1e5))
    for name in ("energy", "forces", "energy_std", "forces_std"):
        assert (near[name] - far[name]).abs().max() < 1e-6
    assert near["forces_std"].max() > 1e-3


@pytest.mark.parametrize("options", [{"steerable": {"channels": 4}}, {"potential": {"num_channels": 4}}])
def test_properties(options):
    torch.manual_seed(0)
    targets = [Intensive("gap", "eV"), Dipole("mu", "D"), Polarizability("a", "a0^3"), SpatialExtent("r2", "A^2")]
    model = MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", r_max=4.0, **options).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    molecules = LabeledSet([ethanol(), *(ethanol(place) for place in PLACES)], (), {}, ["a", "b", "c", "d"])
    values = predict(model, StructureDataset(molecules, 4.0, edges="radius")).values
    for target in targets:
        one = values[target.name]
        assert np.abs(one[0]).max() > 1e-3
        assert np.abs(one - one[0]).max() < 1e-5 * max(np.abs(one[0]).max(), 1.0)


@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.3, -0.5, 0.8)])
def test_heights_over_a_surface(normal):
    """Far along the surface heights are what they are near the origin."""
    model = potential("H", "C", "O", group="Cinfv", inputs=["surface"])
    with torch.no_grad():
        for weight in (*model.field.parameters(), *model.place_embedding.parameters()):
            weight.normal_()
    unit = np.array(normal) / np.linalg.norm(normal)
    along = np.cross(unit, [1.0, 0, 0])
    along /= np.linalg.norm(along)
    outputs = []
    for place, origin in ((0.0, 0.0), (1e4, 0.0), (1e5, 1e5)):
        atoms = ethanol(2.0 * unit + place * along)
        atoms.info.update(surface_normal=normal, surface_origin=origin * along)
        outputs.append(model(build_graph(atoms, model.r_max)))
    net = outputs[0]["forces"].sum(0) @ torch.tensor(unit)
    assert net.abs() > 1e-2
    for other in outputs[1:]:
        for name in ("energy", "forces"):
            assert (outputs[0][name] - other[name]).abs().max() < 5e-6
