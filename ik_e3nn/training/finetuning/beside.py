"""Surroundings that a fine-tuning adds to a base: the larger model, its structures, and old data far from them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms

from ik_e3nn.blocks.face import Face
from ik_e3nn.blocks.surroundings import Surroundings
from ik_e3nn.data import LabeledSet
from ik_e3nn.errors import ConfigError, DataError, locating
from ik_e3nn.graph import SURROUNDINGS, fields
from ik_e3nn.graph.build import SURFACE_FIELDS
from ik_e3nn.models import InteratomicPotential, StoredModel, beside_surroundings
from ik_e3nn.models.networks.hyperparameters import parse_inputs
from ik_e3nn.models.networks.potential import FIELD_REACH
from ik_e3nn.training.sets.places import places_of

_log = logging.getLogger(__name__)

BEYOND = 10.0  # A from the outermost functions of positions, which fall off as Gaussians 0.6 A wide
ALONG = 1e-6  # relative length of a cell vector in a direction that surroundings fix


def with_surroundings(base: StoredModel, asked: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> StoredModel:
    """The base beside the surroundings that arguments of a model ask for; the base itself if it knows them or any.

    Args:
        base: The base; it is not changed.
        asked: Arguments of the model: ``group``, ``inputs`` to add to those of the base, and ``field_degree``.
        dtype: Floating type of the larger model, in which the weights of the base are scaled.

    Raises:
        ConfigError: The base or the group does not fit the surroundings, or other inputs are to be added.

    >>> base = InteratomicPotential(["H"], num_channels=4, inputs=["total_charge"])
    >>> sorted(with_surroundings(base, {"group": "Cinfv", "inputs": ["surface"]}).inputs)
    ['surface', 'total_charge']
    """
    given = set(asked.get("inputs") or ())
    if base.potential is not base or not given.intersection(SURROUNDINGS) or base.inputs.intersection(SURROUNDINGS):
        return base
    more = sorted(given - base.inputs - set(SURROUNDINGS))
    if more:
        has = ", ".join(sorted(base.inputs)) or "none"
        raise ConfigError(
            f"model.inputs has {', '.join(more)}, but the inputs of the base are {has}: fine-tuning can add "
            f"surroundings alone ({', '.join(SURROUNDINGS)})."
        )
    try:
        (kind,) = parse_inputs(given).intersection(SURROUNDINGS)
        group, field_degree = asked.get("group") or base.config["group"], asked.get("field_degree")
        return beside_surroundings(copy.deepcopy(base.potential).to(dtype), kind, group, field_degree=field_degree)
    except ValueError as error:
        raise ConfigError(f"surroundings cannot be added to the base: {error}.") from error


def check_places(data: LabeledSet, model: InteratomicPotential) -> None:
    """Raise if no structure is beside the surroundings of a model, and warn of structures on both sides of a surface.

    Raises:
        DataError: All atoms are out of reach.
        MissingInputError: A structure lacks the direction that the group needs.
    """
    surroundings = cast(Surroundings, model.surroundings)
    kind, reach = surroundings.kind, FIELD_REACH * model.r_max
    places = []
    for name, atoms in zip(data.names, data.structures, strict=True):
        with locating(name):
            places.append(places_of(atoms, surroundings)[0])
    projector = surroundings.projector.double().cpu().numpy()
    nearest = min(float(np.linalg.norm(u @ projector, axis=1).min()) for u in places)
    where = 'info["surface_origin"] and info["surface_normal"] say where it is; by default it is at the origin, along z'
    if nearest > reach:
        raise DataError(
            f"nothing can be learned of the {kind}: the nearest atom of all training structures is {nearest:.1f} A "
            f"from it, and the model sees {reach:g} A. {where}."
        )
    sides = [u @ np.array(surroundings.group.axis) for u in places]
    across = [number for number, heights in enumerate(sides) if heights.min() < 0 < heights.max()]
    if across and kind in ("surface", "face") and len(surroundings.group.invariants(1, -1)):
        _log.warning(
            "%d of %d training structures have atoms on both sides of the surface (the first: %s). %s",
            len(across), len(sides), data.names[across[0]], where,
        )  # fmt: skip


def far_from(data: LabeledSet, model: InteratomicPotential, like: Sequence[Atoms]) -> LabeledSet:
    """Old structures that know no surroundings, moved to where the model does not feel its own.

    Args:
        data: The structures; they are not changed.
        model: A model with surroundings.
        like: Structures beside the surroundings; the old ones get the same kinds of vectors of the surroundings.

    Raises:
        DataError: A structure is periodic in a direction that the surroundings fix, so that it is never far away.
    """
    surroundings = cast(Surroundings, model.surroundings)
    projector, axis = surroundings.projector.double().cpu().numpy(), np.array(surroundings.group.axis)
    frame = surroundings.triad.double().cpu().numpy()
    direction = next(d for d in (axis, frame[:, 0]) if np.linalg.norm(projector @ d) > 0.5)
    vectors = {fields.SURFACE_NORMAL: axis, fields.SURFACE_ORIGIN: np.zeros(3), fields.SURFACE_X: frame[:, 0]}
    kept = {key for key in SURFACE_FIELDS if like and like[0].info.get(key) is not None}
    if isinstance(surroundings, Face):
        vectors[fields.SURFACE_CELL] = np.pad(surroundings.plane.cell.numpy(), ((0, 0), (0, 1)))
    elif fields.SURFACE_CELL in kept:  # has no meaning without a face
        vectors[fields.SURFACE_CELL] = np.array(like[0].info[fields.SURFACE_CELL])
    moved = []
    for name, atoms in zip(data.names, data.structures, strict=True):
        periodic = atoms.cell.array[atoms.pbc]
        if np.abs(periodic @ projector).max(initial=0.0) > ALONG * np.abs(periodic).max(initial=0.0):
            raise DataError(
                f"old data (finetune.replay, finetune.old_domain): {name} is periodic in a direction in which the "
                f"{surroundings.kind} fixes positions, so that it cannot be put far away; leave such structures out."
            )
        far = atoms.copy()
        distance = FIELD_REACH * model.r_max + BEYOND
        far.positions += (distance - (far.positions @ direction).min()) * direction
        for key in SURFACE_FIELDS:
            far.info.pop(key, None)
            if key in kept:
                far.info[key] = vectors[key].copy()
        moved.append(far)
    return replace(data, structures=moved)
