"""Targets: one class for every kind of predicted quantity, with its shape, reference, head and checks."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from ik_e3nn.errors import ConfigError
from ik_e3nn.renamed import new_name
from ik_e3nn.targets.head import Head, Molecules

FloatArray = NDArray[np.float64]

KINDS: dict[str, type[Target]] = {}
"""The classes of targets by their kinds; defining a class adds it."""


class Axis(NamedTuple):
    """Label of an axis of a picture.

    Attributes:
        name: The quantity that is shown.
        unit: Its unit.
        factor: Factor from that unit to the unit of errors.
        error_unit: Unit of errors.
    """

    name: str
    unit: str
    factor: float
    error_unit: str


@dataclass(frozen=True)
class Target(ABC):
    """One predicted quantity.

    A subclass is a kind of quantity. It describes the values completely: models, data sets, losses, errors and plots
    are written for all targets.

    Args:
        name: Name in data files and predictions.
        unit: Unit, as text; models never convert values.

    Attributes:
        kind: Name of the kind in files.
        shape: Shape of the value of one structure.
        reference: Terms of the reference, out of "shift" (a constant), "per_atom" (a number for each element, summed
            over atoms) and "per_square" (such numbers times squared distances from the center of nuclear charge). The
            reference is fitted to the training set, and the head predicts the rest.
        head: The module that predicts values from the features of atoms; None if a potential predicts them.
        per_atom: Whether every atom has a value of that shape, instead of the structure.
        quantity: The physical quantity, out of ``ik_e3nn.targets.unit.UNITS``, whose units it can have; "" for any.
        needs: Optional inputs of a model, out of ``ik_e3nn.graph.fields``, without which the target has no meaning.
        field: Name of the tensor of labels in a graph; None for columns of ``fields.TARGETS`` or, if every atom has a
            value, of ``fields.ATOM_TARGETS``.
        fixed_unit: Unit of energy, forces and stress, which have no other.
        huber_delta: Error at which Huber's loss turns from quadratic to linear, in the unit of the loss.
        shown_unit: Unit in the names of errors, if it differs from the unit of the target.
        shown_name: Name in the names of errors, if it differs from the name of the target.
        shown_factor: Factor from the unit of the target to the unit in the names of errors.
        centered: Whether pictures show values minus their mean, because the differences are small compared with it.

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
    head: ClassVar[type[Head] | None] = None
    per_atom: ClassVar[bool] = False
    quantity: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    field: ClassVar[str | None] = None
    fixed_unit: ClassVar[str] = ""
    huber_delta: ClassVar[float] = 0.05
    shown_name: ClassVar[str] = ""
    shown_unit: ClassVar[str] = ""
    shown_factor: ClassVar[float] = 1.0
    centered: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        known = KINDS.setdefault(cls.kind, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigError(
                f"there are two classes of the kind {cls.kind!r}, {known.__qualname__} and {cls.__qualname__}: give "
                "the new one another kind"
            )
        KINDS[cls.kind] = cls

    def __post_init__(self) -> None:
        if self.field is not None:
            object.__setattr__(self, "unit", self.unit or self.fixed_unit)
            if (self.name, self.unit) != (self.kind, self.fixed_unit):
                raise ConfigError(
                    f"target {self.name!r} is of kind {self.kind!r} in {self.unit!r}, but this kind is always called "
                    f"{self.kind!r} and in {self.fixed_unit}; write {{{self.kind}: {self.kind}}}. For labels with "
                    f"other keys or units, set data.{self.kind}_key, data.energy_unit and data.length_unit"
                )
        if not self.name:
            raise ConfigError("a target needs a name: the name of its column or key in the data")

    @property
    def width(self) -> int:
        """Number of components of one value."""
        return prod(self.shape)

    @property
    def turns(self) -> bool:
        """Whether values rotate with the structure."""
        return bool(self.shape)

    @property
    def by_element(self) -> bool:
        """Whether the reference has a number for every element.

        >>> from ik_e3nn.targets import Extensive, Intensive
        >>> Extensive("U0", "eV").by_element, Intensive("gap", "eV").by_element
        (True, False)
        """
        return "per_atom" in self.reference

    @staticmethod
    def isotropic(values: FloatArray) -> FloatArray:
        """The isotropic part (M,) of values (M, *shape), which a reference can describe."""
        return values

    @staticmethod
    def from_isotropic(numbers: Tensor) -> Tensor:
        """Values (M, *shape) with the isotropic parts (M,) and no other."""
        return numbers

    def constrained(self, values: Tensor, molecules: Molecules) -> Tensor:
        """Values (rows, *shape), in the unit of the target, corrected to fulfill exact constraints."""
        del molecules
        return values

    def reduced(self, error: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Errors as losses and metrics use them; ``error`` has the shape of the values of the batch."""
        del batch
        return error

    def is_defined(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """Mask of the values that are defined, in a shape that can be broadcast to them; None if all are."""
        del batch
        return None

    def error_name(self, kind: str) -> str:
        """The name of an error, "mae" or "rmse", in reports.

        >>> from ik_e3nn.targets import MECHANICS, Intensive
        >>> Intensive("gap", "eV").error_name("mae"), MECHANICS[1].error_name("rmse")
        ('gap_mae_eV', 'force_rmse_meV_per_A')
        """
        unit = self.shown_unit or self.unit
        return f"{self.shown_name or self.name}_{kind}" + (f"_{unit}" if unit else "")

    @property
    def axis(self) -> Axis:
        """Label of the axes in pictures of values, and the unit of their errors."""
        return Axis(self.name, self.unit, 1.0, self.unit)

    def drawn(self, values: FloatArray, num_atoms: NDArray[np.int64]) -> FloatArray:
        """Values (rows, *shape) as pictures show them, for structures with the given numbers of atoms (rows,)."""
        del num_atoms
        return values

    def fault(self, value: FloatArray, atoms: Atoms) -> str:
        """The reason why a value of a structure is impossible, in words; empty if it is possible.

        Args:
            value: (*shape), or (N, *shape) if every atom has a value; parts may be NaN.
            atoms: The structure.

        Returns:
            The rest of a sentence that begins with the name of the target.
        """
        del value, atoms
        return ""

    def config(self) -> dict[str, str]:
        """Plain data from which ``target_from_config`` makes the same target."""
        return {"name": self.name, "kind": self.kind, "unit": self.unit}


def make_target(name: str, kind: str, unit: str = "") -> Target:
    """Make a target of a kind.

    Args:
        name: Name in data files and predictions.
        kind: A key of ``KINDS``.
        unit: Unit, as text.

    Raises:
        ConfigError: The kind is unknown, or the name is empty.

    Example:
        >>> make_target("homo", "intensive", "eV")
        Intensive(name='homo', unit='eV')
    """
    if new_name(kind) in KINDS:
        raise ConfigError(f"target {name!r} is of kind {kind!r}, which is now called {new_name(kind)!r}")
    if kind not in KINDS:
        raise ConfigError(
            f"target {name!r} is of kind {kind!r}, but it must be one of {', '.join(KINDS)}; for a kind of your own, "
            "import the module that defines its class first"
        )
    return KINDS[kind](name, unit)


def target_from_config(config: Target | Mapping[str, Any]) -> Target:
    """A target from the data of its ``config``; a target is returned as it is."""
    return config if isinstance(config, Target) else make_target(**config)


def parse_target(name: str, text: str) -> Target:
    """A target from "kind" or "kind unit", as in a YAML file.

    >>> parse_target("homo", "intensive eV")
    Intensive(name='homo', unit='eV')
    """
    kind, _, unit = text.strip().partition(" ")
    return make_target(name, kind, unit.strip())


def head_of(kind: str) -> type[Head]:
    """The head of the targets of a kind.

    Raises:
        ConfigError: They have no head, because a potential predicts them.
    """
    head = KINDS[kind].head
    if head is None:
        raise ConfigError(f"targets of kind {kind!r} are predicted by a potential, not by a head")
    return head


def check_names(targets: Sequence[Target]) -> None:
    """Refuse two targets with the same name.

    Raises:
        ConfigError: Two targets have the same name.
    """
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"target {name!r} is given twice; give every target its own name")
