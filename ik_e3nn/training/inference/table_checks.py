"""Checks of the molecules to predict: which can be predicted, and what raises doubts about a prediction."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

from ase import Atoms

from ik_e3nn.data import LabeledSet, with_bonds
from ik_e3nn.data.bonds.completeness import check_hydrogens, geometry_problem
from ik_e3nn.data.properties.bond_source import BondSource
from ik_e3nn.data.structures.geometry import check_contacts
from ik_e3nn.errors import DataError, UnknownSpeciesError
from ik_e3nn.graph import check_stated, fitting_bonds, has_bonds
from ik_e3nn.graph.bonds.charges import check_possible
from ik_e3nn.graph.build import NUMBER_KEYS
from ik_e3nn.models import Ensemble, StoredModel
from ik_e3nn.models.networks.domain import Domain, domain_of_model
from ik_e3nn.training.inference.table_input import PROBLEM, Asked
from ik_e3nn.training.sets.checks import unseen_of
from ik_e3nn.training.sets.elements import check_species

_log = logging.getLogger(__name__)


def checked(
    asked: Asked, model: StoredModel | Ensemble, *, bonds: BondSource, progress: bool = False
) -> tuple[LabeledSet, list[int]]:
    """The molecules that can be predicted, with bonds if the model's graph is made of them, and their rows.

    Args:
        asked: All molecules; errors and doubts about each are added to its problems.
        model: The model.
        bonds: Source of the bonds, see ``with_bonds``.
        progress: Show a progress bar.
    """
    inputs, domain = model.inputs, domain_of_model(model)
    good, odd, strange = [], set(), set()
    for index, (owner, atoms) in enumerate(zip(asked.owners, asked.structures, strict=True)):
        try:
            _refuse(atoms, model.species, inputs, domain)
            unseen = unseen_of(atoms, inputs)
            doubt = "" if unseen or (asked.smiles and has_bonds(atoms)) else geometry_problem(atoms)
            beyond = _beyond(atoms, domain, unseen, doubt)
        except (DataError, UnknownSpeciesError) as error:
            asked.problems[owner] = str(error).removeprefix("structure 0 has ")
            continue
        good.append(index)
        odd.update([owner] * bool(unseen))
        strange.update([owner] * bool(beyond))
        unseen_words = [f"the model does not use its {' and '.join(unseen)}"] if unseen else []
        if words := [*unseen_words, *filter(None, [doubt]), *beyond]:
            asked.problems[owner] = "; ".join(words)
    if odd:
        _log.warning("%d molecules are charged or have unpaired electrons, which the model does not see", len(odd))
    if strange:
        _log.warning(
            "%d of %d molecules are unlike those that the model was trained on, and predictions for them may be far "
            "off; the differences are in the column %r",
            *(len(strange), len(asked.rows), PROBLEM),
        )
    smiles = [asked.smiles[index] for index in good] if asked.smiles else None
    molecules = LabeledSet([asked.structures[index] for index in good], (), {}, [str(index) for index in good], smiles)
    if model.edges in ("bonds", "both") and good:
        molecules = _bonded(molecules, asked, bonds, progress=progress)
    return molecules, [asked.owners[int(name)] for name in molecules.ids]


def _refuse(atoms: Atoms, species: Collection[int], inputs: Collection[str], domain: Domain | None) -> None:
    """Raise for a structure that cannot be predicted, or whose prediction would have no meaning."""
    if not len(atoms):
        raise DataError("it has no atoms")
    check_species([atoms], species)
    check_possible(atoms)
    check_hydrogens(atoms)
    check_contacts(atoms)
    for name in inputs & NUMBER_KEYS.keys():
        check_stated(atoms, NUMBER_KEYS[name])
    if atoms.pbc.any() and domain is not None and not domain.periodic:
        raise DataError(
            "it is periodic, but the model was trained only on molecules, so that predictions would have no meaning; "
            "for a molecule in an empty box set pbc to false"
        )


def _beyond(atoms: Atoms, domain: Domain | None, unseen: Collection[str], doubt: str) -> list[str]:
    """How a molecule differs from the training data, without what ``unseen`` and ``doubt`` already cover."""
    if domain is None:
        return ["it is periodic, and the model file does not record what it was trained on"] * bool(atoms.pbc.any())
    said = replace(
        domain,
        charged_groups=domain.charged_groups or "charge" in unseen,
        unpaired=domain.unpaired or "spin" in unseen or bool(doubt),
    )
    return said.outside(atoms)


def _bonded(molecules: LabeledSet, asked: Asked, source: BondSource, *, progress: bool) -> LabeledSet:
    """The molecules whose bonds are found and fit their geometry."""
    try:
        bonded, report = with_bonds(molecules, source, "skip", progress=progress)
        failures = report.failures
    except DataError as error:  # no molecule has bonds
        bonded, failures = molecules.select([]), dict.fromkeys(molecules.ids, str(error))
    fit = []
    for place, atoms in enumerate(bonded.structures):
        try:
            fitting_bonds(atoms)
            fit.append(place)
        except DataError as error:
            failures[bonded.ids[place]] = str(error)
    for name, reason in failures.items():
        asked.problems[asked.owners[int(name)]] = reason
    return bonded.select(fit)
