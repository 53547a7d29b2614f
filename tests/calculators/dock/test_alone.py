"""The zero of binding energies."""

import csv
import logging

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from scipy.spatial.transform import Rotation

from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators.dock import DockSettings, run_dock
from ik_e3nn_calculators.dock.search.alone import energies_alone
from ik_e3nn_calculators.dock.search.energies import CalculatorEnergies, ModelEnergies
from ik_e3nn_calculators.dock.system.host import Host
from ik_e3nn_calculators.dock.system.ligand import Ligand, read_ligand

SURFACE = Host(Atoms(), "surface")


class SpringInField(Calculator):
    """A dimer whose energy far from everything is lowest where it lies along x: a x^2 less."""

    implemented_properties = ("energy", "forces")
    strength = 0.05

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        vector = atoms.positions[1] - atoms.positions[0]
        length = np.linalg.norm(vector)
        axis, e = vector / length, np.array([1.0, 0, 0])
        slope = 10 * (length - 1.2) * axis - 2 * self.strength * axis[0] * (e - axis[0] * axis) / length
        self.results = {
            "energy": 5 * (length - 1.2) ** 2 - self.strength * axis[0] ** 2,
            "forces": np.array([slope, -slope]),
        }


def dimer(vector):
    return Ligand([Atoms("N2", [[0, 0, 0], vector])], read_ligand("N#N", 1, 0).molecule, "N#N")


@pytest.mark.parametrize("vector", [[0, 0, 1.2], [0, 1.2, 0], [1.1, 0.3, 0.2]], ids=str)
def test_the_zero_does_not_depend_on_how_the_molecule_was_given(vector, caplog):
    ligand = dimer(vector)
    energies = CalculatorEnergies(ligand.conformers[0], SURFACE, calculator=SpringInField())
    host, molecule = energies_alone(ligand, energies, fmax=1e-4, steps=300)
    assert host == 0
    assert molecule == pytest.approx(-SpringInField.strength, abs=1e-6)
    assert "depends on its orientation even far from the surface, by" in caplog.text
    assert float(caplog.text.split(", by ")[1].split()[0]) == pytest.approx(50, abs=17)


@pytest.mark.parametrize(("group", "warns"), [("Cinfv", False), ("SO2", True), ("C4v", True)])
def test_only_the_layers_of_o3_forget_a_surface_that_is_far_away(group, warns, caplog):
    """A molecule far from the surface that is turned: its energy must not change, and is said to where it does."""
    torch.manual_seed(0)
    model = InteratomicPotential(
        ["H", "C", "O"], 4.0, num_channels=4, num_layers=1, l_max=2, correlation=2, group=group, inputs=["surface"]
    ).double().eval()  # fmt: skip
    ligand = read_ligand("CO", 1, 0)
    energies = ModelEnergies(ligand.conformers[0], SURFACE, model=model)
    turn = Rotation.from_rotvec([0.5, 0.3, -0.2])
    places = np.array([ligand.conformers[0].positions, turn.apply(ligand.conformers[0].positions)])
    difference = abs(np.diff(energies.alone(places)[0])[0])
    assert (difference > 1e-3) == warns
    with caplog.at_level(logging.WARNING):
        energies_alone(ligand, energies, fmax=0.05, steps=0)
    assert ("far from the surface" in caplog.text) == warns


class TwoLengths(Calculator):
    """Two atoms: bound at 0.74 A, lower by 1 eV at 1.5 A over a hill; near the surface there is no hill, and 0.2 eV."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        bond = atoms.positions[1] - atoms.positions[0]
        length, height = np.linalg.norm(bond), atoms.positions[:, 2].mean()
        near = height < 100.0
        middle, depth = (1.5, 1.0) if near or length > 1.1 else (0.74, 0.0)
        pull = 5.0 * (length - middle) * bond / length
        lift = np.array([0.0, 0.0, -0.5 * (height - 3.0)]) if near else np.zeros(3)
        energy = 2.5 * (length - middle) ** 2 - depth + (0.5 * (height - 3.0) ** 2 - 0.2 if near else 0.0)
        self.results = {"energy": energy, "forces": np.array([pull + lift, -pull + lift])}


def test_the_zero_is_the_lowest_geometry_that_a_pose_finds(tmp_path):
    """The change inside of the molecule, 1 eV that it would have without the surface too, is no binding."""
    settings = DockSettings(
        "[H][H]", poses=3, conformers=1, fmax=1e-4, output=str(tmp_path / "dock"), progress=False, plots=False
    )
    assert run_dock(settings, calculator=TwoLengths()).best_binding_eV == pytest.approx(-0.2, abs=1e-5)
    with (tmp_path / "dock" / "poses.csv").open() as file:
        assert [abs(float(row["strain_eV"])) < 1e-5 for row in csv.DictReader(file)] == [True] * 3


def test_a_warning_of_a_molecule_that_is_not_relaxed(tmp_path, caplog):
    settings = DockSettings(
        "[H][H]", poses=1, conformers=1, fmax=1e-9, steps=1, output=str(tmp_path / "dock"), progress=False, plots=False
    )
    run_dock(settings, calculator=TwoLengths())
    assert "no conformer of [H][H] alone has converged after 1 steps" in caplog.text
