"""Potentials have the members, the tensors and the derivatives that calculators and engines count on."""

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from torch import nn

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.errors import DataError
from ik_e3nn.graph import batch_graphs, build_graph, fields
from ik_e3nn.models import (
    Committee,
    EdgePotential,
    InteratomicPotential,
    LastLayerEnsemble,
    MolecularPropertyModel,
    Potential,
)
from ik_e3nn.models.networks.interface import as_potential
from ik_e3nn.models.uncertainty.last_layer import directions_of
from ik_e3nn.targets import Intensive
from tests.calculators.pair_potential import PairPotential

DTYPES = {"float64": torch.float64, "int64": torch.int64}


def potential(seed=0, **options):
    torch.manual_seed(seed)
    model = InteratomicPotential(["H", "C", "O"], 4.0, num_channels=4, num_layers=1, l_max=1, **options)
    return model.double().eval()


def last_layer():
    model = potential()
    root = torch.eye(model.last_weights.numel(), dtype=torch.float64)
    return LastLayerEnsemble(model, {"energy": root}, directions_of(root, 4))


FACE = [[2.5, 0.0, 0.0], [0.0, 2.5, 0.0]]
POTENTIALS = {
    "one": potential,
    "committee": lambda: Committee([potential(0), potential(1)]),
    "last layer": last_layer,
    "everything": lambda: potential(inputs=["bond_types", "total_charge", "spin", "surface"], group="Cinfv"),
    "face": lambda: potential(
        inputs=["bond_types", "total_charge", "spin", "face"], group={"plane": "p4m", "cell": FACE}
    ),
}


def graph(model):
    """Two molecules of different size, one in a cell, and what every model may want to know of them."""
    structures = [molecule_from_smiles("CO"), Atoms("CO", [[0, 0, 3], [0.1, 0, 4.2]], cell=[6, 7, 8])]
    for atoms in structures:
        atoms.info |= {"charge": 0, "spin": 1, "surface_cell": FACE}
        atoms.positions[:, 2] += 3.0
    return batch_graphs([build_graph(atoms, model.r_max, dtype=torch.float64) for atoms in structures])


@pytest.mark.parametrize("kind", POTENTIALS)
def test_every_model_of_energies_is_a_potential(kind):
    model = POTENTIALS[kind]()
    assert isinstance(model, Potential)
    assert as_potential(model) is model
    assert isinstance(model, EdgePotential) is (kind in ("one", "everything", "face"))


def test_any_class_with_the_members_is_a_potential():
    assert as_potential(PairPotential()).r_max == 6.0
    assert not isinstance(PairPotential(), EdgePotential)


def test_what_is_no_potential_is_told_what_it_lacks():
    message = r"Linear is not an interatomic potential: it has no 'species'; expected species, r_max, .* and a call"
    with pytest.raises(DataError, match=message):
        as_potential(nn.Linear(1, 1))
    properties = MolecularPropertyModel(["H", "C"], [Intensive("gap", "eV")])
    assert not isinstance(properties, Potential)
    with pytest.raises(DataError, match="MolecularPropertyModel is not an interatomic potential: it has no 'outputs'"):
        as_potential(properties)


def shape_of(field, sizes):
    """The shape of a tensor in numbers."""
    return tuple(
        sizes[part] if part in sizes else int(part) for part in field.shape.strip("()").replace(",", " ").split()
    )


@pytest.mark.parametrize("kind", POTENTIALS)
def test_outputs_are_those_that_are_promised(kind):
    """By name, shape and dtype; all of them when all is asked for."""
    model = POTENTIALS[kind]()
    batch = graph(model)
    found = model(batch, forces=True, stress=True, atomic_stress=True)
    assert set(found) == set(model.outputs)
    sizes = {"N": batch[fields.POSITIONS].shape[0], "B": 2}
    for name, value in found.items():
        assert value.shape == shape_of(fields.OUTPUTS[name], sizes), name
        assert value.dtype == DTYPES.get(fields.OUTPUTS[name].dtype, torch.float64), name


@pytest.mark.parametrize("kind", ["one", "everything", "face"])
def test_what_is_prepared_has_the_shapes_of_the_table(kind):
    model = POTENTIALS[kind]()
    edges = model.prepare(graph(model))
    expected = set(fields.PREPARED) - {fields.ORDER}
    if kind == "everything":
        expected.remove(fields.UNSTRAIN)
    if kind == "one":
        expected = {fields.SPECIES, fields.VECTORS, fields.SENDERS, fields.OWNERS}
    assert set(edges) == expected
    blocks, width = edges[fields.SENDERS].shape
    sizes = {"N": edges[fields.SPECIES].shape[0], "K": blocks, "w": width}
    assert blocks > 1
    for name, value in edges.items():
        assert value.shape == shape_of(fields.PREPARED[name], sizes), name
        assert value.dtype == DTYPES.get(fields.PREPARED[name].dtype, model.dtype), name


def test_an_engine_can_make_forces_of_the_derivatives():
    """An edge vector is the receiver's position less the sender's: its derivative pulls them in opposite directions.

    Energies and forces are those of the call, here of a crystal, where atoms are neighbors of their own images.
    """
    model = potential()
    atoms = bulk("C", cubic=True)
    atoms.rattle(0.05, seed=0)
    batch = build_graph(atoms, model.r_max, dtype=torch.float64)
    edges = model.prepare(batch)
    energies, gradient = model.energies_and_gradients(edges, create_graph=False)
    forces = torch.zeros(len(atoms), 3, dtype=torch.float64)
    for block, receiver in enumerate(edges[fields.OWNERS].tolist()):
        for place, sender in enumerate(edges[fields.SENDERS][block].tolist()):
            forces[receiver] -= gradient[block, place]
            forces[sender] += gradient[block, place]
    found = model(batch)
    assert found[fields.FORCES].abs().max() > 0.01
    torch.testing.assert_close(energies, found[fields.ENERGIES])
    torch.testing.assert_close(forces, found[fields.FORCES], rtol=0, atol=1e-10)
