"""References for new data, from what a base model of properties leaves unexplained of the values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ik_e3nn.data import PropertyDataset, PropertySet
from ik_e3nn.data.properties.reference import fit_references
from ik_e3nn.models import MolecularPropertyModel
from ik_e3nn.targets import Target
from ik_e3nn.training.inference.property_prediction import predict_properties

_log = logging.getLogger(__name__)


def move_references(model: MolecularPropertyModel, train: PropertySet, targets: Sequence[Target]) -> None:
    """Move references of some properties by least squares, so that what the model says fits the values best.

    Where that still misses the values by more than composition does, it is said.

    Args:
        model: The model; its predictions are finite.
        train: Molecules with values, and bonds if the model's graph has them.
        targets: The properties.
    """
    graphs = PropertyDataset(train, model.edges, model.r_max, dtype=model.dtype, inputs=model.body.inputs)
    predicted, _ = predict_properties(model, graphs)
    rest = {target.name: train.values[target.name] - predicted[target.name] for target in targets}
    left = replace(train, targets=tuple(targets), values=rest)
    own = fit_references(train.only([target.name for target in targets]), model.species)
    for target, one, without in zip(targets, fit_references(left, model.species), own, strict=True):
        if one.scale > without.scale:
            _log.warning(
                "what the base says of %s misses the labels by %.3g %s (root mean square), more than what composition "
                "says (%.3g): if yours is another property than the base's, give it another name",
                target.name, one.scale, target.unit, without.scale,
            )  # fmt: skip
        column = model.targets.index(target)
        model.scales.per_atom[column] += torch.from_numpy(np.nan_to_num(one.per_atom))
        model.scales.per_square[column] += torch.from_numpy(np.nan_to_num(one.per_square))
        model.scales.shift[column] += one.shift
