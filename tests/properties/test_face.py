"""Potentials over crystal faces: exact symmetry of all plane groups, nothing beyond it, strains, periods."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import batch_graphs, build_graph
from ik_e3nn.symmetry import PlaneGroup
from ik_e3nn.symmetry.plane import GENERATORS
from tests.properties.test_potential import CUTOFF, graph_of, potential

HEXAGONAL = [[2.6, 0.0], [-1.3, 1.3 * math.sqrt(3)]]
CELLS = {"3": HEXAGONAL, "6": HEXAGONAL, "4": [[2.6, 0.0], [0.0, 2.6]]}


def cell_of(name):
    """A lattice for a plane group, with no more symmetry than it needs."""
    if name in ("p1", "p2"):
        return [[2.4, 0.3], [0.5, 2.9]]
    return CELLS.get(name[1], [[2.4, 0.0], [0.0, 3.1]])


def over(plane, **options):
    options = {"num_channels": 2, "num_layers": 1, "l_max": 2, "correlation": 2} | options
    return potential(group=plane, inputs=["face"], **options)


def adsorbed(plane, height=1.0):
    """A molecule near a face, in no special orientation."""
    atoms = molecule("CH3OH")
    atoms.rattle(0.1, seed=1)
    atoms.rotate(40, (1, 2, 3))
    atoms.positions += [0.3, -0.2, height - atoms.positions[:, 2].min()]
    atoms.info["surface_cell"] = np.pad(plane.cell.numpy(), ((0, 0), (0, 1)))
    return atoms


def moved(atoms, plane, R, t):
    """The structure after an operation on fractional coordinates."""
    cell = plane.cell.numpy()
    after = atoms.copy()
    g = np.eye(3)
    g[:2, :2] = cell.T @ np.asarray(R) @ np.linalg.inv(cell.T)
    after.positions = atoms.positions @ g.T
    after.positions[:, :2] += np.asarray(t) @ cell
    return after, torch.from_numpy(g)


def candidates(plane):
    """Operations of all plane groups that are possible in a lattice, with shifts by halves and thirds."""
    metric = plane.cell @ plane.cell.T
    steps = range(-1, 2)
    matrices = [np.array([[a, b], [c, d]]) for a in steps for b in steps for c in steps for d in steps]
    kept = [R for R in matrices if np.abs(R.T @ metric.numpy() @ R - metric.numpy()).max() < 1e-9]
    shifts = [(x, y) for x in (0, 0.5) for y in (0, 0.5)] + [(1 / 3, 2 / 3), (1 / 3, 1 / 3), (0.25, 0.0), (0.17, 0.31)]
    return [(R, np.array(t)) for R in kept for t in shifts]


def contains(plane, R, t):
    pairs = zip(plane.rotations.numpy(), plane.shifts.numpy(), strict=True)
    return any((S == R).all() and np.abs((s - t) - np.round(s - t)).max() < 1e-9 for S, s in pairs)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_energy_has_the_symmetry_of_the_plane_group_and_no_more(name):
    plane = PlaneGroup(name, cell_of(name))
    model, atoms = over(plane), adsorbed(plane)
    before = model(graph_of(atoms))
    for number, (R, t) in enumerate(zip(plane.rotations.numpy(), plane.shifts.numpy(), strict=True)):
        after, g = moved(atoms, plane, R, [t[0] + number, t[1] - 2])
        out = model(graph_of(after))
        assert abs(float(out["energy"] - before["energy"])) < 1e-10
        torch.testing.assert_close(out["forces"], before["forces"] @ g.T, atol=1e-10, rtol=0)
    wrong = [op for op in candidates(plane) if not contains(plane, *op)]
    assert len(wrong) >= 6
    graphs = batch_graphs([graph_of(moved(atoms, plane, *op)[0]) for op in wrong])
    energies = model(graphs, forces=False)["energy"] - before["energy"]
    assert energies.abs().min() > 1e-6, wrong[int(energies.abs().argmin())]


def test_single_atoms_are_bound_to_sites():
    plane = PlaneGroup("p4m", cell_of("p4m"))
    model = over(plane)

    def energy(u, height):
        position = [*(np.array(u) @ plane.cell.numpy()), height]
        return float(model(graph_of(Atoms("O", [position], info=adsorbed(plane).info)))["energy"])

    assert energy([0.3, 0.1], 1.0) == pytest.approx(energy([-0.1, 1.3], 1.0), abs=1e-12)
    assert abs(energy([0.3, 0.1], 1.0) - energy([0.5, 0.5], 1.0)) > 1e-3
    assert energy([0.3, 0.1], 60.0) == pytest.approx(energy([0.5, 0.5], 60.0), abs=1e-12)


def test_far_from_the_face_it_is_isotropic():
    plane = PlaneGroup("p3", cell_of("p3"))
    model, atoms = over(plane, num_layers=2), adsorbed(plane, 60.0)
    turned = atoms.copy()
    turned.rotate(50, (1, -2, 0.4), center="COM")
    difference = float(model(graph_of(atoms))["energy"] - model(graph_of(turned))["energy"])
    assert difference == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("name", ["p6m", "pg", "p1"])
def test_molecule_and_face_may_be_turned_together(name):
    plane = PlaneGroup(name, cell_of(name))
    model, atoms = over(plane), adsorbed(plane)
    turn, shift = Rotation.from_rotvec([1.0, -0.7, 0.4]).as_matrix(), np.array([5.0, -3.0, 2.0])
    after = atoms.copy()
    after.positions = atoms.positions @ turn.T + shift
    after.info.update(surface_cell=atoms.info["surface_cell"] @ turn.T, surface_origin=shift)
    first, second = model(graph_of(atoms)), model(graph_of(after))
    assert float(second["energy"]) == pytest.approx(float(first["energy"]), abs=1e-10)
    torch.testing.assert_close(second["forces"], first["forces"] @ torch.from_numpy(turn).T, atol=1e-10, rtol=0)
    after.info["surface_normal"] = 2 * turn[:, 2]
    assert float(model(graph_of(after))["energy"]) == float(second["energy"])
    after.info["surface_normal"] = -turn[:, 2]
    with pytest.raises(DataError, match="surface_normal must be the direction of the cross product"):
        model(graph_of(after))


@pytest.mark.parametrize(
    "strain", [np.zeros((2, 2)), np.array([[0.03, 0.05], [0.05, -0.02]])], ids=["ideal", "strained"]
)
def test_forces_and_stress_are_derivatives(strain):
    """Stress is for strains of structure and lattice together, along the face."""
    plane = PlaneGroup("p3m1", cell_of("p3m1"))
    model, atoms = over(plane, num_layers=2), adsorbed(plane)
    stretch = np.eye(3)
    stretch[:2, :2] += strain
    atoms.info["surface_cell"] = atoms.info["surface_cell"] @ stretch
    atoms.info["surface_origin"] = [0.2, 0.7, -0.1]
    atoms.cell = np.concatenate([np.array([[3, 1], [1, 4]]) @ atoms.info["surface_cell"], [[0, 0, 15.0]]])
    atoms.pbc = (True, True, False)
    turn = Rotation.from_rotvec([0.5, 0.2, -0.9]).as_matrix()  # in no special frame
    atoms.positions, atoms.cell = atoms.positions @ turn.T, atoms.cell.array @ turn.T
    atoms.info["surface_cell"] = atoms.info["surface_cell"] @ turn.T
    atoms.info["surface_origin"] = turn @ atoms.info["surface_origin"]
    out = model(graph_of(atoms), stress=True, atomic_stress=True)
    step = 1e-4

    def energy(shift=0.0, epsilon=0.0):
        after, F = atoms.copy(), np.eye(3) + epsilon
        after.positions = (atoms.positions + shift) @ F
        after.cell = atoms.cell.array @ F
        for key in ("surface_cell", "surface_origin"):
            after.info[key] = np.asarray(atoms.info[key]) @ F
        return float(model(graph_of(after), forces=False)["energy"])

    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        shift = np.zeros((len(atoms), 3))
        shift[atom, axis] = step
        slope = (energy(shift) - energy(-shift)) / (2 * step)
        assert -slope == pytest.approx(float(out["forces"][atom, axis]), abs=1e-6)
    volume, found = atoms.get_volume(), out["stress"][0].numpy()
    for a, b in ((0, 0), (1, 1), (0, 1)):
        epsilon = step * np.outer(turn[:, a], turn[:, b])
        epsilon = 0.5 * (epsilon + epsilon.T)
        slope = (energy(epsilon=epsilon) - energy(epsilon=-epsilon)) / (2 * step)
        assert abs(slope) > 1e-3
        assert slope == pytest.approx(turn[:, a] @ found @ turn[:, b] * volume, abs=2e-6)
    np.testing.assert_allclose(found @ turn[:, 2], 0, atol=1e-12)
    torch.testing.assert_close(out["atomic_virials"].sum(0) / volume, out["stress"][0], atol=1e-10, rtol=0)


def test_a_strained_lattice_keeps_the_symmetry_that_is_left():
    plane = PlaneGroup("p4m", cell_of("p4m"))
    model, atoms = over(plane), adsorbed(plane)
    atoms.info["surface_cell"] = atoms.info["surface_cell"] @ np.diag([1.05, 0.98, 1.0])
    energy = float(model(graph_of(atoms))["energy"])
    for g, t, kept in (
        (np.diag([-1.0, 1, 1]), (2, 1), True),
        (np.diag([-1.0, -1, 1]), (0, 0), True),
        (np.eye(3)[[1, 0, 2]], (0, 0), False),
    ):
        after = atoms.copy()
        after.positions = atoms.positions @ g.T + np.array(t) @ atoms.info["surface_cell"]
        assert (abs(float(model(graph_of(after))["energy"]) - energy) < 1e-10) == kept
    relaxed = adsorbed(plane)
    assert abs(float(model(graph_of(relaxed))["energy"]) - energy) > 1e-4


def test_a_layer_over_the_face_has_the_period_of_both():
    plane = PlaneGroup("cm", cell_of("cm"))
    model, atoms = over(plane), adsorbed(plane)
    a1, a2 = atoms.info["surface_cell"]
    atoms.cell, atoms.pbc = [2 * a1, 0.5 * a1 + 1.5 * a2, [0, 0, 20]], (True, True, False)
    out = model(graph_of(atoms))
    twice = atoms.repeat((2, 1, 1))
    assert float(model(graph_of(twice))["energy"]) == pytest.approx(2 * float(out["energy"]), abs=1e-9)
    image = atoms.copy()
    image.positions[0] += atoms.cell[1]
    torch.testing.assert_close(model(graph_of(image))["forces"], out["forces"], atol=1e-10, rtol=0)
    atoms.cell[0] *= 1.01
    with pytest.raises(DataError, match="cell vector 1 of structure 0, .* is no lattice vector of the face"):
        model(graph_of(atoms))
    atoms.cell[0] /= 1.01
    atoms.pbc = True
    with pytest.raises(DataError, match="cell vector 3"):
        model(graph_of(atoms))


def test_far_along_the_face_single_precision_is_as_good():
    plane = PlaneGroup("p6m", cell_of("p6m"))
    model, atoms = over(plane, dtype=torch.float32), adsorbed(plane)
    far = atoms.copy()
    far.positions += 30_000 * atoms.info["surface_cell"][0]
    near, there = (model(build_graph(one, CUTOFF)) for one in (atoms, far))
    torch.testing.assert_close(there["forces"], near["forces"], atol=2e-5, rtol=0)


def test_what_does_not_fit_is_named():
    plane = PlaneGroup("p4m", cell_of("p4m"))
    model, atoms = over(plane), adsorbed(plane)
    atoms.info["surface_cell"] = 2 * atoms.info["surface_cell"]
    with pytest.raises(DataError, match="strained by 100 % against the face of the model"):
        model(graph_of(atoms))
    for value, message in ((np.eye(3), "two vectors of three numbers"), ([[1, 0, 0], [2, 0, 0]], "span a plane")):
        atoms.info["surface_cell"] = value
        with pytest.raises(DataError, match=message):
            graph_of(atoms)
    del atoms.info["surface_cell"]
    with pytest.raises(MissingInputError, match="the structure must give its lattice"):
        model(graph_of(atoms))
    for group, inputs in (("C4v", ["face"]), (plane, ["surface"]), (plane.to_config(), [])):
        with pytest.raises(ValueError, match="group of a potential with inputs"):
            potential(group=group, inputs=inputs)
