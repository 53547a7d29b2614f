"""Keys and units of the labels in a file."""

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

    A name is looked up in the structure's info, its arrays and its stored calculator results. If no structure has a
    default name (``REF_energy``), the plain name (``energy``) is used and this is logged. Names given by the user are
    used as they are.

    Args:
        energy: Key of the total energy.
        forces: Key of the forces, (N, 3).
        stress: Key of the stress: 3x3, 9 numbers, or 6 in Voigt order xx, yy, zz, yz, xz, xy; tension positive.
        virial: Key of the virial, in units of energy; read as stress = -virial / volume if there is no stress.
        energy_unit: Unit of the energies, also within forces and stress.
        length_unit: Unit of length within forces (energy/length) and stress (energy/length^3). Positions are not
            touched by it: they are in A, as ASE reads them.
        wanted: Labels that are needed; other labels that are not read are not reported.
        given_in: Where the user gives these settings, for messages that suggest one: as arguments of this class, in the
            section ``data`` of a configuration, on a command line, or as ``finetune.old_labels``.

    Raises:
        DataError: A unit is not known, or two labels have the same key.

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
        stress = None if self.virial == self.stress == type(self).stress else self.stress  # the key holds a virial
        names = [name for name in (self.energy, self.forces, stress, self.virial) if name is not None]
        if len(set(names)) < len(names):
            raise DataError(f"two labels are given the same key: {', '.join(names)}")

    @classmethod
    def of(cls, settings: Any, given_in: Literal["configuration", "command line"]) -> "LabelKeys":
        """The keys from settings ``energy_key``, ``forces_key``, ``stress_key``, ``virial_key`` and the two units."""
        names = {name: getattr(settings, f"{name}_key") for name in ("energy", "forces", "stress", "virial")}
        units = {name: getattr(settings, name) for name in ("energy_unit", "length_unit")}
        return cls(**names, **units, given_in=given_in)

    def setting(self, name: str, value: str) -> str:
        """How the user gives one of these settings.

        Args:
            name: Name of the setting in this class.
            value: Value of the setting.

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
        """Factor that converts an energy to eV."""
        return ENERGY_UNITS[self.energy_unit]

    @property
    def force_factor(self) -> float:
        """Factor that converts a force to eV/A."""
        return self.energy_factor / LENGTH_UNITS[self.length_unit]

    @property
    def stress_factor(self) -> float:
        """Factor that converts a stress to eV/A^3."""
        return self.energy_factor / LENGTH_UNITS[self.length_unit] ** 3


DEFAULT_KEYS: dict[str, str] = {
    field.name: str(field.default) for field in fields(LabelKeys) if field.name in ("energy", "forces", "stress")
}
