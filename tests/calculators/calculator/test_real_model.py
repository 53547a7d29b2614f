"""The same facts for a small learned potential, through a model file."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.errors import ModelFileError
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators import IKCalculator, MDSettings, RelaxSettings, run_md, run_relax
from ik_e3nn_calculators.calculator import code


def potential(species, **hyperparameters) -> InteratomicPotential:
    torch.manual_seed(0)
    model = InteratomicPotential(species, r_max=4.0, num_channels=4, num_layers=2, **hyperparameters)
    model.set_energy_reference({number: -10.0 * number for number in model.species}, "made up")
    model.set_average_neighbors(12.0)
    return model.double()


@pytest.fixture
def argon():
    return IKCalculator(potential([18]), device="cpu")


def test_forces_and_stress_are_derivatives_of_the_energy(periodic, argon):
    periodic.calc = argon
    forces, stress = periodic.get_forces(), periodic.get_stress()
    assert np.abs(forces).max() > 1e-3
    assert np.abs(stress).max() > 1e-5
    np.testing.assert_allclose(forces, calculate_numerical_forces(periodic, eps=1e-4), atol=1e-6)
    np.testing.assert_allclose(stress, calculate_numerical_stress(periodic, eps=1e-4), atol=1e-7)


def test_parts_sum_to_the_whole(periodic, argon):
    periodic.calc = argon
    assert periodic.get_potential_energies().sum() == pytest.approx(periodic.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(periodic.get_stresses().sum(axis=0), periodic.get_stress(), atol=1e-12)
    assert np.abs(periodic.get_forces().sum(axis=0)).max() < 1e-10


def test_code_is_made_for_the_threads_that_a_system_gets(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads, before, tiled = [], torch.get_num_threads(), []
    monkeypatch.setattr(code, "compile_potential", lambda model: threads.append(torch.get_num_threads()))
    monkeypatch.setattr(code, "compile_layers", lambda model: tiled.append(torch.get_num_threads()))
    calculator = IKCalculator(potential([18]), device="cpu", compile=True)
    torch.set_num_threads(2)
    try:
        for repeat in (1, 1, 3, 3, 1):  # 48 edges, or 1,296
            atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * repeat
            atoms.calc = calculator
            atoms.get_potential_energy()
        assert (threads, tiled) == ([1, 2], [])
        calculator.evaluator.max_edges = 1000
        for _ in range(2):
            calculator.reset()
            atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * 3
            atoms.calc = calculator
            atoms.get_potential_energy()
    finally:
        torch.set_num_threads(before)
    assert (threads, tiled) == ([1, 2], [2])


def test_single_atom_has_its_reference_energy(argon):
    atom = Atoms("Ar", calculator=argon)
    far = Atoms("Ar2", positions=[[0, 0, 0], [9.0, 0, 0]], calculator=argon)
    energy = atom.get_potential_energy()
    assert far.get_potential_energy() == pytest.approx(2 * energy, abs=1e-12)
    assert not atom.get_forces().any()


def test_bonds_and_charge_matter():
    calculator = IKCalculator(potential([1, 6, 8], inputs=["bond_types", "total_charge"]), device="cpu")
    ethanol = molecule_from_smiles("CCO")
    ethanol.calc = calculator
    energies = [ethanol.get_potential_energy()]
    ethanol.info["charge"] = 1
    energies.append(ethanol.get_potential_energy())
    ethanol.info["bonds"] = np.array(ethanol.info["bonds"])
    ethanol.info["bonds"][2] = 2
    energies.append(ethanol.get_potential_energy())
    assert len({round(energy, 9) for energy in energies}) == 3
    np.testing.assert_allclose(ethanol.get_forces(), calculate_numerical_forces(ethanol, eps=1e-4), atol=1e-6)


def test_two_dtypes_from_one_file(tmp_path):
    save_model(potential([1, 6, 8]), tmp_path / "model.safetensors")
    single = IKCalculator(tmp_path / "model.safetensors", device="cpu", dtype="float32")
    double = IKCalculator(tmp_path / "model.safetensors", device="cpu")
    atoms = molecule("CH3CH2OH")
    results = []
    for calculator in (double, single, double):
        atoms.calc = calculator
        results.append((atoms.get_potential_energy(), atoms.get_forces()))
    assert single.evaluator.dtype == torch.float32
    assert results[0][0] == results[2][0]
    # Reference energies of some 270 eV do not cost float32 its digits: they are summed in float64.
    assert results[1][0] == pytest.approx(results[0][0], abs=2e-4)
    np.testing.assert_allclose(results[1][1], results[0][1], atol=1e-4)
    np.testing.assert_array_equal(results[2][1], results[0][1])


def test_truncated_model_file(tmp_path):
    save_model(potential([18]), tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "broken.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match=r"broken.safetensors"):
        IKCalculator(tmp_path / "broken.safetensors", device="cpu")


def test_dynamics_from_files_continues_exactly(tmp_path):
    save_model(potential([18]), tmp_path / "model.safetensors")
    box = bulk("Ar", "fcc", a=5.4, cubic=True)
    box.rattle(0.05, seed=0)
    ase.io.write(tmp_path / "box.xyz", box)
    model, structure = str(tmp_path / "model.safetensors"), str(tmp_path / "box.xyz")
    common = {"timestep": 1.0, "temperature": 50.0, "checkpoint_interval": 7, "log_interval": 2, "progress": False}
    for name, lengths in (("straight", [20]), ("parts", [9, 20])):
        for length in lengths:
            output = str(tmp_path / name)
            run_md(MDSettings(structure, model, steps=length, output=output, restart=True, device="cpu", **common))
    for name in ("log.csv", "final.extxyz"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    energies = np.loadtxt(tmp_path / "parts" / "log.csv", delimiter=",", skiprows=1)[:, 4]
    assert np.ptp(energies) < 1e-3


def test_changed_model_cannot_continue_a_run(tmp_path):
    model = tmp_path / "model.safetensors"
    save_model(potential([1, 8]), model)
    settings = MDSettings(
        "O", str(model), steps=2, output=str(tmp_path / "md"), restart=True, device="cpu", progress=False
    )
    run_md(settings)
    save_model(potential([1, 6, 8]), model, overwrite=True)
    with pytest.raises(ValueError, match=r"cannot be continued with other settings \(model_sha256"):
        run_md(settings)


def test_relaxation_goes_downhill(tmp_path):
    save_model(potential([1, 6, 8]), tmp_path / "model.safetensors")
    output, model = str(tmp_path / "relax"), str(tmp_path / "model.safetensors")
    run_relax(RelaxSettings("CO", model, steps=8, output=output, device="cpu", progress=False))
    energies = np.loadtxt(tmp_path / "relax" / "log.csv", delimiter=",", skiprows=1)[:, 1]
    assert energies[-1] < energies[0]


def test_tiles_bound_what_is_treated_at_once(periodic, argon, treated_at_once):
    periodic.calc = argon
    expected = periodic.get_forces(), periodic.get_stress()
    assert {receivers for _, receivers in treated_at_once} == {len(periodic)}
    treated_at_once.clear()
    periodic.calc = IKCalculator(argon.model, device="cpu", max_edges=1)
    np.testing.assert_allclose(periodic.get_forces(), expected[0], atol=1e-10)
    assert len(treated_at_once) >= 3 * 2  # features of the first interaction, gradients of both, several tiles each
    assert all(receivers == 1 for _, receivers in treated_at_once)
    np.testing.assert_allclose(periodic.get_stress(), expected[1], atol=1e-11)
    with pytest.raises(ValueError, match="max_edges must be a whole number of at least 1"):
        IKCalculator(argon.model, device="cpu", max_edges=0)
