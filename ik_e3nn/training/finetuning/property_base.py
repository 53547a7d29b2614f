"""What a base model gives to a fine-tuning to properties: the settings of its body, and elements with references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import SURROUNDINGS
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel
from ik_e3nn.models.networks.property import natural_edges
from ik_e3nn.targets import Target
from ik_e3nn.training.finetuning.potentials import check_architecture

Base = InteratomicPotential | MolecularPropertyModel


def body_settings(base: Base) -> dict[str, Any]:
    """Arguments of a model of properties that has a base's body, but for its elements and targets.

    Raises:
        ConfigError: The base is a potential beside surroundings.

    >>> settings = body_settings(InteratomicPotential(["H"], num_channels=4))
    >>> settings["edges"], settings["potential"]["num_channels"]
    ('radius', 4)
    """
    if isinstance(base, MolecularPropertyModel):
        return {name: value for name, value in base.config.items() if name not in ("species", "targets")}
    outside = sorted(base.inputs.intersection(SURROUNDINGS))
    if outside:
        raise ConfigError(
            f"finetune.base is a potential for atoms beside a {outside[0]}, which molecules in a table of properties "
            "have not; choose another base."
        )
    options = {name: value for name, value in base.config.items() if name not in ("species", "r_max")}
    return {"edges": natural_edges(base), "r_max": base.r_max, "potential": options}


def check_body(asked: Mapping[str, Any], base: Base) -> None:
    """Raise unless arguments of a model of properties that were asked for are those that a base has.

    Raises:
        ConfigError: Names the first that differs.
    """
    known = body_settings(base)
    for name, value in asked.items():
        if value is None or (name == "hidden" and name not in known):
            continue
        if name not in known:
            bodies = {"steerable", "potential"} & set(known)
            raise ConfigError(
                f"model.{name} is given, but the base has a body of the kind {bodies.pop()!r}, which fine-tuning "
                "keeps; leave the setting out, or train a new model."
            )
        if isinstance(value, Mapping):
            names = [*known[name], *(["preset"] if name == "potential" else [])]
            unknown = sorted(set(value).difference(names))
            if unknown:
                raise ConfigError(f"unknown setting 'model.{name}.{unknown[0]}'; there are {', '.join(names)}.")
            check_architecture(value, known[name], where=f"model.{name}")
        else:
            check_architecture({name: value}, known)


def known_elements(base: Base, targets: Sequence[Target]) -> list[int]:
    """Elements whose part in the references of all targets is known without data."""
    known = list(base.species)
    for target in targets:
        if target.by_element and not (isinstance(base, MolecularPropertyModel) and target in base.targets):
            return []
        if target.by_element and isinstance(base, MolecularPropertyModel):
            values = base.scales.per_atom[base.targets.index(target)]
            known = [
                z for z, value in zip(base.species, values.isnan().tolist(), strict=True) if z in known and not value
            ]
    return known
