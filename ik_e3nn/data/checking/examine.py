"""All checks of structures with labels of any kind."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.checking.columns import column_doubts, mixed_units, property_column, total_energy_unit
from ik_e3nn.data.checking.report import CheckReport
from ik_e3nn.data.graphs.dataset import force_rms
from ik_e3nn.data.labels.energy_reference import EnergyReference, fit_energy_reference, is_isolated
from ik_e3nn.data.labels.finding import missing_labels
from ik_e3nn.data.labels.keys import LabelKeys
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.outliers import energy_column, force_column, incomplete_column, oddities, stress_column
from ik_e3nn.data.labels.placeholders import property_placeholders, without_placeholders
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.data.structures.geometry import closest_contacts
from ik_e3nn.data.structures.same_molecules import same_molecules
from ik_e3nn.data.suspicions.units import suspicious_units
from ik_e3nn.errors import DataError
from ik_e3nn.graph.bonds.charges import check_possible
from ik_e3nn.targets import mechanics_of

_SAME_ENERGY = 1e-3  # eV, of equal structures


def examine(data: LabeledSet, keys: LabelKeys, faults: Sequence[str], files: list[str]) -> CheckReport:
    """Look for problems of structures and labels that would spoil a training.

    Args:
        data: The structures with their labels.
        keys: Names and units with which energies, forces and stresses were read.
        faults: Problems of data that the reader could not use.
        files: Files to which the report will be written.

    Returns:
        The report.
    """
    placeholders = property_placeholders(data)
    data = without_placeholders(data)  # the warnings above and the reader name them
    contacts, broken = closest_contacts(data.structures)
    reference, residuals = _relative_energies(data, list(broken))
    columns = [
        property_column(target.name, data.values[target.name], data.structures)
        for target in data.targets
        if target.field is None
    ]
    notes, doubts = [], [*data.doubts, *placeholders, *column_doubts({one.what: one.values for one in columns})]
    doubts += [
        f"{one.what}: {len(one.outliers)} outliers, and {unit}: the column seems to have two units"
        for one in columns
        if (unit := mixed_units(one))
    ]
    notes += [
        f"{one.what} has values like all-electron total energies in {unit}"
        for one in columns
        if (unit := total_energy_unit(one.values, data.structures))
    ]
    compared = [(one.what, one.values, max(one.deviation, 1e-9)) for one in columns]
    if mechanics_of(data.targets):
        compared.append(("energy", data.values["energy"], _SAME_ENERGY))
        columns += [energy_column(data.structures, residuals), force_column(data), incomplete_column(data)]
        columns.append(stress_column(data))
        doubts += suspicious_units(data, keys)
        notes += _notes_of_mechanics(data, keys)
    duplicates = same_molecules(data.structures, data.smiles or [""] * len(data))
    for name, values, tolerance in compared:
        doubts += _contradictions(data, duplicates, name, values, tolerance)
    broken = impossible_inputs(data.structures) | broken
    unusable = [f"{data.names[number]}: {problem}" for number, problem in sorted(broken.items())]
    return CheckReport(data, columns, reference, duplicates, contacts, [*faults, *unusable], doubts, notes, files)


def impossible_inputs(structures: Sequence[Atoms]) -> dict[int, str]:
    """Problems with the charge, spin or bonds of structures, by number.

    >>> impossible_inputs([Atoms("Na"), Atoms("Na", info={"bonds": [0, 5, 1]})])
    {1: 'a bond refers to atom 5, but the structure has 1 atoms (counted from 0)'}
    """
    found = {}
    for number, atoms in enumerate(structures):
        try:
            check_possible(atoms)
        except DataError as error:
            found[number] = str(error)
    return found


def _notes_of_mechanics(data: LabeledSet, keys: LabelKeys) -> list[str]:
    """Notes on the size of the forces, odd cells and forces, and, if there are no labels, where they may be."""
    notes = oddities(data)
    if data.known("forces").any():
        notes.insert(0, f"the force components have a root mean square of {force_rms(data.values['forces']):.4f} eV/A")
    if not (data.known("energy").any() or data.known("forces").any()):
        absent = missing_labels(data.structures, keys)
        notes.append(f"{absent}; to check properties of molecules, name them with --targets")
    return notes


def _relative_energies(data: LabeledSet, broken: list[int]) -> tuple[EnergyReference | None, FloatArray]:
    """E0, and energies per atom relative to it; NaN if missing, and for isolated atoms."""
    residuals = np.full(len(data), np.nan)
    energies = data.values.get("energy", residuals)
    known = np.isfinite(energies) & ~np.isin(np.arange(len(data)), broken)
    if not known.any():
        return None, residuals
    labeled = data.select(np.flatnonzero(known))
    reference = fit_energy_reference(labeled.structures, energies[known])
    own = composition(labeled.structures, list(reference.values)) @ np.array(list(reference.values.values()))
    bound = ~np.array([is_isolated(atoms) for atoms in labeled.structures])
    residuals[known] = np.where(bound, (energies[known] - own) / labeled.sizes, np.nan)
    return reference, residuals


def _contradictions(
    data: LabeledSet, duplicates: Sequence[Sequence[int]], name: str, values: FloatArray, tolerance: float
) -> list[str]:
    """A warning about equal structures with different values."""
    known = [[number for number in group if np.isfinite(values[number])] for group in duplicates]
    wrong = [group for group in known if len(group) > 1 and np.ptp(values[group]) > tolerance]
    if not wrong:
        return []
    first = " and ".join(data.names[number] for number in wrong[0][:2])
    return [f"{len(wrong)} structures that occur several times have different values of {name}, first {first}"]
