"""A few small molecules with made-up properties, shared by tests of properties."""

import numpy as np

from ik_e3nn.data import LabeledSet, molecule_from_smiles, with_bonds
from ik_e3nn.graph import remove_bonds
from ik_e3nn.targets import Dipole, Extensive, Intensive

SMILES = (
    "C",
    "CO",
    "C=O",
    "C#N",
    "CC",
    "C=C",
    "CCO",
    "CC=O",
    "NC=O",
    "CC#N",
    "COC",
    "CN",
    "O=CC=O",
    "CCC",
    "C1CC1",
    "CNC",
)
TARGETS = (
    Extensive("size", "eV"),
    Intensive("heteroatoms"),
    Dipole("moment", "D"),
)


def property_set(smiles=SMILES, targets=TARGETS, bonds=True):
    """Molecules whose properties are simple functions of the geometry."""
    structures = [molecule_from_smiles(text) for text in smiles]
    for atoms in structures:
        remove_bonds(atoms)
    values = {
        "size": np.array([atoms.numbers.sum() + 0.1 * np.linalg.norm(a - b) for atoms in structures
                          for a, b in [atoms.positions[:2]]]),
        "heteroatoms": np.array([np.mean(atoms.numbers > 6) for atoms in structures]),
        "moment": np.array([(a.positions[1] - a.positions[0]) * (a.numbers[1] - 6.0) for a in structures]),
    }  # fmt: skip
    chosen = {target.name: values[target.name] for target in targets}
    whole = LabeledSet(structures, targets, chosen, [f"m{k}" for k in range(len(smiles))], list(smiles))
    return with_bonds(whole)[0] if bonds else whole
