import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError

from ik_e3nn.errors import DataError, ModelFileError
from ik_e3nn.models import Committee, InteratomicPotential, LastLayerEnsemble, save_model, save_uncertainty
from ik_e3nn.models.uncertainty.last_layer import directions_of
from ik_e3nn_calculators import IKCalculator, MDSettings, RelaxSettings, run_md, run_relax

SIZES = {"num_channels": 4, "num_layers": 1, "l_max": 1, "correlation": 2, "r_max": 4.0}


@pytest.fixture
def files(tmp_path):
    paths = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = InteratomicPotential(["H", "O"], **SIZES).double()
        paths.append(tmp_path / f"{seed}.safetensors")
        save_model(model, paths[-1])
    return paths


def test_a_committee_of_files_has_stds_in_real_units(files):
    atoms = molecule("H2O")
    atoms.calc = IKCalculator(files, device="cpu")
    singles = [IKCalculator(path, device="cpu") for path in files]
    energies = [calc.get_potential_energy(atoms) for calc in singles]
    forces = np.stack([calc.get_forces(atoms) for calc in singles])
    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies), abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), forces.mean(0), atol=1e-12)
    assert "energy_std" not in atoms.calc.results
    before = atoms.get_forces().copy()
    assert atoms.calc.get_property("energy_std", atoms) == pytest.approx(np.std(energies, ddof=1), rel=1e-10)
    np.testing.assert_allclose(atoms.calc.get_property("forces_std", atoms), forces.std(0, ddof=1), rtol=1e-9)
    assert np.array_equal(atoms.get_forces(), before)
    atoms.positions[0] += 0.1
    assert atoms.calc.get_property("energy_std", atoms) != pytest.approx(np.std(energies, ddof=1), rel=1e-6)


def test_one_model_without_a_file_has_none(files):
    atoms = molecule("H2O")
    calc = IKCalculator(files[0], device="cpu")
    assert "energy_std" not in calc.implemented_properties
    with pytest.raises(PropertyNotImplementedError):
        calc.get_property("energy_std", atoms)
    assert "energy_std" not in IKCalculator.implemented_properties


def test_calibrated_files_are_applied_and_belong_to_their_models(files, tmp_path):
    from ik_e3nn.models import load_model

    atoms, models = molecule("H2O"), [load_model(path) for path in files]
    committee = Committee(models)
    committee.calibrate({"energy": 2.0, "forces": 5.0})
    save_uncertainty(committee, tmp_path / "c")
    raw, scaled = IKCalculator(files, device="cpu"), IKCalculator(files, device="cpu", uncertainty=tmp_path / "c")
    for name, factor in (("energy_std", 2.0), ("forces_std", 5.0)):
        np.testing.assert_allclose(scaled.get_property(name, atoms), factor * raw.get_property(name, atoms), rtol=1e-9)
    root = 0.1 * torch.eye(16, dtype=torch.float64)
    single = LastLayerEnsemble(models[0], {"energy": root}, directions_of(root, 4))
    save_uncertainty(single, tmp_path / "l")
    for dtype, tolerance in ((None, 1e-12), ("float32", 1e-5)):
        calc = IKCalculator(files[0], device="cpu", dtype=dtype, uncertainty=tmp_path / "l", max_edges=4)
        assert calc.get_property("forces_std", atoms).shape == (3, 3)
        assert calc.get_property("energy_std", atoms) > 1e-4
        expected = IKCalculator(files[0], device="cpu").get_forces(atoms)
        np.testing.assert_allclose(calc.get_forces(atoms), expected, rtol=0, atol=tolerance)
    with pytest.raises(ModelFileError, match="with other weights"):
        IKCalculator(files[1], device="cpu", uncertainty=tmp_path / "l")
    with pytest.raises(DataError, match="a committee needs at least two models, got 1"):
        IKCalculator(files[:1], device="cpu")
    with pytest.raises(TypeError, match="model must be a model file or an InteratomicPotential, got int"):
        IKCalculator([3], device="cpu")
    with pytest.raises(DataError, match="only an InteratomicPotential can leave out fixed atoms, got Committee"):
        IKCalculator(files, device="cpu", skip_fixed=True)


def test_the_error_without_a_base_model_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("ik_e3nn.models.files.pretrained.FOLDER", tmp_path)
    message = r"comes without the base model .* give a model file .* `python examples/08_base_model.py"
    with pytest.raises(ModelFileError, match=message):
        IKCalculator("base")
    with pytest.raises(ModelFileError, match=message):
        run_md(MDSettings("O", steps=1, output=str(tmp_path / "md")))
    assert not (tmp_path / "md").exists()


@pytest.mark.parametrize("arguments", [(), (None,)])
def test_a_calculator_must_be_given_its_model(arguments):
    message = (
        "IKCalculator got no model; expected a model file, a potential, a list of them for a committee, or 'base'. "
        r"IKCalculator\('base'\) uses the base model .* for small molecules at GFN2-xTB level"
    )
    with pytest.raises(TypeError, match=message):
        IKCalculator(*arguments, device="cpu")


def test_the_base_model_is_asked_for_by_its_name_and_the_default_of_runs(files, tmp_path, monkeypatch):
    monkeypatch.setattr("ik_e3nn.models.files.pretrained.FOLDER", tmp_path)
    expected = IKCalculator(files[0], device="cpu").get_potential_energy(molecule("H2O"))
    files[0].rename(tmp_path / "model.safetensors")
    assert IKCalculator("base", device="cpu").get_potential_energy(molecule("H2O")) == expected
    quiet = {"device": "cpu", "progress": False, "plots": False}
    settings = MDSettings("O", steps=2, temperature=1.0, output=str(tmp_path / "md"), **quiet)
    assert run_md(settings).steps == 2
    assert run_relax(RelaxSettings("O", steps=1, output=str(tmp_path / "relax"), **quiet)).steps <= 1
