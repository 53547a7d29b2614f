"""Damaged structure files: what ASE reads of them, or a clear error that names the file."""

import codecs
import gzip

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from ik_e3nn.data import read_structures
from ik_e3nn.data.structures.molecules import mol_from_smiles
from ik_e3nn.graph import build_graph
from tests.fuzz.engine import assert_clear, damaged_text, one_of, sizes, try_many

PDB = """\
ATOM      1  N   SER A   1      11.104   6.134  -6.504  1.00  0.00           N
ATOM      2  CA ASER A   1      11.639   6.071  -5.147  0.60  0.00           C
ATOM      3  CA BSER A   1      11.839   6.271  -5.247  0.40  0.00           C
ATOM      4  H   SER A   1      10.500   5.400  -6.900  1.00  0.00           H
END
"""


def labeled(atoms):
    """A structure with labels of its own."""
    atoms.info["REF_energy"] = -1.5
    atoms.arrays["REF_forces"] = np.full((len(atoms), 3), 0.25)
    return atoms


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Good files of several formats: their ending and their text."""
    folder = tmp_path_factory.mktemp("good")
    frames = [labeled(molecule("H2O")), labeled(bulk("NaCl", "rocksalt", 5.6)), labeled(Atoms("He"))]
    ase.io.write(folder / "a.xyz", frames)
    ase.io.write(folder / "a.cif", bulk("NaCl", "rocksalt", 5.6))
    ase.io.write(folder / "a.vasp", bulk("NaCl", "rocksalt", 5.6))
    ase.io.write(folder / "a.json", molecule("H2O"))
    ase.io.write(folder / "a.gen", molecule("H2O"))
    methanol = mol_from_smiles("CO")
    rdDistGeom.EmbedMolecule(methanol, randomSeed=1)
    (folder / "a.sdf").write_text(Chem.MolToMolBlock(methanol) + "$$$$\n")
    (folder / "a.pdb").write_text(PDB)
    return [(path.suffix, path.read_text()) for path in sorted(folder.iterdir())]


@st.composite
def files(draw, texts):
    ending, text = draw(one_of(texts))
    text = draw(damaged_text([text]))
    encoding = draw(one_of(["utf-8"] * 8 + ["latin-1", "utf-16"]))
    content = text.encode(encoding, errors="replace")
    return (f"{ending}.gz", gzip.compress(content)) if draw(st.integers(0, 9)) == 0 else (ending, content)


@sizes(100)
@pytest.mark.filterwarnings("ignore")  # ASE's own, about the damages
def test_a_structure_file_is_read_as_it_is_or_refused(number, texts, tmp_path):
    accepted = []

    def check(file):
        ending, content = file
        path = tmp_path / f"damaged{ending}"
        path.write_bytes(content)
        try:
            found = read_structures(path)
        except Exception as error:  # noqa: BLE001 - whatever comes is judged
            return assert_clear(error, names=path.name)
        for atoms in found:
            try:
                graph = build_graph(atoms, 3.0)
            except Exception as error:  # noqa: BLE001 - whatever comes is judged
                assert_clear(error)
            else:
                assert np.isfinite(graph["positions"].numpy()).all()
        if ending in (".xyz", ".vasp", ".gen", ".json"):
            compare(found, path)
        accepted.append(len(found))

    try_many(check, number, files(texts))
    assert len(accepted) > number // 10


def compare(found, path):
    """Raise unless structures are what ASE reads from a file, which it does without the mark at the beginning only."""
    path.write_bytes(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    for atoms, expected in zip(found, ase.io.read(path, ":"), strict=True):
        np.testing.assert_array_equal(atoms.numbers, expected.numbers)
        np.testing.assert_array_equal(atoms.positions, expected.positions)
        np.testing.assert_array_equal(atoms.cell.array, expected.cell.array)
        np.testing.assert_array_equal(atoms.pbc, expected.pbc)
