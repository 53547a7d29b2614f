"""The ASE calculator of a potential that knows a surface."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from scipy.spatial.transform import Rotation

from ik_e3nn.data import StructureDataset
from ik_e3nn.data.structures.ranges import GeometryRanges
from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import CompileWarning, InteratomicPotential, compile_potential, load_model, save_model
from ik_e3nn_calculators import IKCalculator, MDSettings, RelaxSettings, run_md, run_relax
from ik_e3nn_calculators.adsorption import NEWTON_PER_METER, surface_stress
from ik_e3nn_calculators.md.settings import ExplosionLimits
from ik_e3nn_calculators.md.velocities import degrees_of_freedom


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    options = {"num_channels": 4, "num_layers": 1, "l_max": 1, "l_features": 1, "correlation": 2}
    potential = InteratomicPotential(["H", "O"], 4.0, group="Cinfv", inputs=["surface"], **options).double().eval()
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return potential


def water(**info):
    atoms = molecule("H2O")
    atoms.rotate(30, (1, 2, 3))
    atoms.positions[:, 2] += 2.0
    atoms.info.update(info)
    return atoms


def test_forces_are_the_gradient_of_the_energy(model):
    atoms = water()
    atoms.calc = IKCalculator(model)
    forces = atoms.get_forces()
    for atom, axis in ((0, 2), (1, 0), (2, 2)):
        energies = []
        for h in (1e-4, -1e-4):
            moved = atoms.copy()
            moved.positions[atom, axis] += h
            moved.calc = atoms.calc
            energies.append(moved.get_potential_energy())
        assert -(energies[0] - energies[1]) / 2e-4 == pytest.approx(forces[atom, axis], abs=1e-6)


def test_a_surface_that_is_moved_is_noticed(model):
    atoms = water()
    atoms.calc = IKCalculator(model)
    first = atoms.get_potential_energy()
    atoms.info["surface_origin"] = [0.0, 0.0, 0.5]
    second = atoms.get_potential_energy()
    assert abs(first - second) > 1e-5
    atoms.positions[:, 2] += 0.5
    assert atoms.get_potential_energy() == pytest.approx(first, abs=1e-10)
    turn = Rotation.from_rotvec([0.2, 0.9, -0.3]).as_matrix()
    atoms.positions = atoms.positions @ turn.T
    atoms.info.update(surface_normal=turn[:, 2], surface_origin=0.5 * turn[:, 2])
    assert atoms.get_potential_energy() == pytest.approx(first, abs=1e-10)


def test_momentum_goes_to_the_wall(model):
    atoms = water()
    atoms.calc = IKCalculator(model)
    assert degrees_of_freedom(atoms, conserved=True) == 9


def test_stress_of_a_layer_is_lateral(model):
    atoms = water()
    with pytest.raises(PropertyNotImplementedError):
        IKCalculator(model).get_stress(atoms)
    atoms.cell, atoms.pbc = [5.0, 6.0, 30.0], (True, True, False)
    atoms.calc = IKCalculator(model)
    stress = atoms.get_stress(voigt=False)
    assert np.abs(stress[:2, :2]).max() > 1e-6
    assert np.abs(stress[2]).max() == 0
    atoms.pbc = True
    with pytest.raises(DataError, match="periodic in a direction"):
        atoms.get_potential_energy()


def test_the_stress_of_a_film_is_what_stretching_it_sideways_costs(model):
    """Energy by lateral strain, per area, however high the cell is; across the film there is nothing to stretch."""
    film = water()
    film.cell, film.pbc = [[4.0, 0, 0], [1.0, 4.5, 0], [0, 0, 30.0]], (True, True, False)
    film.calc = IKCalculator(model)
    stress = surface_stress(film)
    area, step, expected = 18.0, 1e-4, np.zeros((3, 3))
    for i, j in ((0, 0), (1, 1), (0, 1)):
        energies = []
        for h in (step, -step):
            strain = np.eye(3)
            strain[i, j] += h / 2
            strain[j, i] += h / 2
            strained = film.copy()
            strained.set_cell(film.cell.array @ strain, scale_atoms=False)
            strained.positions = film.positions @ strain
            strained.calc = film.calc
            energies.append(strained.get_potential_energy())
        expected[i, j] = expected[j, i] = (energies[0] - energies[1]) / (2 * step) / area * NEWTON_PER_METER
    assert np.abs(expected[:2, :2]).min() > 1e-6
    np.testing.assert_allclose(stress, expected, atol=1e-6)
    film.cell[2, 2] = 60.0
    np.testing.assert_allclose(surface_stress(film), expected, atol=1e-6)


def test_the_file_keeps_the_surroundings(model, tmp_path):
    save_model(model, tmp_path / "m.safetensors")
    atoms = water()
    energies = []
    for potential in (model, load_model(tmp_path / "m.safetensors")):
        atoms.calc = IKCalculator(potential)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-10)


@pytest.mark.slow
def test_compiled(model, tmp_path, quickest_compiler):
    atoms = water()
    atoms.calc = IKCalculator(model)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    calculator = IKCalculator(model)
    try:
        compile_potential(calculator.model, cache=tmp_path)
    except CompileWarning:
        pytest.skip("no compiler")
    atoms.calc = calculator
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-9)


def test_data_sets_carry_surfaces_of_all_structures_or_of_none():
    everywhere = [water(surface_normal=[0, 0, 1]), water(surface_normal=[0, 1, 0])]
    graphs = StructureDataset(everywhere, 4.0, inputs=["surface"])
    assert graphs[1]["surface_normal"].tolist() == [[0, 1, 0]]
    mixed = [water(), water(surface_normal=[0, 1, 0])]
    with pytest.raises(MissingInputError, match="the model needs surface_normal, but 1 of 2 structures"):
        StructureDataset(mixed, 4.0, inputs=["surface"])
    assert "surface_normal" not in StructureDataset(mixed, 4.0)[1]


@pytest.mark.parametrize(("height", "warned"), [(2.0, False), (1.85, False), (1.5, True)])
def test_one_warning_of_atoms_below_all_heights_of_the_training_data(model, tmp_path, caplog, height, warned):
    known = GeometryRanges.of([water(), Atoms("HO", [[0, 0, 2.0], [0, 0, 3.0]])], surface=True)
    save_model(model, tmp_path / "m.safetensors", {"geometry": known.to_json()})
    atoms = Atoms("HO", [[0, 0, height + min(known.heights["H"][0] - 2.0, 0.0)], [0, 0, 4.0]])
    common = {"model": str(tmp_path / "m.safetensors"), "progress": False, "plots": False}
    atoms.positions[0, 0] = 2.5
    run_relax(RelaxSettings("unused", steps=1, output=str(tmp_path / "relax"), **common), atoms=atoms)
    limits = ExplosionLimits(leaving=False)
    run_md(MDSettings("unused", steps=1, output=str(tmp_path / "md"), limits=limits, **common), atoms=atoms)
    said = [one.getMessage() for one in caplog.records if "over the surface, far below" in one.getMessage()]
    assert len(said) == 2 * warned
    assert all("atom 0 (H) is " in text for text in said)


def test_a_face_in_the_calculator_and_in_dynamics(tmp_path):
    """The lattice is noticed when it changes, kept by runs, and a cell that changes alone is refused."""
    torch.manual_seed(0)
    options = {"num_channels": 2, "num_layers": 1, "l_max": 1, "correlation": 2}
    group = {"plane": "p4m", "cell": [[2.5, 0.0], [0.0, 2.5]]}
    face = InteratomicPotential(["H", "O"], 4.0, group=group, inputs=["face"], **options).double().eval()
    with torch.no_grad():
        for parameter in face.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    atoms = water(surface_cell=[[2.5, 0, 0], [0, 2.5, 0]])
    atoms.calc = IKCalculator(face)
    first = atoms.get_potential_energy()
    atoms.info["surface_cell"] = [[2.6, 0, 0], [0, 2.5, 0]]
    assert abs(atoms.get_potential_energy() - first) > 1e-6
    atoms.info["surface_cell"] = [[2.5, 0, 0], [0, 2.5, 0]]
    save_model(face, tmp_path / "face.safetensors")
    atoms.write(tmp_path / "water.xyz", format="extxyz")
    settings = MDSettings(
        str(tmp_path / "water.xyz"), str(tmp_path / "face.safetensors"), steps=20, timestep=0.25, temperature=50.0,
        output=str(tmp_path / "md"), dtype="float64", device="cpu", progress=False, plots=False,
    )  # fmt: skip
    summary = run_md(settings)
    last = ase.io.read(summary.trajectory, -1)
    np.testing.assert_allclose(last.info["surface_cell"], atoms.info["surface_cell"])
    energy = float(face(build_graph(last, 4.0, dtype=torch.float64))["energy"])
    assert energy == pytest.approx(last.get_potential_energy(), abs=1e-6)
    atoms.cell, atoms.pbc = [5.0, 7.5, 20.0], (True, True, False)
    atoms.get_stress()
    atoms.set_cell([5.05, 7.5, 20.0], scale_atoms=True)
    with pytest.raises(DataError, match="is no lattice vector of the face"):
        atoms.get_forces()
