"""Phonons from analytic force constants are those of finite displacements."""

import importlib.util

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.phonons import Phonons

from ik_e3nn.errors import DataError
from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.phonons.run import PER_CM, phonons, run_phonons
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
    assert summary.message == ""
    share = 1 - 3 / (6 * 4**3)  # translations of the whole crystal are no vibrations
    assert summary.heat_capacity_eV_per_K == pytest.approx(6 * units.kB * share, rel=1e-4)
    zero_point = frequencies.mean() * 3 * units.invcm  # the mean over a path is not that over all wave vectors
    assert summary.zero_point_eV == pytest.approx(zero_point, rel=0.2)
    assert [faults(figure) for figure in drawn] == [[]]
    assert (tmp_path / "ph" / "phonopy.yaml").exists()


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


def test_supercells_have_three_entries():
    with pytest.raises(ValueError, match=r"supercell must have three entries, got \[2, 2\]"):
        PhononSettings("a.xyz", supercell=[2, 2])
