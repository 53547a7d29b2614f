"""Upgrade older model files: one small function for every step from a format to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ik_e3nn.blocks.surroundings import Surroundings
from ik_e3nn.errors import ModelFileError
from ik_e3nn.nn.sphere.activation import default_degree
from ik_e3nn.symmetry import SymmetryGroup

FORMAT_VERSION = 8

Info = dict[str, Any]
Tensors = dict[str, Tensor]


def upgraded(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Upgrade the contents of a model file to the present format.

    Args:
        info: The JSON part of the file, with its ``format_version``; it is not changed.
        tensors: The weights by name; the mapping is not changed.

    Returns:
        Both in the present format.

    Example:
        >>> info, _ = upgraded({"format_version": 3, "config": {"steerable": {"channels": 4}}}, {})
        >>> info["config"]["steerable"]["activation"], info["config"]["steerable"]["grid_degree"]
        ('sphere', 7)
    """
    for version in range(info["format_version"], FORMAT_VERSION):
        info, tensors = STEPS[version](info, tensors)
        info = info | {"format_version": version + 1}
    return info, tensors


def _to_3(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 3 has a checksum of the whole file instead of a checksum of the weights; the contents are the same."""
    return {name: value for name, value in info.items() if name != "weights_sha256"}, tensors


def _to_4(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 4 has American spelling, and always gives the activation of the steerable network.

    Before the activation could be chosen, it was "sphere".
    """
    config = dict(info["config"])
    if isinstance(config.get("steerable"), dict):
        config["steerable"] = {"activation": "sphere"} | config["steerable"]
    if isinstance(config.get("targets"), list):
        config["targets"] = [_american_kind(target) for target in config["targets"]]
    lora = {_american(name): rank for name, rank in info.get("lora", {}).items()}
    return info | {"config": config, "lora": lora}, {_american(name): tensor for name, tensor in tensors.items()}


def _to_5(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 5 states what positions in dipoles are relative to: until then, the center of nuclear charge."""
    config = info["config"]
    return info | {"config": config | {"places": "center"} if "targets" in config else config}, tensors


def _to_6(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 6 has layers of O(3) or SO(3) in potentials of every group.

    Until then only potentials of these groups, or beside a surface with the group "Cinfv", had them, and had the same.

    Raises:
        ModelFileError: The potential has another group.
    """
    config = info["config"]
    options = config.get("potential") or config
    if "group" in options:
        group = SymmetryGroup.from_config(options["group"])
        if not group.is_isotropic and not ("surface" in options["inputs"] and Surroundings("surface", group).is_normal):
            raise ModelFileError(
                f"the file has a potential with layers of the group {group.name}, which earlier versions had; "
                "potentials have layers of O(3) for every group now, so train it again"
            )
    return info, tensors


def _to_7(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 7 has a finer default grid of the sphere activation, and more settings of the steerable network."""
    config = info["config"]
    if isinstance(config.get("steerable"), dict):
        steerable = {"l_filter": None, "windows": 0, "shell": 2.0, "norm": "none"} | config["steerable"]
        if steerable.get("activation") == "sphere" and steerable.get("grid_degree") is None:
            steerable["grid_degree"] = default_degree(steerable.get("l_max", 2))
        config = config | {"steerable": steerable}
    return info | {"config": config}, tensors


def _to_8(info: Info, tensors: Tensors) -> tuple[Info, Tensors]:
    """Format 8 states which features of atoms the kernels of a potential see: until then, the current ones."""
    config = info["config"]
    seen = {"kernel_features": "current"}
    if isinstance(config.get("potential"), dict):
        config = config | {"potential": seen | config["potential"]}
    elif "group" in config and "correlation" in config:
        config = seen | config
    return info | {"config": config}, tensors


def _american(name: str) -> str:
    """The name of a module or tensor in its present spelling."""
    return name.replace("normalisation", "normalization").replace("heads.polarisability", "heads.polarizability")


def name_before_4(name: str) -> str:
    """The name of a module or tensor in its spelling up to format 3.

    >>> name_before_4("conv.normalization")
    'conv.normalisation'
    """
    return name.replace("normalization", "normalisation").replace("heads.polarizability", "heads.polarisability")


def _american_kind(target: Any) -> Any:
    """A target with the present spelling of its kind; its name is the user's and is not changed."""
    if isinstance(target, dict) and target.get("kind") == "polarisability":
        return target | {"kind": "polarizability"}
    return target


STEPS: dict[int, Callable[[Info, Tensors], tuple[Info, Tensors]]] = {
    2: _to_3,
    3: _to_4,
    4: _to_5,
    5: _to_6,
    6: _to_7,
    7: _to_8,
}
"""For each older format, the function that upgrades a file to the next format."""
