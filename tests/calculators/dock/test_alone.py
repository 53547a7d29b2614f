"""The zero of binding energies."""

import csv

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from scipy.spatial.transform import Rotation

from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators.dock import DockSettings, run_dock
from ik_e3nn_calculators.dock.search.energies import ModelEnergies
from ik_e3nn_calculators.dock.system.host import Host
from ik_e3nn_calculators.dock.system.ligand import read_ligand

SURFACE = Host(Atoms(), "surface")


@pytest.mark.parametrize("group", ["Cinfv", "SO2", "C4v", "C1"])
def test_far_from_the_surface_every_model_is_isotropic(group):
    torch.manual_seed(0)
    model = InteratomicPotential(
        ["H", "C", "O"], 4.0, num_channels=4, num_layers=2, l_max=2, correlation=2, group=group, inputs=["surface"]
    ).double().eval()  # fmt: skip
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    ligand = read_ligand("CO", 1, 0)
    energies = ModelEnergies(ligand.conformers[0], SURFACE, model=model)
    turn = Rotation.from_rotvec([0.5, 0.3, -0.2])
    places = np.array([ligand.conformers[0].positions, turn.apply(ligand.conformers[0].positions)])
    (first, second), _ = energies.alone(places)
    assert second == pytest.approx(first, abs=1e-9)


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
