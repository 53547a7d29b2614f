"""Reference labels from any ASE calculator; all its failures become ``LabelError``."""

import importlib
import inspect
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.calculator import BaseCalculator
from ase.calculators.mixing import SumCalculator

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.generation.info_calculator import InfoCalculator, info_changes
from ik_e3nn.data.labels.own_labels import has_stress
from ik_e3nn.data.labels.values import stress_matrix
from ik_e3nn.errors import DataError, IKError
from ik_e3nn.optional import needed

CALCULATOR_NAMES = ("gfn2-xtb", "gfn1-xtb", "emt", "lj", "steele")


_CLASSES = {
    "emt": "ase.calculators.emt:EMT",
    "lj": "ase.calculators.lj:LennardJones",
    "steele": "ik_e3nn.data.generation.steele:SteeleWall",
}


class LabelError(IKError, RuntimeError):
    """A calculator could not label a structure."""


@dataclass(frozen=True)
class Labels:
    """The labels of one structure from a calculator.

    Args:
        energy: Energy in eV.
        forces: Forces, (N, 3), in eV/A, without constraints.
        stress: Stress, (3, 3), in eV/A^3, or None.

    Example:
        >>> Labels(-1.0, np.zeros((1, 3)), None).energy
        -1.0
    """

    energy: float
    forces: FloatArray
    stress: FloatArray | None


class Labeler:
    """A source of labels from one calculator.

    Args:
        calculator: Any ASE calculator with energy and forces.

    Example:
        >>> from ase.build import molecule
        >>> labeler = Labeler(make_calculator("emt"))
        >>> labeler.label(molecule("CO")).forces.shape
        (2, 3)
    """

    def __init__(self, calculator: BaseCalculator) -> None:
        self.calculator = calculator

    def forget(self) -> None:
        """Reset the calculator, so that the next label does not depend on earlier ones."""
        if hasattr(self.calculator, "reset"):
            self.calculator.reset()

    def forces(self, atoms: Atoms) -> FloatArray:
        """Forces of a structure.

        Args:
            atoms: The structure; it is only read.

        Returns:
            Forces, (N, 3), in eV/A.

        Raises:
            LabelError: The calculator fails, or gives values that are not finite.
        """
        forces = np.array(self._ask("forces", atoms), dtype=np.float64)
        if forces.shape != (len(atoms), 3) or not np.isfinite(forces).all():
            raise LabelError(f"the forces are not {len(atoms)} finite vectors")
        return forces

    def label(self, atoms: Atoms) -> Labels:
        """Energy, forces and, if the structure is periodic and the calculator supports it, stress.

        Args:
            atoms: The structure; it is only read.

        Returns:
            The labels.

        Raises:
            LabelError: The calculator fails, or gives values that are not finite.
        """
        # Forces first: many calculators compute them together with the energy, but not the other way round.
        forces = self.forces(atoms)
        energy = float(self._ask("energy", atoms))
        stress = None
        if has_stress(atoms) and "stress" in self.calculator.implemented_properties:
            stress = stress_matrix(self._ask("stress", atoms), "the calculator's stress")
        if not np.isfinite(energy) or (stress is not None and not np.isfinite(stress).all()):
            raise LabelError("the energy or the stress is not finite")
        return Labels(energy, forces, stress)

    def _ask(self, name: str, atoms: Atoms) -> Any:
        """One property from the calculator, with its failures as ``LabelError``."""
        try:
            return self.calculator.get_property(name, atoms)
        except Exception as error:
            raise LabelError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def make_calculator(
    name: str, charge: int = 0, spin: int | None = None, options: Mapping[str, Any] | None = None
) -> BaseCalculator:
    """Make a calculator by name.

    Args:
        name: "gfn2-xtb", "gfn1-xtb", "emt", "lj", "steele" (a wall of graphite), or "module:Class" for any ASE
            calculator that can be imported, also from the working folder; or a sum of them, as in "gfn2-xtb+steele".
            Importing a module runs it. A function whose return annotation is such a class can be named in its place,
            like ``mace.calculators:mace_mp``.
        charge: Total charge in e, for xTB.
        spin: Multiplicity 2S+1, for xTB; None for the lowest.
        options: Further arguments of the calculator's constructor; for a sum, those of each calculator by its name.

    Returns:
        A new calculator.

    Raises:
        DataError: The name is unknown, or the class cannot be imported or made, or is not an ASE calculator and so
            is not called.
        MissingDependencyError: xTB is requested and not installed.

    Example:
        >>> type(make_calculator("ase.calculators.lj:LennardJones", options={"rc": 5.0})).__name__
        'LennardJones'
    """
    arguments = dict(options or {})
    if "+" in name:
        names = name.split("+")
        unknown = sorted(arguments.keys() - set(names))
        if unknown:
            raise DataError(f"options of the sum {name!r} must be grouped by the names in it; got {', '.join(unknown)}")
        return _Sum([make_calculator(part, charge, spin, arguments.get(part)) for part in names])
    if name in ("gfn2-xtb", "gfn1-xtb"):
        factory = needed("tblite.ase").TBLite
        arguments = {"charge": charge, "multiplicity": spin, "verbosity": 0, **arguments}
        arguments["method"] = "GFN2-xTB" if name == "gfn2-xtb" else "GFN1-xTB"
    else:
        factory = _import_class(_CLASSES.get(name, name))
    try:
        calculator: BaseCalculator = factory(**arguments)
    except Exception as error:
        raise DataError(f"the calculator {name!r} cannot be made with {arguments}: {error}") from error
    if not isinstance(calculator, GetPropertiesMixin):
        raise DataError(f"{name!r} gives a {type(calculator).__name__}, which is not an ASE calculator")
    return calculator


class StateCalculator(InfoCalculator):
    """A calculator by name that takes the charge and spin of each structure from its ``info``.

    Args:
        name: See ``make_calculator``.
        options: See ``make_calculator``.

    Example:
        >>> StateCalculator("emt").get_property("forces", Atoms("N2", [[0, 0, 0], [0, 0, 1.1]])).shape
        (2, 3)
    """

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._name, self._options = name, options
        self._states: dict[tuple[int, int | None], BaseCalculator] = {}
        self._of(Atoms())  # a calculator that cannot be made must be reported at once

    def _of(self, atoms: Atoms) -> BaseCalculator:
        """The calculator for a structure's charge and spin."""
        charge, spin = (atoms.info.get(key) for key in ("charge", "spin"))
        state = int(charge or 0), None if spin is None else int(spin)
        if state not in self._states:
            self._states[state] = make_calculator(self._name, *state, self._options)
        return self._states[state]

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy and forces."""
        calculator = self._of(atoms)
        forces = calculator.get_property("forces", atoms)
        return {"energy": calculator.get_property("energy", atoms), "forces": forces}

    def reset(self) -> None:
        """Forget all results."""
        super().reset()
        for calculator in self._states.values():
            calculator.reset()


class _Sum(SumCalculator):
    """A sum of calculators that notices changes of ``info``, such as a moved surface, and resets all its parts."""

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation."""
        changes: list[str] = super().check_state(atoms, tol)
        return changes + info_changes(self.atoms, atoms)

    def reset(self) -> None:
        """Forget all results, also those of the parts."""
        self.atoms = None
        self.results: dict[str, Any] = {}
        for calculator in self.mixer.calcs:
            calculator.reset()


def _import_class(target: str) -> Any:
    """The object that "module:Class" names."""
    module_name, _, class_name = target.partition(":")
    if not module_name or not class_name:
        raise DataError(
            f"unknown calculator {target!r}; known are {', '.join(CALCULATOR_NAMES)}, or give 'module:Class'"
        )
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # a foreign module may raise anything
        raise DataError(
            f"the calculator {target!r} cannot be imported: {str(error) or type(error).__name__}"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    if not _makes_calculators(found):
        raise DataError(
            f"{target!r} is {_kind(found)}, which is not called: a calculator must be a subclass of "
            "ase.calculators.calculator.Calculator, or a function with such a class as its return annotation"
        )
    return found


def _makes_calculators(found: Any) -> bool:
    """Whether something is a class of ASE calculators, or a function that is declared to return one."""
    if not inspect.isclass(found) and callable(found):
        try:
            found = typing.get_type_hints(found).get("return")
        except Exception:  # noqa: BLE001  (annotations of any kind)
            return False
    return inspect.isclass(found) and issubclass(found, GetPropertiesMixin)


def _kind(found: Any) -> str:
    return f"the class {found.__name__}" if inspect.isclass(found) else f"a {type(found).__name__}"
