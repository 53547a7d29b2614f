"""A check finds what is wrong with a data set, and says nothing against a good one."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from matplotlib.figure import Figure

from ik_e3nn.cli import main
from ik_e3nn.data import write_structures
from ik_e3nn.data.checking.check import CheckSettings, check
from ik_e3nn.data.checking.plot import histogram
from ik_e3nn.data.labels.outliers import energy_column, robust_scores
from ik_e3nn.data.structures.geometry import closest_contacts, find_duplicates
from ik_e3nn.errors import DataError
from tests.pictures import faults


def copper(count=30, seed=0):
    frames = []
    for number in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=seed + number)
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.info["REF_stress"] = atoms.get_stress(voigt=False)
        atoms.calc = None
        frames.append(atoms)
    return frames


def run(tmp_path, frames, **changes):
    write_structures(tmp_path / "set.xyz", frames, overwrite=True)
    return check(CheckSettings(data=str(tmp_path / "set.xyz"), output=str(tmp_path / "found"), **changes))


def test_a_good_set_is_clean(tmp_path, drawn):
    report = run(tmp_path, copper())
    assert not faults(*drawn)
    assert report.is_clean
    assert report.text().splitlines()[-2] == "nothing suspicious"
    assert report.data.counts() == {"energy": 30, "forces": 30, "stress": 30}
    assert report.species == {"Cu": 120}
    assert report.periodicity == {"TTT": 30}
    assert report.reference.rank == 1
    assert "E0 (eV): Cu" in report.text()
    assert (tmp_path / "found.png").stat().st_size > 5000
    values = json.loads((tmp_path / "found.json").read_text())
    assert values["is_clean"] is True
    assert values["counts"]["energy"] == 30
    assert list(values["reference"]["values"]) == ["Cu"]


def test_everything_wrong_is_found(tmp_path):
    frames = copper()
    frames[4].info["REF_energy"] += 5.0
    frames[7].arrays["REF_forces"][2] = 300.0
    frames[9] = frames[2].copy()
    frames[9].positions += 0.3
    frames[9].info["REF_energy"] += 0.5
    frames[11].positions[1] = frames[11].positions[0] + [0.4, 0, 0]
    frames[13].arrays["REF_forces"][:2] = 0.0
    frames[15].positions[0] = np.nan
    frames[17].arrays["REF_forces"][1, 0] = np.nan
    report = run(tmp_path, frames)
    text, file = report.text(), tmp_path / "set.xyz"
    assert not report.is_clean
    assert [one.structure for one in report.outliers if "energy" in one.what] == [4, 9]
    assert [one.structure for one in report.outliers if "largest force" in one.what] == [7]
    assert [(one.structure, one.value) for one in report.outliers if "missing" in one.what] == [(17, 1.0)]
    assert report.duplicates == [[2, 9]]
    assert report.contacts[0].structure == 11
    assert [fault for fault in report.faults if "structure 15 of" not in fault] == []
    for sentence in (
        "1 outliers in largest force (eV/A): structure 7 of",
        f"1 structures occur several times, by SMILES or geometry: structure 2 of {file} = structure 9 of {file}",
        "1 structures that occur several times have different values of energy, first structure 2 of",
        f"Cu-Cu 0.40 A in structure 11 of {file} (TOO CLOSE)",
        "1 structures have atoms with forces of exactly zero beside others",
        "structures have forces that do not sum to zero",
        f"cannot be used: structure 15 of {file}: the positions hold NaN",
        "please check the problems named above",
    ):
        assert sentence in text
    json.loads((tmp_path / "found.json").read_text(), parse_constant=pytest.fail)


def test_missing_labels_are_reported_not_refused(tmp_path):
    dummy = molecule("H2O", cell=[50, 50, 50])
    report = run(tmp_path, [dummy, Atoms("H")])
    assert report.reference is None
    assert "energy 0, forces 0, stress 0" in report.text()
    assert "none of 2 structures has the energy label 'REF_energy'. Keys found" in report.text()
    assert not report.is_clean
    assert "1 structures have a cell but are open in all directions" in report.text()


def test_impossible_charges_and_bonds_are_reported(tmp_path):
    frames = copper(5)
    frames[1].info["charge"] = "one"
    frames[3].info["bonds"] = [0, 99, 1]
    report = run(tmp_path, frames)
    assert not report.is_clean
    assert "structure 1 of" in report.faults[0]
    assert report.faults[0].endswith("""atoms.info["charge"] must be one finite number; got 'one'""")
    assert report.faults[1].endswith("a bond refers to atom 99, but the structure has 4 atoms (counted from 0)")


def test_own_key_names_and_units(tmp_path):
    report = run(tmp_path, [molecule("H2O", info={"dft": -76.0})], energy_key="dft", energy_unit="Ha")
    assert report.data.sources["energy"] == "dft"
    total = 2 * report.reference.values[1] + report.reference.values[8]
    assert total == pytest.approx(-76.0 * 27.2114, rel=1e-4)


def test_panels_of_the_picture_have_titles_and_names_of_what_is_counted():
    axes = Figure().subplots(1, 2)
    histogram(axes[0], np.array([9.0] * 5), "sizes", "atoms per structure", "structures", whole=True)
    histogram(axes[1], np.array([np.nan]), "a" * 40, "forces (eV/A)", "components")
    assert [one.get_title() for one in axes] == ["sizes", "a" * 29 + "..."]
    assert [one.get_ylabel() for one in axes] == ["structures", ""]
    assert all(tick == round(tick) for tick in axes[0].get_xticks())
    assert axes[1].texts[0].get_text() == "none"
    assert not len(axes[1].get_xticks())


def test_one_absurd_stress_among_many(tmp_path):
    frames = copper()
    frames[8].info["REF_stress"] = 1602.18 * frames[8].info["REF_stress"]
    report = run(tmp_path, frames)
    assert [(one.structure, "stress" in one.what) for one in report.outliers] == [(8, True)]
    assert "1 outliers in largest component of the stress (eV/A^3): structure 8 of" in report.text()


def test_structures_with_labels_in_other_units_are_named_with_their_file(tmp_path):
    frames = copper()
    for atoms in frames[5:25:2]:
        atoms.arrays["REF_forces"] *= -1
    text = run(tmp_path, frames).text()
    sentence = "forces: 10 of 30 structures (the first is structure 5 of {}) seem to have the wrong sign"
    assert sentence.format(tmp_path / "set.xyz") in text


@pytest.mark.parametrize("output", ["..", ".", "/dev/null"])
def test_the_output_is_the_beginning_of_two_names(tmp_path, output, monkeypatch):
    write_structures(tmp_path / "set.xyz", copper(1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"two names, <output>.json and <output>.png, and '.*' is (a folder|not a file)"
    ):
        check(CheckSettings(data="set.xyz", output=output))
    assert CheckSettings(data="set.xyz", output="a/b.json").files == CheckSettings(data="s", output="a/b").files


def test_isolated_atoms_are_no_outliers(tmp_path):
    frames = copper(20)
    frames.append(Atoms("Cu", info={"REF_energy": 3.5, "config_type": "IsolatedAtom"}))
    report = run(tmp_path, frames)
    assert report.reference.source == "isolated atoms (Cu)"
    assert report.config_types == {"none": 20, "IsolatedAtom": 1}
    assert not report.outliers


def test_files_of_an_earlier_check_are_kept(tmp_path):
    run(tmp_path, copper(2))
    before = (tmp_path / "found.json").read_bytes()
    with pytest.raises(DataError, match=r"found.json exists already"):
        run(tmp_path, copper(3))
    assert (tmp_path / "found.json").read_bytes() == before
    assert len(run(tmp_path, copper(3), overwrite=True).data) == 3


def test_without_an_output_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_structures("set.xyz", copper(25))
    report = check(CheckSettings(data="set.xyz"))
    assert report.is_clean
    assert "written" not in report.text()
    assert [path.name for path in tmp_path.iterdir()] == ["set.xyz"]


def test_what_cannot_be_used_is_the_exit_status(tmp_path, monkeypatch, capsys):
    """Duplicates are no reason to stop a script: they may be wanted."""
    monkeypatch.chdir(tmp_path)
    write_structures("twice.xyz", copper(5) * 2)
    (tmp_path / "bad.csv").write_text("smiles,gap\n" + "CO,1.0\n" * 3 + "not a molecule,2.0\n" * 21)
    assert main(["data", "check", "twice.xyz"]) == 0
    assert "occur several times" in capsys.readouterr().out
    assert main(["data", "check", "bad.csv"]) == 1
    assert "and 1 more that cannot be used; -o NAME writes all of them to NAME.json" in capsys.readouterr().out
    assert main(["data", "check", "bad.csv", "-o", "found"]) == 1
    assert "and 1 more that cannot be used; all are in the JSON file" in capsys.readouterr().out


def test_duplicates_up_to_a_shift():
    atoms = molecule("H2O")
    moved, turned = atoms.copy(), atoms.copy()
    moved.positions += 7.0
    turned.rotate(30, "x")
    assert find_duplicates([atoms, turned, moved]) == [[0, 2]]


def test_structures_that_went_through_a_file_are_the_same():
    """A place is rounded to 1e-8 A there; on a single grid of 1e-4 A, every hundredth molecule would be another one."""
    rng = np.random.default_rng(0)
    ours = [Atoms("CH3OH", rng.normal(size=(6, 3))) for _ in range(2000)]
    theirs = [Atoms(atoms.numbers, atoms.positions + rng.uniform(-1e-8, 1e-8, (6, 3))) for atoms in ours]
    assert find_duplicates(ours + theirs) == [[number, 2000 + number] for number in range(2000)]
    assert find_duplicates([]) == []
    broken = [Atoms("H", cell=[size] * 3, pbc=True) for size in (np.nan, np.inf, np.nan)]
    assert find_duplicates(broken) == []


def test_contacts_through_periodic_images():
    atoms = Atoms("NaCl", positions=[[0.1, 0, 0], [4.9, 0, 0]], cell=[5, 5, 5], pbc=True)
    contacts, broken = closest_contacts([atoms])
    assert contacts[0].pair == "Na-Cl"
    assert contacts[0].distance == pytest.approx(0.2)
    assert not broken


def test_robust_scores_ignore_missing_values():
    scores = robust_scores(np.array([1.0, np.nan, 1.0, 1.0]))
    assert scores[0] == 0.0
    assert np.isnan(scores[1])
    assert np.isnan(robust_scores(np.array([np.nan]))).all()


def test_a_second_kind_of_structure_is_no_outlier():
    structures = [Atoms("Si2")] * 40
    energies = np.r_[np.linspace(0.0, 0.01, 32), np.linspace(0.5, 0.6, 8)]
    assert energy_column(structures, energies).outliers == []
    energies[33:] = 0.0
    assert energy_column(structures, energies).outliers == [32]


def test_a_multiplicity_that_is_not_given_is_the_lowest():
    hydrogen, radical = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), Atoms("OH", [[0, 0, 0], [0, 0, 1.0]])
    frames = [atoms.copy() for atoms in (hydrogen, hydrogen, hydrogen, radical, radical)]
    frames[1].info["spin"], frames[2].info["spin"], frames[4].info["spin"] = 1, 3, 2
    assert find_duplicates(frames) == [[0, 1], [3, 4]]


def test_an_ion_at_the_geometry_of_its_molecule_is_no_duplicate():
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], info=info) for info in ({}, {"charge": 1}, {"charge": 0})]
    assert find_duplicates(frames) == [[0, 2]]
