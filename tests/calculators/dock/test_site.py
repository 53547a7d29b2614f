"""Pose searches in a site without atoms that a model knows."""

import csv
import json
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.optimize import minimize

from ik_e3nn.data.structures.ranges import VOXEL, GeometryRanges
from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators.dock.run import run_dock
from ik_e3nn_calculators.dock.settings import DockSettings, RegionSettings

WELLS = np.array([[1.5, 0.4, -0.8], [-1.0, -1.2, 0.9]])
DEPTHS = np.array([0.5, 0.3])


@cache
def site_model(group, target, **options):
    """A field of argon in a site that is nearly a function of positions."""
    torch.manual_seed(0)
    sizes = {"num_channels": 2, "num_layers": 1, "l_max": 1, "correlation": 1}
    model = InteratomicPotential(["C", "Ar"], 4.0, **sizes, group=group, inputs=["site"], **options).double()
    u = torch.randn(1000, 3, dtype=torch.float64) * 2
    weight, species = model.field.linear.weight, torch.ones(len(u), dtype=torch.int64)
    values, unit = model.field(u, species).squeeze(1), torch.eye(len(u), dtype=torch.float64)
    (columns,) = torch.autograd.grad(values, weight, unit, is_grads_batched=True)
    with torch.no_grad():
        weight.copy_(torch.linalg.lstsq(columns, target(u), driver="gelsd").solution)
    return model.eval()


def wells(u):
    d2 = ((u[:, None] - torch.from_numpy(WELLS)) ** 2).sum(-1)
    return 0.05 * (u**2).sum(-1) - (torch.from_numpy(DEPTHS) * torch.exp(-0.5 * d2)).sum(-1)


def energy(model, position):
    graph = build_graph(Atoms("Ar", [position]), 4.0, dtype=torch.float64)
    return float(model(graph, forces=False)["energy"])


def settings(path, **other):
    region = {"region": RegionSettings(sphere=[0.0, 0.0, 0.0, 2.0])}
    rest = {"poses": 12, "fmax": 1e-4, "progress": False, "device": "cpu", "keep": 12, "plots": False}
    given = {"host": "site", "output": str(path / "dock")} | region | rest | other
    return DockSettings("[Ar]", str(path / "m.safetensors"), **given)


def store(model, path, places):
    known = {"bonds": {}, "contacts": {}, "heights": {}, "places": {"Ar": places}}
    save_model(model, path / "m.safetensors", {"geometry": known}, overwrite=True)


EVERYWHERE = [(i, j, k) for i in range(-4, 5) for j in range(-4, 5) for k in range(-4, 5)]


def test_an_atom_finds_the_deepest_place_of_the_site(tmp_path):
    model = site_model("C1", wells, field_degree=4)
    store(model, tmp_path, EVERYWHERE)
    summary = run_dock(settings(tmp_path))
    grid = torch.cartesian_prod(*[torch.linspace(-2.5, 2.5, 21, dtype=torch.float64)] * 3)
    start = grid[model.field(grid, torch.ones(len(grid), dtype=torch.int64)).argmin()].numpy()
    lowest = minimize(lambda r: energy(model, r), start, method="Nelder-Mead", options={"fatol": 1e-7}).fun
    assert summary.best_binding_eV == pytest.approx(lowest - energy(model, [0, 0, 60.0]), abs=1e-5)
    assert summary.outside == 0
    with (tmp_path / "dock" / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["height_A"] in ("", "nan")
    assert not rows[0]["site"]


def test_places_that_the_group_makes_equal_are_one_pose(tmp_path):
    """A site of Td with its minimum off the center has at least four equal minima, to which all poses go."""
    model = site_model("Td", lambda u: 0.05 * ((u**2).sum(-1) - 4) ** 2 + 0.1 * u.prod(-1))
    near_one = [(-2 + i, -2 + j, -2 + k) for i in range(-1, 2) for j in range(-1, 2) for k in range(-1, 2)]
    store(model, tmp_path, near_one)  # the data know the others by the group
    summary = run_dock(settings(tmp_path, poses=30))
    assert summary.outside == 0
    assert summary.distinct < 4
    with (tmp_path / "dock" / "poses.csv").open() as file:
        equal = [row for row in csv.DictReader(file) if row["cluster"] == "0"]
    assert len(equal) > 8


def test_a_place_without_training_data_has_no_rank(tmp_path):
    model = site_model("C1", wells, field_degree=4)
    near_second = np.unique(np.round((WELLS[1] + np.random.default_rng(0).normal(size=(50, 3)) * 0.5) / VOXEL), axis=0)
    store(model, tmp_path, near_second.astype(int).tolist())
    assert run_dock(settings(tmp_path)).outside == 0  # poses begin near known places, and stay there
    there = RegionSettings(sphere=[*WELLS[0].tolist(), 0.2])
    summary = run_dock(settings(tmp_path, region=there, overwrite=True))
    assert summary.outside == summary.poses
    assert summary.best_binding_eV is None
    with (tmp_path / "dock" / "poses.csv").open() as file:
        assert all("from all places of Ar in the training data" in row["outside"] for row in csv.DictReader(file))
    store(model, tmp_path, [])
    assert run_dock(settings(tmp_path, overwrite=True)).outside == summary.poses


def test_places_in_the_file_are_those_of_the_structures():
    found = GeometryRanges.of([Atoms("ArC", [[1.0, 0, 0], [0, 0, 3]])], places=lambda atoms: atoms.positions + 1.0)
    expected = {"Ar": [(3, 1, 1)], "C": [(1, 1, 5)]}
    assert found.places == expected
    stored = json.loads(json.dumps(found.to_json()))
    assert GeometryRanges.from_json(stored).places == found.places
    del stored["places"]  # as in files of earlier versions
    assert GeometryRanges.from_json(stored).places == {}
    assert found.joined(GeometryRanges(places={"C": [(0, 0, 0), (1, 1, 5)]})).places == {
        "Ar": [(3, 1, 1)], "C": [(0, 0, 0), (1, 1, 5)]
    }  # fmt: skip


def test_a_site_needs_a_region_and_its_model(tmp_path):
    store(site_model("C1", wells, field_degree=4), tmp_path, EVERYWHERE)
    with pytest.raises(DataError, match="a site without atoms needs a region"):
        run_dock(settings(tmp_path, region=RegionSettings()))
    with pytest.raises(DataError, match="made for a site without atoms; use --host site"):
        run_dock(settings(tmp_path, host="surface", region=RegionSettings(heights=[2.0, 3.0])))
    store(site_model("Cinfv", wells), tmp_path, EVERYWHERE)
    with pytest.raises(DataError, match="finite groups, but that of this model is Cinfv"):
        run_dock(settings(tmp_path))
    store(site_model("C1", wells, field_degree=4), tmp_path, EVERYWHERE)
    with pytest.raises(DataError, match="begin farther than 8.0 A from site"):
        run_dock(settings(tmp_path, region=RegionSettings(sphere=[30.0, 0.0, 0.0, 1.0])))
