"""Pose searches over a crystal face that a model knows."""

import csv

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.optimize import minimize

from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn.symmetry import PlaneGroup
from ik_e3nn_calculators.dock.poses.cluster import PoseDistance
from ik_e3nn_calculators.dock.poses.ranking import site
from ik_e3nn_calculators.dock.run import run_dock
from ik_e3nn_calculators.dock.settings import DockSettings, RegionSettings
from ik_e3nn_calculators.dock.system.host import Host

PLANE = PlaneGroup("p4g", [[3.0, 0.0], [0.0, 3.0]])


@pytest.fixture
def model():
    """A field over the face with a well at each height and deep places along it."""
    torch.manual_seed(0)
    model = InteratomicPotential(
        ["C", "Ar"], 4.0, num_channels=2, num_layers=1, l_max=1, correlation=1, group=PLANE, inputs=["face"]
    ).double()
    basis = model.field.basis
    grid = torch.cartesian_prod(*[torch.linspace(0, 3, 9, dtype=torch.float64)] * 2, torch.linspace(-1, 8, 60).double())
    values = basis(grid)
    wave = sum((2 * torch.pi * grid[:, i] / 3).cos() ** 2 for i in range(2))
    wall = 4 * (2.5 - grid[:, 2]).clamp(min=0) ** 2
    target = wall - (0.5 - 0.1 * wave) * torch.exp(-0.5 * (grid[:, 2] - 3.4) ** 2)
    weights = torch.linalg.lstsq(values, target[:, None]).solution.flatten()
    with torch.no_grad():
        model.field.linear.weight.copy_(torch.cat([weights, weights]) * len(weights) ** 0.5)
    return model.eval()


def energy(model, position):
    atoms = Atoms("Ar", [position], info={"surface_cell": np.pad(PLANE.cell.numpy(), ((0, 0), (0, 1)))})
    return float(model(build_graph(atoms, 4.0, dtype=torch.float64), forces=False)["energy"])


def test_an_atom_finds_the_deepest_site_of_the_face(model, tmp_path):
    save_model(model, tmp_path / "face.safetensors")
    settings = DockSettings(
        "[Ar]", str(tmp_path / "face.safetensors"), "face", output=str(tmp_path / "dock"), poses=16, fmax=1e-4,
        progress=False, region=RegionSettings(heights=[3.0, 4.0]), device="cpu", keep=16,
    )  # fmt: skip
    summary = run_dock(settings)
    steps = np.arange(0, 1, 0.1)
    starts = [[3 * x, 3 * y, z] for x in steps for y in steps for z in (3.0, 3.4, 3.8)]
    start = min(starts, key=lambda position: energy(model, position))
    lowest, far = minimize(lambda r: energy(model, r), start, method="Nelder-Mead").fun, energy(model, [0, 0, 60])
    assert summary.converged == 16
    assert summary.best_binding_eV == pytest.approx(lowest - far, abs=1e-4)
    with (tmp_path / "dock" / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    bound = [row for row in rows if float(row["binding_eV"]) < 0.98 * summary.best_binding_eV]
    assert len(bound) > 3
    assert {row["cluster"] for row in bound} == {"0"}
    assert len({row["site"] for row in bound}) == 1
    best = ase.io.read(tmp_path / "dock" / "best.extxyz")
    np.testing.assert_allclose(best.info["surface_cell"], [[3, 0, 0], [0, 3, 0]])
    assert energy(model, best.positions[0]) - far == pytest.approx(summary.best_binding_eV, abs=1e-5)


def test_poses_related_by_the_plane_group_are_the_same():
    host = Host(Atoms(), "face", plane=PLANE)
    shifts = PLANE.shifts.numpy() @ host.lattice
    distance = PoseDistance(np.arange(6)[None], None, host.lattice, (PLANE.matrices.numpy(), shifts))
    atoms = molecule("CH3OH").positions + np.array([0.4, 0.2, 3.0])
    for g, t in zip(PLANE.matrices.numpy(), shifts, strict=True):
        moved = atoms @ g.T + t + [6.0, -3.0, 0.0]
        assert distance(atoms, moved) < 1e-10
        assert site(host, moved) == site(host, atoms)
    assert distance(atoms, atoms + np.array([0.5, 0.0, 0.0])) > 0.2


def test_a_face_needs_a_model_that_knows_one(model, tmp_path):
    save_model(model, tmp_path / "face.safetensors")
    options = {"output": str(tmp_path / "dock"), "progress": False, "poses": 1}
    with pytest.raises(DataError, match="this calculator knows none"):
        run_dock(DockSettings("[Ar]", calculator="emt", host="face", **options))
    with pytest.raises(DataError, match="the model was made for a face without atoms; use --host face"):
        run_dock(DockSettings("[Ar]", str(tmp_path / "face.safetensors"), **options))
    flat = InteratomicPotential(["Ar"], 4.0, num_channels=2, num_layers=1, group="Cinfv", inputs=["surface"])
    save_model(flat, tmp_path / "flat.safetensors")
    with pytest.raises(DataError, match="this model knows none: give a model with inputs"):
        run_dock(DockSettings("[Ar]", str(tmp_path / "flat.safetensors"), "face", **options))
