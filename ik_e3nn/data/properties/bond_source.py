"""The sources of the bonds of many molecules, and what happens to a molecule whose bonds cannot be found."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from ase import Atoms
from tqdm import tqdm

from ik_e3nn.data.bonds.mapping import bonds_from_smiles, connected_pairs
from ik_e3nn.data.bonds.perception import perceive_bonds, perceive_molecule
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.structures.chem import Chem, rdBase
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import has_bonds, set_bonds, stated_number
from ik_e3nn.listing import listed

_log = logging.getLogger(__name__)

_SHOWN = 20  # molecules named in one message

BondSource = Literal["auto", "given", "smiles", "perceived", "none"]
OnFailure = Literal["error", "skip", "single"]


@dataclass
class BondReport:
    """The number of molecules whose bonds come from each source.

    Args:
        sources: Number of molecules by source: "given", "smiles", "perceived", "single", "skipped".
        failures: Reasons by id, of the molecules for which the wanted source failed.
    """

    sources: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def count(self, source: str) -> None:
        """Count one more molecule of a source."""
        self.sources[source] = self.sources.get(source, 0) + 1


def with_bonds(
    molecules: LabeledSet, source: BondSource = "auto", on_failure: OnFailure = "error", *, progress: bool = False
) -> tuple[LabeledSet, BondReport]:
    """Molecules with bonds added.

    Args:
        molecules: The molecules; not changed.
        source: "given": the bonds in the file (SDF, extxyz); "smiles": from the SMILES of each molecule, matched onto
            its geometry; "perceived": from the geometry and the total charge; "auto": the first of these that is
            available; "none": no bonds at all, for graphs of neighbors.
        on_failure: What happens to a molecule whose bonds cannot be found: "error" raises; "skip" leaves it out;
            "single" joins all its atoms within bonding distance by single bonds. The last two log a warning.
        progress: Show a progress bar.

    Returns:
        The molecules, and the sources of their bonds.

    Raises:
        DataError: Bonds of a molecule cannot be found, and ``on_failure`` is "error"; or no molecules are left.
        ConfigError: ``source`` or ``on_failure`` is unknown.

    Example:
        >>> from ase.build import molecule
        >>> water = LabeledSet([molecule("H2O")], (), {}, ["water"], ["O"])
        >>> found, report = with_bonds(water)
        >>> found.structures[0].info["bonds"].tolist(), report.sources
        ([0, 1, 1, 0, 2, 1], {'smiles': 1})
    """
    for name, value, known in (
        ("bonds", source, get_args(BondSource)),
        ("on_failure", on_failure, get_args(OnFailure)),
    ):
        if value not in known:
            raise ConfigError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    report, structures, kept = BondReport(), [], []
    wrong: list[str] = []
    if source == "none":
        return molecules, report
    for index, atoms in enumerate(tqdm(molecules.structures, desc="bonds", disable=not progress)):
        smiles = molecules.smiles[index] if molecules.smiles is not None else None
        try:
            bonded, used = _one(atoms, smiles, source)
        except DataError as error:
            report.failures[molecules.ids[index]] = str(error)
            wrong.append(f"{molecules.names[index]}: {error}")
            used = "skipped"
            if on_failure == "single":
                bonded, used = atoms.copy(), "single"
                set_bonds(bonded, [[i, j, 1] for i, j in connected_pairs(atoms)])
        report.count(used)
        if used != "skipped":
            structures.append(bonded)
            kept.append(index)
    if wrong and on_failure == "error":
        raise DataError(
            f"{listed(wrong, _SHOWN)}. Choose what to do with such molecules: leave them out (on_failure: "
            "skip) or treat their bonds as single bonds (on_failure: single)"
        )
    if not structures:
        raise DataError("no bonds were found for any of the molecules")
    if report.failures:
        _log.warning("bonds of %d of %d molecules were not found: %s", len(report.failures), len(molecules), on_failure)
    chosen = molecules.select(kept)
    return dataclasses.replace(chosen, structures=structures), report


def _one(atoms: Atoms, smiles: str | None, source: BondSource) -> tuple[Atoms, str]:
    """The molecule with bonds, and their source."""
    if source == "given" or (source == "auto" and has_bonds(atoms)):
        if not has_bonds(atoms):
            raise DataError("the file has no bonds")
        return atoms, "given"
    bonded = atoms.copy()
    if source == "smiles" or (source == "auto" and smiles is not None):
        if smiles is None:
            raise DataError("the file has no SMILES")
        set_bonds(bonded, bonds_from_smiles(atoms, smiles))
        return bonded, "smiles"
    set_bonds(bonded, perceive_bonds(atoms, charge=int(stated_number(atoms, "charge") or 0)))
    return bonded, "perceived"


def perception_counts(structures: Sequence[Atoms], smiles: Sequence[str], *, progress: bool = False) -> dict[str, int]:
    """Count how often the bonds perceived from a geometry give the molecule of its SMILES.

    Args:
        structures: Neutral molecules.
        smiles: Their published SMILES.
        progress: Show a progress bar.

    Returns:
        Numbers of molecules: "right" (the same canonical SMILES, stereochemistry aside), "wrong" (another molecule)
        and "failed" (no bonds fit the geometry); and "mapped" (the SMILES could be matched onto the geometry).

    Example:
        >>> from ase.build import molecule
        >>> perception_counts([molecule("CH3CHO")], ["CC=O"])
        {'right': 1, 'wrong': 0, 'failed': 0, 'mapped': 1}
    """
    counts = {"right": 0, "wrong": 0, "failed": 0, "mapped": 0}
    pairs = zip(structures, smiles, strict=True)
    for atoms, text in tqdm(pairs, total=len(structures), desc="perception", disable=not progress):
        try:
            found = perceive_molecule(atoms, 0)
            with rdBase.BlockLogs():
                same = _canonical(Chem.RemoveHs(found)) == _canonical(Chem.MolFromSmiles(text))
            counts["right" if same else "wrong"] += 1
        except (DataError, ValueError, RuntimeError):
            counts["failed"] += 1
        try:
            bonds_from_smiles(atoms, text)
            counts["mapped"] += 1
        except DataError:
            continue
    return counts


def _canonical(molecule: Chem.Mol) -> str:
    return str(Chem.MolToSmiles(molecule, isomericSmiles=False))
