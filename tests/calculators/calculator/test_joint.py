"""A joint model in the calculator: its potential as if it were saved alone, and its properties where asked for."""

import copy
import csv
import pickle

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.constraints import FixAtoms
from ase.io import read, write

from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import build_molecular_graph
from ik_e3nn.models import (
    Committee,
    InteratomicPotential,
    LastLayerEnsemble,
    MolecularPropertyModel,
    compile_potential,
    save_model,
    save_uncertainty,
)
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn.models.uncertainty.last_layer import directions_of, last_weights
from ik_e3nn.targets import MECHANICS, Dipole, Intensive, Polarizability
from ik_e3nn.training import PredictSettings, predict
from ik_e3nn_calculators import IKCalculator, MDSettings, RelaxSettings, run_md, run_relax
from ik_e3nn_calculators.calculator.model import prepare_model

POTENTIAL = {"num_channels": 4, "num_layers": 2, "l_max": 1, "correlation": 1}
PROPERTIES = (Dipole("mu", "D"), Intensive("gap", "eV"), Polarizability("alpha", "a0^3"))


def make(properties=PROPERTIES, **options):
    torch.manual_seed(1)
    targets = [*MECHANICS, *properties]
    potential = POTENTIAL | options
    model = MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", r_max=4.0, potential=potential).double()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_()
    model.trained_on = Domain(max_atoms=9)
    return model.eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("joint") / "joint.safetensors"
    save_model(make(), path)
    return path


@pytest.fixture
def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def test_energies_forces_and_stress_are_those_of_the_potential_saved_alone(file, tmp_path, ethanol) -> None:
    save_model(make().potential, tmp_path / "alone.safetensors")
    crystal = bulk("C", cubic=True)
    crystal.rattle(0.05, seed=2)
    ours, alone = (IKCalculator(path, device="cpu") for path in (file, tmp_path / "alone.safetensors"))
    for atoms, names in ((ethanol, ("energy", "forces", "energies")), (crystal, ("energy", "forces", "stress"))):
        for name in names:
            found, wanted = ours.get_property(name, atoms), alone.get_property(name, atoms)
            np.testing.assert_array_equal(found, wanted)
            assert np.abs(wanted).max() > 1e-3


def test_forces_are_differences_of_energies(file, ethanol) -> None:
    ethanol.calc = IKCalculator(file, device="cpu")
    forces, step = ethanol.get_forces(), 1e-4
    for atom, axis in ((0, 0), (5, 2)):
        energies = []
        for sign in (1, -1):
            moved = ethanol.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(ethanol.calc.get_property("energy", moved))
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("skip_fixed", [False, True])
def test_properties_are_the_models_and_the_dipole_is_in_units_of_ase(file, ethanol, skip_fixed) -> None:
    model = make()
    with torch.no_grad():
        out = model(build_molecular_graph(ethanol, "radius", 4.0, dtype=torch.float64))
    ethanol.set_constraint(FixAtoms([0]))
    ethanol.calc = IKCalculator(file, device="cpu", skip_fixed=skip_fixed)
    np.testing.assert_allclose(ethanol.get_dipole_moment(), out["mu"][0].numpy() * units.Debye, rtol=1e-9)
    np.testing.assert_allclose(ethanol.calc.get_property("mu", ethanol), out["mu"][0].numpy(), rtol=1e-9)
    gap = ethanol.calc.get_property("gap", ethanol)
    assert isinstance(gap, float)
    assert gap == pytest.approx(float(out["gap"]), rel=1e-9)
    assert ethanol.calc.results["gap"] == gap
    np.testing.assert_allclose(ethanol.calc.get_property("alpha", ethanol), out["alpha"][0].numpy(), rtol=1e-9)
    assert np.linalg.norm(ethanol.get_dipole_moment()) > 0.01


def test_properties_are_computed_only_where_asked_for(file, ethanol, monkeypatch) -> None:
    calls = []
    forward = MolecularPropertyModel.forward
    monkeypatch.setattr(MolecularPropertyModel, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    ethanol.calc = IKCalculator(file, device="cpu")
    ethanol.get_potential_energy()
    ethanol.get_forces()
    assert not calls
    assert not {"mu", "gap", "dipole"} & ethanol.calc.results.keys()
    energy = ethanol.get_potential_energy()
    first = ethanol.get_dipole_moment()
    assert len(calls) == 1
    assert ethanol.get_potential_energy() == energy
    ethanol.get_dipole_moment()
    assert len(calls) == 1
    ethanol.positions[0, 0] += 0.1
    assert np.abs(ethanol.get_dipole_moment() - first).max() > 1e-6


def test_what_ase_would_take_for_something_else_is_not_offered(ethanol, caplog) -> None:
    properties = (Dipole("mu", "furlong"), Intensive("magmom", ""), Dipole("charges", "D"))
    calculator = IKCalculator(make(properties), device="cpu")
    assert "ASE's 'dipole' is not offered: the model has 'mu' in furlong, 'charges' in D; expected one" in caplog.text
    assert "ASE's 'magmom' is not offered: the model has 'magmom' in no unit" in caplog.text
    assert calculator.get_property("mu", ethanol).shape == (3,)
    for name in ("dipole", "magmom", "charges"):
        with pytest.raises(PropertyNotImplementedError):
            calculator.get_property(name, ethanol)
    for unit, factor in (("e*A", 1.0), ("ea0", units.Bohr), ("D", units.Debye)):
        model = make((Dipole("dipole", unit),))
        found = IKCalculator(model, device="cpu").get_property("dipole", ethanol)
        with torch.no_grad():
            out = model(build_molecular_graph(ethanol, "radius", 4.0, dtype=torch.float64))["dipole"][0].numpy()
        np.testing.assert_allclose(found, factor * out, rtol=1e-9)


def test_a_charge_is_an_input_as_of_a_potential(ethanol) -> None:
    calculator = IKCalculator(make(inputs=["total_charge"]), device="cpu")
    with pytest.raises(MissingInputError, match="the model needs the total charge"):
        calculator.get_property("energy", ethanol)
    found = []
    for charge in (0, 1):
        ethanol.info["charge"] = charge
        found.append([calculator.get_property(name, ethanol) for name in ("energy", "gap")])
    assert np.abs(np.subtract(*found)).min() > 1e-6


def test_what_uses_a_potential_uses_that_of_a_joint_model(file, tmp_path, ethanol) -> None:
    prepared = prepare_model(str(file), device="cpu")
    assert isinstance(prepared, InteratomicPotential)
    assert prepared.trained_on == Domain(max_atoms=9)
    committee = IKCalculator([str(file), make()], device="cpu")
    single = IKCalculator(str(file), device="cpu")
    assert committee.get_property("energy", ethanol) == pytest.approx(single.get_property("energy", ethanol))
    again = pickle.loads(pickle.dumps(single))
    assert again.get_property("gap", ethanol) == single.get_property("gap", ethanol)
    common = {"model": str(file), "device": "cpu", "progress": False}
    write(tmp_path / "a.xyz", ethanol)
    common |= {"structure": str(tmp_path / "a.xyz"), "plots": False}
    run_relax(RelaxSettings(output=str(tmp_path / "relax"), steps=2, **common))
    run_md(MDSettings(output=str(tmp_path / "md"), steps=2, **common))
    first = read(tmp_path / "md/trajectory.extxyz", 0)
    assert first.get_potential_energy() == pytest.approx(single.get_property("energy", first), abs=1e-6)


FACTORS = {"energy": 2.0, "forces": 3.0, "mu": 4.0, "gap": 5.0, "alpha": 6.0}


def joint_ensemble(kind: str, folder):
    """A calibrated joint model or committee, and the model files that its uncertainty file belongs to."""
    members = [make() for _ in range(2 if kind == "committee" else 1)]
    for seed, member in enumerate(members):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in member.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        save_model(member, folder / f"{seed}.safetensors")
    if kind == "committee":
        ensemble = Committee(members)
    else:
        roots = {name: 0.3 * torch.eye(one.numel()) for name, one in last_weights(members[0]).items()}
        ensemble = LastLayerEnsemble(members[0], roots, directions_of(roots["energy"], 5))
    ensemble.calibrate(FACTORS)
    save_uncertainty(ensemble, folder / "uncertainty.safetensors")
    return ensemble.eval(), [str(folder / f"{seed}.safetensors") for seed in range(len(members))]


@pytest.mark.parametrize("kind", ["last_layer", "committee"])
def test_standard_deviations_of_energy_forces_and_properties_are_those_of_predict(kind, tmp_path, ethanol) -> None:
    ensemble, files = joint_ensemble(kind, tmp_path)
    uncertainty = str(tmp_path / "uncertainty.safetensors")
    write(tmp_path / "ethanol.xyz", ethanol)
    files = files if len(files) > 1 else files[0]
    predict(
        PredictSettings(files, str(tmp_path / "ethanol.xyz"), str(tmp_path / "table.csv"), uncertainty, device="cpu")
    )
    with (tmp_path / "table.csv").open() as table:
        row = next(csv.DictReader(table))
    ethanol = read(tmp_path / "ethanol.xyz")
    calculator = IKCalculator(files, device="cpu", uncertainty=uncertainty)
    units_of = {"energy": "eV", "mu": "D", "gap": "eV", "alpha": "a0^3"}
    for name, unit in units_of.items():
        for one in (name, name + "_std"):
            wanted = [float(text) for column, text in row.items() if column.startswith(one) and column.endswith(unit)]
            wanted = wanted[: {"mu": 3, "alpha": 9}.get(name, 1)] if one == name else wanted
            found = np.ravel(calculator.get_property(one, ethanol))
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
            assert np.abs(found).max() > 1e-3
    outputs = ensemble(build_molecular_graph(ethanol, "radius", 4.0, dtype=torch.float64))
    for name in ("forces", "forces_std"):
        found = calculator.get_property(name, ethanol)
        np.testing.assert_allclose(found, outputs[name].detach().numpy(), rtol=1e-7, atol=1e-9)
        assert np.abs(found).max() > 1e-3
    np.testing.assert_allclose(
        calculator.get_property("dipole_std", ethanol),
        units.Debye * calculator.get_property("mu_std", ethanol),
        rtol=1e-12,
    )


def test_a_committee_of_joint_models_without_a_file_has_raw_standard_deviations(tmp_path, ethanol) -> None:
    files = joint_ensemble("committee", tmp_path)[1]
    singles = [IKCalculator(file, device="cpu").get_property("gap", ethanol) for file in files]
    committee = IKCalculator(files, device="cpu")
    assert committee.get_property("gap", ethanol) == pytest.approx(np.mean(singles), rel=1e-9)
    assert committee.get_property("gap_std", ethanol) == pytest.approx(np.std(singles, ddof=1), rel=1e-9)


def test_an_uncertainty_of_a_joint_model_without_forces_is_refused(tmp_path) -> None:
    torch.manual_seed(0)
    targets = [MECHANICS[0], Intensive("gap", "eV")]
    model = MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", r_max=4.0, potential=POTENTIAL)
    save_model(model, tmp_path / "energy.safetensors")
    roots = {name: 0.3 * torch.eye(one.numel()) for name, one in last_weights(model).items()}
    save_uncertainty(LastLayerEnsemble(model, roots), tmp_path / "u.safetensors")
    with pytest.raises(DataError, match="the models predict energy, gap; standard deviations in simulations need"):
        IKCalculator(tmp_path / "energy.safetensors", device="cpu", uncertainty=tmp_path / "u.safetensors")


def test_models_without_energies_are_refused(tmp_path) -> None:
    model = MolecularPropertyModel(["H", "C"], [Intensive("gap", "eV")])
    save_model(model, tmp_path / "gap.safetensors")
    for given in (model, str(tmp_path / "gap.safetensors")):
        with pytest.raises(
            DataError, match="the model predicts gap, but no energies, which are needed here; it is for"
        ):
            IKCalculator(given, device="cpu")
    with pytest.raises(DataError, match="only potentials are compiled, and MolecularPropertyModel predicts no energi"):
        compile_potential(model)


def test_the_potential_of_a_joint_model_is_compiled(monkeypatch) -> None:
    model, seen = copy.deepcopy(make()), []
    monkeypatch.setattr(
        "ik_e3nn.models.compiled.potential._checked", lambda potential, build, purpose: (seen.append(potential), False)
    )
    assert compile_potential(model) is False
    assert seen == [model.potential]
