"""Frequencies and thermochemistry agree with ASE's finite differences and with textbooks."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLength
from ase.io import read
from ase.thermochemistry import HarmonicThermo, IdealGasThermo
from ase.vibrations import Vibrations

from ik_e3nn.data.structures.isotopes import set_isotopes
from ik_e3nn.errors import DataError
from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.vibrations.modes import PER_CM, Modes, normal_modes
from ik_e3nn_calculators.vibrations.rigid import TOLERANCE, rigid_motions, shape
from ik_e3nn_calculators.vibrations.run import VibrationSettings, run_vibrations
from ik_e3nn_calculators.vibrations.symmetry import symmetry_number
from tests.pictures import faults


@pytest.fixture(scope="module")
def base():
    return IKCalculator("base", device="cpu", dtype="float64")


def vibrations(folder, atoms, base, **options):
    settings = VibrationSettings("unused", output=str(folder / "vib"), progress=False, **options)
    return run_vibrations(settings, atoms=atoms, calculator=base)


def frequencies(folder):
    return np.load(folder / "vib" / "modes.npz")["frequencies"]


def final(folder):
    return read(folder / "vib" / "final.extxyz")


def by_finite_differences(folder, atoms, calculator, indices=None):
    """All frequencies of ASE by their size, imaginary ones as negative numbers, in 1/cm."""
    atoms.calc = calculator
    numeric = Vibrations(atoms, indices, name=str(folder / "ase"), nfree=4, delta=0.005)
    numeric.run()
    found = numeric.get_frequencies()
    found = np.where(found.imag > 0, -found.imag, found.real)
    return found[np.argsort(abs(found))]


@pytest.mark.parametrize("isotopes", [[0, 0, 0], [0, 2, 1]])
def test_frequencies_are_those_of_finite_differences(tmp_path, base, isotopes, caplog):
    water = molecule("H2O")
    set_isotopes(water, isotopes)
    summary = vibrations(tmp_path, water, base, fmax=1e-4, plots=False)
    assert summary.converged
    assert summary.imaginary == 0
    assert summary.message == ""
    assert summary.left_out == "3 translations and 3 rotations"
    assert summary.multiplicity == 1
    found = frequencies(tmp_path)
    np.testing.assert_allclose(found, by_finite_differences(tmp_path, final(tmp_path), base)[6:], atol=0.5)
    assert summary.zero_point_eV == pytest.approx(found.sum() * units.invcm / 2)
    assert summary.symmetry_number == (2 if isotopes[1] == 0 else 1)


def test_heavy_water_has_lower_frequencies_by_the_rule_of_teller_and_redlich(tmp_path, base):
    """The ratio of the products of frequencies depends on masses and moments of inertia alone."""
    light, heavy = molecule("H2O"), molecule("H2O")
    set_isotopes(heavy, [0, 2, 2])
    products, others = [], []
    for name, water in (("light", light), ("heavy", heavy)):
        (tmp_path / name).mkdir()
        vibrations(tmp_path / name, water, base, fmax=1e-5, plots=False)
        products.append(frequencies(tmp_path / name).prod())
        masses, moments = water.get_masses(), final(tmp_path / name).get_moments_of_inertia()
        others.append(np.sqrt((masses.sum() / masses.prod()) ** 3 * moments.prod()))
    assert products[0] / products[1] > 1.5
    assert products[0] / products[1] == pytest.approx(others[0] / others[1], rel=1e-4)


def test_the_entropy_of_water_is_that_of_tables(tmp_path, base):
    summary = vibrations(tmp_path, molecule("H2O"), base, plots=False)
    standard = 188.84 * units.J / units.mol  # NIST-JANAF, 298.15 K and 1 bar
    assert summary.treated_as == "ideal gas"
    assert summary.entropy_eV_per_K == pytest.approx(standard, rel=0.01)
    above = summary.enthalpy_eV - summary.energy_eV - summary.zero_point_eV
    assert above == pytest.approx(9.904 * units.kJ / units.mol, rel=0.01)
    assert summary.free_energy_eV == pytest.approx(summary.enthalpy_eV - 298.15 * summary.entropy_eV_per_K)


def test_a_transition_state_is_named_by_the_atoms_that_move(tmp_path, base, drawn, caplog):
    flat = molecule("NH3")
    flat.positions[:, 2] = 0.0  # the transition state of the inversion, by symmetry
    summary = vibrations(tmp_path, flat, base)
    assert summary.imaginary == 1
    assert summary.lowest_per_cm < -300
    assert "1 imaginary: " in summary.message
    assert "i/cm (H" in summary.message
    assert "thermochemistry leaves these out" in caplog.text
    rows = (tmp_path / "vib" / "frequencies.csv").read_text().splitlines()
    assert rows[0] == "mode,frequency_per_cm,imaginary,atoms"
    assert [row.split(",")[2] for row in rows[1:]] == ["yes"] + ["no"] * 5
    assert json.loads((tmp_path / "vib" / "summary.json").read_text())["imaginary"] == 1
    assert [faults(figure) for figure in drawn] == [[]] * len(drawn)
    assert len(drawn) == 2


def test_an_ideal_gas_is_that_of_ase(tmp_path, base):
    """At another temperature and pressure, and with a multiplicity and a symmetry number that were given."""
    triplet = molecule("H2O")
    triplet.info["spin"] = 3
    options = {"temperature": 500.0, "pressure": 2.0, "symmetry_number": 5}
    summary = vibrations(tmp_path, triplet, base, plots=False, **options)
    assert (summary.multiplicity, summary.symmetry_number, summary.temperature_K) == (3, 5, 500.0)
    gas = IdealGasThermo(
        frequencies(tmp_path) * units.invcm, "nonlinear", summary.energy_eV, final(tmp_path), symmetrynumber=5, spin=1
    )
    assert summary.enthalpy_eV == pytest.approx(gas.get_enthalpy(500, verbose=False), rel=1e-10)
    assert summary.entropy_eV_per_K == pytest.approx(gas.get_entropy(500, 2e5, verbose=False), rel=1e-8)
    assert summary.free_energy_eV == pytest.approx(gas.get_gibbs_energy(500, 2e5, verbose=False), rel=1e-10)


def check_harmonic(summary, quanta):
    """The thermochemistry at 500 K is that of ASE for frequencies in 1/cm."""
    solid = HarmonicThermo(np.asarray(quanta) * units.invcm, summary.energy_eV)
    assert summary.treated_as == "harmonic"
    assert summary.symmetry_number is summary.multiplicity is None
    assert summary.enthalpy_eV == pytest.approx(solid.get_internal_energy(500, verbose=False), abs=2e-4)
    assert summary.entropy_eV_per_K == pytest.approx(solid.get_entropy(500, verbose=False), rel=2e-3)
    assert summary.free_energy_eV == pytest.approx(solid.get_helmholtz_energy(500, verbose=False), abs=2e-4)


@pytest.mark.parametrize(
    ("name", "fixed", "turns"), [("H2O", [0], 3), ("H2O", [1, 2], 1), ("CH3OH", [0, 2], 1), ("CH3OH", [0, 1, 2], 0)]
)
def test_fixed_atoms_are_held_and_turns_that_keep_them_are_left_out(tmp_path, base, name, fixed, turns):
    held = molecule(name)
    held.set_constraint(FixAtoms(fixed))
    summary = vibrations(tmp_path, held, base, plots=False, fmax=1e-5, temperature=500.0)
    moving = np.delete(np.arange(len(held)), fixed)
    expected = by_finite_differences(tmp_path, final(tmp_path), base, moving)
    assert abs(expected[:turns]).max(initial=0) < 10 < abs(expected[turns])
    np.testing.assert_allclose(np.sort(frequencies(tmp_path)), np.sort(expected[turns:]), atol=0.5)
    assert summary.imaginary == (expected[turns:] < 0).sum()
    assert summary.left_out == ("none", "1 rotation", "", "3 rotations")[turns]
    check_harmonic(summary, [value for value in expected[turns:] if value > 0])


def test_a_polymer_turns_about_its_axis(tmp_path, base):
    places = [[0.4, 0, 0], [1, 0.9, 0], [1, -0.9, 0], [-0.4, 0, 1.27], [-1, 0.9, 1.27], [-1, -0.9, 1.27]]
    chain = Atoms("CHHCHH", places, cell=[0, 0, 2.54], pbc=[0, 0, 1])
    summary = vibrations(tmp_path, chain, base, plots=False, fmax=1e-5, temperature=500.0)
    expected = by_finite_differences(tmp_path, final(tmp_path), base)
    assert abs(expected[:4]).max() < 10 < expected[4]
    np.testing.assert_allclose(frequencies(tmp_path), np.sort(expected[4:]), atol=0.5)
    assert summary.imaginary == 0
    assert summary.left_out == "3 translations and 1 rotation"
    assert "3 translations and 1 rotation of the whole structure cost no energy and are left out" in summary.message
    check_harmonic(summary, expected[4:])


def test_a_molecule_slides_and_turns_over_a_flat_surface(tmp_path):
    """Its thermochemistry does not depend on where it is and how it is turned."""
    torch.manual_seed(1)
    sizes = {"num_channels": 4, "num_layers": 1, "l_max": 1}
    model = InteratomicPotential(["H", "O"], 4.0, group="Cinfv", inputs=["surface"], **sizes).double().eval()
    torch.nn.init.normal_(model.field.linear.weight)
    calculator = IKCalculator(model, device="cpu")
    entropies = []
    for name, angle in (("first", 0), ("second", 77)):
        (tmp_path / name).mkdir()
        water = molecule("H2O")
        water.rotate(50, "x")
        water.rotate(angle, "z")
        water.positions += [angle / 9, 0, 2.0]
        water.info["surface_normal"] = [0.0, 0.0, 1.0]
        summary = vibrations(tmp_path / name, water, calculator, plots=False, fmax=1e-6, temperature=500.0)
        assert summary.converged
        assert summary.left_out == "2 translations and 1 rotation"
        entropies.append(summary.entropy_eV_per_K)
    expected = by_finite_differences(tmp_path, final(tmp_path / "second"), calculator)
    assert abs(expected[:3]).max() < 10 < abs(expected[3])
    np.testing.assert_allclose(frequencies(tmp_path / "second"), np.sort(expected[3:]), atol=0.5)
    assert entropies[0] == pytest.approx(entropies[1], rel=1e-5)
    check_harmonic(summary, [value for value in expected[3:] if value > 0])


def test_turns_of_a_molecule_in_a_large_box_are_no_vibrations(tmp_path, base):
    box = molecule("H2O")
    box.set_cell([20, 20, 20])
    box.pbc = True
    summary = vibrations(tmp_path, box, base, plots=False, temperature=500.0)
    found = frequencies(tmp_path)
    assert summary.left_out == "3 translations"
    assert len(found) == 6
    assert abs(found[:3]).max() < 10
    assert summary.imaginary == 0
    assert summary.near_zero == 3
    assert "3 near zero: " in summary.message
    assert "for a molecule in a large box, set pbc to False" in summary.message
    assert "the structure is periodic: these are the vibrations that are equal in all cells" in summary.message
    assert summary.zero_point_eV == pytest.approx(found[3:].sum() * units.invcm / 2)
    check_harmonic(summary, found[3:])


def test_what_is_only_moved_has_no_thermochemistry(tmp_path, base):
    atom = Atoms("F", cell=[9, 9, 9], pbc=True, info={"spin": 2})
    summary = vibrations(tmp_path, atom, base, plots=False)
    assert (summary.zero_point_eV, summary.entropy_eV_per_K, summary.lowest_per_cm) == (0, 0, None)
    assert summary.free_energy_eV == summary.enthalpy_eV == summary.energy_eV


def test_modes_near_zero_are_neither_imaginary_nor_vibrations():
    modes = Modes(np.array([-100.0, -5, 5, 1000]), np.zeros((4, 1, 3)), np.ones(1))
    assert modes.imaginary.tolist() == [True, False, False, False]
    assert modes.near_zero.tolist() == [False, True, True, False]
    np.testing.assert_allclose(modes.energies, [1000 * units.invcm])


def test_linear_molecules_and_atoms(tmp_path, base):
    fluorine = Atoms("F", info={"spin": 2})
    for name, number, sigma in (("CO2", 4, 2), ("HF", 1, 1), ("F", 0, 1)):
        (tmp_path / name).mkdir()
        summary = vibrations(tmp_path / name, fluorine if name == "F" else molecule(name), base, plots=False)
        assert len(frequencies(tmp_path / name)) == number
        assert summary.symmetry_number == sigma
        assert summary.entropy_eV_per_K > 1e-3
        assert summary.message == ""
    atom = summary.entropy_eV_per_K / units.kB
    wavelength = units._hplanck / np.sqrt(2 * np.pi * 18.998 * units._amu * units._k * 298.15)
    tetrode = np.log(units._k * 298.15 / 1e5 / wavelength**3) + 2.5  # Sackur and Tetrode
    assert atom == pytest.approx(tetrode + np.log(2), rel=1e-4)
    unknown = vibrations(tmp_path, Atoms("F"), base, plots=False)
    assert unknown.entropy_eV_per_K == summary.entropy_eV_per_K
    assert unknown.multiplicity == 2
    assert 'no atoms.info["spin"]' in unknown.message


def test_an_impossible_multiplicity_is_refused_before_the_relaxation(tmp_path, base):
    radical = molecule("CH3")
    radical.info["spin"] = 1
    with pytest.raises(DataError, match='info."spin"..* is 1, but 9 electrons have an even multiplicity'):
        vibrations(tmp_path, radical, base)
    assert not (tmp_path / "vib" / "relax").exists()


def test_a_molecule_that_is_nearly_linear_has_the_thermochemistry_of_a_linear_one(tmp_path, base):
    straight = Atoms("HCCCCH", [[0, 0, z] for z in (-3.0, -1.93, -0.69, 0.69, 1.93, 3.0)])
    bent = straight.copy()
    bent.rattle(0.05, seed=2)
    summaries = []
    for name, atoms, fmax in (("straight", straight, 1e-4), ("bent", bent, 0.02)):
        (tmp_path / name).mkdir()
        summaries.append(vibrations(tmp_path / name, atoms, base, plots=False, fmax=fmax))
        assert len(frequencies(tmp_path / name)) == 13
        assert summaries[-1].symmetry_number == 2
    assert 1e-3 < np.ptp(final(tmp_path / "bent").positions[:, :2], axis=0).max() < TOLERANCE
    corrections = [summary.free_energy_eV - summary.energy_eV for summary in summaries]
    assert corrections[0] == pytest.approx(corrections[1], abs=0.01)


def test_modes_of_a_chain_are_those_of_the_textbook():
    """Longitudinal modes of a triatomic chain, Goldstein's Classical Mechanics, section 6.4."""
    k, m, M = 3.0, 2.0, 5.0
    spring = np.kron([[1, -1, 0], [-1, 2, -1], [0, -1, 1]], np.diag([0, 0, k]))
    chain = Atoms("OCO", [[0, 0, -1], [0, 0, 0], [0, 0, 1]], masses=[m, M, m])
    found = normal_modes(spring, rigid_motions(chain).vectors, chain.get_masses())
    np.testing.assert_allclose(found.frequencies[-2:], np.sqrt([k / m, k * (1 / m + 2 / M)]) * PER_CM)
    np.testing.assert_allclose(found.shares().sum(1), 1.0)
    np.testing.assert_allclose(found.shares()[-2], [0.5, 0, 0.5], atol=1e-12)


@pytest.mark.parametrize(
    ("name", "number"),
    [("H2O", 2), ("NH3", 3), ("CH4", 12), ("C2H4", 4), ("C6H6", 12), ("C2H6", 6), ("SF6", 24), ("HCN", 1), ("N2", 2)],
)
def test_symmetry_numbers_are_those_of_the_textbook(name, number):
    if name == "SF6":
        atoms = Atoms("SF6", [[0, 0, 0], *(1.6 * np.vstack([np.eye(3), -np.eye(3)]))])
    else:
        atoms = molecule(name)
    atoms.rotate(50, (1, 2, 3))
    assert symmetry_number(atoms) == number


@pytest.mark.parametrize("bend", np.arange(0.02, 0.2, 0.01))
def test_only_linear_molecules_have_the_symmetry_number_of_linear_ones(bend):
    """Carbon dioxide, whose symmetry number is 2 when bent as well, and its isotopes."""
    atoms = Atoms("OCO", [[0, 0, -1.2], [bend, 0, 0], [0, 0, 1.2]])
    assert symmetry_number(atoms) == 2
    assert shape(atoms) == ("linear" if bend * 32 / 44 < TOLERANCE else "nonlinear")
    set_isotopes(atoms, [18, 0, 0])
    assert symmetry_number(atoms) == 1


def test_a_light_atom_aside_makes_a_molecule_nonlinear():
    """All atoms are near the line through the hydrogen and the center of mass, but not near the axis of inertia."""
    bent = Atoms("HCN", [[0.08, 0, -1.06], [0, 0, 0], [0, 0, 1.15]])
    assert shape(bent) == "nonlinear"
    assert symmetry_number(bent) == 1


def test_isotopes_break_symmetry():
    methane = molecule("CH4")
    set_isotopes(methane, [0, 2, 0, 0, 0])
    assert symmetry_number(methane) == 3


def test_what_cannot_vibrate_is_refused(tmp_path, base):
    fixed = molecule("H2O")
    fixed.set_constraint(FixAtoms([0, 1, 2]))
    with pytest.raises(DataError, match="all atoms are fixed, so that nothing vibrates; release some"):
        vibrations(tmp_path, fixed, base, relax=False)
    fixed.set_constraint(FixBondLength(0, 1))
    with pytest.raises(DataError, match="vibrations with FixBondLengths are not possible; only FixAtoms holds atoms"):
        vibrations(tmp_path, fixed, base)
    summary = vibrations(tmp_path, molecule("CH3OH"), base, steps=1, plots=False)
    assert not summary.converged
    assert "the structure is not relaxed" in summary.message
    with pytest.raises(DataError, match="already holds a run"):
        vibrations(tmp_path, molecule("H2O"), base)
