"""References and scales from training data: E0s of energies, and references of properties."""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols

from ik_e3nn.data import EnergyReference, LabeledSet, fit_energy_reference
from ik_e3nn.data.graphs.dataset import force_scale
from ik_e3nn.data.labels.labeled_set import joined
from ik_e3nn.data.properties.reference import PropertyReference, completed, fit_references
from ik_e3nn.elements import symbols_of
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel
from ik_e3nn.targets import Target
from ik_e3nn.training.config.schema import DataConfig
from ik_e3nn.training.sets.prepare import TrainingData

_log = logging.getLogger(__name__)


def set_energy_reference(model: InteratomicPotential, data: TrainingData, settings: DataConfig) -> None:
    """Set the E0s and the scale of a potential from a training set; without energies or forces they stay.

    Raises:
        ConfigError: ``data.E0s`` names something other than an element.
        DataError: E0s cannot be fitted.
    """
    train = data.sets["train"].with_mechanics()
    reference = energy_reference(settings, train, data.isolated)
    if reference is not None:
        model.set_energy_reference(reference.values, provenance=reference.source)
    force_rms = force_scale(train)
    if force_rms > 0:
        model.set_scale(force_rms)
    _log.info("RMS force %.4g eV/A", force_rms)


def energy_reference(settings: DataConfig, train: LabeledSet, isolated: LabeledSet) -> EnergyReference | None:
    """E0s as given, else from isolated atoms, else by least squares; None without energies."""
    species = train.species
    given = {} if settings.E0s == "fit" else {element_number(name): float(e0) for name, e0 in settings.E0s.items()}
    absent = sorted(set(given) - set(species))
    if absent:
        names = symbols_of(absent)
        _log.warning("data.E0s has a value for %s, which no training structure has; it is not used", names)
    if settings.E0s != "fit" and len(given) < len(settings.E0s):
        raise ConfigError(
            f"data.E0s names an element twice, by its symbol and its number: {', '.join(map(str, settings.E0s))}"
        )
    alone = isolated.select([k for k, atoms in enumerate(isolated.structures) if int(atoms.numbers[0]) in species])
    both = joined([one.with_mechanics().only(["energy"]) for one in (train, alone)])
    if not np.isfinite(both.values["energy"]).any() and not given:
        _log.warning("there are no energies: E0s stay zero and predicted energies have no absolute meaning")
        return None
    return fit_energy_reference(both.structures, both.values["energy"], given or None)


def element_number(name: str) -> int:
    """Atomic number of an element given by symbol or number.

    Raises:
        ConfigError: It is neither.

    >>> element_number("C"), element_number("8")
    (6, 8)
    """
    if name in atomic_numbers:
        return int(atomic_numbers[name])
    if name.isdigit() and 0 < int(name) < len(chemical_symbols):
        return int(name)
    raise ConfigError(f"data.E0s has the key {name!r}, which is neither an element's symbol nor its number.")


def set_references(model: MolecularPropertyModel, train: LabeledSet, kept: Collection[Target] = ()) -> None:
    """Fit the references and scales of a model's properties to a training set.

    For a property that sums over atoms, the reference of an element is NaN, with a warning, if no training molecule
    with a value of the property contains the element.

    Args:
        model: The model.
        train: Molecules with values of properties of the model; its other properties stay unchanged.
        kept: Properties that keep their references and scales, except that entries that are NaN are fitted.
    """
    scales, own = model.scales, [target.name for target in train.targets if target in model.properties]
    train = train.only(own)
    for target, new in zip(train.targets, fit_references(train, model.species), strict=True):
        column = model.properties.index(target)
        one = completed(train, model.species, target, reference_of(model, target)) if target in kept else new
        scales.per_atom[column] = torch.from_numpy(one.per_atom)
        scales.per_square[column] = torch.from_numpy(one.per_square)
        scales.shift[column], scales.scale[column] = one.shift, one.scale
    for name, elements in without_reference(model).items():
        _log.warning(
            "no training molecule with a value of %s contains %s: predictions of it are NaN for molecules that do",
            name, " or ".join(elements),
        )  # fmt: skip


def without_reference(model: MolecularPropertyModel) -> dict[str, list[str]]:
    """Elements without a reference, by target."""
    missing = model.scales.per_atom.isnan()
    return {
        target.name: [chemical_symbols[z] for z, unknown in zip(model.species, row, strict=True) if unknown]
        for target, row in zip(model.properties, missing.tolist(), strict=True)
        if any(row)
    }


def reference_of(model: MolecularPropertyModel, target: Target) -> PropertyReference:
    """The reference of a property in a model."""
    scales, column = model.scales, model.properties.index(target)
    per_atom, per_square = (one[column].cpu().numpy().copy() for one in (scales.per_atom, scales.per_square))
    return PropertyReference(per_atom, per_square, float(scales.shift[column]), float(scales.scale[column]))
