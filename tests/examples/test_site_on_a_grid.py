"""The example of a binding site on voxels: it runs, and its network turns with the site."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "examples" / "06_site_on_a_grid.py"


@pytest.fixture
def example(monkeypatch):
    spec = importlib.util.spec_from_file_location("site_on_a_grid", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "POINTS", 8)
    return module


def test_it_runs_and_is_symmetric_as_the_cube(example, tmp_path, monkeypatch, capsys, drawn):
    picture = tmp_path / "site.png"
    words = ["06", "--minutes", "0.02", "--sites", "4", "--output", str(picture)]
    monkeypatch.setattr(sys, "argv", words)
    example.main()
    printed = capsys.readouterr().out
    error = re.search(r"48 symmetries of the cube +(\S+) of", printed)
    assert float(error.group(1)) < 1e-4
    assert len(re.findall(r"(unseen sites|turned) +-?[01]\.\d{3}", printed)) == 2
    assert picture.stat().st_size > 1000


def test_a_density_is_a_sum_of_gaussians_at_the_turned_places(example):
    rng = np.random.default_rng(0)
    positions, turn = rng.uniform(-2, 2, (3, 3)), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    ticks = example.SPACING * (np.arange(8) - 3.5)
    place = np.array([ticks[2], ticks[5], ticks[4]])
    squares = ((place - positions @ turn.T) ** 2).sum(1)
    assert example.density(positions, turn)[2, 5, 4] == pytest.approx(np.exp(-0.5 * squares / example.WIDTH**2).sum())


def test_sites_leave_room_for_their_ligands_and_have_polar_atoms_beside_polar_ones(example):
    for seed in range(3):
        site = example.generated_site(np.random.default_rng(seed))
        distances = np.linalg.norm(site.positions[:, None] - site.ligand, axis=2)
        assert distances.min() >= 2.8
        assert (site.numbers[distances.min(1) < 3.3] != 6).all()
        assert {6, 7, 8} == set(site.numbers.tolist())
        np.testing.assert_allclose(site.ligand.mean(0), 0, atol=1e-12)
