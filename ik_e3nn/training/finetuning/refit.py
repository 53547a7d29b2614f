"""E0s for new data, from the energies that a base model leaves unexplained."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols

from ik_e3nn.data import EnergyReference, StructureDataset
from ik_e3nn.data.labels.energy_reference import is_isolated
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.sets.prepare import LabeledSet

_log = logging.getLogger(__name__)

LOOK_AT = 64  # structures whose forces are compared with the base's
SAME_SIZE, SAME_DIRECTION = 5.0, 0.8  # ratio and cosine: levels of theory differ by less, units by more in size alone


def refit_reference(
    model: InteratomicPotential, train: LabeledSet, isolated: Sequence[LabeledSet] = ()
) -> EnergyReference:
    r"""E0s with which a model's energies fit new labels best.

    .. math:: E_0^{new} = E_0' + \delta, \qquad
              \min_\delta \sum_s \big(E_s - E_s^{model}(E_0') - \sum_Z n_{sZ} \delta_Z\big)^2

    where E_0' are the energies of isolated atoms in the new data where there are some, and the model's E0s otherwise.
    If the compositions do not determine all of them, the smallest change is taken. What the model knows of bonds and
    forces is kept, so that another level of theory, however far away its total energies, begins with a small error.

    Args:
        model: A model that knows all elements; its E0s are not changed.
        train: Structures with energies.
        isolated: Sets of single atoms with energies.

    Returns:
        E0s of all elements of the model.

    Raises:
        ConfigError: A new element is in no structure with an energy.
    """
    alone = _isolated_energies(isolated)
    old = dict(zip(model.species, model.atomic_energy.reference.tolist(), strict=True))
    start = {z: alone.get(z, old[z]) for z in model.species}
    chosen = [i for i, one in enumerate(train.labels) if np.isfinite(one.energy)]
    if not chosen:
        raise ConfigError("there are no energies to fit E0s to; set finetune.E0s to 'base'.")
    part = train.select(chosen)
    graphs = StructureDataset(part.structures, None, model.r_max, dtype=model.dtype, inputs=model.inputs)
    predicted = np.array(predict(model, graphs).energy)
    counts = np.array([[np.count_nonzero(atoms.numbers == z) for z in model.species] for atoms in part.structures])
    moved = np.array([start[z] - old[z] for z in model.species])
    residual = np.array([one.energy for one in part.labels]) - predicted - counts @ moved
    there = [index for index, z in enumerate(model.species) if counts[:, index].any()]
    change, _, rank, _ = np.linalg.lstsq(counts[:, there].astype(float), residual, rcond=None)
    values = dict(start)
    for index, value in zip(there, change, strict=True):
        values[model.species[index]] += float(value)
    source = _source(model, alone, [model.species[index] for index in there], int(rank), len(chosen))
    left = residual - counts[:, there] @ change
    _log.info("E0: %s; what is left has a standard deviation of %.4g eV", source, left.std())
    return EnergyReference(values, int(rank), 1.0, source)


def warn_of_units(model: InteratomicPotential, train: LabeledSet) -> None:
    """Say when forces of the data have the directions of the model's, but not their size, as in other units.

    Args:
        model: A model that knows all elements.
        train: Structures; the first that have forces are looked at.
    """
    chosen = [i for i, one in enumerate(train.labels) if np.isfinite(one.forces).all()][:LOOK_AT]
    if not chosen:
        return
    part = train.select(chosen)
    graphs = StructureDataset(part.structures, None, model.r_max, dtype=model.dtype, inputs=model.inputs)
    ours = np.concatenate(predict(model, graphs).forces)
    theirs = np.concatenate([one.forces for one in part.labels])
    a, b = np.linalg.norm(ours), np.linalg.norm(theirs)
    if (ours * theirs).sum() > SAME_DIRECTION * a * b and not 1 / SAME_SIZE < b / a < SAME_SIZE:
        _log.warning(
            "forces of the data are %.3g times those of the base (root mean square): if they are not in eV/A (0.019 "
            "would be Hartree/bohr, 0.037 Hartree/A, 23 kcal/mol/A), set data.energy_unit and data.length_unit", b / a,
        )  # fmt: skip


def _isolated_energies(isolated: Sequence[LabeledSet]) -> dict[int, float]:
    found: dict[int, float] = {}
    for part in isolated:
        for atoms, one in zip(part.structures, part.labels, strict=True):
            if is_isolated(atoms) and np.isfinite(one.energy):
                z = int(atoms.numbers[0])
                found[z] = min(found.get(z, np.inf), one.energy)
    return found


def _source(
    model: InteratomicPotential, alone: dict[int, float], fitted: Sequence[int], rank: int, structures: int
) -> str:
    kept = [z for z in model.species if z not in fitted and z not in alone]
    from_atoms = [z for z in fitted if z in alone]
    parts = [f"E0s of the base ({model.energy_reference_provenance})"]
    if from_atoms:
        parts.append(f"those of isolated atoms for {_names(from_atoms)}")
    parts.append(
        f"moved for {_names(fitted)} by least squares over what the base leaves of {structures} energies "
        f"(rank {rank} of {len(fitted)})"
    )
    if kept:
        parts.append(f"as they are for {_names(kept)}, which the data lack")
    return ", ".join(parts)


def _names(numbers: Sequence[int]) -> str:
    return ", ".join(chemical_symbols[z] for z in numbers)
