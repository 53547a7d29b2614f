"""Phonons from analytic force constants are those of finite displacements."""

import importlib.util

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.io import read
from ase.phonons import Phonons

from ik_e3nn.errors import DataError
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.models.uncertainty.ensemble import Committee
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.phonons.run import PER_CM, phonons, run_phonons, width_warning
from ik_e3nn_calculators.phonons.settings import PhononSettings
from tests.pictures import faults

needs_phonopy = pytest.mark.skipif(importlib.util.find_spec("phonopy") is None, reason="needs phonopy")


def potential(**options):
    torch.manual_seed(2)  # a crystal without imaginary frequencies
    sizes = {"num_channels": 2, "num_layers": 1, "l_max": 1, "l_features": 0, "correlation": 1}
    return InteratomicPotential(["C", "O"], 4.0, **sizes | options).double().eval().requires_grad_(False)


def crystal():
    return bulk("CO", "rocksalt", a=4.4)


@needs_phonopy
def test_frequencies_are_those_of_finite_displacements(tmp_path):
    """At wave vectors that fit the supercell, where codes need not interpolate."""
    points = np.array([[0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]])
    model, atoms = potential(), crystal()
    atoms.set_masses([13.003, 15.999])
    ours = phonons(atoms, model, [2, 2, 2])
    ours.run_qpoints(points)
    found = np.array(ours.qpoints.frequencies) * PER_CM
    numeric = Phonons(atoms, IKCalculator(model, device="cpu"), (2, 2, 2), name=str(tmp_path / "ase"), delta=1e-3)
    numeric.run()
    numeric.read(acoustic=False, symmetrize=0)
    energies = np.array(numeric.band_structure(points)) / units.invcm
    expected = np.sort(energies.real - abs(energies.imag), axis=1)
    assert abs(expected).max() > 10
    np.testing.assert_allclose(found, expected, atol=0.05)


@needs_phonopy
def test_the_heat_capacity_of_a_hot_crystal_is_that_of_dulong_and_petit(tmp_path, drawn):
    settings = PhononSettings(
        "unused", output=str(tmp_path / "ph"), mesh=[4, 4, 4], temperature=5000.0, relax=False, progress=False
    )
    calculator = IKCalculator(potential(), device="cpu")
    summary = run_phonons(settings, atoms=crystal(), calculator=calculator)
    assert summary.primitive_atoms == 2
    assert summary.supercell_atoms == 16
    frequencies = np.load(tmp_path / "ph" / "bands.npz")["frequencies"]
    assert frequencies.shape[1] == 6
    assert summary.lowest_per_cm == pytest.approx(0, abs=0.01)
    assert "imaginary" not in summary.message
    share = 1 - 3 / (6 * 4**3)  # translations of the whole crystal are no vibrations
    assert summary.heat_capacity_eV_per_K == pytest.approx(6 * units.kB * share, rel=1e-4)
    assert [faults(figure) for figure in drawn] == [[]]
    assert (tmp_path / "ph" / "phonopy.yaml").exists()


@needs_phonopy
def test_thermodynamic_functions_are_those_of_oscillators_in_a_relaxed_crystal(tmp_path):
    """Sums over frequencies by hand, in diamond whose volume is relaxed until no stress is left."""
    settings = PhononSettings(
        "unused", output=str(tmp_path / "ph"), mesh=[3, 3, 3], temperature=300.0, cell="hydrostatic", fmax=1e-5,
        plots=False, progress=False,
    )  # fmt: skip
    calculator = IKCalculator("base", device="cpu", dtype="float64")
    start = bulk("C", a=3.6)
    summary = run_phonons(settings, atoms=start, calculator=calculator)
    assert summary.converged
    relaxed = read(tmp_path / "ph" / "final.extxyz")
    relaxed.calc = calculator
    assert abs(relaxed.get_stress()).max() < 1e-5
    assert abs(relaxed.get_volume() - start.get_volume()) > 0.05
    phonon = phonons(relaxed, calculator.model, [2, 2, 2])
    phonon.run_mesh([3, 3, 3], is_gamma_center=True)
    weights = phonon.mesh.weights
    quanta = np.array(phonon.mesh.frequencies) * PER_CM * units.invcm
    assert summary.highest_per_cm >= quanta.max() / units.invcm > 100
    weights, quanta = np.repeat(weights / weights.sum(), 6), quanta.ravel()
    weights, quanta = weights[quanta > 1e-5], quanta[quanta > 1e-5]
    x = quanta / (units.kB * 300)
    free = quanta / 2 + units.kB * 300 * np.log(1 - np.exp(-x))
    capacity = units.kB * x**2 * np.exp(x) / (np.exp(x) - 1) ** 2
    assert summary.zero_point_eV == pytest.approx(weights @ quanta / 2, rel=1e-5)
    assert summary.free_energy_eV == pytest.approx(weights @ free, rel=1e-5)
    assert summary.heat_capacity_eV_per_K == pytest.approx(weights @ capacity, rel=1e-5)


@needs_phonopy
def test_a_narrow_supercell_is_named(tmp_path, caplog):
    settings = {"output": str(tmp_path / "ph"), "mesh": [1] * 3, "relax": False, "plots": False, "overwrite": True}
    calculator = IKCalculator(potential(), device="cpu")
    narrow = run_phonons(PhononSettings("unused", **settings), atoms=crystal(), calculator=calculator)
    assert "less than twice the reach of the model" in narrow.message
    assert "--supercell 3 3 3, until the frequencies stay the same" in caplog.text
    wide = run_phonons(PhononSettings("unused", supercell=[4] * 3, **settings), atoms=crystal(), calculator=calculator)
    assert "supercell" not in wide.message


def test_the_width_of_a_supercell_is_its_least_height():
    """A height of the primitive cell of rock salt is the lattice constant divided by the root of three."""
    model, rocksalt = potential(), crystal()
    assert width_warning(rocksalt, model, [4, 4, 4]) == ""
    warning = width_warning(rocksalt, model, [4, 2, 3])
    assert f"the supercell is {2 * 4.4 / 3**0.5:.1f} A wide, less than twice the reach of the model, 2 x 4 A" in warning
    assert "--supercell 4 3 4, until" in warning
    assert "2 x 8 A" in width_warning(rocksalt, potential(num_layers=2), [4, 4, 4])
    assert "2 x 8 A" in width_warning(rocksalt, Committee([model, potential(num_layers=2)]), [4, 4, 4])


@needs_phonopy
def test_an_unstable_crystal_is_named(tmp_path, caplog):
    settings = PhononSettings("unused", output=str(tmp_path / "ph"), mesh=[2, 2, 2], relax=False, plots=False)
    model = IKCalculator(potential(), device="cpu")
    dense = bulk("CO", "rocksalt", a=3.6)
    summary = run_phonons(settings, atoms=dense, calculator=model)
    assert summary.lowest_per_cm < -1
    assert "there are imaginary frequencies, up to" in summary.message
    assert "the supercell is too small; thermodynamic functions leave them out" in caplog.text


@needs_phonopy
def test_what_has_no_phonons_is_refused(tmp_path):
    settings = PhononSettings("unused", output=str(tmp_path / "ph"), progress=False)
    calculator = IKCalculator(potential(), device="cpu")
    with pytest.raises(DataError, match="phonons need a structure that is periodic in three directions"):
        run_phonons(settings, atoms=Atoms("CO", [[0, 0, 0], [0, 0, 1.1]]), calculator=calculator)
    charged = crystal()
    charged.info["charge"] = 1
    with pytest.raises(DataError, match="the crystal has the charge 1, whose value in a supercell is not known"):
        run_phonons(settings, atoms=charged, calculator=calculator)
    model = IKCalculator(potential(inputs=["bond_types"]), device="cpu")
    with pytest.raises(DataError, match="the model uses bonds, which are not carried over to supercells"):
        run_phonons(settings, atoms=crystal(), calculator=model)
    for kind, group in (("surface", "Cinfv"), ("face", {"plane": "p4m", "cell": [[2.5, 0], [0, 2.5]]})):
        model = IKCalculator(potential(inputs=[kind], group=group), device="cpu")
        with pytest.raises(DataError, match=f"the model knows a {kind} beside the structure, which a crystal does not"):
            run_phonons(settings, atoms=crystal(), calculator=model)
    held = crystal()
    held.set_constraint(FixAtoms([0]))
    with pytest.raises(DataError, match="phonons with constraints are not possible; remove them"):
        run_phonons(settings, atoms=held, calculator=calculator)
    assert not (tmp_path / "ph" / "relax").exists()


def test_supercells_have_three_entries():
    with pytest.raises(ValueError, match=r"supercell must have three entries, got \[2, 2\]"):
        PhononSettings("a.xyz", supercell=[2, 2])
