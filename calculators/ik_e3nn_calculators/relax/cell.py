"""The cell in a relaxation: which strains may change it."""

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter

from ik_e3nn.errors import DataError
from ik_e3nn_calculators.calculator.inputs import has_volume
from ik_e3nn_calculators.relax.settings import RelaxSettings

_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_VOIGT_AXES = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def strain_mask(atoms: Atoms) -> list[int]:
    """Strain components, in Voigt order, that do not strain the open directions of a structure.

    Args:
        atoms: The structure.

    Returns:
        Six entries, each 0 or 1.

    Raises:
        DataError: Open and periodic cell vectors share Cartesian components, so that no such mask exists.

    Example:
        >>> strain_mask(Atoms("H", cell=[3, 3, 20], pbc=(True, True, False)))
        [1, 1, 0, 0, 0, 1]
    """
    cell = np.abs(atoms.cell.array) > 1e-8
    open_axes = cell[~atoms.pbc].any(axis=0) | ~cell[atoms.pbc].any(axis=0)
    if (open_axes & cell[atoms.pbc].any(axis=0)).any():
        raise DataError(
            "an open cell vector shares Cartesian components with a periodic one, so no strain mask leaves it "
            "unchanged; rotate the cell, or give mask=[xx, yy, zz, yz, xz, xy]"
        )
    return [int(not open_axes[first] and not open_axes[second]) for first, second in _VOIGT_AXES]


def cell_filter(atoms: Atoms, settings: RelaxSettings) -> FrechetCellFilter:
    """ASE's filter that relaxes the cell along with the atoms.

    Args:
        atoms: The structure, with its calculator.
        settings: The strains that may change, and the pressure.

    Raises:
        DataError: The cell of this structure cannot be relaxed as requested.
    """
    if not has_volume(atoms):
        raise DataError(
            f"cell={settings.cell!r} needs a periodic structure with three cell vectors, but pbc is "
            f"{atoms.pbc.tolist()}; use cell='fixed'"
        )
    hydrostatic = settings.cell == "hydrostatic"
    if hydrostatic and not atoms.pbc.all():
        raise DataError("cell='hydrostatic' would strain an open direction too; use cell='full'")
    mask = settings.mask if settings.mask is not None else strain_mask(atoms)
    open_axes = atoms.cell.array[~atoms.pbc].any(axis=0) & ~atoms.cell.array[atoms.pbc].any(axis=0)
    idle = [
        name
        for name, given, (first, second) in zip(_VOIGT, mask, _VOIGT_AXES, strict=True)
        if given and (open_axes[first] or open_axes[second])
    ]
    if idle:
        raise DataError(
            f"mask allows strains of {', '.join(idle)}, but pbc is {atoms.pbc.tolist()}, and no stress acts along an "
            "open direction; set these entries to 0"
        )
    return FrechetCellFilter(
        atoms, mask=mask, hydrostatic_strain=hydrostatic, scalar_pressure=settings.pressure * units.GPa
    )
