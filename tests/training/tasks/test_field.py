"""The external field that a fine-tuning fits before it trains."""

import logging

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.data import LabeledSet, StructureLabels
from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential, beside_surroundings
from ik_e3nn.training.tasks.field import fit_field, rigid_motions

SIZES = {"num_channels": 4, "num_layers": 1, "l_max": 1, "correlation": 1, "r_max": 4.0}
FACE = {"plane": "p2mg", "cell": [[3.0, 0.0], [0.0, 3.0]]}
PLACES = [
    ("surface", "SO2", False), ("surface", "C4v", True), ("wire", "Dinfh", True), ("site", "Td", False),
    ("face", FACE, True),
]  # fmt: skip


def models(kind, group, **options):
    """A model whose field is known, and the same one with a field of zero; scale and E0s are not trivial."""
    torch.manual_seed(0)
    base = InteratomicPotential(["H", "O", "S"], **SIZES).double().eval()
    base.set_scale(0.4)
    base.set_energy_reference({1: -3.0, 8: -7.0, 16: 2.0}, "test")
    known = beside_surroundings(base, kind, group, **options)
    with torch.no_grad():
        known.field.linear.weight.normal_()
    found = beside_surroundings(base, kind, group, **options)
    found.load_state_dict(known.state_dict())
    with torch.no_grad():
        found.field.linear.weight.zero_()
    return known, found


def frames(count, vectors=False):
    rng, result = np.random.default_rng(1), []
    for _ in range(count):
        atoms = molecule("H2O")
        atoms.rotate(rng.uniform(0, 180), rng.normal(size=3))
        atoms.positions += rng.uniform(-7.0, 7.0, 3)
        if vectors:
            atoms.info |= {"surface_normal": [0, 0.6, 0.8], "surface_origin": [0, 0, 1.0], "surface_x": [1.0, 0, 0]}
            atoms.info["surface_cell"] = [[3.1, 0, 0], [0, 2.32, -1.74]]  # a strained lattice of the face
        result.append(atoms)
    return result


def labeled(model, structures, energies=True, forces=True, bias=0.0):
    labels = []
    for atoms in structures:
        out = model(build_graph(atoms, model.r_max, dtype=torch.float64))
        labels.append(
            StructureLabels(
                energy=float(out["energy"]) + bias if energies else np.nan,
                forces=out["forces"].numpy() if forces else np.full((len(atoms), 3), np.nan),
                stress=np.full((3, 3), np.nan),
            )
        )
    return LabeledSet.of_labels(structures, labels)


def force_error(one, other, structures):
    graphs = [build_graph(atoms, one.r_max, dtype=torch.float64) for atoms in structures]
    return max(float((one(graph)["forces"] - other(graph)["forces"]).abs().max()) for graph in graphs)


@pytest.mark.parametrize(("kind", "group", "vectors"), PLACES)
def test_a_field_is_found(kind, group, vectors) -> None:
    known, found = models(kind, group)
    train, test = frames(24, vectors), frames(24, vectors)
    before = force_error(known, found, test)
    fit_field(found, labeled(known, train))
    assert before > 0.3
    assert force_error(known, found, test) < 1e-3 * before


def test_a_fine_field_needs_a_high_degree() -> None:
    known, found = models("site", "Td", field_degree=4)
    _, coarse = models("site", "Td")
    train, test = frames(36), frames(40)[36:]
    before = force_error(known, found, test)
    for model in (found, coarse):
        fit_field(model, labeled(known, train))
    assert force_error(known, found, test) < 0.01 * before
    assert force_error(known, coarse, test) > 0.1 * before


@pytest.mark.parametrize(("options", "least"), [({"energies": False}, 0.05), ({"forces": False}, 0.3)])
def test_forces_suffice_and_so_do_energies(caplog, options, least) -> None:
    known, found = models("surface", "Cinfv")
    train, before = frames(60), force_error(known, found, frames(30))
    with caplog.at_level(logging.INFO):
        fit_field(found, labeled(known, train, **options))
    assert "energies do not tell how strongly" in caplog.text  # all structures are within the reach of the field
    assert ("deviations of - eV/atom" in caplog.text) == ("energies" in options)
    assert force_error(known, found, frames(30)) < least * before


def test_errors_of_molecules_are_not_taken_for_a_field(caplog) -> None:
    """An energy that is wrong by a constant at every height is an error of the base."""
    known, found = models("surface", "Cinfv")
    far = frames(5)
    for atoms in far:
        atoms.positions[:, 2] += 40.0
    with caplog.at_level(logging.WARNING):
        fit_field(found, labeled(known, frames(30) + far, bias=0.4))
    assert not caplog.text
    assert force_error(known, found, frames(30)) < 1e-2
    far = Atoms("H", [[0.0, 0.0, 40.0]])
    graph = build_graph(far, known.r_max, dtype=torch.float64)
    assert abs(float(found(graph)["energy"] - known(graph)["energy"])) < 1e-9


@pytest.mark.parametrize(("kind", "group"), [("surface", "Cinfv"), ("face", FACE)])
def test_errors_inside_molecules_do_not_matter(kind, group) -> None:
    """They have no net force and no torque, from which the field is found, in single precision too."""
    known, found = models(kind, group)
    structures = frames(60, vectors=kind == "face")
    data, rng = labeled(known, structures, energies=False), np.random.default_rng(3)
    errors = []
    for atoms in structures:
        noise, rigid = rng.normal(size=3 * len(atoms)), rigid_motions(atoms)
        errors.append((noise - rigid @ (rigid.T @ noise)).reshape(-1, 3))
    data.values["forces"] += np.concatenate(errors)
    before = force_error(known, found, structures)
    fit_field(found.float(), data)
    assert np.std(errors) > 0.5
    assert force_error(known, found.double(), structures) < 0.03 * before


def test_rigid_motions_do_not_change_distances() -> None:
    atoms = molecule("C2H6")
    for motion in rigid_motions(atoms).T.reshape(-1, len(atoms), 3):
        moved = atoms.copy()
        moved.positions += 1e-6 * motion
        np.testing.assert_allclose(moved.get_all_distances(), atoms.get_all_distances(), rtol=0, atol=1e-11)
    atoms.pbc = True  # a rotation of a crystal against its cell is no rigid motion
    assert rigid_motions(atoms).shape == (24, 3)


def test_elements_without_data_feel_no_field_and_noise_makes_none() -> None:
    known, found = models("surface", "Cinfv")
    fit_field(found, labeled(known, frames(10)))
    sulfur = build_graph(Atoms("S", [[0.0, 0.0, 2.0]]), known.r_max, dtype=torch.float64)
    assert found(sulfur)["forces"].abs().max() < 1e-8
    known, found = models("surface", "Cinfv")
    with torch.no_grad():
        known.field.linear.weight.zero_()
    data = labeled(known, frames(20))
    rng = np.random.default_rng(0)
    data.values["forces"] += 0.02 * rng.normal(size=data.values["forces"].shape)
    fit_field(found, data)
    assert force_error(known, found, frames(20)) < 1e-3


def test_without_labels_the_field_stays_zero(caplog) -> None:
    known, found = models("surface", "Cinfv")
    with caplog.at_level(logging.INFO):
        fit_field(found, labeled(known, frames(3), energies=False, forces=False))
    assert not found.field.linear.weight.any()
    assert not caplog.text


def test_frames_near_a_wall_alone_do_not_give_its_energy_to_molecules(caplog) -> None:
    """Without frames far away, a constant of the composition fits as well as a field that does not vanish nearby."""
    known, found = models("surface", "Cinfv")

    def near(count):
        structures = frames(count)
        for atoms in structures:
            atoms.positions[:, 2] += 1.0 - atoms.positions[:, 2].min()
        return structures

    data = labeled(known, near(40))
    fit_field(found, data)
    assert "energies do not tell how strongly the surroundings bind H2O" in caplog.text
    graphs = [build_graph(atoms, known.r_max, dtype=torch.float64) for atoms in near(10)]
    alone = [build_graph(atoms, known.r_max, dtype=torch.float64) for atoms in [molecule("H2O")]]
    alone[0]["positions"][:, 2] += 60.0
    wanted, got = (
        torch.cat([model(graph)["energy"] - model(alone[0])["energy"] for graph in graphs]) for model in (known, found)
    )
    assert wanted.abs().min() > 0.1
    torch.testing.assert_close(got, wanted, atol=0.02, rtol=0.02)
