"""Files, globs, folders and gzipped files are read; what cannot be is named."""

import gzip
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write

from ik_e3nn.data import read_structures, write_structures
from ik_e3nn.errors import DataError


def zipped(path):
    with open(path, "rb") as source, gzip.open(f"{path}.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    path.unlink()
    return path.with_name(path.name + ".gz")


@pytest.mark.parametrize("suffix", ["xyz", "extxyz", "traj", "cif", "json"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write(path, bulk("Cu", cubic=True))
    [atoms] = read_structures(path)
    assert atoms.get_chemical_formula() == "Cu4"
    assert np.allclose(atoms.cell.array, np.eye(3) * 3.61)


@pytest.mark.parametrize("suffix", ["xyz", "extxyz", "cif"])
def test_gzipped_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write(path, bulk("Cu", cubic=True))
    [atoms] = read_structures(zipped(path))
    assert len(atoms) == 4
    assert atoms.pbc.all()


def test_plain_xyz_and_index(tmp_path):
    (tmp_path / "plain.xyz").write_text("2\ncomment\nH 0 0 0\nH 0 0 0.7\n1\n\nHe 0 0 0\n")
    path = tmp_path / "plain.xyz"
    assert [len(atoms) for atoms in read_structures(path)] == [2, 1]
    assert len(read_structures(path, index=-1)) == 1
    assert len(read_structures(path, index="1:")) == 1


def test_folders_globs_and_lists(tmp_path):
    for number, name in enumerate(["b.xyz", "a.xyz", ".hidden.xyz", "notes.txt"], start=1):
        (tmp_path / name).write_text(f"{number}\n\n" + "H 0 0 0\n" * number)
    assert [len(atoms) for atoms in read_structures(tmp_path)] == [2, 1]
    assert [len(atoms) for atoms in read_structures(f"{tmp_path}/[ab].xyz")] == [2, 1]
    assert [len(atoms) for atoms in read_structures([tmp_path / "b.xyz", str(tmp_path / "a.xyz")])] == [1, 2]


def test_an_at_sign_is_part_of_the_name(tmp_path):
    write(tmp_path / "run@1.xyz", molecule("H2O"))
    assert len(read_structures(tmp_path / "run@1.xyz")) == 1


def test_errors(tmp_path):
    (tmp_path / "empty.xyz").touch()
    (tmp_path / "broken.xyz").write_text("3\n\nH 0 0\n")
    (tmp_path / "odd.abcdef").write_text("what is this")
    (tmp_path / "folder").mkdir()
    for path, message in [
        (tmp_path / "none.xyz", "there is no file"),
        (f"{tmp_path}/*.nothing", "the pattern matches nothing"),
        (tmp_path / "folder", "there is no structure file"),
        (tmp_path / "empty.xyz", "empty.xyz is empty"),
        (tmp_path / "broken.xyz", "broken.xyz cannot be read"),
        (tmp_path / "odd.abcdef", "does not know the format"),
        ([], "no data file is given"),
        ("x" * 300, r"'x+ is not a valid file name \(File name too long\)"),
    ]:
        with pytest.raises(DataError, match=message):
            read_structures(path)


WATER = "3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("3\n\nO 0 0 0\nH 0 0 x\nH 0 1 0\n", "frame 1, line 9: a number is expected, got 'x'"),
        ("3\n\nO 0 0 0\nO1 0 0 1\nH 0 1 0\n", "frame 1, line 9: 'O1' is no chemical element"),
        ("3\n\nO 0 0 0\nH 0 0\nH 0 1 0\n", r"frame 1, line 9: 4 values are expected \(species, pos x 3\), got 'H 0 0'"),
        ("3\n\nO 0 0 0\n", "frame 1, line 6: 3 atoms are announced, but the file ends after 1"),
        ("3.0\n\nO 0 0 0\n", "frame 1, line 6: the number of atoms is expected, got '3.0'"),
        (
            "1\nProperties=species:S:1:pos:R:3:n:I:1\nH 0 0 0 1.5\n",
            "frame 1, line 8: a whole number is expected, got '1.5'",
        ),
        ('1\nLattice="1 0 0"\nH 0 0 0\n', "expecting special 3x3 matrix"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_faults_of_xyz_files_are_named_with_frame_and_line(tmp_path, second, message, ending):
    (tmp_path / "a.xyz").write_text(WATER + second)
    path = zipped(tmp_path / "a.xyz") if ending else tmp_path / "a.xyz"
    with pytest.raises(DataError, match=rf"a.xyz{ending} cannot be read: .*{message}"):
        read_structures(path)


def test_blank_lines_marks_and_other_encodings_do_not_matter(tmp_path):
    """ASE's reader ends at a blank line without a word: the second frame was lost."""
    for number, content in enumerate(
        [
            WATER + "\n\n" + WATER + "\n",
            "\n" + WATER + WATER,
            "\ufeff" + WATER + WATER,
            (WATER + WATER).replace("3\n\n", "3\nvon Müller\n").encode("latin1"),
        ]
    ):
        path = tmp_path / f"{number}.xyz"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert [len(atoms) for atoms in read_structures(path)] == [3, 3]
        assert read_structures(path, index=-1)[0].get_chemical_formula() == "H2O"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xsf", "CRYSTAL\nPRIMVEC\n1 0 0\n", "the file ends too early"),
        ("a.cif", "garbage", r"its content does not match its format \(AssertionError\)"),
        ("b.cif", "data_x\n_cell_length_a 4\n", "no data block has atoms with coordinates"),
        ("POSCAR", "x\n1.0\n1 0 0\n0 1 0\n0 0 1\nSi\n2\nDirect\n0 0 0\n", "ValueError"),
        ("c.xyz", "1\nProperties=Z:I:1:pos:R:3\n999 0 0 0\n", "no element has the atomic number 999"),
    ],
)
def test_faults_of_other_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        read_structures(tmp_path / name)


def test_a_truncated_gzip_is_named(tmp_path):
    write(tmp_path / "a.xyz", [molecule("C6H6")] * 20)
    path = zipped(tmp_path / "a.xyz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a.xyz.gz cannot be read: EOFError"):
        read_structures(path)


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.xyz"
    write_structures(path, [molecule("H2O")])
    before = path.read_bytes()
    with pytest.raises(DataError, match="exists already"):
        write_structures(path, [Atoms("H")])
    with pytest.raises(TypeError, match="a structure must be ase.Atoms, got NoneType"):
        write_structures(path, [None], overwrite=True)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.xyz"]
    write_structures(path, [Atoms("H")], overwrite=True)
    assert len(read_structures(path)[0]) == 1


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(DataError, match="cannot write to the folder .*Permission denied"):
        write_structures(tmp_path / "a.xyz", [Atoms("H")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("symbol", "advice"), [("D", "; write H here, or give an xyz"), ("Qq", "")])
def test_a_symbol_that_no_reader_knows_is_named(tmp_path, symbol, advice):
    (tmp_path / "POSCAR").write_text(f"x\n1.0\n8 0 0\n0 8 0\n0 0 8\n{symbol} O\n1 1\nDirect\n0 0 0\n.1 0 0\n")
    with pytest.raises(DataError, match=f"POSCAR cannot be read: '{symbol}' is no chemical element{advice}"):
        read_structures(tmp_path / "POSCAR")


@pytest.mark.parametrize("count", [10**8, 10**15, 2**70])
def test_a_frame_of_absurdly_many_atoms_ends_no_reader(tmp_path, count):
    path = tmp_path / "a.xyz"
    path.write_text(f"1\n\nH 0 0 0\n{count}\n\nH 0 0 0\n")
    for index in (":", 0, -1):
        with pytest.raises(DataError, match=f"a.xyz.*frame 1, line 4: {count} atoms are announced, .* ends after 1"):
            read_structures(path, index=index)


@pytest.mark.parametrize("width", [10**6, 2**31, 2**70])
@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.gz"])
def test_a_property_of_absurdly_many_columns_fills_no_memory(tmp_path, width, name):
    path = tmp_path / name
    with (gzip.open if name.endswith("gz") else open)(path, "wt") as file:
        file.write(f"1\nProperties=species:S:1:pos:R:3:f:R:{width}\nH 0 0 0 1\n")
    with pytest.raises(DataError, match=f"frame 0, line 2: a property with {width} columns is announced"):
        read_structures(path)
