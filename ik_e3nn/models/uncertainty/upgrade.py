"""Upgrades of older uncertainty files: one small function for every step from a format to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ik_e3nn.renamed import new_name

FORMAT_VERSION = 3

Info = dict[str, Any]
Tensors = dict[str, Tensor]


def upgraded(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """The contents of an uncertainty file as this version would have written them.

    Args:
        info: The JSON part of the file; it is not changed.
        tensors: The tensors by name; the mapping is not changed.

    Returns:
        Both in the current format, except for the checksums of the models, whose tensors had other names.

    Example:
        >>> info, _ = upgraded({"format_version": 1, "kind": "PropertyCommittee"}, {})
        >>> info["kind"], info["format_version"]
        ('committee', 3)
    """
    for version in range(info["format_version"], FORMAT_VERSION):
        info, tensors = STEPS[version](info, tensors)
        info = info | {"format_version": version + 1}
    return info, tensors


def _to_2(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 2 has a checksum of the whole file; the contents are the same."""
    return info, tensors


def _to_3(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 3 has the same kinds and names for potentials and for properties."""
    kinds = {
        "Committee": "committee",
        "PropertyCommittee": "committee",
        "LastLayerEnsemble": "last_layer",
        "LastLayerProperties": "last_layer",
    }
    kept = {"factors": "factors"}
    if info["kind"] == "LastLayerEnsemble":
        kept |= {"root": "root.energy", "directions": "directions"}
    elif info["kind"] == "LastLayerProperties":
        kept |= {kind: f"root.{new_name(kind) or kind}" for kind in tensors if kind != "factors"}
    names = {name: kept.get(name, name) for name in tensors}
    return info | {"kind": kinds.get(info["kind"], info["kind"])}, {names[name]: one for name, one in tensors.items()}


STEPS: dict[int, Callable[[Info, Tensors], tuple[Info, Tensors]]] = {1: _to_2, 2: _to_3}
"""The function that upgrades a file of each older format by one."""
