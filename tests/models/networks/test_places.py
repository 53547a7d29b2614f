"""Dipoles and polarizabilities of models: they add up, are smooth, and are those of the crystal, not of its cell."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.graph import batch_graphs, build_molecular_graph
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel
from ik_e3nn.targets import Dipole, Polarizability
from tests.data.molecule_sets import property_set

TARGETS = [Dipole("mu", "D"), Polarizability("alpha", "a0^3")]
BLOCKS = {"num_channels": 4, "num_layers": 2, "l_max": 2, "l_features": 2}
BODIES = {
    "bonds": {"edges": "bonds", "steerable": {"channels": 4, "num_layers": 2, "kernel_fields": 4}},
    "radius": {"edges": "radius", "steerable": {"channels": 4, "num_layers": 2, "conditions": ["species"]}},
    "potential": {"edges": "radius", "potential": BLOCKS},
}


def make(name, **options):
    torch.manual_seed(0)
    model = MolecularPropertyModel(["H", "C", "O"], TARGETS, r_max=4.0, **(BODIES[name] | options)).double().eval()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_()
    model.scales.per_atom[1].normal_()
    return model


def predicted(model, *structures):
    graphs = [build_molecular_graph(atoms, model.edges, model.r_max, dtype=torch.float64) for atoms in structures]
    with torch.no_grad():
        return model(batch_graphs(graphs))


def two(a, b, distance):
    """Both molecules at a distance, with the bonds of both."""
    far = b.copy()
    far.positions += [0.0, 0.6 * distance, 0.8 * distance]
    both = a + far
    if "bonds" in a.info:
        shift = [len(a), len(a), 0]
        rows = [np.reshape(atoms.info["bonds"], (-1, 3)) for atoms in (a, b)]
        both.info["bonds"] = np.concatenate([rows[0], rows[1] + shift]).reshape(-1)
    return both


def remainder(model, a, b, distance):
    """Of the value of both over the sum of those of each, by target, in parts of the value of the first."""
    whole, parts = predicted(model, two(a, b, distance)), predicted(model, a, b)
    return {name: float((whole[name][0] - x.sum(0)).abs().max() / x[0].abs().max()) for name, x in parts.items()}


@pytest.mark.parametrize("name", BODIES)
def test_dipoles_and_polarizabilities_of_far_molecules_add_up(name) -> None:
    if name == "bonds":
        a, b = property_set(("CO", "C=O")).structures
    else:
        a, b = molecule("H2O"), molecule("CH3OH")
    model, old = make(name), make(name, places="center")
    assert all(float(value.abs().max()) > 1e-2 for value in predicted(model, a).values())
    for distance in (30.0, 100.0):
        for left in remainder(model, a, b, distance).values():
            assert left < 1e-11
        for left in remainder(old, a, b, distance).values():  # charges of a molecule do not sum to zero
            assert left > 0.1


def test_the_value_of_ions_does_not_depend_on_their_place_and_adds_up_where_only_surroundings_count() -> None:
    """The charges of the head sum to no number that is given: what they make is the same wherever the ion is."""
    model, ion = make("potential"), molecule("CH3OH")[:-1]
    moved = ion.copy()
    moved.positions += [30.0, -20.0, 10.0]
    out = predicted(model, ion, moved)
    for value in out.values():
        assert value.abs().max() > 1e-2
        torch.testing.assert_close(value[1], value[0], rtol=1e-9, atol=1e-9)
    assert max(remainder(model, ion, molecule("H2O"), 50.0).values()) < 1e-11


@pytest.mark.parametrize("name", ["radius", "potential"])
def test_values_and_derivatives_are_continuous_where_a_neighbor_crosses_the_cutoff(name) -> None:
    """Finite differences on both sides of the cutoff, and across it, are one derivative."""
    model = make(name)

    def at(distance):
        """A hydrogen at a distance from the oxygen of water; the other two are beyond the cutoff of it."""
        atoms = Atoms("OHHH", [[0, 0, 0], [-0.6, -0.8, 0], [0.6, -0.8, 0], [0, distance, 0]])
        graph = build_molecular_graph(atoms, "radius", 4.0, dtype=torch.float64)
        graph["positions"].requires_grad_(True)
        dipole = model(graph)["mu"][0, 1]
        (gradient,) = torch.autograd.grad(dipole, graph["positions"])
        return graph["edge_index"].shape[1], dipole.item(), gradient

    jumps = []
    for h in (1e-2, 1e-3):
        (more, inside, slope), (fewer, outside, other) = at(4.0 - h), at(4.0 + h)
        assert more == fewer + 2
        jumps.append((abs(inside - outside), float((slope - other).abs().max())))
    assert jumps[1][0] <= 0.2 * jumps[0][0] + 1e-9
    assert jumps[1][1] <= 0.2 * jumps[0][1] + 1e-9
    # inside, the derivative is that of the values
    h = 1e-4
    (_, _, slope), (_, above, _), (_, below, _) = at(3.0), at(3.0 + h), at(3.0 - h)
    assert abs(slope[3, 1]) > 1e-3
    assert (above - below) / (2 * h) == pytest.approx(float(slope[3, 1]), rel=1e-5)


def test_values_are_those_of_the_crystal_and_not_of_its_cell() -> None:
    model = make("potential")
    atoms = Atoms("HOC", [[0.2, 0, 0], [1.1, 0.4, 0], [2.3, 1.0, 0.7]], cell=[3.6, 3.8, 4.2], pbc=True)
    moved = atoms.copy()
    moved.positions[1] += 2 * atoms.cell[0] - atoms.cell[2]  # another image of it
    for name, one in predicted(model, atoms).items():
        assert one.abs().max() > 1e-2
        torch.testing.assert_close(predicted(model, moved)[name], one, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(predicted(model, atoms * (1, 2, 1))[name], 2 * one, rtol=1e-10, atol=1e-10)


def test_new_heads_of_potentials_have_local_places_unless_others_are_asked_for() -> None:
    potential = InteratomicPotential(["H", "O"], **BLOCKS)
    assert MolecularPropertyModel.from_potential(potential, TARGETS).config["places"] == "local"
    assert MolecularPropertyModel.from_potential(potential, TARGETS, places="center").config["places"] == "center"


def test_the_center_of_nuclear_charge_still_serves_squares() -> None:
    """The spatial extent is about the center of the whole molecule, whatever dipoles are read with."""
    atoms = molecule("CH3OH")
    center = np.average(atoms.positions, axis=0, weights=atoms.numbers)
    for places in ("local", "center"):
        model = make("potential", places=places)
        made = model.molecules(build_molecular_graph(atoms, "radius", 4.0, dtype=torch.float64))
        np.testing.assert_allclose(made.places.numpy(), atoms.positions - center, atol=1e-12)
        assert torch.equal(made.local, made.places) is (places == "center")
