"""Frequencies and thermochemistry agree with ASE's finite differences and with textbooks."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLength
from ase.vibrations import Vibrations

from ik_e3nn.data.structures.isotopes import set_isotopes
from ik_e3nn.errors import DataError
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.vibrations.modes import PER_CM, normal_modes, rigid_motions
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


def by_finite_differences(folder, atoms, base):
    """Frequencies of ASE, without the six lowest, in 1/cm."""
    atoms.calc = base
    numeric = Vibrations(atoms, name=str(folder / "ase"), nfree=4, delta=0.005)
    numeric.run()
    return np.sort(numeric.get_frequencies().real)[6:]


@pytest.mark.parametrize("isotopes", [[0, 0, 0], [0, 2, 1]])
def test_frequencies_are_those_of_finite_differences(tmp_path, base, isotopes, caplog):
    water = molecule("H2O")
    set_isotopes(water, isotopes)
    summary = vibrations(tmp_path, water, base, fmax=1e-4, plots=False)
    assert summary.converged
    assert summary.imaginary == 0
    assert summary.message == ""
    relaxed = water.copy()
    relaxed.positions = Atoms(**_final(tmp_path)).positions
    found = frequencies(tmp_path)
    np.testing.assert_allclose(found, by_finite_differences(tmp_path, relaxed, base), atol=0.5)
    assert summary.zero_point_eV == pytest.approx(found.sum() * units.invcm / 2)
    assert summary.symmetry_number == (2 if isotopes[1] == 0 else 1)


def _final(folder):
    from ase.io import read

    atoms = read(folder / "vib" / "final.extxyz")
    return {"symbols": atoms.get_chemical_formula("reduce"), "positions": atoms.positions}


def test_heavy_water_has_lower_frequencies_by_the_rule_of_teller_and_redlich(tmp_path, base):
    """The ratio of the products of frequencies depends on masses and moments of inertia alone."""
    light, heavy = molecule("H2O"), molecule("H2O")
    set_isotopes(heavy, [0, 2, 2])
    products, others = [], []
    for name, water in (("light", light), ("heavy", heavy)):
        (tmp_path / name).mkdir()
        vibrations(tmp_path / name, water, base, fmax=1e-5, plots=False)
        products.append(frequencies(tmp_path / name).prod())
        relaxed = water.copy()
        relaxed.positions = Atoms(**_final(tmp_path / name)).positions
        masses, moments = water.get_masses(), relaxed.get_moments_of_inertia()
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


def test_linear_molecules_and_atoms(tmp_path, base):
    for name, number, sigma in (("CO2", 4, 2), ("HF", 1, 1), ("F", 0, 1)):
        (tmp_path / name).mkdir()
        summary = vibrations(tmp_path / name, Atoms("F") if name == "F" else molecule(name), base, plots=False)
        assert len(frequencies(tmp_path / name)) == number
        assert summary.symmetry_number == sigma
        assert summary.entropy_eV_per_K > 1e-3
    atom = summary.entropy_eV_per_K / units.kB
    wavelength = units._hplanck / np.sqrt(2 * np.pi * 18.998 * units._amu * units._k * 298.15)
    assert atom == pytest.approx(np.log(units._k * 298.15 / 1e5 / wavelength**3) + 2.5, rel=1e-4)  # Sackur and Tetrode


def test_fixed_atoms_are_held_and_crystals_keep_only_translations(tmp_path, base):
    held = molecule("CH3OH")
    held.set_constraint(FixAtoms([0, 2]))
    summary = vibrations(tmp_path, held, base, plots=False)
    assert summary.treated_as == "harmonic"
    assert summary.symmetry_number is None
    assert len(frequencies(tmp_path)) == 12
    (tmp_path / "crystal").mkdir()
    box = molecule("CH4")
    box.set_cell([5, 5, 5])
    box.pbc = True
    summary = vibrations(tmp_path / "crystal", box, base, relax=False, plots=False)
    assert len(frequencies(tmp_path / "crystal")) == 12
    assert "the structure is periodic: these are the vibrations that are equal in all cells" in summary.message


def test_modes_of_a_chain_are_those_of_the_textbook():
    """Longitudinal modes of a triatomic chain, Goldstein's Classical Mechanics, section 6.4."""
    k, m, M = 3.0, 2.0, 5.0
    spring = np.kron([[1, -1, 0], [-1, 2, -1], [0, -1, 1]], np.diag([0, 0, k]))
    chain = Atoms("OCO", [[0, 0, -1], [0, 0, 0], [0, 0, 1]], masses=[m, M, m])
    found = normal_modes(spring, rigid_motions(chain, rotations=True), chain.get_masses())
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
