"""A reference with an analytic answer: molecules of GFN2-xTB over a rigid crystal of xenon of Lennard-Jones atoms."""

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols

from ik_e3nn.data.generation.info_calculator import InfoCalculator
from ik_e3nn.data.generation.labeling import make_calculator
from ik_e3nn.data.generation.steele import UFF

CELLS = 6  # images of the crystal in each direction; atoms beyond 25 A contribute less than a microelectronvolt
XENON = "Xe"


def lennard_jones(atoms: Atoms, crystal: Atoms) -> tuple[float, np.ndarray]:
    """Energy (eV) of atoms over all images of a crystal, and forces (n, 3), by pairs of the universal force field."""
    steps = np.array([[i, j] for i in range(-CELLS, CELLS + 1) for j in range(-CELLS, CELLS + 1)])
    cell = crystal.cell.array[:2]
    sites = (crystal.positions[:, None] + steps @ cell).reshape(-1, 3)
    u = np.round((atoms.positions - crystal.positions[0]) @ np.linalg.pinv(cell))
    vectors = (atoms.positions - u @ cell)[:, None] - sites
    minimum, well = np.array([UFF[chemical_symbols[z]] for z in atoms.numbers]).T
    own_minimum, own_well = UFF[XENON]
    sigma = 0.5 * (minimum + own_minimum)[:, None] / 2 ** (1 / 6)
    epsilon = np.sqrt(well * own_well)[:, None] * units.kcal / units.mol
    squares = (vectors**2).sum(2)
    sixth = (sigma**2 / squares) ** 3
    energy = 4 * epsilon * (sixth**2 - sixth)
    slope = 24 * epsilon * (2 * sixth**2 - sixth) / squares
    return float(energy.sum()), (slope[:, :, None] * vectors).sum(1)


class XenonSlab(InfoCalculator):
    """A molecule and a slab of xenon: GFN2-xTB within the molecule, Lennard-Jones pairs between both.

    The atoms of xenon are the slab. Energies within it are left out, because they are constant.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = make_calculator("gfn2-xtb")

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy and forces."""
        inside = atoms.numbers != 54
        forces = np.zeros((len(atoms), 3))
        if not inside.any():
            return {"energy": 0.0, "forces": forces}
        molecule, crystal = Atoms(atoms[inside], pbc=False, cell=None), atoms[~inside]
        energy, forces[inside] = lennard_jones(molecule, crystal)
        own = self.inner.get_property("energy", molecule)
        forces[inside] += self.inner.get_property("forces", molecule)
        return {"energy": energy + own, "forces": forces}
