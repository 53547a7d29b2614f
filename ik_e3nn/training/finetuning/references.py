"""References for new data: E0s, and references of properties, shifted to reduce the errors of a base model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ik_e3nn.data import EnergyReference, LabeledSet, StructureDataset
from ik_e3nn.data.labels.energy_reference import lowest_energies
from ik_e3nn.data.labels.least_squares import fit_unknown
from ik_e3nn.data.properties.reference import fit_references
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.elements import symbols_of, unknown_symbols
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel, StoredModel
from ik_e3nn.targets import Target
from ik_e3nn.training.config.finetune import FinetuneConfig
from ik_e3nn.training.inference.prediction import Predictions, predict
from ik_e3nn.training.sets.references import energy_reference

_log = logging.getLogger(__name__)

LOOK_AT = 64  # structures whose forces are compared with the base's
OTHER_ZERO = 0.5  # eV per atom
SAME_SIZE, SAME_DIRECTION = 5.0, 0.8  # ratio and cosine: levels of theory differ less, units only in size


def adapt_energies(
    model: InteratomicPotential,
    base: InteratomicPotential | None,
    train: LabeledSet,
    isolated: LabeledSet,
    config: FinetuneConfig,
) -> None:
    """Set the E0s of a potential as ``finetune.E0s`` asks; without energies they are those of the base.

    Args:
        model: A model that knows all elements.
        base: The base, or None if it predicts no energies.
        train: New structures with energies, forces and stresses.
        isolated: Isolated atoms likewise.
        config: The configuration.
    """
    known = any(np.isfinite(one.values["energy"]).any() for one in (train, isolated))
    if base is None or config.references == "data":
        found = energy_reference(config.data, train, isolated)
    elif config.references == "refit" and known:
        found = refit_reference(model, train, isolated)
    else:
        found = base_reference(base, train.species, isolated)
    if found is not None:
        model.set_energy_reference(energies_of(model) | found.values, provenance=found.source)
    if config.references == "base":
        warn_of_zero(model, train)
    warn_of_units(model, train)


def base_reference(
    base: InteratomicPotential, species: Sequence[int], isolated: LabeledSet | None = None
) -> EnergyReference:
    """The E0s of a base, and those of isolated atoms in the new data for elements that it lacks.

    Args:
        base: The base.
        species: Elements of the new data.
        isolated: Single atoms with energies.

    Raises:
        ConfigError: Neither the base nor an isolated atom has the E0 of an element.
    """
    own = energies_of(base)
    alone = {} if isolated is None else lowest_energies(isolated.structures, isolated.values["energy"])
    more = {z: alone[z] for z in species if z not in own and z in alone}
    new = unknown_symbols(species, [*own, *more])
    if new:
        raise ConfigError(
            f"the base has no E0 of {new}; add an isolated atom with its energy to the data, or set finetune.E0s to "
            "'refit', with labeled energies, or 'data'."
        )
    source = base.energy_reference_provenance
    if more:
        source = f"E0s of the base ({source}), those of isolated atoms for {symbols_of(sorted(more))}"
    return EnergyReference(own | more, 0, 1.0, source)


def refit_reference(
    model: InteratomicPotential, train: LabeledSet, isolated: LabeledSet | None = None
) -> EnergyReference:
    r"""E0s for which the energies of a model fit new labels best.

    .. math:: E_0^{new} = E_0' + \delta, \qquad
              \min_\delta \sum_s \big(E_s - E_s^{model}(E_0') - \sum_Z n_{sZ} \delta_Z\big)^2

    where E_0' are the energies of isolated atoms in the new data, if available, and otherwise the model's E0s. If the
    compositions do not determine all changes, the smallest ones are taken. The model keeps what it has learned about
    bonds and forces, so that training on another level of theory starts with a small error, even if total energies are
    very different.

    Args:
        model: A model that knows all elements; its E0s are not changed.
        train: Structures with energies.
        isolated: Single atoms with energies.

    Returns:
        E0s of all elements of the model.

    Raises:
        ConfigError: A new element is in no structure with an energy.
    """
    alone = {} if isolated is None else lowest_energies(isolated.structures, isolated.values["energy"])
    old = energies_of(model)
    start = {z: alone.get(z, old[z]) for z in model.species}
    part = train.only(["energy"]).select(np.flatnonzero(train.known("energy")))
    if not len(part):
        raise ConfigError("the new data have no energies to fit E0s to; set finetune.E0s to 'base'.")
    predicted = _predictions(model, part).values["energy"]
    counts = composition(part.structures, model.species)
    moved = np.array([start[z] - old[z] for z in model.species])
    residual = part.values["energy"] - predicted - counts @ moved
    fit = fit_unknown(counts, residual)
    change = np.nan_to_num(fit.coefficients)
    values = {z: start[z] + float(value) for z, value in zip(model.species, change, strict=True)}
    fitted = [z for z, free in zip(model.species, fit.free, strict=True) if free]
    source = _source(model, alone, fitted, fit.rank, len(part))
    left = residual - counts @ change
    _log.info("E0s: %s; the remaining errors have a standard deviation of %.4g eV", source, left.std())
    return EnergyReference(values, fit.rank, fit.condition, source)


def warn_of_units(model: InteratomicPotential, train: LabeledSet) -> None:
    """Warn if the labeled forces agree with the model's in direction but not in size, as forces in other units do.

    Args:
        model: A model that knows all elements.
        train: Structures; the first ones with forces are compared.
    """
    forces = train.with_mechanics().by_structure("forces")
    whole = [number for number, one in enumerate(forces) if np.isfinite(one).all()][:LOOK_AT]
    if not whole:
        return
    part = train.only(["forces"]).select(whole)
    ours, theirs = _predictions(model, part).values["forces"], part.values["forces"]
    a, b = np.linalg.norm(ours), np.linalg.norm(theirs)
    if (ours * theirs).sum() > SAME_DIRECTION * a * b and not 1 / SAME_SIZE < b / a < SAME_SIZE:
        _log.warning(
            "forces of the data are %.3g times those of the base (root mean square): if they are not in eV/A (0.019 "
            "would be Hartree/bohr, 0.037 Hartree/A, 23 kcal/mol/A), set data.energy_unit and data.length_unit", b / a,
        )  # fmt: skip


def warn_of_zero(model: InteratomicPotential, train: LabeledSet) -> None:
    """Warn if the labeled energies are so far from those of a model that their zero is probably another one.

    Args:
        model: A model that knows all elements, with the E0s to use.
        train: Structures; the first ones with energies are compared.
    """
    part = train.only(["energy"]).select(np.flatnonzero(train.known("energy"))[:LOOK_AT])
    if not len(part):
        return
    sizes = np.array([len(atoms) for atoms in part.structures])
    away = float(np.median((part.values["energy"] - _predictions(model, part).values["energy"]) / sizes))
    if abs(away) > OTHER_ZERO:
        _log.warning(
            "energies of the data are %+.3g eV per atom from those of the base (median), and E0s stay those of the "
            "base: if their zero is another one, set finetune.E0s to 'refit' or 'data'", away,
        )  # fmt: skip


def move_references(model: MolecularPropertyModel, train: LabeledSet, targets: Sequence[Target]) -> None:
    """Shift references of some properties by least squares, so that the predictions of the model fit the values best.

    A warning names properties that references from composition alone predict better than the shifted model.

    Args:
        model: The model; its predictions are finite.
        train: Molecules with values, and bonds if the model's graph has them.
        targets: The properties.
    """
    predicted, chosen = _predictions(model, train), train.only([target.name for target in targets])
    rest = {name: values - predicted.values[name] for name, values in chosen.values.items()}
    own, left = (fit_references(one, model.species) for one in (chosen, replace(chosen, values=rest)))
    for target, one, without in zip(targets, left, own, strict=True):
        if one.scale > without.scale:
            _log.warning(
                "the base predicts %s with an error of %.3g %s (root mean square), larger than that of composition "
                "alone (%.3g): if your property is not the base's, give it another name",
                target.name, one.scale, target.unit, without.scale,
            )  # fmt: skip
        column = model.properties.index(target)
        model.scales.per_atom[column] += torch.from_numpy(np.nan_to_num(one.per_atom))
        model.scales.per_square[column] += torch.from_numpy(np.nan_to_num(one.per_square))
        model.scales.shift[column] += one.shift


def _predictions(model: StoredModel, data: LabeledSet) -> Predictions:
    graphs = StructureDataset(data, model.r_max, edges=model.edges, dtype=model.dtype, inputs=model.inputs)
    return predict(model, graphs)


def energies_of(model: InteratomicPotential) -> dict[int, float]:
    """E0s by atomic number."""
    return dict(zip(model.species, model.atomic_energy.reference.tolist(), strict=True))


def _source(
    model: InteratomicPotential, alone: dict[int, float], fitted: Sequence[int], rank: int, structures: int
) -> str:
    kept = [z for z in model.species if z not in fitted and z not in alone]
    from_atoms = [z for z in fitted if z in alone]
    parts = [f"E0s of the base ({model.energy_reference_provenance})"]
    if from_atoms:
        parts.append(f"those of isolated atoms for {symbols_of(from_atoms)}")
    parts.append(
        f"shifted for {symbols_of(fitted)} by least squares over the base's errors of {structures} energies "
        f"(rank {rank} of {len(fitted)})"
    )
    if kept:
        parts.append(f"unchanged for {symbols_of(kept)}, which the data lack")
    return ", ".join(parts)
