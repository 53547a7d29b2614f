"""Possible units of labels: the units of the settings, and others that programs write."""

from math import log

from ase.units import GPa, Rydberg

from ik_e3nn.data.labels.keys import ENERGY_UNITS, LENGTH_UNITS, LabelKeys

ENERGIES = ENERGY_UNITS | {"Ry": Rydberg, "meV": 1e-3}
LENGTHS = {"bohr": LENGTH_UNITS["bohr"], "nm": 10.0, "pm": 0.01}
STRESSES = {"kbar": 0.1 * GPa, "GPa": GPa}


def nearest_unit(size: float, units: dict[str, float]) -> str:
    """The name of the unit nearest in size.

    Example:
        >>> nearest_unit(0.5, LENGTHS)
        'bohr'
    """
    return min(units, key=lambda name: abs(log(units[name] / size)))


def force_units(size: float, keys: LabelKeys) -> list[tuple[str, str]]:
    """Units of force of about a given size (in the assumed unit), with the correction of each, the nearest first.

    Example:
        >>> force_units(51.4, LabelKeys())[0]
        ('Ha/bohr', "set energy_unit='Ha' and length_unit='bohr'")
    """
    found = []
    for unit, energy in ENERGIES.items():
        for length, width in LENGTH_UNITS.items():
            distance = abs(log(energy / width / keys.force_factor / size))
            if distance < 0.35:
                found.append((distance, f"{unit}/{length}", setting(keys, unit, length)))
    return [(name, what) for _, name, what in sorted(found)]


def setting(keys: LabelKeys, unit: str, length: str | None = None) -> str:
    """The setting or factor for a unit of energy, and of length within forces.

    Example:
        >>> setting(LabelKeys(), "Ha"), setting(LabelKeys(), "Ry")
        ("set energy_unit='Ha'", 'multiply energies by 13.6057')
    """
    per = f"{keys.setting('length_unit', length)}" if length else ""
    if unit in ENERGY_UNITS:
        return f"set {keys.setting('energy_unit', unit)}" + (f" and {per}" if per else "")
    what = "energies and forces" if length else "energies"
    return f"multiply {what} by {ENERGIES[unit]:.6g}" + (f" and set {per}" if per else "")
