"""Change the targets of a trained property model, or add elements."""

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
    """Make a model with the body of another one, for other targets.

    Targets of both models (with the same name, kind and unit) are predicted as before. The others get new last layers
    after the hidden layers that targets of a kind share; their references and scales are not yet set. A new element
    starts with the weights of the most similar known element; its reference numbers are NaN, which means unknown.

    Args:
        model: The model; it is not changed.
        targets: The targets of the new model.
        species: Atomic numbers or symbols of elements to add.

    Returns:
        A new model on the same device and in the same dtype.

    Raises:
        ConfigError: Elements cannot be added to this network, or energies are requested from a model without energies.

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
            f"the model does not know {', '.join(chemical_symbols[z] for z in fresh)}, and elements cannot be added to "
            "its network (steerable), because its kernels mix all elements. Leave such molecules out, train a new "
            "model, or start from a potential."
        )
    if model.potential is None and mechanics_of(targets) and old_blocks is not None:
        raise ConfigError(
            f"the model predicts no energies, so that it cannot be extended to {', '.join(mechanics_of(targets))}: "
            "start from a potential, or from a model that predicts energies."
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
    """The targets that a model already has, with the same name, kind and unit.

    >>> from ik_e3nn.targets import Dipole, Intensive
    >>> gap = Intensive("gap", "eV")
    >>> model = MolecularPropertyModel(["H"], [gap], edges="radius", steerable={"channels": 4})
    >>> kept_targets(model, [gap, Dipole("mu", "D")]) == [gap]
    True
    """
    return [target for target in targets if target in model.targets]


def _keep_scales(old: MolecularPropertyModel, new: MolecularPropertyModel) -> None:
    """Copy references and scales of the targets that both models have."""
    places = [new.species.index(z) for z in old.species]
    for target in kept_targets(old, new.properties):
        here, there = new.properties.index(target), old.properties.index(target)
        new.scales.shift[here], new.scales.scale[here] = old.scales.shift[there], old.scales.scale[there]
        new.scales.per_atom[here] = torch.nan if target.by_element else 0.0
        new.scales.per_square[here] = torch.nan if "per_square" in target.reference else 0.0
        new.scales.per_atom[here, places] = old.scales.per_atom[there]
        new.scales.per_square[here, places] = old.scales.per_square[there]
