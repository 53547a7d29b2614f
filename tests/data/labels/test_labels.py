"""Labels are found wherever they are, converted, counted, and never lost silently."""

import logging

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from ase.stress import full_3x3_to_voigt_6_stress

from ik_e3nn.data import LabelKeys, read_labels, write_structures
from ik_e3nn.data.checking.check import CheckSettings, check
from ik_e3nn.data.labels.own_labels import with_own_labels
from ik_e3nn.errors import DataError
from ik_e3nn.training.sets.prepare import read_set

FORCES = np.arange(9.0).reshape(3, 3)
STRESS = np.array([[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]])


def water(**info):
    atoms = molecule("H2O")
    atoms.info.update(info)
    return atoms


def labeled(where, energy="REF_energy", forces="REF_forces"):
    atoms = molecule("H2O")
    if where == "info and arrays":
        atoms.info[energy] = -2.5
        atoms.arrays[forces] = FORCES.copy()
    else:
        atoms.calc = SinglePointCalculator(atoms, energy=-2.5, forces=FORCES)
    return atoms


@pytest.mark.parametrize("where", ["info and arrays", "calculator"])
def test_labels_are_found(where):
    data = read_labels([labeled(where), molecule("H2O")])
    assert data.labels[0].energy == -2.5
    assert np.array_equal(data.labels[0].forces, FORCES)
    assert np.isnan(data.labels[1].energy)
    assert np.isnan(data.labels[1].forces).all()
    assert data.counts() == {"energy": 1, "forces": 1, "stress": 0}


@pytest.mark.parametrize(("energy", "forces"), [("REF_energy", "REF_forces"), ("energy", "forces"), ("dft", "grad")])
def test_labels_survive_a_file(tmp_path, energy, forces):
    atoms = labeled("info and arrays", energy, forces)
    write(tmp_path / "a.xyz", [atoms], format="extxyz")
    keys = LabelKeys(energy=energy, forces=forces)
    data = read_labels(read(tmp_path / "a.xyz", ":"), keys)
    assert data.labels[0].energy == -2.5
    assert np.allclose(data.labels[0].forces, FORCES)
    assert data.sources == {"energy": energy, "forces": forces}


def test_falling_back_to_plain_names_is_said(caplog):
    with caplog.at_level(logging.INFO, logger="ik_e3nn"):
        data = read_labels([labeled("calculator")])
    assert data.sources == {"energy": "energy", "forces": "forces"}
    assert "no structure has 'REF_energy'; reading energy from 'energy'" in caplog.text
    assert "labels of 1 structures: energy 1 (energy), forces 1 (forces), stress 0" in caplog.text


def test_one_key_for_the_whole_set():
    both = [water(REF_energy=-1.0), water(energy=-2.0)]
    data = read_labels(both, require=["energy"])
    assert data.counts()["energy"] == 1
    assert np.isnan(data.labels[1].energy)


@pytest.mark.parametrize(
    ("keys", "require", "message"),
    [
        (
            LabelKeys(energy="dft_enrgy"),
            ["energy"],
            r"has the energy label 'dft_enrgy'.*did you mean energy='dft_energy'",
        ),
        (LabelKeys(energy="E"), ["energy"], r"Keys found.*dft_energy \(1\).*did you mean energy='dft_energy'"),
        (LabelKeys(), ["energy"], "has the energy label 'REF_energy'"),
        (LabelKeys(), ["forces"], r"has the forces label 'REF_forces'.*did you mean forces='my_forces'"),
        (LabelKeys(), ["stress"], r"has the stress label 'REF_stress'.*name it, as stress='NAME'"),
        (LabelKeys(virial="vir"), [], "has the virial label 'vir'"),
    ],
)
def test_a_missing_label_is_an_error_that_helps(keys, require, message):
    atoms = water(dft_energy=-1.0)
    atoms.arrays["my_forces"] = FORCES
    with pytest.raises(DataError, match=message):
        read_labels([atoms], keys, require=require)


def test_the_key_of_one_label_is_not_proposed_for_another():
    atoms = water(REF_energy=-1.0)
    atoms.arrays["REF_forces"] = FORCES
    with pytest.raises(DataError, match="name it, as stress='NAME'"):
        read_labels([atoms], LabelKeys(), require=["stress"])


def test_a_user_name_is_not_replaced():
    with pytest.raises(DataError, match="has the energy label 'dft'"):
        read_labels([water(energy=-1.0)], LabelKeys(energy="dft"), require=["energy"])


def test_unknown_label():
    with pytest.raises(DataError, match=r"unknown label\(s\) \['dipole'\]"):
        read_labels([water()], require=["dipole"])


@pytest.mark.parametrize(
    ("info", "arrays", "message"),
    [
        ({"REF_energy": [1.0, 2.0]}, {}, "the energy of structure 0 must be one number"),
        ({"REF_energy": "low"}, {}, "the energy of structure 0 must be one number"),
        ({"REF_energy": 1.0}, {"REF_forces": np.zeros((3, 2))}, r"the forces of structure 0 must have shape \(3, 3\)"),
        ({"REF_energy": 1.0, "REF_stress": np.zeros(5)}, {}, "the stress of structure 0 must be 3x3, 9 numbers or 6"),
        ({"REF_energy": 1.0, "REF_stress": np.arange(9.0)}, {}, "the stress of structure 0 is not symmetric"),
        ({"REF_energy": 1.0, "REF_stress": ["a"] * 9}, {}, "the stress of structure 0 must be numbers"),
    ],
)
def test_values_of_the_wrong_kind(info, arrays, message):
    atoms = molecule("H2O", vacuum=3.0)
    atoms.pbc = True
    atoms.info.update(info)
    atoms.arrays.update(arrays)
    with pytest.raises(DataError, match=message):
        read_labels([atoms], require=["energy"])


def test_nan_labels_are_left_out_and_counted():
    broken = water(REF_energy=np.nan)
    data = read_labels([water(REF_energy=-1.0), broken], require=["energy"])
    assert np.isnan(data.labels[1].energy)
    assert data.counts()["energy"] == 1
    assert "1 energy labels are NaN or infinite and left out" in data.text()
    with pytest.raises(DataError, match="none of them is finite"):
        read_labels([broken], require=["energy"])


def test_infinite_forces_become_missing():
    atoms = labeled("info and arrays")
    atoms.arrays["REF_forces"][1] = np.inf
    data = read_labels([atoms])
    assert np.isfinite(data.labels[0].forces).sum() == 6


def test_true_forces_of_constrained_atoms(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    free = atoms.get_forces()
    atoms.set_constraint(FixAtoms([0, 1]))
    assert np.allclose(atoms.get_forces()[:2], 0.0)
    atoms.get_potential_energy()
    data = read_labels([atoms])
    assert np.allclose(data.labels[0].forces, free)
    assert np.abs(free[:2]).max() > 0.1
    write(tmp_path / "a.traj", atoms)
    data = read_labels(read(tmp_path / "a.traj", ":"))
    assert np.allclose(data.labels[0].forces, free)


def test_results_of_another_structure_are_not_labels():
    atoms = labeled("calculator")
    atoms.rattle(0.1, seed=1)
    with pytest.raises(DataError, match="has the energy label"):
        read_labels([atoms])


def test_a_live_calculator_shared_by_frames_labels_only_its_last():
    calculator = EMT()
    frames = [bulk("Cu") * (1, 1, 2) for _ in range(2)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=number)
        atoms.calc = calculator
        atoms.get_forces()
    data = read_labels(frames)
    assert data.counts()["energy"] == 1
    assert np.isfinite(data.labels[1].energy)


@pytest.mark.parametrize("form", ["matrix", "flat", "voigt", "file", "calculator"])
def test_stress_in_every_form(tmp_path, form):
    atoms = bulk("Cu")
    values = {"matrix": STRESS, "flat": STRESS.reshape(-1), "voigt": full_3x3_to_voigt_6_stress(STRESS), "file": STRESS}
    if form == "calculator":
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, stress=full_3x3_to_voigt_6_stress(STRESS))
    else:
        atoms.info["REF_stress"] = values[form]
    if form == "file":
        write(tmp_path / "a.xyz", atoms, format="extxyz")
        atoms = read(tmp_path / "a.xyz")
    data = read_labels([atoms], require=["stress"])
    assert np.allclose(data.labels[0].stress, STRESS)
    assert data.counts()["stress"] == 1


def test_stress_has_the_sign_of_ase():
    stretched = bulk("Cu", a=3.8)
    stretched.calc = EMT()
    stretched.get_potential_energy()
    stretched.get_stress()
    data = read_labels([stretched], require=["stress"])
    assert np.trace(data.labels[0].stress) > 0.01


def test_virial_is_minus_stress_times_volume(tmp_path):
    atoms = bulk("Cu") * (1, 1, 2)
    atoms.info["virial"] = -STRESS * atoms.get_volume()
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    data = read_labels(read(tmp_path / "a.xyz", ":"), LabelKeys(virial="virial"), require=["stress"])
    assert np.allclose(data.labels[0].stress, STRESS)
    assert data.sources["stress"] == "-virial/volume"


def test_stress_of_a_molecule_in_a_dummy_cell_is_left_out():
    atoms = water(REF_stress=STRESS, REF_energy=1.0)
    atoms.cell = [50, 50, 50]
    data = read_labels([atoms], require=["energy"])
    assert np.isnan(data.labels[0].stress).all()
    assert "1 stress labels of open structures left out" in data.text()


@pytest.mark.parametrize(
    ("energy_unit", "length_unit", "energy", "length"),
    [
        ("eV", "ang", 1.0, 1.0),
        ("Ha", "bohr", units.Hartree, units.Bohr),
        ("kcal/mol", "ang", units.kcal / units.mol, 1.0),
        ("kJ/mol", "ang", units.kJ / units.mol, 1.0),
    ],
)
def test_units(energy_unit, length_unit, energy, length):
    atoms = bulk("Cu")
    atoms.info.update(REF_energy=-2.0, REF_stress=STRESS)
    atoms.arrays["REF_forces"] = np.ones((1, 3))
    data = read_labels([atoms], LabelKeys(energy_unit=energy_unit, length_unit=length_unit))
    assert data.labels[0].energy == pytest.approx(-2.0 * energy)
    assert data.labels[0].forces[0, 0] == pytest.approx(energy / length)
    assert np.allclose(data.labels[0].stress, STRESS * energy / length**3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"energy_unit": "Ry"}, "energy_unit must be one of eV, Ha, kcal/mol, kJ/mol; got 'Ry'"),
        ({"length_unit": "nm"}, "length_unit must be one of ang, bohr"),
        ({"energy": "x", "forces": "x"}, "two labels are given the same key"),
    ],
)
def test_keys_are_checked(arguments, message):
    with pytest.raises(DataError, match=message):
        LabelKeys(**arguments)


def test_a_warning_of_single_nan_force_components(caplog):
    structures = [molecule("H2O") for _ in range(3)]
    for atoms in structures:
        atoms.info["REF_energy"] = 1.0
        atoms.arrays["REF_forces"] = np.ones((3, 3))
    structures[1].arrays["REF_forces"][2, 0] = np.nan
    data = read_labels(structures, LabelKeys())
    assert "1 structures (the first is structure 1) have NaN force components" in caplog.text
    assert data.counts()["forces"] == 3


def test_labels_of_our_own_are_read_whatever_the_settings_are(tmp_path) -> None:
    """Structures that a run has set aside stand beside files in their own names and units."""
    cell = {"cell": [3, 3, 3], "pbc": True}
    keys = LabelKeys("E", "F", "S", energy_unit="kcal/mol", length_unit="bohr")
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2]], info={"E": -8.0, "S": np.eye(3)}, **cell)
    atoms.arrays["F"] = np.arange(6.0).reshape(2, 3)
    data = read_labels([atoms], keys)
    (labels,) = data.labels
    assert labels.energy == pytest.approx(-8.0 * 0.0433641, rel=1e-5)
    write_structures(tmp_path / "a.xyz", [with_own_labels(atoms, labels, data.sources)])
    back = read(tmp_path / "a.xyz")
    assert {"E", "S"}.isdisjoint(back.info)
    assert back.info["REF_energy"] == pytest.approx(labels.energy, abs=1e-12)
    for one in (LabelKeys(), keys, LabelKeys("E", "F", virial="W", energy_unit="Ha")):
        (found,) = read_labels([back], one).labels
        assert found.energy == pytest.approx(labels.energy, abs=1e-12)
        np.testing.assert_allclose(found.forces, labels.forces, atol=1e-8)
        np.testing.assert_allclose(found.stress, labels.stress, atol=1e-12)
    both = read_labels([back, atoms], keys).labels
    assert both[0].energy == pytest.approx(both[1].energy, abs=1e-12)


def test_labels_of_a_wrong_shape_are_named_with_file_and_frame(tmp_path):
    """All of them at once, counted in each file from 0, by every command that reads labels."""
    right = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], info={"REF_energy": 1.0})
    wrong = right.copy()
    wrong.info["REF_energy"] = [1.0, 2.0]
    write_structures(tmp_path / "a.xyz", [right, right])
    write_structures(tmp_path / "b.xyz", [right, wrong, wrong])
    message = r"the energy of structure 1 of .*b.xyz must be one number, got .*; the energy of structure 2 of .*b.xyz"
    with pytest.raises(DataError, match=message):
        check(CheckSettings(str(tmp_path / "*.xyz"), output=str(tmp_path / "found")))
    with pytest.raises(DataError, match=message):
        read_set([str(tmp_path / "a.xyz"), str(tmp_path / "b.xyz")], LabelKeys())


@pytest.mark.parametrize(
    ("given_in", "name", "hint"),
    [
        ("arguments", "my_energy", r"did you mean energy='my_energy'\?"),
        ("configuration", "my_energy", r"did you mean data.energy_key: my_energy\?"),
        ("command line", "my energy", r"did you mean --energy_key 'my energy'\?"),
        ("old labels", "my_energy", r"did you mean finetune.old_labels: {energy_key: my_energy}\?"),
    ],
)
def test_hints_name_the_setting_of_the_command(caplog, given_in, name, hint):
    with pytest.raises(DataError, match=hint):
        read_labels([Atoms("H", info={name: 1.0})], LabelKeys(given_in=given_in), require=["energy"])
    crystal = Atoms("Cu", info={"REF_energy": 1.0, "my_stress": np.eye(3)}, cell=[3, 3, 3], pbc=True)
    setting = LabelKeys(given_in=given_in).setting("stress", "my_stress")
    assert read_labels([crystal], LabelKeys(given_in=given_in), require=()).doubts == (
        f"'my_stress' of 1 structures is not read; set {setting} if it is the stress or virial",
    )
    keys = LabelKeys(given_in=given_in, wanted=("energy", "forces"))  # of a command without such a setting
    assert not read_labels([crystal], keys, require=()).doubts
