"""Poses outside of what a model knows are marked and have no rank."""

import csv
import json
import logging

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111, graphene, molecule

from ik_e3nn.data.structures.ranges import GeometryRanges
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators.dock import DockSettings, RegionSettings, run_dock
from ik_e3nn_calculators.dock.poses.outside import reasons_outside
from ik_e3nn_calculators.dock.system.host import Host
from ik_e3nn_calculators.dock.system.ligand import Ligand, read_ligand

MODEL = InteratomicPotential(["H", "C", "O", "Cu"], 4.0, num_channels=2, num_layers=1)


def reason(host, atoms, ranges=None, smiles="O"):
    """Why a pose of a molecule, whose atoms are those of the SMILES string in order, is outside."""
    read = read_ligand(smiles, 1, 0)
    return reasons_outside(atoms.positions[None], Ligand([atoms], read.molecule, smiles), host, MODEL, ranges)[0]


def water_at(height, below="H"):
    """A water molecule with its lowest atom at a height over the origin."""
    atoms = molecule("H2O")
    atoms.rotate(180 if below == "O" else 0, "x")
    lowest = atoms.positions[:, 2].argmin()
    atoms.positions += [0, 0, height] - atoms.positions[lowest]
    return atoms


def test_over_graphene_hydrogen_at_a_bond_length_is_outside_and_at_contact_is_not():
    """1.3 A is 1.2 times the sum of the covalent radii of H and C (0.31 + 0.76 A)."""
    sheet = graphene(size=(6, 6, 1), vacuum=10.0)
    sheet.positions -= sheet.positions[0]
    host = Host(sheet, "graphene.xyz")
    assert reason(host, water_at(1.3)) == "C-H at 1.30 A, as near as a bond between molecule and host"
    assert reason(host, water_at(1.8)) == "C-H at 1.80 A, nearer than a van der Waals contact"
    assert reason(host, water_at(2.5)) == ""
    known = GeometryRanges({"C-H": 1.0}, {"C-H": 2.6, "C-O": 2.9})
    assert (
        reason(host, water_at(2.4), known) == "C-H at 2.40 A, below 2.60 A, the shortest contact of the training data"
    )
    assert reason(host, water_at(2.55), known) == ""
    assert reason(host, water_at(1.3), known) == "", "hydrogen atoms on graphene were learned"


def test_hydrogen_bonds_are_inside():
    other = Host(molecule("H2O"), "water.xyz")
    bonded, oxygen, hydrogen = molecule("H2O"), other.atoms.positions[0], other.atoms.positions[1]
    bonded.rotate(90, "z")
    along = (hydrogen - oxygen) / np.linalg.norm(hydrogen - oxygen)
    bonded.positions += hydrogen + 1.65 * along - bonded.positions[0]
    assert reason(other, bonded) == ""


def test_a_molecule_on_a_metal_is_held_by_its_bond_and_not_by_contacts():
    """The oxygen atom of CO is 3.0 A from copper because carbon is bonded to it; that is no contact of both."""
    slab = fcc111("Cu", (3, 3, 2), vacuum=8.0)
    slab.pbc = (True, True, False)
    atoms = molecule("CO")[[1, 0]]
    atoms.rotate(180 if atoms.positions[1, 2] < atoms.positions[0, 2] else 0, "x")
    atoms.positions += slab.positions[-1] + [0, 0, 1.85] - atoms.positions[0]
    known = GeometryRanges({"C-Cu": 1.8, "C-O": 1.1}, {"Cu-O": 3.3})
    assert reason(Host(slab, "slab.xyz"), atoms, known, "[C-]#[O+]") == ""


def test_bonds_to_metals_are_inside_unless_they_are_shorter_than_any():
    slab = fcc111("Cu", (3, 3, 2), vacuum=8.0)
    slab.pbc = (True, True, False)
    top = slab.positions[-1]
    host = Host(slab, "slab.xyz")
    for height, words in ((1.9, ""), (1.4, "Cu-O at 1.40 A, shorter than any bond")):
        atoms = water_at(height, "O")
        atoms.positions += top
        assert reason(host, atoms) == words
    atoms = water_at(1.7, "O")
    atoms.positions += top
    known = GeometryRanges({"Cu-O": 1.85})
    assert reason(host, atoms, known) == "Cu-O at 1.70 A, shorter than any bond of the training data"


def test_broken_molecules_are_outside():
    atoms = water_at(5.0)
    atoms.positions[1] += [0, 0, 3.0]
    assert reason(Host(molecule("H2O"), "w"), atoms).startswith("its bond H-O is broken, at ")


def test_a_pose_that_left_the_region_is_outside():
    host = Host(molecule("H2O"), "w", left_out=np.array([[0.0, 0.0, 8.0]]))
    assert reason(host, water_at(4.5)) == ("it left the region: atoms of the host that were left out are 3.0 A away")
    assert reason(Host(host.atoms, "w", left_out=np.array([[0.0, 0.0, 30.0]])), water_at(4.5)) == ""


def _rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def surface_model(path, geometry=None):
    torch.manual_seed(0)
    model = InteratomicPotential(
        ["H", "C", "O"], 4.0, num_channels=4, num_layers=1, l_max=1, correlation=1, group="Cinfv", inputs=["surface"]
    )
    save_model(model, path, summary={"geometry": geometry} if geometry else None)


@pytest.mark.parametrize("known", [True, False])
def test_poses_below_the_heights_of_the_training_data_have_no_rank(tmp_path, caplog, known):
    """They are in the table and in the files, marked, after all others, however low their energy is."""
    least = {"H": 3.0, "C": 3.4, "O": 3.3} if known else {"H": 0.7 * (1.2 + 1.7) + 0.1, "C": 2.529, "O": 2.34}
    heights = {symbol: (low, 9.0) for symbol, low in least.items()}
    surface_model(tmp_path / "m.safetensors", {"bonds": {}, "contacts": {}, "heights": heights} if known else None)
    with caplog.at_level(logging.INFO):
        summary = run_dock(
            DockSettings(
                "CO", model=str(tmp_path / "m.safetensors"), poses=24, steps=0, conformers=1, keep=24, distinct=1e-6,
                region=RegionSettings(heights=[1.5, 5.0]), output=str(tmp_path / "dock"), progress=False,
            )
        )  # fmt: skip
    frames = ase.io.read(tmp_path / "dock" / "poses.extxyz", ":")
    below = [
        any((atoms.positions[atoms.symbols == s, 2] < low - 0.1).any() for s, low in least.items()) for atoms in frames
    ]
    assert len(frames) == 24
    assert 3 < sum(below) < 21
    assert below == sorted(below)  # all that have a rank first
    assert ["outside" in atoms.info for atoms in frames] == below
    rows = _rows(tmp_path / "dock" / "poses.csv")
    assert [bool(row["outside"]) for row in rows] == below
    for part in (rows[: -sum(below)], rows[-sum(below) :]):
        energies = [float(row["binding_eV"]) for row in part]
        assert energies == sorted(energies)
    assert summary.outside == sum(below)
    assert summary.best_binding_eV == pytest.approx(float(rows[0]["binding_eV"]), abs=1e-6)
    assert f"{sum(below)} of 24 poses are outside of the model's domain" in caplog.text
    assert ("lacks the heights and contacts" in caplog.text) is not known
    words = "the least of the training data" if known else "nearer to the surface than a van der Waals contact"
    assert words in rows[-1]["outside"]


def test_without_any_pose_inside_there_is_no_best_energy(tmp_path):
    surface_model(
        tmp_path / "m.safetensors", {"bonds": {}, "contacts": {}, "heights": dict.fromkeys(("H", "C", "O"), (8.0, 9.0))}
    )
    settings = DockSettings(
        "CO", model=str(tmp_path / "m.safetensors"), poses=2, steps=0, output=str(tmp_path / "dock"), progress=False
    )
    assert run_dock(settings).best_binding_eV is None
    assert json.loads((tmp_path / "dock" / "summary.json").read_text())["best_binding_eV"] is None
    assert "outside" in ase.io.read(tmp_path / "dock" / "best.extxyz").info


def test_a_pose_above_all_heights_is_outside_unless_the_model_has_no_field_there():
    ranges = GeometryRanges({}, {}, {"H": (2.5, 5.0), "O": (2.6, 5.0)})
    surface = Host(Atoms(), "surface")
    assert reason(surface, water_at(6.0), ranges) == "at 6.00 A, above all heights of the training data"
    assert reason(surface, water_at(4.0), ranges) == reason(surface, water_at(8.5), ranges) == ""
