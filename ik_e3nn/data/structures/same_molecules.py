"""Molecules that occur several times, with the same SMILES or the same geometry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ase import Atoms

from ik_e3nn.data.structures.chem import Chem, rdBase
from ik_e3nn.data.structures.geometry import connected_groups, find_duplicates


def same_molecules(structures: Sequence[Atoms], smiles: Sequence[str]) -> list[list[int]]:
    """Groups of molecules with the same canonical SMILES or the same geometry, charge and spin.

    Args:
        structures: The molecules.
        smiles: SMILES of each molecule, "" if it is not known.

    Returns:
        Groups of two or more numbers.

    Example:
        >>> same_molecules([Atoms("H"), Atoms("He"), Atoms("H"), Atoms("Ne")], ["", "OCC", "", "CCO"])
        [[0, 2], [1, 3]]
    """
    by_text: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(smiles):
        canonical = canonical_smiles(text) if text else None
        if canonical is not None:
            by_text[canonical].append(number)
    links = [*by_text.values(), *find_duplicates(structures)]
    return [group for group in connected_groups(links, len(structures)) if len(group) > 1]


def canonical_smiles(text: str) -> str | None:
    """The canonical SMILES of a molecule, with its stereochemistry and isotopes; None if the text cannot be read.

    >>> canonical_smiles("OCC"), canonical_smiles("C1")
    ('CCO', None)
    """
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(text)
    return None if molecule is None else Chem.MolToSmiles(molecule)
