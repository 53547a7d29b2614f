"""Potentials beside a surface, in a slit, by a wire and at a site: what they conserve and what they must not."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ik_e3nn.blocks import Edges
from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing import assert_potential
from tests.properties import structures
from tests.properties.test_potential import CUTOFF, graph_of, potential


def turn(axis, n):
    """The turn by a part of the full circle about an axis of coordinates."""
    return torch.from_numpy(Rotation.from_euler(axis, 360 / n, degrees=True).as_matrix())


FAMILIES = [f"{f[0]}{n}{f[1:]}" for f in ("C", "Cv", "Ch", "D", "Dh", "Dd") for n in range(1, 7)] + ["S4", "S6", "S8"]
AXIAL_GROUPS = ["SO2", "Cinfv", "Cinfh", "Dinf", "Dinfh", "Cs", "Csv", "Ci", *FAMILIES]
SITE_GROUPS = ["Ci", "T", "Td", "Th", "O", "Oh", "I", "Ih"]
CASES = (
    [("surface", group) for group in AXIAL_GROUPS]
    + [("wire", group) for group in ("Dinfh", "SO2", "D4h")]
    + [("site", group) for group in [*SITE_GROUPS, "C4v", "Dinfh"]]
)
OTHERS = {
    **{f"turn by 1/{n} about {axis}": turn(axis, n) for axis in ("x", "z") for n in (2, 3, 4, 6, 12)},
    **{f"mirror across {axis}": -turn(axis, 2) for axis in "xyz"},
    "inversion": -torch.eye(3, dtype=torch.float64),
    "turn and mirror": -turn("z", 4),
    "turn about a diagonal": torch.eye(3, dtype=torch.float64).roll(1, 0),
    "some turn": torch.from_numpy(Rotation.from_rotvec([0.4, 0.3, 0.2]).as_matrix()),
    "some mirror": -torch.from_numpy(Rotation.from_rotvec([0.4, -0.3, 1.2]).as_matrix()),
}


def beside(kind, group, **options):
    options = {"num_channels": 2, "num_layers": 1, "l_max": 2, "correlation": 2} | options
    return potential(group=group, inputs=[kind], **options)


def lifted(height=1.0, **info):
    """A molecule near the origin, in no special orientation."""
    atoms = molecule("CH3OH")
    atoms.rattle(0.1, seed=1)
    atoms.rotate(40, (1, 2, 3))
    atoms.positions += [0.3, -0.2, height]
    atoms.info.update(info)
    return atoms


def sheet():
    """Periodic along the surface only."""
    atoms = lifted(1.5)
    atoms.cell, atoms.pbc = [[6.0, 0, 0], [1.5, 5.5, 0], [0, 0, 20.0]], (True, True, False)
    return atoms


@pytest.mark.parametrize(("kind", "group"), CASES, ids=str)
def test_the_energy_has_the_symmetry_of_the_group_and_no_more(kind, group):
    model, atoms = beside(kind, group), lifted()
    before = model(graph_of(atoms))
    elements = SymmetryGroup(group).random_elements(4, torch.Generator().manual_seed(0))
    for g in elements:
        moved = atoms.copy()
        moved.positions = atoms.positions @ g.numpy().T
        after = model(graph_of(moved))
        assert abs(float(after["energy"] - before["energy"])) < 1e-10
        torch.testing.assert_close(after["forces"], before["forces"] @ g.T, atol=1e-10, rtol=0)
    for name, g in OTHERS.items():
        if SymmetryGroup(group).contains(g):
            continue
        moved = atoms.copy()
        moved.positions = atoms.positions @ g.numpy().T
        assert abs(float(model(graph_of(moved))["energy"] - before["energy"])) > 1e-6, name


@pytest.mark.parametrize(
    ("kind", "group"),
    [("surface", "Cinfv"), ("surface", "Dinfh"), ("wire", "Dinfh"), ("site", "Td"), ("surface", "C4v")],
)
def test_everything_else_that_physics_demands(kind, group):
    family = [lifted(), lifted(2.5), structures.methanol(charge=0, spin=1, bonds=False)]
    assert_potential(beside(kind, group, num_layers=2), [*family, *[sheet()] * (kind == "surface")])


def test_single_precision():
    torch.manual_seed(0)
    assert_potential(beside("surface", "Cinfv", dtype=torch.float32), [lifted(), sheet()])


def test_lateral_shifts_change_nothing_and_shifts_or_flips_along_the_normal_do():
    model, atoms = beside("surface", "Cinfv"), lifted()
    energy = float(model(graph_of(atoms))["energy"])
    for vector, changes in (([3.0, -7.0, 0], False), ([0, 0, 0.1], True)):
        moved = atoms.copy()
        moved.positions += vector
        assert (abs(float(model(graph_of(moved))["energy"]) - energy) > 1e-6) == changes
    flipped = atoms.copy()
    flipped.positions[:, 2] = 2 * atoms.positions[:, 2].mean() - atoms.positions[:, 2]
    assert abs(float(model(graph_of(flipped))["energy"]) - energy) > 1e-6


def test_a_surface_pushes_back_along_its_normal_only():
    """Momentum along the normal goes to the wall: minus the force on the molecule is the force on the surface."""
    model, atoms = beside("surface", "Cinfv"), lifted()
    total = model(graph_of(atoms))["forces"].sum(0)
    assert total[:2].abs().max() < 1e-12
    assert abs(float(total[2])) > 1e-4
    step = 1e-4
    up, down = atoms.copy(), atoms.copy()
    up.positions[:, 2] += step
    down.positions[:, 2] -= step
    slope = float(model(graph_of(up))["energy"] - model(graph_of(down))["energy"]) / (2 * step)
    assert -slope == pytest.approx(float(total[2]), abs=1e-6)


def test_far_from_the_surface_it_is_not_felt():
    model = beside("surface", "Cinfv")
    total = model(graph_of(lifted(60.0)))["forces"].sum(0)
    assert total.abs().max() < 1e-12


@pytest.mark.parametrize("group", ["Cinfv", "SO2"])
def test_kernels_see_the_height_of_either_end_of_an_edge_and_how_far_is_no_more_than_far(group):
    model = beside("surface", group, num_layers=2)

    def kernel(first, second):
        """Filter fields of the edge from the first atom to the second, of the first interaction."""
        atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])
        edges = model.prepare(graph_of(atoms))
        places = torch.tensor([[0.0, 0, first], [0.0, 0, second]], dtype=torch.float64)
        interaction, species = model.interactions[0], edges["species"]
        factors = None if model.factors is None else model.factors(species, places)
        ends = interaction.ends(model.first_features(species, edges, places), species, factors=factors)
        fields = interaction.filter_fields(*ends, Edges(edges["senders"], edges["owners"], edges["vectors"], None))
        return fields.fields() if hasattr(fields, "fields") else fields

    near = kernel(1.0, 2.0)
    assert (kernel(1.5, 2.0) - near).abs().max() > 1e-4
    assert (kernel(1.0, 2.5) - near).abs().max() > 1e-4
    torch.testing.assert_close(kernel(60.0, 61.0), kernel(600.0, 70.0), atol=1e-12, rtol=0)
    assert (kernel(60.0, 61.0) - near).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("kind", "group"), [("surface", "Cinfv"), ("surface", "SO2"), ("wire", "Dinfh"), ("site", "C1")]
)
def test_at_first_nothing_stands_outside_and_a_field_acts_on_every_atom_by_itself(kind, group):
    torch.manual_seed(0)
    options = {"num_channels": 2, "num_layers": 1, "l_max": 2, "correlation": 2}
    model = InteratomicPotential(["H", "C", "O"], CUTOFF, group=group, inputs=[kind], **options).double().eval()
    near, far = lifted(1.0), lifted(1.0)
    far.positions += 60.0

    def energy(atoms):
        return float(model(graph_of(atoms))["energy"])

    assert energy(near) == pytest.approx(energy(far), abs=1e-12)
    torch.nn.init.normal_(model.field.linear.weight)
    alone = sum(energy(near[[i]]) - energy(far[[i]]) for i in range(len(near)))
    assert abs(alone) > 1e-2
    assert energy(near) - energy(far) == pytest.approx(alone, abs=1e-10)


@pytest.mark.parametrize(
    ("kind", "group"), [("surface", "Cinfv"), ("surface", "C4v"), ("wire", "Dinfh"), ("site", "Oh")]
)
def test_molecule_and_surroundings_may_be_turned_together(kind, group):
    """Any orientation and place: forces and stresses come out in the laboratory's frame."""
    model = beside(kind, group)
    turn, shift = Rotation.from_rotvec([1.0, -0.7, 0.4]).as_matrix(), np.array([5.0, -3.0, 2.0])
    for atoms in [lifted(), *[sheet()] * (kind == "surface")]:
        before = model(graph_of(atoms), stress=True, atomic_stress=True)
        moved = atoms.copy()
        moved.positions, moved.cell = atoms.positions @ turn.T + shift, atoms.cell.array @ turn.T
        moved.info.update(surface_normal=3 * turn[:, 2], surface_origin=shift, surface_x=turn[:, 0] + turn[:, 2])
        after = model(graph_of(moved), stress=True, atomic_stress=True)
        g = torch.from_numpy(turn)
        assert float(after["energy"] - before["energy"]) == pytest.approx(0, abs=1e-10)
        torch.testing.assert_close(after["forces"], before["forces"] @ g.T, atol=1e-10, rtol=0)
        torch.testing.assert_close(after["stress"], g @ before["stress"] @ g.T, atol=1e-10, rtol=0, equal_nan=True)
        torch.testing.assert_close(after["atomic_virials"], g @ before["atomic_virials"] @ g.T, atol=1e-10, rtol=0)


def test_for_axial_groups_any_direction_across_the_normal_is_equally_good():
    model, atoms = beside("surface", "Cinfv"), lifted()
    energies = []
    for x in (None, [1, 0, 0.3], [0.2, -1, 0]):
        atoms.info = {"surface_normal": [0.3, 0.2, 1.0]} | ({} if x is None else {"surface_x": x})
        energies.append(float(model(graph_of(atoms))["energy"]))
    np.testing.assert_allclose(energies, energies[0], atol=1e-10)


def test_groups_with_directions_across_need_one():
    model = beside("surface", "C4v")
    with pytest.raises(MissingInputError, match="surface_x"):
        model(graph_of(lifted(surface_normal=[0, 1, 0])))


def test_a_group_must_keep_what_the_surroundings_fix():
    with pytest.raises(ValueError, match="O3 does not keep a surface"):
        InteratomicPotential(["H"], group="O3", inputs=["surface"])
    with pytest.raises(ValueError, match="Td does not keep a wire"):
        InteratomicPotential(["H"], group="Td", inputs=["wire"])
    with pytest.raises(ValueError, match="one kind of surroundings at most; got site, surface"):
        InteratomicPotential(["H"], group="C4v", inputs=["surface", "site"])


def test_heights_do_not_repeat():
    atoms = sheet()
    atoms.pbc = True
    with pytest.raises(DataError, match="periodic in a direction in which the surface"):
        beside("surface", "Cinfv")(graph_of(atoms))


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"surface_normal": [0, 0]}, "three finite numbers"),
        ({"surface_normal": [0, 0, 0]}, "must not be zero"),
        ({"surface_origin": "here"}, "three finite numbers"),
        ({"surface_x": [1, 0, 0]}, "must be given with a"),
        ({"surface_x": [0, 0, 1], "surface_normal": [0, 0, -2]}, "must be given with a"),
    ],
)
def test_senseless_vectors_are_named(info, message):
    with pytest.raises(DataError, match=message):
        build_graph(lifted(**info), CUTOFF)
