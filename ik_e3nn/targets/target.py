"""What can be predicted: one class for every kind of quantity, with its shape, reference, head and checks."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ik_e3nn.errors import ConfigError
from ik_e3nn.renamed import new_name
from ik_e3nn.targets.head import Head

FloatArray = NDArray[np.float64]

KINDS: dict[str, type[Target]] = {}
"""The classes of targets by their kinds; a class is entered where it is defined."""


@dataclass(frozen=True)
class Target(ABC):
    """One predicted quantity.

    A subclass is a kind of quantity. It says what a value is; models, data sets, losses, errors and plots need no more.

    Args:
        name: What data files and predictions call it.
        unit: Its unit, as text: values are never converted on their way through a model.

    Attributes:
        kind: What files call the kind.
        shape: Shape of the value of one structure.
        reference: What composition and size say of a value, out of "shift" (a constant), "per_atom" (a number for each
            element, summed over atoms) and "per_square" (the same times squared distances from the center of nuclear
            charge); the reference is fitted to the training set, and the head predicts the rest.
        head: The module that predicts values from the features of atoms.
        turns: Whether values turn with the structure.

    Raises:
        ConfigError: The name is empty.

    Example:
        >>> from ik_e3nn.targets import Dipole
        >>> Dipole("mu", "D").width
        3
    """

    name: str
    unit: str = ""

    kind: ClassVar[str]
    shape: ClassVar[tuple[int, ...]] = ()
    reference: ClassVar[frozenset[str]] = frozenset()
    head: ClassVar[type[Head]]

    def __init_subclass__(cls) -> None:
        known = KINDS.setdefault(cls.kind, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigError(f"there are two classes of the kind {cls.kind!r}: {known.__qualname__} and another one")
        KINDS[cls.kind] = cls

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a target needs a name, that of its column or key in the data")

    @property
    def width(self) -> int:
        """Numbers of one structure."""
        return prod(self.shape)

    @property
    def turns(self) -> bool:
        """Whether values turn with the structure."""
        return bool(self.shape)

    @property
    def by_element(self) -> bool:
        """Whether every element has a number of its own in the reference.

        >>> from ik_e3nn.targets import Extensive, Intensive
        >>> Extensive("U0", "eV").by_element, Intensive("gap", "eV").by_element
        (True, False)
        """
        return "per_atom" in self.reference

    @staticmethod
    def isotropic(values: FloatArray) -> FloatArray:
        """The part of values (M, *shape) that a reference can describe, (M,)."""
        return values

    @staticmethod
    def from_isotropic(numbers: Tensor) -> Tensor:
        """Values (M, *shape) that have nothing but an isotropic part, from numbers (M,)."""
        return numbers

    def fault(self, value: FloatArray) -> str:
        """What is wrong with a value of one structure (*shape), in words; empty if it can be one.

        The words continue the sentence that begins with the target's name.
        """
        del value
        return ""

    def config(self) -> dict[str, str]:
        """Plain data from which ``from_config`` makes the same target."""
        return {"name": self.name, "kind": self.kind, "unit": self.unit}


def make_target(name: str, kind: str, unit: str = "") -> Target:
    """A target of a kind.

    Args:
        name: What data files and predictions call it.
        kind: A key of ``KINDS``.
        unit: Its unit.

    Raises:
        ConfigError: The kind is unknown, or the name is empty.

    Example:
        >>> make_target("homo", "intensive", "eV")
        Intensive(name='homo', unit='eV')
    """
    if new_name(kind) in KINDS:
        raise ConfigError(f"target {name!r} is of kind {kind!r}, which is now called {new_name(kind)!r}")
    if kind not in KINDS:
        raise ConfigError(f"target {name!r} is of kind {kind!r}, but it must be one of {', '.join(KINDS)}")
    return KINDS[kind](name, unit)


def target_from_config(config: Target | Mapping[str, Any]) -> Target:
    """A target from what its ``config`` gave, or a target itself."""
    return config if isinstance(config, Target) else make_target(**config)


def parse_target(name: str, text: str) -> Target:
    """A target from "kind" or "kind unit", as in a YAML file.

    >>> parse_target("homo", "intensive eV")
    Intensive(name='homo', unit='eV')
    """
    kind, _, unit = text.strip().partition(" ")
    return make_target(name, kind, unit.strip())


def columns(targets: Sequence[Target]) -> dict[str, slice]:
    """Columns of every target in a graph's ``targets``.

    Raises:
        ConfigError: Two targets of one name.

    Example:
        >>> from ik_e3nn.targets import Dipole, Intensive
        >>> columns([Dipole("mu", "D"), Intensive("gap", "eV")])
        {'mu': slice(0, 3, None), 'gap': slice(3, 4, None)}
    """
    places: dict[str, slice] = {}
    start = 0
    for target in targets:
        if target.name in places:
            raise ConfigError(f"target {target.name!r} is given twice")
        places[target.name] = slice(start, start + target.width)
        start += target.width
    return places
