import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bcc110, fcc100, fcc110, fcc111, fcc211, graphene, molecule
from scipy.spatial.transform import Rotation

from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.symmetry import SymmetryGroup

pytest.importorskip("spglib")

from ik_e3nn.data import slab_operations, suggest_face, suggest_group


@pytest.mark.parametrize(
    ("slab", "name", "order"),
    [
        (fcc100("Cu", (1, 1, 3), vacuum=8.0), "C4v", 8),
        (fcc100("Cu", (2, 2, 3), vacuum=8.0), "C4v", 8),
        (fcc111("Cu", (1, 1, 4), vacuum=8.0), "C3v", 6),
        (bcc110("Fe", (1, 1, 3), vacuum=8.0), "C2v", 4),
        (graphene("C2", vacuum=8.0), "C6v", 12),
    ],
    ids=["fcc100", "fcc100 2x2", "fcc111", "bcc110", "graphene"],
)
def test_textbook_surfaces(slab, name, order):
    slab.pbc = (True, True, False)
    group = suggest_group(slab)
    assert (group.name, group.order) == (name, order)
    for g in group.random_elements(8).numpy():
        np.testing.assert_allclose(g @ [0, 0, 1], [0, 0, 1], atol=1e-10)


def test_the_group_lies_as_the_slab_does():
    slab = fcc100("Cu", (1, 1, 3), vacuum=8.0)
    turn = Rotation.from_rotvec([0.4, -0.9, 0.3])
    slab.positions, slab.cell = turn.apply(slab.positions), turn.apply(slab.cell.array)
    group = suggest_group(slab)
    np.testing.assert_allclose(group.axis, turn.apply([0, 0, 1]), atol=1e-10)
    plain = suggest_group(fcc100("Cu", (1, 1, 3), vacuum=8.0))
    R = turn.as_matrix()
    expected = SymmetryGroup.from_generators(R @ plain.generators.numpy() @ R.T, axis=group.axis)
    for l, p in ((2, 1), (4, 1), (3, -1)):
        assert len(group.invariants(l, p)) == len(expected.invariants(l, p))
        overlap = group.invariants(l, p) @ expected.invariants(l, p).T
        np.testing.assert_allclose((overlap @ overlap.T).numpy(), np.eye(len(overlap)), atol=1e-6)


def test_a_potential_with_the_group_has_the_mirrors_of_the_slab():
    """fcc111 of ASE has a mirror across x, its close-packed direction, and none across y."""
    torch.manual_seed(0)
    slab = fcc111("Cu", (1, 1, 4), vacuum=8.0)
    slab.pbc = (True, True, False)
    model = InteratomicPotential(
        ["H", "C", "O"], 4.0, num_channels=4, num_layers=1, l_max=3, correlation=2, group=suggest_group(slab),
        inputs=["surface"],
    ).double().eval()  # fmt: skip
    with torch.no_grad():  # functions of places are zero at first
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    atoms = molecule("CH3CHO")
    atoms.rotate(40, (1, 2, 3))
    atoms.positions[:, 2] += 2.0 - atoms.positions[:, 2].min()

    def energy(mirror):
        moved = atoms.copy()
        moved.positions *= mirror
        return float(model(build_graph(moved, model.r_max, dtype=torch.float64))["energy"])

    before = energy([1, 1, 1])
    assert abs(energy([-1, 1, 1]) - before) < 1e-10
    assert abs(energy([1, -1, 1]) - before) > 1e-6


def test_an_adsorbate_lowers_the_symmetry():
    slab = fcc100("Cu", (2, 2, 3), vacuum=8.0)
    slab.append("O")
    slab.positions[-1] = slab.positions[-2] + [0.3, 0.1, 1.5]
    assert suggest_group(slab).name == "C1"


def test_what_is_no_slab_is_refused():
    with pytest.raises(DataError, match="periodic along its first two cell vectors"):
        suggest_group(molecule("H2O"))
    with pytest.raises(DataError, match="periodic along its first two cell vectors"):
        suggest_group(Atoms("Cu", cell=[3, 0, 3], pbc=True))


@pytest.mark.parametrize(
    ("slab", "count"),
    [
        (fcc100("Cu", (2, 2, 3), vacuum=8.0), 8 * 4),
        (fcc111("Cu", (3, 2, 4), vacuum=8.0), 6),  # no turn and no mirror keeps such a cell
        (fcc111("Cu", (3, 3, 4), vacuum=8.0), 6 * 9),
        (graphene("C2", size=(2, 2, 1), vacuum=8.0), 12 * 4),
    ],
    ids=["fcc100", "fcc111 3x2", "fcc111 3x3", "graphene"],
)
def test_operations_map_every_atom_onto_one_of_its_kind(slab, count):
    rotations, shifts = slab_operations(slab)
    assert len(rotations) == count
    lattice = slab.cell.array[:2]
    for rotation, shift in zip(rotations, shifts, strict=True):
        moved = slab.positions @ rotation.T + shift
        gaps = moved[:, None] - slab.positions[None]
        gaps -= np.round(gaps @ np.linalg.pinv(lattice)) @ lattice
        assert (np.linalg.norm(gaps, axis=2).min(1) < 1e-6).all()


def test_operations_of_a_slab_in_any_frame():
    slab = fcc100("Cu", (1, 1, 3), vacuum=8.0)
    turn = Rotation.from_rotvec([0.4, -0.9, 0.3])
    slab.positions, slab.cell = turn.apply(slab.positions), turn.apply(slab.cell.array)
    rotations, _ = slab_operations(slab)
    np.testing.assert_allclose(rotations @ turn.apply([0, 0, 1]), turn.apply(np.eye(3)[[2] * 8]), atol=1e-10)


@pytest.mark.parametrize(
    ("slab", "name", "area"),
    [
        (fcc111("Cu", (3, 2, 3), vacuum=8.0), "p3m1", 3.61**2 * 3**0.5 / 4),
        (fcc111("Cu", (3, 3, 1), vacuum=8.0), "p6m", 3.61**2 * 3**0.5 / 4),
        (fcc100("Cu", (3, 2, 3), vacuum=8.0), "p4m", 3.61**2 / 2),
        (fcc110("Cu", (2, 3, 4), vacuum=8.0), "pmm", 3.61**2 / 2**0.5),
        (bcc110("Fe", (2, 2, 3), vacuum=8.0), "cmm", 2.87**2 / 2**0.5),
        (fcc211("Cu", (3, 2, 3), vacuum=8.0), "pm", 3.61**2 * 6**0.5 / 2),
        (graphene("C2", size=(3, 2, 1), vacuum=8.0), "p6m", 2.46**2 * 3**0.5 / 2),
    ],
    ids=["fcc111", "one layer", "fcc100", "fcc110", "bcc110", "fcc211", "graphene"],
)
def test_the_face_of_a_slab_has_its_smallest_cell(slab, name, area):
    slab.rattle(1e-4, seed=0)
    slab.positions += [0.7, -0.4, 3.0]
    slab.pbc = (True, True, False)
    face = suggest_face(slab)
    assert face.group.name == name
    assert np.linalg.norm(np.cross(*face.cell)) == pytest.approx(area, rel=1e-3)
    assert face.origin[2] == pytest.approx(slab.positions[:, 2].max())
    assert ("operations" in face.group.to_config()) == (name == "cmm")
    for R, t in zip(face.group.rotations.numpy(), face.group.shifts.numpy(), strict=True):
        u = (slab.positions - face.origin) @ np.linalg.pinv(face.cell)
        moved = np.column_stack([(u @ R.T + t) @ face.cell[:, :2] + face.origin[:2], slab.positions[:, 2]])
        gaps = moved[:, None] - slab.positions[None]
        gaps -= np.round(gaps @ np.linalg.pinv(face.cell)) @ face.cell  # atoms of the smallest cell suffice
        assert (np.linalg.norm(gaps, axis=2).min(1) < 5e-3).all()


def test_a_slab_with_a_defect_keeps_its_large_cell():
    slab = fcc100("Cu", (2, 2, 3), vacuum=8.0)
    del slab[-1]
    face = suggest_face(slab)
    assert face.group.name == "p4m"
    assert np.linalg.norm(np.cross(*face.cell)) == pytest.approx(4 * 3.61**2 / 2)
