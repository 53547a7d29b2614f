"""Adsorption energies with checked references, and the stress of a surface."""

from collections import Counter

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ik_e3nn.errors import DataError
from ik_e3nn_calculators.calculator.inputs import has_volume

NEWTON_PER_METER = units.m**2 / units.J  # in one eV/A^2
SAME_CELL = 1e-6  # A


def adsorption_energy(combined: Atoms, slab: Atoms, molecule: Atoms, *, molecules: int = 1) -> float:
    r"""Energy of adsorption of each molecule, negative if it binds.

    .. math:: E_{ads} = \frac{1}{n} \big( E_{total} - E_{slab} - n E_{molecule} \big)

    Args:
        combined: Slab and molecules, with a calculator.
        slab: The slab alone, in the same cell, with a calculator of the same kind.
        molecule: One molecule, with a calculator of the same kind.
        molecules: Number n of molecules in ``combined``.

    Returns:
        The energy in eV.

    Raises:
        DataError: A structure has no calculator, the calculators differ, the atoms do not add up, or cells or charges
            do not match.

    Example:
        >>> from ase.build import add_adsorbate, fcc111
        >>> from ase.calculators.emt import EMT
        >>> slab, oxygen = fcc111("Cu", (1, 1, 2), vacuum=8.0), Atoms("O")
        >>> both = slab.copy()
        >>> add_adsorbate(both, oxygen, 1.2, "fcc")
        >>> for atoms in (slab, oxygen, both):
        ...     atoms.calc = EMT()
        >>> adsorption_energy(both, slab, oxygen) < 0
        True
    """
    named = {"combined": combined, "slab": slab, "molecule": molecule}
    if molecules < 1:
        raise DataError(f"the number of molecules must be at least 1, got {molecules}")
    for name, atoms in named.items():
        if atoms.calc is None:
            raise DataError(f"{name} has no calculator: set {name}.calc")
    kinds = {name: _kind(atoms) for name, atoms in named.items()}
    if len(set(kinds.values())) > 1:
        listing = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        raise DataError(f"energies of different methods do not cancel ({listing}); use one calculator for all three")
    expected = Counter(slab.symbols)
    for symbol in molecule.symbols:
        expected[symbol] += molecules
    found = Counter(combined.symbols)
    if found != expected:
        both = sorted(found.keys() | expected.keys())
        wrong = ", ".join(f"{s}: {found[s]} instead of {expected[s]}" for s in both if found[s] != expected[s])
        raise DataError(f"slab and {molecules} molecule(s) do not make up the combined structure ({wrong})")
    if not np.array_equal(combined.pbc, slab.pbc):
        raise DataError(f"combined is periodic along {combined.pbc.tolist()}, the slab along {slab.pbc.tolist()}")
    if np.abs((combined.cell.array - slab.cell.array)[combined.pbc]).max(initial=0.0) > SAME_CELL:
        raise DataError("combined and slab have different cells; strain would count as adsorption")
    charges = {name: float(atoms.info.get("charge", 0)) for name, atoms in named.items()}
    if charges["combined"] != charges["slab"] + molecules * charges["molecule"]:
        raise DataError(f"the charges do not add up: {charges}")
    energies = {name: atoms.get_potential_energy() for name, atoms in named.items()}
    return float((energies["combined"] - energies["slab"]) / molecules - energies["molecule"])


def surface_stress(atoms: Atoms) -> NDArray[np.float64]:
    r"""Stress of a structure that is periodic in two directions, per area instead of volume.

    .. math:: \sigma^{2D} = \sigma V / A

    which does not depend on how much vacuum the cell holds.

    Args:
        atoms: A slab or a film, with a calculator that gives stresses.

    Returns:
        (3, 3), in N/m, in the laboratory's frame; tension positive.

    Raises:
        DataError: The structure is not periodic in exactly two directions, or its cell has no volume.

    Example:
        >>> from ase.build import fcc111
        >>> from ase.calculators.emt import EMT
        >>> slab = fcc111("Cu", (1, 1, 3), a=3.7, vacuum=10.0)
        >>> slab.calc = EMT()
        >>> bool(surface_stress(slab)[0, 0] > 0)  # stretched
        True
    """
    if atoms.pbc.sum() != 2 or not has_volume(atoms):
        raise DataError(
            "the stress of a surface needs two periodic directions and three cell vectors; "
            f"pbc is {atoms.pbc.tolist()} and the cell has {atoms.cell.rank} independent vectors"
        )
    first, second = atoms.cell.array[atoms.pbc]
    area = np.linalg.norm(np.cross(first, second))
    stress: NDArray[np.float64] = atoms.get_stress(voigt=False) * atoms.get_volume() / area * NEWTON_PER_METER
    return stress


def _kind(atoms: Atoms) -> str:
    """Class, parameters and weights of a calculator, equal for comparable energies; charge and spin may differ."""
    calculator = atoms.calc
    parameters = dict(getattr(calculator, "parameters", {}))
    kept = {key: value for key, value in parameters.items() if key not in ("charge", "multiplicity", "spin")}
    model = getattr(calculator, "model", None)
    weights = (
        "" if model is None else f" with weights of sum {sum(float(p.double().sum()) for p in model.parameters())!r}"
    )
    parts = getattr(getattr(calculator, "mixer", None), "calcs", ())
    names = " + ".join(type(part).__name__ for part in parts) or type(calculator).__name__
    return f"{names} {kept or ''}{weights}".strip()
