"""A check of molecules with properties finds what is wrong with them, and says nothing against good ones."""

import json
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from rdkit import Chem

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.data.checking.check import CheckSettings, check
from ik_e3nn.data.checking.columns import column_doubts, mixed_units, property_column, total_energy_unit
from ik_e3nn.data.structures.molecules import mol_from_atoms
from ik_e3nn.errors import DataError
from tests.pictures import faults

HARTREE = 27.211386  # eV, CODATA
SMILES = ["C", "CO", "C=O", "C#N", "CC", "C=C", "CN", "OO", "NN", "CF", "C#C", "N"]


def run(folder, name, **options):
    return check(CheckSettings(str(folder / name), output=str(folder / "found"), **options))


def table(folder, rows, header="id,smiles,gap"):
    (folder / "mine.csv").write_text("\n".join([header, *rows]) + "\n")


def good(count=12):
    return [f"m{k},{text},{7.0 + 0.1 * k}" for k, text in enumerate(SMILES[:count])]


def test_a_good_table_is_clean(tmp_path, drawn):
    table(tmp_path, [*good(11), "m11,N,"])
    report = run(tmp_path, "mine.csv")
    assert report.is_clean
    assert (
        report.text()
        .splitlines()[1]
        .startswith("gap: 11 values, 1 missing; mean 7.5, median 7.5, from 7 to 8; robust stand")
    )
    assert report.species["F"] == 1
    assert json.loads((tmp_path / "found.json").read_text())["is_clean"] is True
    assert (tmp_path / "found.png").stat().st_size > 1000


def test_the_picture_of_many_properties_can_be_read(tmp_path, drawn, rng):
    names = ["a property whose name is longer than its panel is wide", *(f"p{k}" for k in range(7))]
    scales = (1.0, 1e-6, 3e4, 2e5, 1e8, 10.0, 0.1, 1.0)
    rows = [[f"m{k}", text, *(f"{s * rng.normal():.6g}" for s in scales)] for k, text in enumerate(SMILES)]
    table(tmp_path, [",".join(row) for row in rows], ",".join(["id", "smiles", *names]))
    run(tmp_path, "mine.csv")
    (figure,) = drawn
    assert not faults(figure)


def test_everything_wrong_with_a_table_is_in_one_report(tmp_path):
    rows = good()
    rows[3] = "m3,C#N,1e5"
    rows += ["m12,C(C,1.0", "m13,CCl,inf", "m0,[2H]C,7.0", "m14,OC,9.9"]
    table(tmp_path, rows)
    text = run(tmp_path, "mine.csv").text()
    # median 7.7 of 15 values; what matters is that the sole outlier does not hide itself in the spread
    assert "1 outliers in gap: row 4 of" in text
    assert "mine.csv (m3): 1e+05" in text
    for fault in ("row 13 of .*SMILES 'C\\(C' cannot be read", "row 14 of .*gap is infinite", "'m0' in rows 1, 15"):
        assert any(re.search(f"cannot be used: .*{fault}", line) for line in text.splitlines()), fault
    assert "1 structures occur several times, by SMILES or geometry: row 2 of" in text
    assert "mine.csv (m1) = row 16 of" in text
    assert "1 structures that occur several times have different values of gap, first row 2 of" in text
    assert not run(tmp_path, "mine.csv", overwrite=True).is_clean


def test_columns_of_text_are_no_properties_and_targets_choose(tmp_path):
    table(tmp_path, [f"{row},word,{k}" for k, row in enumerate(good(4))], "id,smiles,gap,remark,rank")
    assert [one.what for one in run(tmp_path, "mine.csv").columns] == ["gap", "rank"]
    assert [one.what for one in run(tmp_path, "mine.csv", targets=["rank"], overwrite=True).columns] == ["rank"]
    with pytest.raises(DataError, match="has a value of logS; check the names of columns"):
        run(tmp_path, "mine.csv", targets=["logS"], overwrite=True)
    table(tmp_path, ["a,CO,word"])
    with pytest.raises(
        DataError, match=r"no column of .*mine.csv has numbers; name the columns to check with --targets"
    ):
        run(tmp_path, "mine.csv", overwrite=True)


def test_sdf_and_extxyz_are_looked_at_too(tmp_path):
    structures = [molecule_from_smiles(text) for text in SMILES[:10]]
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for k, atoms in enumerate(structures):
            one = mol_from_atoms(atoms, atoms.info["bonds"])
            one.SetProp("gap", str(500.0 if k == 7 else 7 + 0.1 * k))
            writer.write(one)
            atoms.info["gap"] = 500.0 if k == 7 else 7 + 0.1 * k
    write(tmp_path / "a.xyz", [*structures, structures[0]])
    assert "1 outliers in gap: molecule 7 of" in run(tmp_path, "a.sdf").text()
    text = run(tmp_path, "a.xyz", targets=["gap"], overwrite=True).text()
    assert "1 outliers in gap: molecule 7 of" in text
    assert "1 structures occur several times, by SMILES or geometry: molecule 0 of" in text
    assert "to check properties of molecules, name them with --targets" in run(tmp_path, "a.xyz", overwrite=True).text()


def test_qm9_is_looked_at_in_its_own_units(tmp_path):
    numbers = "\t".join(["gdb 1", "1", "2", "3", "0.0", "13.21", "-0.3877", "0.1171", "0.5048", "35.3641"])
    text = f"5\n{numbers}\t0.044749\t-40.47893\t-40.476062\t-40.475117\t-40.498597\t6.469\n"
    for symbol, place in zip("CHHHH", molecule("CH4").positions, strict=True):
        text += "\t".join([symbol, *(f"{x:.8f}" for x in place), "0.0"]) + "\n"
    (tmp_path / "dsgdb9nsd_000001.xyz").write_text(text + "1000.0\nC\tC\nInChI\n")
    report = run(tmp_path, "dsgdb9nsd_000001.xyz", targets=["homo", "gap"])
    assert [one.statistics["median"] for one in report.columns] == pytest.approx(
        [-0.3877 * HARTREE, 0.5048 * HARTREE], rel=1e-6
    )
    with pytest.raises(DataError, match=r"QM9 has no 'logS'; its targets are mu, alpha, homo"):
        run(tmp_path, "dsgdb9nsd_000001.xyz", targets=["logS"], overwrite=True)


def test_outliers_of_sums_over_atoms_are_found_beside_composition():
    """An energy off by 1 eV is nothing beside 10 keV between molecules, and 20 deviations beside composition."""
    rng = np.random.default_rng(0)
    structures = [Atoms(f"C{c}H{h}O{o}") for c, h, o in rng.integers(1, 9, (60, 3))]
    energies = np.array([-1030.0 * c - 16.0 * h - 2040.0 * o for atoms in structures
                         for c, h, o in [[np.count_nonzero(atoms.numbers == z) for z in (6, 1, 8)]]])  # fmt: skip
    energies += 0.05 * rng.normal(size=60)
    assert property_column("one", energies, structures).outliers == []
    energies[17] += 2.0
    spread = property_column("one", energies, structures)
    assert spread.is_sum
    assert spread.outliers == [17]
    assert spread.deviation == pytest.approx(0.05, rel=0.3)
    assert total_energy_unit(energies, structures) == "eV"
    assert total_energy_unit(energies / HARTREE, structures) == "Ha"
    assert total_energy_unit(rng.normal(size=60), structures) == ""


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e9])
def test_outliers_are_found_whatever_the_unit(size):
    values = size * (5 + np.random.default_rng(1).normal(size=200))
    structures = [Atoms("CH4")] * 200
    assert property_column("one", values, structures).outliers == []
    values[11] = 40 * size
    assert property_column("one", values, structures).outliers == [11]


def test_classes_and_rare_kinds_are_no_outliers():
    structures = [Atoms("CH4")] * 100
    assert property_column("one", np.r_[np.zeros(70), np.ones(30)], structures).outliers == []
    assert property_column("one", np.full(100, 3.0), structures).outliers == []
    assert property_column("one", np.full(100, np.nan), structures).outliers == []


def test_two_units_in_one_column_and_columns_in_two_units_are_reported():
    rng, structures = np.random.default_rng(2), [Atoms("CH4")] * 100
    homo, lumo = -6 + 0.3 * rng.normal(size=100), -0.5 + 0.3 * rng.normal(size=100)
    gap = lumo - homo
    assert column_doubts({"HOMO": homo, "LUMO": lumo, "gap": gap}) == []
    assert column_doubts({"HOMO": homo, "LUMO": lumo, "gap": 1.2 * gap + rng.normal(size=100)}) == []
    [sentence] = column_doubts({"HOMO": homo, "LUMO": lumo, "gap": gap / HARTREE})
    assert sentence == "gap is 0.0367 times lumo - homo in all rows: gap seems to be in Ha, the levels in eV"
    assert mixed_units(property_column("gap", gap, structures)) == ""
    gap[5:9] *= 23.0605
    assert "23.1 (as of eV and kcal/mol)" in mixed_units(property_column("gap", gap, structures))
