"""Other properties, and more elements, for a model of properties that is trained already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from ase.data import chemical_symbols

from ik_e3nn.errors import ConfigError
from ik_e3nn.models.networks.hyperparameters import parse_species
from ik_e3nn.models.networks.property import MolecularPropertyModel
from ik_e3nn.models.transfer.species import most_similar, transplant
from ik_e3nn.targets import Target, mechanics_of


def retargeted(
    model: MolecularPropertyModel, targets: Sequence[Target], species: Iterable[int | str] = ()
) -> MolecularPropertyModel:
    """A model with the body of another one, for other properties.

    Properties that both have (of the same name, kind and unit) are predicted as before. For the others what reads them
    is new, behind the hidden layers that properties of a kind share; their references and scales are yet to be set. A
    new element starts as the most similar old one does. What it adds to references is NaN, that is not known.

    Args:
        model: The model; it is not changed.
        targets: The properties of the new one.
        species: Atomic numbers or symbols that are to be known besides those that are.

    Returns:
        A new model on the same device and in the same dtype.

    Raises:
        ConfigError: New elements for a network whose kernels see species as one input among others, or energies for a
            model that has none.

    Example:
        >>> from ik_e3nn.targets import Dipole, Intensive
        >>> gap, mu = Intensive("gap", "eV"), Dipole("mu", "D")
        >>> model = MolecularPropertyModel(["H", "O"], [gap], edges="radius", steerable={"channels": 4})
        >>> [target.name for target in retargeted(model, [mu, gap]).targets]
        ['mu', 'gap']
    """
    union = parse_species([*model.species, *species])
    fresh = [z for z in union if z not in model.species]
    old_blocks = model.body.potential
    if fresh and old_blocks is None:
        raise ConfigError(
            f"the model does not know {', '.join(chemical_symbols[z] for z in fresh)}, and its network (steerable) "
            "cannot be given elements: its kernels mix those that it was made for. Leave such molecules out, train a "
            "new model, or start from a potential."
        )
    if model.potential is None and mechanics_of(targets) and old_blocks is not None:
        raise ConfigError(
            f"the model has no energies, so that it cannot go on to predict {', '.join(mechanics_of(targets))}: start "
            "from a potential, or from a model that has them."
        )
    new = type(model)(**{**model.config, "species": list(union), "targets": list(targets)})
    new = new.to(device=model.device, dtype=model.dtype).train(model.training)
    if old_blocks is None or new.body.potential is None:
        new.body.load_state_dict(model.body.state_dict())
    else:
        sources = {z: z if z in model.species else most_similar(z, model.species) for z in union}
        transplant(old_blocks, new.body.potential, sources)
    new.feature_scale.load_state_dict(model.feature_scale.state_dict())
    new.invariants.load_state_dict(model.invariants.state_dict())
    for kind, names in new.names.items():
        if kind in model.names:
            known = [target.name for target in kept_targets(model, targets)]
            places = {here: model.names[kind].index(name) for here, name in enumerate(names) if name in known}
            new.heads[kind].take(model.heads[kind], places)  # type: ignore[operator]
    _keep_scales(model, new)
    if model.potential is not None and new.potential is not None:
        new.potential.atomic_energy.reference[[new.species.index(z) for z in fresh]] = 0.0
        new.potential.energy_reference_provenance = model.potential.energy_reference_provenance
    new.trained_on = model.trained_on
    return new


def kept_targets(model: MolecularPropertyModel, targets: Sequence[Target]) -> list[Target]:
    """Those of some properties that a model has, with the same kind and unit.

    >>> from ik_e3nn.targets import Dipole, Intensive
    >>> gap = Intensive("gap", "eV")
    >>> model = MolecularPropertyModel(["H"], [gap], edges="radius", steerable={"channels": 4})
    >>> kept_targets(model, [gap, Dipole("mu", "D")]) == [gap]
    True
    """
    return [target for target in targets if target in model.targets]


def _keep_scales(old: MolecularPropertyModel, new: MolecularPropertyModel) -> None:
    """Copy references and scales of the properties that both have."""
    places = [new.species.index(z) for z in old.species]
    for target in kept_targets(old, new.properties):
        here, there = new.properties.index(target), old.properties.index(target)
        new.scales.shift[here], new.scales.scale[here] = old.scales.shift[there], old.scales.scale[there]
        new.scales.per_atom[here] = torch.nan if target.by_element else 0.0
        new.scales.per_square[here] = torch.nan if "per_square" in target.reference else 0.0
        new.scales.per_atom[here, places] = old.scales.per_atom[there]
        new.scales.per_square[here, places] = old.scales.per_square[there]
