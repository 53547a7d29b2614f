"""Under which keys and in which units a file keeps its labels."""

import shlex
from dataclasses import dataclass, fields
from typing import Any, Literal

from ase import units

from ik_e3nn.errors import DataError

EnergyUnit = Literal["eV", "Ha", "kcal/mol", "kJ/mol"]
LengthUnit = Literal["ang", "bohr"]

ENERGY_UNITS: dict[str, float] = {
    "eV": 1.0,
    "Ha": units.Hartree,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
}
LENGTH_UNITS: dict[str, float] = {"ang": 1.0, "bohr": units.Bohr}


@dataclass(frozen=True)
class LabelKeys:
    """Names and units of the labels of a data set.

    A name is looked up in the structure's info, its arrays and its stored calculator results. Where a default name
    (``REF_energy``) is nowhere in the data, the plain one (``energy``) is used and a message says so. Names given by
    the user are taken as they are.

    Args:
        energy: Key of the total energy.
        forces: Key of the forces, (N, 3).
        stress: Key of the stress: 3x3, 9 numbers, or 6 in Voigt order xx, yy, zz, yz, xz, xy; tension positive.
        virial: Key of the virial, in units of energy; read as stress = -virial / volume. Used where there is no stress.
        energy_unit: Unit of the energies, also within forces and stress.
        length_unit: Unit of length within forces (energy/length) and stress (energy/length^3). Positions are not
            touched by it: they are in A, as ASE reads them.
        wanted: Labels that are of use; nothing is said of others that are there and not read.
        given_in: Where the user gives these settings, for messages that suggest one: as arguments of this class, in the
            section ``data`` of a configuration, on a command line, or as ``finetune.old_labels``.

    Raises:
        DataError: A unit that is not known, or two labels under one key.

    Example:
        >>> LabelKeys(energy="energy", forces="forces", energy_unit="kcal/mol").force_factor.__round__(6)
        0.043364
    """

    energy: str = "REF_energy"
    forces: str = "REF_forces"
    stress: str = "REF_stress"
    virial: str | None = None
    energy_unit: EnergyUnit = "eV"
    length_unit: LengthUnit = "ang"
    wanted: tuple[str, ...] = ("energy", "forces", "stress")
    given_in: Literal["arguments", "configuration", "command line", "old labels"] = "arguments"

    def __post_init__(self) -> None:
        for name, known in (("energy_unit", ENERGY_UNITS), ("length_unit", LENGTH_UNITS)):
            if getattr(self, name) not in known:
                raise DataError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}")
        stress = None if self.virial == self.stress == type(self).stress else self.stress  # what it holds is a virial
        names = [name for name in (self.energy, self.forces, stress, self.virial) if name is not None]
        if len(set(names)) < len(names):
            raise DataError(f"two labels are given the same key: {', '.join(names)}")

    @classmethod
    def of(cls, settings: Any, given_in: Literal["configuration", "command line"]) -> "LabelKeys":
        """Those of settings with ``energy_key``, ``forces_key``, ``stress_key``, ``virial_key`` and the two units."""
        names = {name: getattr(settings, f"{name}_key") for name in ("energy", "forces", "stress", "virial")}
        units = {name: getattr(settings, name) for name in ("energy_unit", "length_unit")}
        return cls(**names, **units, given_in=given_in)

    def setting(self, name: str, value: str) -> str:
        """How the user gives one of these settings.

        Args:
            name: Its name here.
            value: Its value.

        Example:
            >>> LabelKeys().setting("energy", "E"), LabelKeys(given_in="command line").setting("energy", "my E")
            ("energy='E'", "--energy_key 'my E'")
        """
        full = name if name.endswith("_unit") else f"{name}_key"
        forms = {
            "arguments": f"{name}={value!r}",
            "configuration": f"data.{full}: {value}",
            "command line": f"--{full} {shlex.quote(value)}",
            "old labels": f"finetune.old_labels: {{{full}: {value}}}",
        }
        return forms[self.given_in]

    @property
    def energy_factor(self) -> float:
        """What an energy is multiplied by to be in eV."""
        return ENERGY_UNITS[self.energy_unit]

    @property
    def force_factor(self) -> float:
        """What a force is multiplied by to be in eV/A."""
        return self.energy_factor / LENGTH_UNITS[self.length_unit]

    @property
    def stress_factor(self) -> float:
        """What a stress is multiplied by to be in eV/A^3."""
        return self.energy_factor / LENGTH_UNITS[self.length_unit] ** 3


DEFAULT_KEYS: dict[str, str] = {
    field.name: str(field.default) for field in fields(LabelKeys) if field.name in ("energy", "forces", "stress")
}
