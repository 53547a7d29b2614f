"""One's own tables: csv, SDF and extxyz give the same, and gaps stay gaps."""

import re

import numpy as np
import pytest
from ase import Atoms, build
from ase.io import write
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from ik_e3nn.data import StructureDataset, molecule_from_smiles, read_properties, resolve_targets, with_bonds
from ik_e3nn.data.labels.labeled_set import LabeledSet, joined
from ik_e3nn.data.properties.reference import fit_references
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import remove_bonds
from ik_e3nn.targets import DipoleNorm, Extensive, Intensive, Polarizability
from tests.data.molecule_sets import property_set

TARGETS = resolve_targets({"logS": "intensive log(mol/L)", "E": "extensive eV", "d": "dipole D"})


def test_csv_sdf_and_extxyz_give_the_same_values(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("id,smiles,logS,E\nx,CO,-1.5,\ny,C#N,NA,-2.25\n")
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for text, name, fields in (
            ("CO", "x", {"logS": "-1.5", "d": "0.1 0.2 0.3"}), ("C#N", "y", {"logS": "nan", "E": "-2.25"})
        ):  # fmt: skip
            molecule = Chem.AddHs(Chem.MolFromSmiles(text))
            rdDistGeom.EmbedMolecule(molecule, randomSeed=1)
            molecule.SetProp("_Name", name)
            for key, value in fields.items():
                molecule.SetProp(key, value)
            writer.write(molecule)
    one, two = molecule_from_smiles("CO"), molecule_from_smiles("C#N")
    one.info |= {"logS": -1.5, "d": [0.1, 0.2, 0.3], "name": "x"}
    two.info |= {"E": -2.25, "name": "y"}
    write(tmp_path / "a.xyz", [one, two])
    for name, targets in (("a.csv", TARGETS[:2]), ("a.sdf", TARGETS), ("a.xyz", TARGETS)):
        found = read_properties(tmp_path / name, targets)
        assert found.ids == ["x", "y"], name
        assert found.counts() == dict.fromkeys([target.name for target in targets], 1)
        np.testing.assert_array_equal(found.values[found.targets[0].name], [-1.5, np.nan])
        np.testing.assert_array_equal(found.values[found.targets[1].name], [np.nan, -2.25])
        if name != "a.csv":
            np.testing.assert_array_equal(found.values["d"], [[0.1, 0.2, 0.3], [np.nan] * 3])
        assert all("bonds" in atoms.info for atoms in found.structures)
        assert found.smiles == (["CO", "C#N"] if name == "a.csv" else None)
    both = read_properties([tmp_path / "a.csv", tmp_path / "a.xyz"], TARGETS)
    assert len(both) == 4
    assert both.smiles is None


def test_mistakes_in_tables_are_named(tmp_path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("smiles,logS\nCO,high\n")
    with pytest.raises(DataError, match=r"row 1 of .*a.csv: logS must be a number or empty; got 'high'"):
        read_properties(table, TARGETS[:1])
    table.write_text("smiles,logS\nC,\nCO,-inf\n")
    with pytest.raises(DataError, match=r"row 2 of .*a.csv: logS is infinite; got '-inf'; correct it, or leave it"):
        read_properties(table, TARGETS[:1])
    table.write_text("smiles,mu\nC,0\nCO,-1.7\n")
    with pytest.raises(DataError, match=r"row 2 of .*a.csv: mu is a dipole_norm and cannot be negative; got '-1.7'"):
        read_properties(table, [DipoleNorm("mu", "D")])
    table.write_text("smiles,other\nCO,1\n")
    with pytest.raises(
        DataError, match="has a value of logS; check the names of columns, .*: the files have other, smiles$"
    ):
        read_properties(table, TARGETS[:1])
    table.write_text("smiles,logS\nC1,1\n")
    with pytest.raises(DataError, match=r"row 1 of .*a.csv: SMILES 'C1' cannot be read"):
        read_properties(table, TARGETS[:1])
    with pytest.raises(DataError, match=r"no row of .*a.csv makes a molecule; check its SMILES"):
        read_properties(table, TARGETS[:1], skip=True)
    table.write_text("molecule,logS\nC,1\n")
    with pytest.raises(DataError, match="has no column smiles or SMILES .*its columns are molecule, logS"):
        read_properties(table, TARGETS[:1])
    table.write_text("smiles;logS\nC;1\n")
    with pytest.raises(
        DataError, match="has no column smiles .*its columns are smiles;logS; columns must be separated by commas, and"
    ):
        read_properties(table, TARGETS[:1])
    table.write_text("smiles;logS\nC;1,5\n")
    with pytest.raises(DataError, match="columns must be separated by commas, and numbers must have a decimal point"):
        read_properties(table, TARGETS[:1])
    table.write_text("smiles,logS\n")
    with pytest.raises(DataError, match="has no rows"):
        read_properties(table, TARGETS[:1])
    table.write_text("smiles,logS,, logS,\nCO,1,,2,\n")
    with pytest.raises(DataError, match=r"a.csv has several columns named logS; rename or delete all but one"):
        read_properties(table, TARGETS[:1])
    table.write_text("smiles,logS\nCO,1,5\n")
    with pytest.raises(DataError, match=r"row 1 of .*a.csv has more values than the header has names"):
        read_properties(table, TARGETS[:1])
    table.write_bytes("smiles,logS,city\nCO,1,K\u00f6ln\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a.csv is not UTF-8 text .*; save it as UTF-8"):
        read_properties(table, TARGETS[:1])


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_positions_that_are_no_numbers_are_refused_or_left_out(tmp_path, caplog, number) -> None:
    path, targets = tmp_path / "a.xyz", TARGETS[:1]
    frames = [molecule_from_smiles("CO") for _ in range(3)]
    for atoms in frames:
        atoms.info["logS"] = 1.0
    frames[1].positions[2, 1] = number
    write(path, frames)
    with pytest.raises(
        DataError, match=r"molecule 1 of .*a.xyz: positions must be finite.*set data.on_failure to skip"
    ):
        read_properties(path, targets)
    assert read_properties(path, targets, skip=True).ids == ["a.xyz:0", "a.xyz:2"]
    assert "a.xyz is left out: some positions are NaN or infinite" in caplog.text
    write(path, frames[1])
    with pytest.raises(DataError, match=r"no molecule of .*a.xyz can be used"):
        read_properties(path, targets, skip=True)


def test_smiles_of_structure_files_are_taken_where_all_have_them(tmp_path) -> None:
    texts = ["F", "C=O", "[NH4+]"]
    structures = [molecule_from_smiles(text) for text in texts]
    for atoms, text in zip(structures, texts, strict=True):
        remove_bonds(atoms)
        atoms.info |= {"smiles": text, "logS": 1.0}
    write(tmp_path / "a.xyz", structures)  # ASE reads the F as False
    found = read_properties(tmp_path / "a.xyz", TARGETS[:1])
    assert found.smiles == texts
    assert with_bonds(found)[1].sources == {"smiles": 3}
    del structures[1].info["smiles"]
    write(tmp_path / "b.xyz", structures)
    assert read_properties(tmp_path / "b.xyz", TARGETS[:1]).smiles is None
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for text in texts:
            molecule = Chem.AddHs(Chem.MolFromSmiles(text))
            rdDistGeom.EmbedMolecule(molecule, randomSeed=1)
            molecule.SetProp("SMILES", text)
            molecule.SetProp("logS", "1.0")
            writer.write(molecule)
    assert read_properties(tmp_path / "a.sdf", TARGETS[:1]).smiles == texts


@pytest.mark.parametrize("names", ["d", "d_0,d_1,d_2"])
def test_vectors_beside_smiles_are_refused(tmp_path, names) -> None:
    """A conformer lies in any orientation; what of its vectors does not turn is their length."""
    values = "1 2 3" if names == "d" else "1,2,3"
    (tmp_path / "a.csv").write_text(f"smiles,{names}\nCO,{values}\n")
    with pytest.raises(ConfigError, match=r"'d' is a dipole, .*a.csv has SMILES.*extxyz.*kind dipole_norm"):
        read_properties(tmp_path / "a.csv", TARGETS[2:])
    (tmp_path / "b.csv").write_text("smiles,d\nCO,1.7\n")
    assert read_properties(tmp_path / "b.csv", [DipoleNorm("d", "D")]).values["d"].tolist() == [1.7]


def test_tables_of_spreadsheets_are_read(tmp_path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffsmiles,logS\r\nCO,-1.5\r\n".encode())
    assert read_properties(tmp_path / "a.csv", TARGETS[:1]).values["logS"].tolist() == [-1.5]
    (tmp_path / "U.CSV").write_text(" smiles , logS,,\n CO , -1.5 ,,\n")
    found = read_properties(tmp_path / "U.CSV", TARGETS[:1])
    assert found.values["logS"].tolist() == [-1.5]
    assert found.smiles == ["CO"]


def test_names_of_data_fields_and_info_are_listed_where_a_property_is_nowhere(tmp_path) -> None:
    atoms = molecule_from_smiles("CO")
    atoms.info["logs"] = 1.0
    write(tmp_path / "a.xyz", atoms)
    with pytest.raises(
        DataError, match="no molecule in .*a.xyz has a value of logS; .*: the files have bonds, .*, logs, "
    ):
        read_properties(tmp_path / "a.xyz", TARGETS[:1])


def test_what_ase_takes_for_results_is_found_too(tmp_path) -> None:
    atoms = molecule_from_smiles("CO")
    atoms.info |= {"energy": -2.5, "dipole": np.array([0.1, 0.2, 0.3])}
    write(tmp_path / "a.xyz", atoms)
    found = read_properties(tmp_path / "a.xyz", resolve_targets({"energy": "extensive eV", "dipole": "dipole D"}))
    assert [one.tolist() for one in found.values.values()] == [[-2.5], [[0.1, 0.2, 0.3]]]


def test_targets_of_a_configuration() -> None:
    assert [target.unit for target in resolve_targets(["mu", "U0", "U0_atom"])] == ["D", "eV", "eV"]
    assert resolve_targets({"a": {"kind": "intensive", "unit": "eV"}}) == resolve_targets({"a": "intensive eV"})
    with pytest.raises(ConfigError, match=r"target 'a' is .*, but it must be like 'intensive eV' or"):
        resolve_targets({"a": {"type": "intensive"}})
    with pytest.raises(ConfigError, match=r"logS; a list may name those of QM9 .*For your own, give kind and unit"):
        resolve_targets(["logS"])
    with pytest.raises(ConfigError, match="target 'a' is of kind 'big', but it must be one of extensive"):
        resolve_targets({"a": "big eV"})
    with pytest.raises(ConfigError, match="a target needs a name"):
        Extensive("")


def test_sets_are_checked_selected_and_joined() -> None:
    whole = property_set(("C", "CO", "CC"))
    assert whole.select([2, 0]).ids == ["m2", "m0"]
    assert whole.only(["moment"]).values["moment"].shape == (3, 3)
    assert joined([whole, whole.select([1])]).ids == ["m0", "m1", "m2", "m1"]
    with pytest.raises(DataError, match="there is no target z; there are size"):
        whole.only(["z"])
    with pytest.raises(DataError, match="sets with different targets"):
        joined([whole, whole.only(["size"])])
    with pytest.raises(DataError, match=r"moment is a dipole: values must be \(3, 3\); got \(3,\)"):
        LabeledSet(whole.structures, whole.targets, {**whole.values, "moment": np.zeros(3)}, whole.ids)
    infinite = {**whole.values, "moment": np.array([[0.0, 0, 0], [0, -np.inf, 0], [np.nan] * 3])}
    with pytest.raises(DataError, match=r"molecule m1: moment is infinite; correct it, or leave it empty \(NaN\)"):
        LabeledSet(whole.structures, whole.targets, infinite, whole.ids)
    with pytest.raises(DataError, match="3 structures, but 1 ids"):
        LabeledSet(whole.structures, (), {}, ["a"])


def test_a_polarizability_is_symmetric(tmp_path) -> None:
    alpha, frames = Polarizability("alpha", "bohr^3"), [molecule_from_smiles("CO") for _ in range(2)]
    frames[0].info["alpha"] = [10.0, 1.001, 0, 1.0, 10, 0, 0, 0, 9]  # as printed
    write(tmp_path / "a.xyz", frames)
    assert read_properties(tmp_path / "a.xyz", [alpha]).counts() == {"alpha": 1}
    frames[1].info["alpha"] = [10.0, -1.0, 0, 1.0, 10, 0, 0, 0, 9]
    write(tmp_path / "a.xyz", frames)
    with pytest.raises(DataError, match="molecule 1 of .*a.xyz: alpha is a polarizability and must be symmetric"):
        read_properties(tmp_path / "a.xyz", [alpha])


def test_graphs_carry_targets_and_the_edges_asked_for() -> None:
    whole = property_set(("CO", "CC"))
    bonds, radius, both = (StructureDataset(whole, 2.0, edges=edges)[0] for edges in ("bonds", "radius", "both"))
    assert bonds["edge_index"].shape[1] == 2 * 5
    assert int(bonds["bond_types"].min()) == 1
    assert int(radius["bond_types"].max()) == 0
    assert both["edge_index"].shape == radius["edge_index"].shape
    assert int((both["bond_types"] > 0).sum()) == 2 * 5
    assert bonds["targets"].shape == (1, 5)
    assert bonds["targets"][0, 0] == pytest.approx(whole.values["size"][0], rel=1e-15)
    dataset = StructureDataset(whole, edges="bonds")
    assert dataset.average_neighbors() == pytest.approx((10 + 14) / (6 + 8))
    mixed = LabeledSet([Atoms("H", info={"charge": 1}), Atoms("H")], (), {}, ["a", "b"])
    assert "total_charge" not in StructureDataset(mixed, edges="bonds")[0]
    with pytest.raises(DataError, match="structure 0 .*: H2 has no stored bonds"):
        StructureDataset([Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])], edges="bonds")[0]


def test_the_number_0_is_an_id(tmp_path):
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], info={"id": number, "E": -1.0}) for number in range(2)]
    write(tmp_path / "two.xyz", frames)
    assert read_properties(tmp_path / "two.xyz", [Extensive("E", "eV")]).ids == ["0", "1"]


def test_a_warning_of_odd_numbers_of_electrons(tmp_path, caplog):
    frames = [
        build.molecule("CH4", info={"gap": 1.0}),
        build.molecule("CH3", info={"gap": 1.0}),
        build.molecule("OH", info={"gap": 1.0}),
    ]
    frames[2].info["charge"] = -1
    write(tmp_path / "a.xyz", frames)
    assert len(read_properties(tmp_path / "a.xyz", [Intensive("gap", "eV")])) == 3
    assert re.search(r"1 of 3 molecules have an odd number of electrons \(first: molecule 1 of .*a.xyz\)", caplog.text)


def test_a_name_that_is_too_long_is_an_error():
    with pytest.raises(DataError, match=r"'x+ is not a valid file name \(File name too long\)"):
        read_properties("x" * 300, [Intensive("gap", "eV")])


def test_all_bad_rows_are_named_at_once(tmp_path) -> None:
    """Unreadable SMILES, infinite values and text, with the numbers of their rows below the header."""
    rows = ["a,CCO,1.0", "b,C(C,2.0", "c,CO,inf", "d,CC,abc", "e,C,3.0", "f,[Xx],1"]
    (tmp_path / "a.csv").write_text("\n".join(["id,smiles,gap", *rows]))
    gap = [Intensive("gap", "eV")]
    with pytest.raises(DataError, match="4 molecules of .* cannot be used") as caught:
        read_properties(tmp_path / "a.csv", gap)
    assert all(f"row {number} of" in str(caught.value) for number in (2, 3, 4, 6))
    assert str(caught.value).endswith("; correct or delete them, or set data.on_failure to skip")
    with pytest.raises(DataError, match="; correct or delete them$"):
        read_properties(tmp_path / "a.csv", gap, advice="")


def test_an_id_of_a_table_stands_for_one_row(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("id,smiles,gap\na,CCO,1.0\nb,CO,2.0\na,C,3.0\n")
    with pytest.raises(DataError, match="ids that occur twice: 'a' in rows 1, 3; give every row a different id"):
        read_properties(tmp_path / "a.csv", [Intensive("gap", "eV")])


def test_one_absurd_value_does_not_set_the_scale(caplog) -> None:
    """An error of 0.5 % of a spread that one value of 500 makes looks superb and is nothing."""
    rng = np.random.default_rng(0)
    values = 5.0 + rng.normal(size=500)
    atoms, ids = [Atoms("CH4")] * 500, [f"m{k}" for k in range(500)]
    gap = (Intensive("gap", "eV"),)
    (clean,) = fit_references(LabeledSet(atoms, gap, {"gap": values}, ids), [1, 6])
    assert not caplog.text
    values = values.copy()
    values[77] = 1e5
    (found,) = fit_references(LabeledSet(atoms, gap, {"gap": values}, ids), [1, 6])
    assert found.scale == pytest.approx(clean.scale, rel=0.02)
    assert found.shift == pytest.approx(clean.shift, abs=0.02)
    assert "1 of 500 values of gap are so far off that they alone would set its scale: molecule m77" in caplog.text


def test_a_warning_of_values_that_widen_the_spread(caplog) -> None:
    """Errors beside a spread that ten values of 500 make look smaller than they are; a normal distribution is fine."""
    values, gap = np.random.default_rng(0).normal(size=500), (Intensive("gap", "eV"),)
    atoms, ids = [Atoms("CH4")] * 500, [f"m{k}" for k in range(500)]
    values[::50] = 30.0  # the spread is sqrt(0.98 + 0.02 * 30^2 * 0.98) = 4.3 with them, 1 without
    (found,) = fit_references(LabeledSet(atoms, gap, {"gap": values}, ids), [1, 6])
    assert found.scale == pytest.approx(4.3, abs=0.1)
    said = caplog.text
    assert "10 of 500 values of gap are far off: molecule m0, molecule m50" in said
    assert re.search(
        r"spread of its values is 4.3\d? eV, without them 1.?\d* eV, so that errors .* look 4.\d times", said
    )


def test_properties_of_a_large_unit_have_their_own_scale() -> None:
    """Values of 1e-12 have a spread; values that are all the same have none."""
    atoms, ids, moment = [Atoms("CH4")] * 50, [f"m{k}" for k in range(50)], (Intensive("m", "C m"),)
    values = 1e-12 * np.random.default_rng(0).normal(size=50)
    (found,) = fit_references(LabeledSet(atoms, moment, {"m": values}, ids), [1, 6])
    assert found.scale == pytest.approx(values.std(), rel=1e-9)
    (found,) = fit_references(LabeledSet(atoms, moment, {"m": np.full(50, 3e-12)}, ids), [1, 6])
    assert found.scale == 1.0
