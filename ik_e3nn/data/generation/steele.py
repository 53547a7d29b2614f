"""A graphite wall without atoms: Steele's 10-4-3 potential, as an ASE calculator."""

from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers, chemical_symbols

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.data.generation.info_calculator import InfoCalculator
from ik_e3nn.elements import unknown_symbols
from ik_e3nn.errors import DataError, UnknownSpeciesError
from ik_e3nn.graph import surface_vectors
from ik_e3nn.graph.build import heights_over_surface

SIGMA_SURFACE = 3.40  # A, carbon of graphite
EPSILON_SURFACE = 28.0 * units.kB
DENSITY = 0.114  # density of carbon atoms in graphite, A^-3
LAYER = 3.35  # A, between layers of graphite

# Universal force field: distance of the minimum (A) and well depth (kcal/mol) of an atom with itself.
UFF = {
    "H": (2.886, 0.044), "He": (2.362, 0.056), "B": (4.083, 0.180), "C": (3.851, 0.105), "N": (3.660, 0.069),
    "O": (3.500, 0.060), "F": (3.364, 0.050), "Ne": (3.243, 0.042), "Si": (4.295, 0.402), "P": (4.147, 0.305),
    "S": (4.035, 0.274), "Cl": (3.947, 0.227), "Ar": (3.868, 0.185), "Br": (4.189, 0.251), "Kr": (4.141, 0.220),
    "I": (4.500, 0.339), "Xe": (4.404, 0.332),
}  # fmt: skip


class SteeleWall(InfoCalculator):
    r"""The energy of atoms at heights z over a wall of graphite, averaged over lateral positions.

    .. math:: V(z) = 2 \pi \epsilon \rho \sigma^2 \Delta \left[ \frac25 \Big(\frac{\sigma}{z}\Big)^{10}
              - \Big(\frac{\sigma}{z}\Big)^4 - \frac{\sigma^4}{3 \Delta (z + 0.61 \Delta)^3} \right]

    with :math:`\sigma, \epsilon` from the values of graphite (3.40 A, 28 K) and of the atom (universal force field) by
    the Lorentz-Berthelot rules, :math:`\rho` = 0.114 A^-3 and :math:`\Delta` = 3.35 A. The wall is the plane through
    ``atoms.info["surface_origin"]`` with the normal ``["surface_normal"]``, by default z = 0; atoms must be above it.
    With ``width``, two walls form a slit, and that plane is in its middle.

    Args:
        width: Distance (A) between the two walls of a slit; None for one wall.
        **kwargs: Passed on to ASE's ``Calculator``.

    Raises:
        DataError: The width is not positive.

    Evaluating raises ``DataError`` for an atom in or behind the wall and ``UnknownSpeciesError`` for an element without
    parameters.

    Reference:
        W. A. Steele, Surf. Sci. 36, 317 (1973), eq. for the 10-4-3 potential; A. K. Rappe et al., J. Am. Chem. Soc.
        114, 10024 (1992), table 1, for the atoms.

    Example:
        >>> atoms = Atoms("Ar", [[0, 0, 3.3]], calculator=SteeleWall())
        >>> round(atoms.get_potential_energy(), 3)
        -0.083
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "energies", "forces"]

    def __init__(self, width: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if width is not None and not width > 0:
            raise DataError(f"the width of a slit must be positive, in A; got {width}")
        self.width = width

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energies and forces."""
        normal = surface_vectors(atoms).get("surface_normal", np.array([0.0, 0.0, 1.0]))
        heights = heights_over_surface(atoms)
        if self.width is None:
            energies, slopes = steele(heights, atoms.numbers)
        else:
            below, down = steele(self.width / 2 + heights, atoms.numbers)
            above, up = steele(self.width / 2 - heights, atoms.numbers)
            energies, slopes = below + above, down - up
        forces = -slopes[:, None] * normal / np.linalg.norm(normal)
        return {"energy": float(energies.sum()), "energies": energies, "forces": forces}


def steele(heights: FloatArray, numbers: IntArray) -> tuple[FloatArray, FloatArray]:
    """Energies (eV) and their derivatives (eV/A) of atoms at heights (A) over the wall; see ``SteeleWall``."""
    sigma, epsilon = _mixed(numbers)
    if (heights <= 0).any():
        atom = int(np.argmin(heights))
        raise DataError(f"atom {atom} ({chemical_symbols[numbers[atom]]}) is {-heights[atom]:.2f} A behind the wall")
    depth = 2 * np.pi * epsilon * DENSITY * sigma**2 * LAYER
    x, far = sigma / heights, heights + 0.61 * LAYER
    energies = depth * (0.4 * x**10 - x**4 - sigma**4 / (3 * LAYER * far**3))
    slopes = depth * ((-4 * x**10 + 4 * x**4) / heights + sigma**4 / (LAYER * far**4))
    return energies, slopes


def _mixed(numbers: IntArray) -> tuple[FloatArray, FloatArray]:
    """Lorentz-Berthelot sigma (A) and epsilon (eV) of atoms with the wall."""
    known = {atomic_numbers[symbol]: values for symbol, values in UFF.items()}
    unknown = unknown_symbols(numbers, known)
    if unknown:
        raise UnknownSpeciesError(f"no parameters of the Steele wall for {unknown}; known are {', '.join(UFF)}")
    minimum, well = np.array([known[z] for z in numbers.tolist()]).reshape(-1, 2).T
    sigma = 0.5 * (minimum / 2 ** (1 / 6) + SIGMA_SURFACE)
    epsilon = np.sqrt(well * units.kcal / units.mol * EPSILON_SURFACE)
    return sigma, epsilon
