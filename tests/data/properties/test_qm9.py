"""QM9: all its forms give the same molecules, in eV, with total and atomization energies apart."""

import tarfile

import numpy as np
import pytest
import torch
from ase import Atoms, units
from rdkit import Chem
from torch_geometric.data import Data

from ik_e3nn.data import molecule_from_smiles, qm9_from_pyg, read_properties, read_qm9, resolve_targets
from ik_e3nn.data.properties.qm9 import ATOM_ENERGIES, ELEMENTS, NAMES, TARGETS, read_uncharacterized
from ik_e3nn.data.properties.qm9_files import CSV_NAMES, UNITS, parse_xyz
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.targets import Intensive

# methane, ammonia and formaldehyde, numbers 1, 2 and 6 of dsgdb9nsd, with the published values
INDEX = (1, 2, 6)
SMILES = ("C", "N", "C=O")
VALUES = np.array(
    [
        [0.0, 13.21, -0.3877, 0.1171, 0.5048, 35.3641, 0.044749, -40.47893, -40.476062, -40.475117, -40.498597, 6.469],
        [1.6256, 9.46, -0.257, 0.0829, 0.3399, 26.1563, 0.034358, -56.525887, -56.523026, -56.522082, -56.544961,
         6.316],
        [2.1089, 14.18, -0.267, -0.0406, 0.2263, 59.9891, 0.026603, -114.483613, -114.480746, -114.479802,
         -114.505268, 6.413],
    ]
)  # fmt: skip
STRUCTURES = [molecule_from_smiles(text) for text in SMILES]


def write_arrays(folder, **changes):
    ends = np.cumsum([0] + [len(atoms) for atoms in STRUCTURES])
    arrays = {
        "Z": np.concatenate([atoms.numbers for atoms in STRUCTURES]).astype(np.uint8),
        "R": np.concatenate([atoms.positions for atoms in STRUCTURES]),
        "offsets": ends,
        "index": np.array(INDEX),
        "targets": VALUES,
        "target_names": np.array(NAMES),
        "target_units": np.array(UNITS),
        "smiles": np.array([text.encode() for text in SMILES]),
    }
    path = folder / "qm9.npz"
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return path


def xyz_text(k):
    atoms = STRUCTURES[k]
    rows = "".join(f"{a.symbol}\t{a.x:.10f}\t{a.y:.10f}\t{a.z:.10f}\t0.1*^-2\n" for a in atoms)
    head = f"gdb {INDEX[k]}\t157.7\t157.7\t157.7\t" + "\t".join(map(str, VALUES[k]))
    return f"{len(atoms)}\n{head}\n{rows}1341.3\t1341.4\n{SMILES[k]}\t{SMILES[k]}\nInChI=1\tInChI=1\n"


def write_xyz(folder):
    for k, number in enumerate(INDEX):
        (folder / f"dsgdb9nsd_{number:06d}.xyz").write_text(xyz_text(k))
    return folder


def write_sdf(folder, rows=3):
    with Chem.SDWriter(str(folder / "gdb9.sdf")) as writer:
        for text in SMILES:
            molecule = Chem.AddHs(Chem.MolFromSmiles(text))
            conformer = Chem.Conformer(molecule.GetNumAtoms())
            for place, position in enumerate(molecule_from_smiles(text).positions.tolist()):
                conformer.SetAtomPosition(place, position)
            conformer.Set3D(True)
            molecule.AddConformer(conformer)
            molecule.SetProp("_Name", f"gdb_{INDEX[SMILES.index(text)]}")
            writer.write(molecule)
    lines = [",".join(("mol_id", "A", *CSV_NAMES))]
    lines += [",".join([f"gdb_{INDEX[k]}", "1.0", *map(str, VALUES[k])]) for k in range(rows)]
    (folder / "gdb9.sdf.csv").write_text("\n".join(lines) + "\n")
    return folder


def pyg(k):
    factors = [units.Hartree if unit == "Ha" else 1.0 for unit in UNITS]
    atoms = STRUCTURES[k]
    bonds = atoms.info["bonds"].reshape(-1, 3)
    ends = np.concatenate([bonds[:, :2], bonds[:, 1::-1]]).T
    kinds = np.eye(4)[np.concatenate([bonds[:, 2], bonds[:, 2]]) - 1]
    return Data(
        z=torch.tensor(atoms.numbers), pos=torch.tensor(atoms.positions),
        edge_index=torch.tensor(np.ascontiguousarray(ends)), edge_attr=torch.tensor(kinds),
        y=torch.tensor(np.concatenate([VALUES[k] * factors, np.zeros(7)]))[None],
        name=f"gdb_{INDEX[k]}", smiles=SMILES[k], idx=INDEX[k] - 1,
    )  # fmt: skip


def tar(folder):
    path = folder / "dsgdb9nsd.xyz.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        for file in sorted(write_xyz(folder).glob("*.xyz")):
            archive.add(file, file.name)
            file.unlink()
    return path


@pytest.mark.parametrize("form", ["arrays", "xyz", "tar", "sdf", "pyg"])
def test_every_form_gives_the_same_molecules_and_values(tmp_path, form):
    if form == "pyg":
        found = qm9_from_pyg([pyg(k) for k in range(3)])
    else:
        found = read_qm9({"arrays": write_arrays, "xyz": write_xyz, "tar": tar, "sdf": write_sdf}[form](tmp_path))
    assert found.ids == ["1", "2", "6"]
    assert found.targets == tuple(TARGETS.values())
    for atoms, wanted in zip(found.structures, STRUCTURES, strict=True):
        assert atoms.numbers.tolist() == wanted.numbers.tolist()
        np.testing.assert_allclose(atoms.positions, wanted.positions, atol=2e-4)
    for k, (name, unit) in enumerate(zip(NAMES, UNITS, strict=True)):
        wanted = VALUES[:, k] * (units.Hartree if unit == "Ha" else 1)
        np.testing.assert_allclose(found.values[name], wanted, rtol=1e-12)
    assert (found.smiles is None) == (form == "sdf")
    assert all("bonds" in atoms.info for atoms in found.structures) == (form in ("sdf", "pyg"))


def test_the_root_folder_of_PyGs_data_set_is_read(tmp_path):
    """PyG downloads the SDF file, its table and the list of uncharacterized molecules into ``raw``."""
    (tmp_path / "raw").mkdir()
    write_sdf(tmp_path / "raw")
    assert read_qm9(tmp_path).ids == ["1", "2", "6"]
    (tmp_path / "raw" / "uncharacterized.txt").write_text("molecule\n-----\n2\n")
    found = read_properties(tmp_path, resolve_targets(["mu"]))
    assert found.ids == ["1", "6"]
    assert found.values["mu"].tolist() == [VALUES[0, 0], VALUES[2, 0]]


def test_one_of_the_published_files_or_a_glob_of_them_is_read(tmp_path):
    write_xyz(tmp_path)
    (tmp_path / "other.xyz").write_text("1\n\nH 0 0 0\n")
    targets = resolve_targets(["mu"])
    assert read_properties(tmp_path / "dsgdb9nsd_000002.xyz", targets).values["mu"].tolist() == [VALUES[1, 0]]
    for pattern, ids in (("dsgdb9nsd_*.xyz", ["1", "2", "6"]), ("dsgdb9nsd_00000[12].xyz", ["1", "2"])):
        found = read_properties(str(tmp_path / pattern), targets)
        assert found.ids == ids
        assert found.values["mu"].tolist() == VALUES[: len(ids), 0].tolist()
    with pytest.raises(DataError, match=r"no file .*dsgdb9nsd_1\*.xyz \(the pattern matches nothing\)"):
        read_properties(tmp_path / "dsgdb9nsd_1*.xyz", targets)


def test_units_are_said_and_energies_of_atomization_are_other_targets(tmp_path):
    found = read_qm9(write_arrays(tmp_path))
    assert TARGETS["U0"].unit == TARGETS["U0_atom"].unit == "eV"
    assert found.values["homo"][0] == pytest.approx(-10.5498, abs=1e-4)
    # published as -395.999594594 kcal/mol for methane
    assert found.values["U0_atom"][0] == pytest.approx(-395.999594594 * units.kcal / units.mol, abs=1e-3)
    counts = np.array([[np.count_nonzero(atoms.numbers == z) for z in ELEMENTS] for atoms in STRUCTURES])
    for name, energies in ATOM_ENERGIES.items():
        difference = found.values[name] - found.values[f"{name}_atom"]
        np.testing.assert_allclose(difference, counts @ np.array(energies) * units.Hartree, rtol=1e-12)


def test_the_list_of_uncharacterized_molecules_counts_from_one(tmp_path):
    listed = "text\n=====\nIndex   SMILES\n  1  C  C  C   0.1\n  6  C=O  C=O 0.3\n3 compounds\n"
    (tmp_path / "uncharacterized.txt").write_text(listed)
    assert read_uncharacterized(tmp_path / "uncharacterized.txt") == [1, 6]
    found = read_qm9(write_arrays(tmp_path))  # found beside the data
    assert found.ids == ["2"]
    assert found.structures[0].get_chemical_formula() == "H3N"
    (tmp_path / "empty.txt").write_text("nothing\n")
    with pytest.raises(DataError, match="holds no numbers of molecules"):
        read_qm9(tmp_path / "qm9.npz", uncharacterized=tmp_path / "empty.txt")
    with pytest.raises(
        DataError, match="list of uncharacterized molecules, .*nope.txt, cannot be read: .*No such file"
    ):
        read_qm9(tmp_path / "qm9.npz", uncharacterized=tmp_path / "nope.txt")


def test_what_is_not_qm9_is_said(tmp_path):
    with pytest.raises(DataError, match="does not exist; QM9 is not downloaded"):
        read_qm9(tmp_path / "qm9")
    with pytest.raises(DataError, match=r"nor any dsgdb9nsd_\*.xyz"):
        read_qm9(tmp_path)
    with pytest.raises(DataError, match=r"lacks the array\(s\) targets"):
        read_qm9(write_arrays(tmp_path, targets=None))
    with pytest.raises(DataError, match="must have the targets"):
        read_qm9(write_arrays(tmp_path, target_units=np.array(["eV"] * 12)))
    with pytest.raises(DataError, match="molecule 2: mu is infinite"):
        read_qm9(write_arrays(tmp_path, targets=np.where(VALUES == 1.6256, np.inf, VALUES)))
    write_sdf(tmp_path, rows=2)
    with pytest.raises(DataError, match=r"has at least 3 molecules, but gdb9.sdf.csv has only 2 rows"):
        read_qm9(tmp_path)
    (tmp_path / "gdb9.sdf.csv").write_text("mol_id,mu\n1,2\n")
    with pytest.raises(DataError, match=r"lacks the column\(s\) alpha"):
        read_qm9(tmp_path)
    (tmp_path / "gdb9.sdf.csv").unlink()
    with pytest.raises(
        DataError, match=r"gdb9.sdf.csv, which holds the properties, must be beside .*, but does not exist"
    ):
        read_qm9(tmp_path)
    with pytest.raises(DataError, match=r"a.xyz is not a file of dsgdb9nsd"):
        parse_xyz("a.xyz", "3\nnonsense\n")
    with pytest.raises(DataError, match=r"a.xyz is not a file of dsgdb9nsd: it ends too early"):
        parse_xyz("a.xyz", "")
    with pytest.raises(DataError, match="object 0 has no `y`"):
        qm9_from_pyg([Data(z=torch.tensor([1]), pos=torch.zeros(1, 3))])


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "qm9.npz"
    whole = write_arrays(tmp_path).read_bytes()
    place = whole.index(VALUES.tobytes())
    for data, message in (
        (b"", "is not an npz file"),
        (b"text", "is not an npz file"),
        (whole[: len(whole) // 2], "is not an npz file .*or is truncated"),
        (whole[:place] + b"?" + whole[place + 1 :], r"is damaged \(the checksum of targets.npy is wrong\)"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=f"qm9.npz {message}"):
            read_qm9(path)
    for changes, message in (
        (
            {"targets": VALUES[:2]},
            r"targets must be of shape \(3, 12\) for 13 atoms \(Z\) in 3 molecules .*got \(2, 12\)",
        ),
        ({"smiles": np.array(["C"])}, r"smiles must be of shape \(3,\) .*got \(1,\)"),
        ({"R": np.zeros((12, 3))}, r"R must be of shape \(13, 3\) .*got \(12, 3\)"),
        ({"offsets": np.array([0, 5, 9, 14])}, "offsets must rise from 0 to the number of atoms, 13; got"),
        ({"R": np.full((13, 3), np.nan)}, "positions must be finite"),
        ({"Z": np.array([None] * 13)}, r"cannot be read as a file of arrays \(Object arrays cannot be loaded"),
    ):
        with pytest.raises(DataError, match=f"qm9.npz:? {message}"):
            read_qm9(write_arrays(tmp_path, **changes))
    for name, message in (("dsgdb9nsd.xyz.tar.bz2", "is damaged"), ("dsgdb9nsd_000002.xyz", "it is not text")):
        (tmp_path / name).write_bytes(b"\xff\xfe rubbish")
        with pytest.raises(DataError, match=f"{name} .*{message}"):
            read_qm9(tmp_path / name)
        (tmp_path / name).unlink()
    table = write_sdf(tmp_path) / "gdb9.sdf.csv"
    text = table.read_text()
    for old, new, message in (("13.21", "high", "could not convert string to float: 'high'"), (",6.413", "", "None")):
        table.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=f"row . of .*gdb9.sdf.csv must have a number in every column: .*{message}"):
            read_qm9(tmp_path)


def test_the_sdf_and_its_table_have_the_same_molecules(tmp_path):
    sdf, table = write_sdf(tmp_path) / "gdb9.sdf", tmp_path / "gdb9.sdf.csv"
    text, (head, *rows) = sdf.read_text(), table.read_text().splitlines()
    table.write_text("\n".join([head, rows[0], rows[2], rows[1]]) + "\n")
    with pytest.raises(DataError, match=r"molecule 2 of .*gdb9.sdf is gdb_2, but row 2 of gdb9.sdf.csv is gdb_6"):
        read_qm9(tmp_path)
    sdf.write_text(text.replace("gdb_", "molecule "))  # titles that say nothing
    assert read_qm9(tmp_path).ids == ["1", "6", "2"]
    table.write_text("\n".join([head, *rows]) + "\n")
    first, second, _ = text.split("$$$$\n", 2)
    for cut in (f"{first}$$$$\n{second}$$$$\n", text[: text.rindex("M  END") - 20]):
        sdf.write_text(cut)
        with pytest.raises(DataError, match=r"gdb9.sdf ends after molecule 2, .* but gdb9.sdf.csv has 3 rows"):
            read_qm9(tmp_path)


def test_targets_are_what_qm9_says_they_are(tmp_path):
    path = write_arrays(tmp_path)
    assert read_properties(path, resolve_targets({"homo": "intensive eV"})).counts() == {"homo": 3}
    with pytest.raises(ConfigError, match="'homo' is given as intensive Ha, but QM9's is intensive eV: give the name"):
        read_properties(path, resolve_targets({"homo": "intensive Ha"}))
    with pytest.raises(ConfigError, match="QM9 has no 'logS'; its targets are mu, alpha"):
        read_properties(path, resolve_targets({"logS": "intensive"}))


def test_targets_that_it_lacks_are_left_out_if_asked(tmp_path):
    path = write_arrays(tmp_path)
    (tmp_path / "own.csv").write_text("smiles,own,mu\nCO,1.5,1.7\n")
    wanted = [
        TARGETS["homo"],
        Intensive("gap", "Ha"),
        Intensive("own"),
        Intensive("none"),
    ]
    whole = read_properties(path, wanted, absent="drop")
    assert whole.targets == (TARGETS["homo"],)
    both = read_properties([path, tmp_path / "own.csv"], wanted, absent="drop")
    assert [target.name for target in both.targets] == ["homo", "own"]
    assert both.counts() == {"homo": 3, "own": 1}
    with pytest.raises(DataError, match="has a value of none"):
        read_properties(path, wanted[3:], absent="drop")


def test_a_full_set_with_uncharacterized_molecules_is_pointed_out(tmp_path, monkeypatch, caplog):
    import ik_e3nn.data.properties.qm9 as module

    count = 130_832
    raw = module.read_arrays(write_arrays(tmp_path))
    numbers, values = list(range(count)), np.zeros((count, 12))
    many = raw._replace(structures=[Atoms("H")] * count, numbers=numbers, values=values, smiles=["[H]"] * count)
    monkeypatch.setattr(module, "read_arrays", lambda path: many)
    read_qm9(tmp_path / "qm9.npz")
    assert "3,054 molecules on it are not left out" in caplog.text


def test_a_mark_at_the_beginning_of_the_table_does_not_matter(tmp_path):
    folder = write_sdf(tmp_path)
    table = folder / "gdb9.sdf.csv"
    expected = read_qm9(folder / "gdb9.sdf").values
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    for name, values in read_qm9(folder / "gdb9.sdf").values.items():
        assert np.array_equal(values, expected[name], equal_nan=True)
    table.write_bytes(b"\xff" + table.read_bytes())
    with pytest.raises(DataError, match=r"gdb9.sdf.csv is not UTF-8 text"):
        read_qm9(folder / "gdb9.sdf")
