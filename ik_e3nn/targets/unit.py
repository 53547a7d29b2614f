"""Units that contradict the quantity of a target; units are names, and unknown ones are allowed."""

from __future__ import annotations

from ik_e3nn.errors import ConfigError
from ik_e3nn.targets.target import Target

UNITS: dict[str, tuple[str, ...]] = {
    "an energy": ("eV", "meV", "Ha", "mHa", "Hartree", "Eh", "Ry", "kcal/mol", "kJ/mol", "J/mol", "cm^-1", "J"),
    "a dipole moment": ("D", "Debye", "e*A", "e*Ang", "e*Angstrom", "e*a0", "e*bohr"),
    "a polarizability": ("a0^3", "bohr^3", "A^3", "Ang^3", "Angstrom^3", "nm^3"),
    "a squared length": ("a0^2", "bohr^2", "A^2", "Ang^2", "Angstrom^2", "nm^2", "e*a0^2", "e*A^2"),
    "a length": ("A", "Ang", "Angstrom", "bohr", "a0", "nm", "pm"),
    "a force": ("eV/A", "eV/Ang", "eV/Angstrom", "Ha/bohr", "Ha/a0", "kcal/mol/A", "kJ/mol/nm"),
    "a charge": ("e",),
}
"""Usual units by quantity."""

ENERGIES = frozenset({"homo", "lumo", "gap", "zpve"})  # names of targets that can only be energies


def check_unit(target: Target) -> None:
    """Refuse the unit of another quantity.

    Raises:
        ConfigError: The unit contradicts the kind of the target, or its name; the message names possible units.

    Example:
        >>> from ik_e3nn.targets import Dipole
        >>> check_unit(Dipole("mu", "furlong"))  # no quantity has this unit
        >>> check_unit(Dipole("mu", "eV"))
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.ConfigError: target 'mu' has the unit 'eV', which is a unit of an energy, but ...
    """
    expected, why = target.quantity, f"a target of kind {target.kind!r}"
    if not expected and target.name.lower() in ENERGIES:
        expected, why = "an energy", f"{target.name!r}"
    found = [quantity for quantity, units in UNITS.items() if _plain(target.unit) in map(_plain, units)]
    if expected and found and expected not in found:
        raise ConfigError(
            f"target {target.name!r} has the unit {target.unit!r}, which is a unit of {found[0]}, but {why} is "
            f"{expected}; units of {expected} are {', '.join(UNITS[expected])}. Units are names, and values are never "
            "converted: give the unit that the data have"
        )


def _plain(unit: str) -> str:
    """A unit without case, spaces and signs of multiplication and powers.

    >>> _plain("e*Å"), _plain("a0**3"), _plain("Bohr³")
    ('ea', 'a03', 'bohr3')
    """
    signs = str.maketrans({"å": "a", "³": "3", "²": "2", "·": "", "*": "", "^": "", " ": "", "_": ""})
    return unit.lower().translate(signs)
