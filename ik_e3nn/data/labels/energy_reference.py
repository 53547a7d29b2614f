"""Energies of isolated atoms (E0), fitted or given, and their source."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.labels.least_squares import Fit, fit_unknown
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.errors import DataError
from ik_e3nn.graph import neighbor_list
from ik_e3nn.graph.build import SURFACE_FIELDS

logger = logging.getLogger(__name__)


# An atom whose periodic images are farther away than this is treated as isolated, in A.
ISOLATION_DISTANCE = 6.0
_BOUND_DISTANCE = 5.0  # nearer images interact, even if the atom is marked as isolated
# A mean energy per atom relative to E0 outside this range, in eV, means that E0 and the labels do not match.
USUAL_BINDING = (-15.0, 3.0)


@dataclass(frozen=True)
class EnergyReference:
    """E0 of each species; a model learns the energy relative to the sum of E0 over the atoms.

    Args:
        values: E0 in eV by atomic number.
        rank: Rank of the least-squares fit; 0 if nothing was fitted.
        condition: Ratio of its largest to its smallest non-zero singular value.
        source: Where the values come from, in words.

    Example:
        >>> EnergyReference({1: -13.6}, rank=0, condition=1.0, source="isolated atoms (H)").values[1]
        -13.6
    """

    values: dict[int, float]
    rank: int
    condition: float
    source: str


def fit_energy_reference(
    structures: Sequence[Atoms], energies: ArrayLike, given: Mapping[int, float] | None = None
) -> EnergyReference:
    r"""E0 of every species: given, else from isolated atoms, else by least squares.

    .. math:: \min_{E_0} \sum_s \big(E_s - \sum_Z n_{sZ} E_{0Z}\big)^2

    over the species that are neither given nor present as isolated atoms. If the compositions do not determine all E0
    (a single compound, for example), the solution of the smallest norm is taken and the rank is below the number of
    species: sums over whole structures are right, but the values of single species are a convention.

    Args:
        structures: Structures, isolated atoms included.
        energies: Their energies, (n,), in eV; NaN where missing.
        given: E0 in eV by atomic number, for example from the user; they are compared with the data.

    Returns:
        The reference for all species of the structures.

    Raises:
        DataError: Lengths differ, a fit is needed but there are no energies, or a given value is not finite.

    Example:
        >>> structures = [Atoms("H2"), Atoms("H2O"), Atoms("O2")]
        >>> reference = fit_energy_reference(structures, [-2.0, -7.0, -10.0])
        >>> {number: round(value, 6) for number, value in reference.values.items()}, reference.rank
        ({1: -1.0, 8: -5.0}, 2)
    """
    labels = np.asarray(energies, dtype=np.float64).reshape(-1)
    if len(labels) != len(structures):
        raise DataError(f"{len(structures)} structures, but {len(labels)} energies")
    species = sorted({int(number) for atoms in structures for number in atoms.numbers})
    values = {int(number): float(value) for number, value in (given or {}).items() if number in species}
    if not np.isfinite(list(values.values())).all():
        raise DataError(f"given E0 values must be finite, got {values}")
    sources = [f"given ({_names(values)})"] if values else []
    seen = lowest_energies(structures, labels)
    _compare_with_atoms(values, seen)
    isolated = {number: value for number, value in seen.items() if number not in values}
    if isolated:
        sources.append(f"isolated atoms ({_names(isolated)})")
    values.update(isolated)
    counts, known = composition(structures, species), np.isfinite(labels)
    fit = fit_unknown(counts[known], labels[known], np.array([values.get(number, np.nan) for number in species]))
    untold = np.isnan(fit.coefficients)
    fitted = [number for number, free in zip(species, fit.free | untold, strict=True) if free]
    if fitted and not known.any():
        raise DataError(f"E0 of {_names(fitted)} cannot be fitted: no structure with them has an energy; give their E0")
    if fitted:
        sources.append(_fit_source(fitted, fit))
    coefficients = np.nan_to_num(fit.coefficients)  # E0 is zero for elements without any energy
    e0s = dict(zip(species, map(float, coefficients), strict=True))
    reference = EnergyReference(e0s, fit.rank, fit.condition, "; ".join(sources))
    logger.info("E0: %s", reference.source)
    _check_binding((labels - counts @ coefficients) / np.maximum(counts.sum(axis=1), 1.0), reference)
    return reference


def is_isolated(atoms: Atoms) -> bool:
    """Whether a structure is one isolated neutral atom.

    Args:
        atoms: The structure.

    Returns:
        True for one uncharged atom that is marked ``config_type=IsolatedAtom``, or that is over no surface (has no
        ``surface_cell``, ``surface_origin`` or ``surface_normal`` in ``info``) and has no periodic image within 6 A.

    Example:
        >>> is_isolated(Atoms("H")), is_isolated(Atoms("Cu", cell=[2.5, 2.5, 2.5], pbc=True))
        (True, False)
        >>> is_isolated(Atoms("Ar", info={"surface_cell": [[2.5, 0, 0], [0, 2.5, 0]]}))
        False
    """
    if len(atoms) != 1 or atoms.info.get("charge", 0) != 0:
        return False
    if is_marked(atoms):
        return True
    if any(atoms.info.get(key) is not None for key in SURFACE_FIELDS):
        return False
    if not atoms.pbc.any():
        return True
    pairs, _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, ISOLATION_DISTANCE)
    return pairs.shape[1] == 0


def isolation_doubts(structures: Sequence[Atoms], places: Sequence[str]) -> list[str]:
    """Warnings about structures that are marked as isolated atoms but are not.

    Args:
        structures: The structures.
        places: What messages call each structure.

    Returns:
        One sentence for each of them.

    Example:
        >>> marked = Atoms("H", cell=[2, 9, 9], pbc=True, info={"config_type": "IsolatedAtom"})
        >>> isolation_doubts([marked], ["structure 0 of a.xyz"])[0][:86]
        'structure 0 of a.xyz is marked as an isolated atom (H), but its periodic images are 2 '
    """
    found = []
    for atoms, place in zip(structures, places, strict=True):
        if not is_marked(atoms) or not len(atoms):
            continue
        start = f"{place} is marked as an isolated atom ({atoms.get_chemical_formula()}), but"
        if len(atoms) > 1:
            found.append(f"{start} has {len(atoms)} atoms: E0 is not taken from it; correct its config_type")
        elif atoms.pbc.any() and np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all():
            try:
                _, shifts = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, _BOUND_DISTANCE)
            except DataError:  # a broken cell, which is reported where it is used
                continue
            if len(shifts):
                distance = np.linalg.norm(shifts @ atoms.cell.array, axis=1).min()
                found.append(
                    f"{start} its periodic images are {distance:.3g} A away: its energy, which is taken for E0, is "
                    "not that of an isolated atom; remove the mark, or correct the cell or pbc"
                )
    return found


def is_marked(atoms: Atoms) -> bool:
    """Whether a structure is marked as an isolated atom.

    Example:
        >>> is_marked(Atoms("H", info={"config_type": "IsolatedAtom"})), is_marked(Atoms("H"))
        (True, False)
    """
    return str(atoms.info.get("config_type", "")).lower().replace("_", "") == "isolatedatom"


def lowest_energies(structures: Sequence[Atoms], labels: FloatArray) -> dict[int, float]:
    """Energy of each species that occurs as an isolated atom; the lowest if there are several."""
    found: dict[int, float] = {}
    for atoms, energy in zip(structures, labels, strict=True):
        if np.isfinite(energy) and is_isolated(atoms):
            number = int(atoms.numbers[0])
            if number in found and abs(found[number] - energy) > 1e-3:
                logger.warning(
                    "several energies for an isolated %s atom (%.4f and %.4f eV); the lowest is taken",
                    chemical_symbols[number], found[number], energy,
                )  # fmt: skip
            found[number] = min(found.get(number, np.inf), float(energy))
    return found


def _compare_with_atoms(given: Mapping[int, float], isolated: Mapping[int, float]) -> None:
    """Warn if given values differ from the isolated atoms in the data."""
    for number in sorted(set(given) & set(isolated)):
        if abs(given[number] - isolated[number]) > 0.1:
            logger.warning(
                "E0 of %s is given as %.4f eV, but the isolated atom in the data has %.4f eV; the given value is used",
                chemical_symbols[number], given[number], isolated[number],
            )  # fmt: skip


def _fit_source(unknown: Sequence[int], fit: Fit) -> str:
    """The fit in words; warns if the data do not determine it."""
    rank = fit.rank
    quality = f"rank {rank} of {len(unknown)}, condition {fit.condition:.3g}"
    text = f"least squares over {fit.rows} structures ({_names(unknown)}; {quality})"
    if rank < len(unknown):
        text += ", solution of smallest norm because the compositions do not determine every species"
        logger.warning(
            "the E0 fit has rank %d for %d species: only sums over compositions like those of the data are meaningful, "
            "not reaction energies; for these, add isolated atoms or more compositions",
            rank, len(unknown),
        )  # fmt: skip
    return text


def _check_binding(per_atom: FloatArray, reference: EnergyReference) -> None:
    """Warn if the energies relative to E0, (n,), are too large for chemical bonds."""
    known = np.isfinite(per_atom)
    mean = float(per_atom[known].mean()) if known.any() else 0.0
    if not USUAL_BINDING[0] <= mean <= USUAL_BINDING[1]:
        logger.warning(
            "the energies are on average %.3g eV per atom relative to E0 (%s), which no chemical bond explains: "
            "E0 and labels seem to come from different methods or units",
            mean, reference.source,
        )  # fmt: skip


def _names(numbers: Mapping[int, float] | Sequence[int]) -> str:
    """Chemical symbols for a message."""
    symbols = [chemical_symbols[number] for number in sorted(numbers)]
    return ", ".join(symbols) if len(symbols) <= 12 else f"{', '.join(symbols[:10])} and {len(symbols) - 10} more"
