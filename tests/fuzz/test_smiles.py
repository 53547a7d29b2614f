"""SMILES strings: a structure of the right composition and charge, or a clear error."""

import random

import numpy as np
from hypothesis import strategies as st
from rdkit import Chem, rdBase
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from ik_e3nn.data import molecule_from_smiles
from tests.fuzz.engine import WORDS, assert_clear, one_of, sizes, try_many

GOOD = [
    "CCO",
    "c1ccccc1",
    "[NH4+]",
    "[2H]O[2H]",
    "CC(=O)[O-]",
    "C#N",
    "F/C=C/F",
    "N[C@@H](C)C(=O)O",
    "[OH]",
    "O=C=O",
    "[He]",
]
SHORT = [word for word in WORDS if len(word) < 50]  # the time that long ones take is bounded by tests of its own
SIGNS = "CNOPSFclno[]()=#+-/\\@123%.*H$:>~"


@st.composite
def smiles(draw):
    text, rng = draw(one_of([*GOOD, *SHORT])), random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(0, 3))):
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice(SIGNS) * rng.choice([0, 1, 1, 2]) + text[place + rng.choice([0, 0, 1]) :]
    return text


@sizes(70)
def test_a_smiles_gives_its_own_molecule_or_a_clear_error(number):
    made = []

    def check(text):
        try:
            atoms = molecule_from_smiles(text)
        except Exception as error:  # noqa: BLE001 - whatever comes is judged
            return assert_clear(error)
        with rdBase.BlockLogs():
            molecule = Chem.AddHs(Chem.MolFromSmiles(text))
        assert sorted(atoms.numbers) == sorted(atom.GetAtomicNum() for atom in molecule.GetAtoms())
        assert atoms.info["charge"] == Chem.GetFormalCharge(molecule), CalcMolFormula(molecule)
        assert np.isfinite(atoms.positions).all()
        distances = atoms.get_all_distances() + 10.0 * np.eye(len(atoms))
        assert distances.min() > 0.6
        made.append(text)

    try_many(check, number, smiles())
    assert len(made) > number // 10
    assert len(set(made)) > min(number // 10, 20)  # most of what is changed is no SMILES any more
