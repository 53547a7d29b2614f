"""Older model files in the terms of this version: one small function for every step from a format to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

FORMAT_VERSION = 4

Info = dict[str, Any]
Tensors = dict[str, Tensor]


def upgraded(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """The contents of a model file as this version would have written them.

    Args:
        info: The JSON part of the file, with its ``format_version``; it is not changed.
        tensors: The weights by name; the mapping is not changed.

    Returns:
        Both in the format of today.

    Example:
        >>> info, _ = upgraded({"format_version": 3, "config": {"steerable": {"channels": 4}}}, {})
        >>> info["config"]["steerable"], info["format_version"]
        ({'activation': 'sphere', 'channels': 4}, 4)
    """
    for version in range(info["format_version"], FORMAT_VERSION):
        info, tensors = STEPS[version](info, tensors)
        info = info | {"format_version": version + 1}
    return info, tensors


def _to_3(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 3 has a checksum of the whole file in place of one of the weights; the contents are the same."""
    return {name: value for name, value in info.items() if name != "weights_sha256"}, tensors


def _to_4(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 4 has American spelling, and the activation of the paper's network is always stated.

    Until the activation could be chosen, the network had the pointwise one on the sphere.
    """
    config = dict(info["config"])
    if isinstance(config.get("steerable"), dict):
        config["steerable"] = {"activation": "sphere"} | config["steerable"]
    if isinstance(config.get("targets"), list):
        config["targets"] = [_american_kind(target) for target in config["targets"]]
    lora = {_american(name): rank for name, rank in info.get("lora", {}).items()}
    return info | {"config": config, "lora": lora}, {_american(name): tensor for name, tensor in tensors.items()}


def _american(name: str) -> str:
    """The name of a module or tensor as it is spelled today."""
    return name.replace("normalisation", "normalization").replace("heads.polarisability", "heads.polarizability")


def name_before_4(name: str) -> str:
    """The name of a module or tensor as it was spelled until format 3.

    >>> name_before_4("conv.normalization")
    'conv.normalisation'
    """
    return name.replace("normalization", "normalisation").replace("heads.polarizability", "heads.polarisability")


def _american_kind(target: Any) -> Any:
    """A target whose kind is spelled as it is today; its name is the user's."""
    if isinstance(target, dict) and target.get("kind") == "polarisability":
        return target | {"kind": "polarizability"}
    return target


STEPS: dict[int, Callable[[Info, Tensors], tuple[Info, Tensors]]] = {2: _to_3, 3: _to_4}
"""The function that upgrades a file of each older format by one."""
