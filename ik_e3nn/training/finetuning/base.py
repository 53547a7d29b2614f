"""The architecture and the elements of a base model, and the models that are made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ik_e3nn.blocks.face import parse_group
from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import SURROUNDINGS
from ik_e3nn.models import (
    PRESETS,
    InteratomicPotential,
    MolecularPropertyModel,
    StoredModel,
    extended,
    load_model,
    retargeted,
    with_uncertainty,
)
from ik_e3nn.models.files.pretrained import model_path
from ik_e3nn.models.networks.property import natural_edges
from ik_e3nn.models.transfer.beside import surroundings_masks
from ik_e3nn.models.transfer.species import new_element_masks
from ik_e3nn.nn import merge_lora
from ik_e3nn.settings import no_effect
from ik_e3nn.targets import Target
from ik_e3nn.training.config.finetune import FinetuneConfig
from ik_e3nn.training.finetuning.beside import with_surroundings
from ik_e3nn.user_path import user_path

OF_HEADS = ("hidden", "places")  # settings that can be chosen where a potential gets heads


def load_base(path: Path) -> StoredModel:
    """Load a model onto the CPU; low-rank updates that were stored separately are merged.

    Raises:
        FileNotFoundError: The file does not exist.
        ModelFileError: The file is broken.
    """
    model = load_model(path, device="cpu")
    merge_lora(model)
    return model


def check_base(config: FinetuneConfig) -> None:
    """Raise if the base of a fine-tuning cannot become what its configuration asks for.

    Raises:
        ConfigError: The base has the wrong kind or another architecture, or old data would have no effect.
        FileNotFoundError: There is no uncertainty file.
        ModelFileError: The uncertainty file is damaged, or was made for other models.
    """
    method = config.finetune
    base = load_base(model_path(method.base))
    is_potential = base.potential is base
    if config.data.targets is None:
        if not is_potential:
            raise ConfigError(
                f"finetune.base is {method.base!r}, which is not a potential but a model of "
                f"{', '.join(one.name for one in base.targets)}: name your targets with data.targets, or choose a "
                "potential as the base."
            )
        larger = with_surroundings(base, config.model)
        inputs = {} if larger is base else {"inputs": larger.config["inputs"]}
        check_architecture({**config.model, **inputs}, larger.config)
        if method.method == "surroundings":
            _masks_of_surroundings(larger)
        if method.uncertainty is not None:
            with_uncertainty([base], user_path(method.uncertainty))
        return
    check_body(config.model, base)
    for name in ("replay", "old_domain"):
        if getattr(method, name) is not None and is_potential and not config.trained:
            reason = "the base is a potential, and a model of properties has no energies and forces to forget"
            raise no_effect(f"finetune.{name}", getattr(method, name), reason)


def check_architecture(asked: Mapping[str, Any], known: Mapping[str, Any], *, where: str = "model") -> None:
    """Raise if arguments that were asked for differ from the arguments of the base, a potential.

    Args:
        asked: Arguments that were asked for.
        known: Arguments of the base.
        where: Name of the section in messages.

    Raises:
        ConfigError: Names the first argument that differs.
    """
    asked = {name: value for name, value in asked.items() if value is not None}
    preset = asked.pop("preset", "")
    sizes = PRESETS.get(preset, {})
    for name, value in {**sizes, **asked}.items():
        wanted = value
        if name == "group":
            try:
                wanted = parse_group(value, frozenset(asked.get("inputs", known.get("inputs", ())))).to_config()
            except ValueError as error:
                raise ConfigError(f"{where}.group is {value!r}: {error}.") from error
        elif name == "inputs":
            wanted = sorted(value)
        if name in known and wanted != known[name]:
            given = f"{where}.{name} is {value!r}"
            if name not in asked:
                given = f"{where}.preset is {preset!r}, with {name} {value!r}"
            raise ConfigError(
                f"{given}, but the base has {known[name]!r}: fine-tuning keeps the architecture of the base "
                "(model.inputs can add a surface, wire, site or face, with model.group); leave the section model out, "
                "or train a new model."
            )


def body_settings(base: StoredModel) -> dict[str, Any]:
    """Arguments of a model of properties with the body of a base, without elements and targets.

    Raises:
        ConfigError: The base is a potential for atoms beside surroundings.

    >>> settings = body_settings(InteratomicPotential(["H"], num_channels=4))
    >>> settings["edges"], settings["potential"]["num_channels"]
    ('radius', 4)
    """
    if base.potential is not base:
        return {name: value for name, value in base.config.items() if name not in ("species", "targets")}
    outside = sorted(base.inputs.intersection(SURROUNDINGS))
    if outside:
        raise ConfigError(
            f"finetune.base is a potential for atoms beside a {outside[0]}, but properties are those of molecules "
            "alone; choose another base."
        )
    options = {name: value for name, value in base.config.items() if name not in ("species", "r_max")}
    return {"edges": natural_edges(base.potential), "r_max": base.r_max, "potential": options}


def check_body(asked: Mapping[str, Any], base: StoredModel) -> None:
    """Raise if arguments that were asked for differ from those of a model of properties with the body of a base.

    Raises:
        ConfigError: Names the first argument that differs.
    """
    known = body_settings(base)
    for name, value in asked.items():
        if value is None or (name in OF_HEADS and name not in known):
            continue
        if name not in known:
            bodies = {"steerable", "potential"} & set(known)
            raise ConfigError(
                f"model.{name} is given, but the base has a body of the kind {bodies.pop()!r}, which fine-tuning "
                "keeps; leave the section model out, or train a new model."
            )
        if isinstance(value, Mapping):
            names = [*known[name], *(["preset"] if name == "potential" else [])]
            unknown = sorted(set(value).difference(names))
            if unknown:
                raise ConfigError(f"unknown setting 'model.{name}.{unknown[0]}'; there are {', '.join(names)}.")
            check_architecture(value, known[name], where=f"model.{name}")
        else:
            check_architecture({name: value}, known)


def known_elements(base: StoredModel, targets: Sequence[Target]) -> list[int]:
    """Elements for which the base knows the references of all targets, so that no data are needed."""
    known = list(base.species)
    for target in targets:
        if target.by_element and target not in base.targets:
            return []
        if target.by_element and target.field is None:
            model = cast(MolecularPropertyModel, base)
            values = model.scales.per_atom[model.properties.index(target)]
            known = [
                z for z, value in zip(base.species, values.isnan().tolist(), strict=True) if z in known and not value
            ]
    return known


def adapted(
    base: StoredModel, species: Sequence[int], targets: Sequence[Target] | None, heads: Mapping[str, Any]
) -> StoredModel:
    """A model that starts from a base, with further elements and other targets; heads of new targets are new.

    Args:
        base: The base; it is not changed.
        species: Atomic numbers to add to those of the base.
        targets: The targets of a model of properties; None for a potential.
        heads: Those of the settings ``OF_HEADS`` that are given, for new heads of a potential.
    """
    if targets is None:
        return extended(cast(InteratomicPotential, base), species)
    if base.potential is not base:
        return retargeted(cast(MolecularPropertyModel, base), targets, species)
    return MolecularPropertyModel.from_potential(extended(base.potential, species), targets, **heads)


def element_masks(base: StoredModel, model: StoredModel) -> dict[str, Tensor]:
    """Masks of the weights of elements that the base does not know, by names of the model's parameters."""
    (_, old), (prefix, new) = (_blocks(one) for one in (base, model))
    if old is None or new is None:
        return {}
    return {f"{prefix}{name}": mask for name, mask in new_element_masks(old, new).items()}


def always_trained(base: StoredModel, larger: StoredModel, model: StoredModel, method: str) -> dict[str, Tensor]:
    """Masks of the weights that every method trains: those of new elements and surroundings.

    Args:
        base: The base.
        larger: The base with added surroundings, or the base itself.
        model: The model that was made from it, with further elements and other targets.
        method: The method; "surroundings" trains the surroundings that the base has, too.

    Returns:
        Masks by names of the model's parameters.

    Raises:
        ConfigError: The method is "surroundings" and the model has no weights that act only near surroundings.
    """
    masks = element_masks(larger, model)
    if larger is not base or method == "surroundings":
        for name, mask in _masks_of_surroundings(model).items():
            masks[name] = masks[name] | mask if name in masks else mask
    return masks


def _masks_of_surroundings(model: StoredModel) -> dict[str, Tensor]:
    try:
        return surroundings_masks(cast(InteratomicPotential, model))
    except ValueError as error:
        raise ConfigError(
            f"finetune.method is 'surroundings', but {error}; add them with the section model, as in "
            "{group: Cinfv, inputs: [surface]}, or choose another method."
        ) from error


def _blocks(model: StoredModel) -> tuple[str, InteratomicPotential | None]:
    """The prefix of the names of a potential's parameters inside a model, and this potential."""
    if model.potential is model:
        return "", model.potential
    found: Any = dict(cast(MolecularPropertyModel, model).body.named_children()).get("potential")
    return "body.potential.", found


def size_of_features(model: MolecularPropertyModel, batches: Any) -> Tensor:
    """Mean squares of the body's features over some batches, for ``FeatureScale.set_mean_squares``."""
    squares, atoms = torch.zeros(()), 0
    with torch.no_grad():
        for batch in batches:
            features = model.body(batch, model.molecules(batch).species)
            squares = squares + len(features) * model.feature_scale.mean_squares(features)
            atoms += len(features)
    return squares / atoms
