"""Numbers that stand for missing values are named at any share, and good data are not accused."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ik_e3nn.data import LabeledSet, StructureLabels, read_labels, write_structures
from ik_e3nn.data.checking.check import CheckSettings, check
from ik_e3nn.data.graphs.dataset import force_scale
from ik_e3nn.data.labels.keys import LabelKeys
from ik_e3nn.data.labels.placeholders import find_placeholders, without_placeholders
from ik_e3nn.data.suspicions.units import suspicious_units

RNG = np.random.default_rng(0)
KEYS = {"energy": "REF_energy"} | {name: f"largest component of REF_{name}" for name in ("forces", "stress")}


def copper(count=60):
    frames = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        moves = 0.05 * RNG.normal(size=(4, 3))
        atoms.positions += moves
        atoms.info |= {"REF_energy": -0.03 + 3.0 * (moves**2).sum(), "REF_stress": 0.01 * RNG.normal() * np.eye(3)}
        atoms.arrays["REF_forces"] = -6.0 * (moves - moves.mean(0))
        frames.append(atoms)
    return frames


def fill(frames, label, value, step):
    for atoms in frames[::step]:
        if label == "energy":
            atoms.info["REF_energy"] = value
        elif label == "stress":
            atoms.info["REF_stress"] = np.full((3, 3), value)
        else:
            atoms.arrays["REF_forces"] = np.full((4, 3), value)


def values_of(structures, values):
    return [(one.value, int(one.members.sum())) for one in find_placeholders(np.asarray(values, float), structures)]


@pytest.mark.parametrize(("label", "value"), [("energy", -999.0), ("forces", 9999.0), ("stress", -999.0)])
@pytest.mark.parametrize("step", [3, 4, 5, 30])
def test_labels_of_a_potential(caplog, label, value, step):
    frames = copper()
    fill(frames, label, value, step)
    data = read_labels(frames, places=[f"structure {k} of a.xyz" for k in range(60)])
    sentence = (
        f"{60 // step} of 60 structures (the first is structure 0 of a.xyz) have the same {KEYS[label]}, {value:g}, "
        "far from the others: a placeholder for a missing value? Remove it (a missing label is left out)"
    )
    assert sentence in data.doubts
    assert sentence in caplog.text
    assert suspicious_units(data, LabelKeys()) == []
    clean = without_placeholders(data)
    assert sum(np.isnan(np.sum(one)) for one in clean.by_structure(label)) == 60 // step


def test_a_check_names_the_placeholder_and_no_good_structure(tmp_path):
    frames = copper(24)
    fill(frames, "energy", -999.0, 4)
    write_structures(tmp_path / "a.xyz", frames)
    report = check(CheckSettings(data=str(tmp_path / "a.xyz"), output=str(tmp_path / "found")))
    assert not report.is_clean
    assert report.outliers == []
    assert report.columns[0].values[1] == pytest.approx(0.0, abs=0.1)


def test_properties_at_any_share():
    molecules = [Atoms("CH4")] * 100
    for count in (1, 8, 11, 30, 60):
        values = RNG.normal(-6, 1, 100)
        values[:count] = -999
        assert values_of(molecules, values) == [(-999.0, count)]
    # 5 of 17, and a number of one's own where molecules differ
    values = np.r_[RNG.normal(size=12), [-77.0] * 5]
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * k]]) for k in range(17)]
    assert values_of(frames, values) == [(-77.0, 5)]
    assert values_of([frames[0]] * 17, values) == []


def test_energies_are_judged_beside_composition():
    sizes = RNG.integers(1, 9, (60, 2))
    structures = [Atoms(f"C{c}H{h}") for c, h in sizes]
    energies = sizes @ [-1030.0, -16.0] + 0.1 * RNG.normal(size=60)
    assert values_of(structures, energies) == []
    energies[::5] = -999.0
    assert values_of(structures, energies) == [(-999.0, 12)]


def test_what_may_well_be_so_is_not_accused():
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.001 * k]]) for k in range(200)]
    usual = RNG.normal(5, 0.1, 200)
    for values in (
        np.where(np.arange(200) < 20, 0.0, usual),  # dipoles and gaps are zero by symmetry
        np.where(np.arange(200) < 60, 1.0, 0.0),  # classes
        np.where(np.arange(200) < 6, 5.0, RNG.integers(0, 2, 200)),  # counts
        np.minimum(np.exp(RNG.normal(4, 2, 200)), 2000.0),  # a limit of detection
        RNG.normal(1000, 20, 200).round(),  # 999 among its like
        np.full(200, 3.0),
        np.full(200, np.nan),
    ):
        assert values_of(frames, values) == []


def test_a_warning_of_absurd_forces_of_all_structures(caplog):
    labels = [StructureLabels(0.0, size * np.ones((2, 3)), np.zeros((3, 3))) for size in (1.0, 1e3, 1e3)]
    with caplog.at_level(logging.WARNING, logger="ik_e3nn"):
        assert force_scale(LabeledSet.of_labels([Atoms("H2")] * 3, labels)) > 100.0
    assert "the forces have a root mean square of 816 eV/A" in caplog.text
