"""Properties of a molecule at one geometry, computed by tblite."""

import numpy as np
from ase import Atoms
from ase.units import Bohr, Debye, Hartree


def single_point(atoms: Atoms, method: str) -> dict[str, float]:
    """Orbital energies, gap, dipole moment (D) and total energy of a molecule, in eV."""
    from tblite.interface import Calculator

    calculator = Calculator(method, atoms.numbers, atoms.positions / Bohr)
    calculator.set("verbosity", 0)
    result = calculator.singlepoint()
    energies, occupations = (result.get(f"orbital-{name}") for name in ("energies", "occupations"))
    homo, lumo = energies[occupations > 1].max(initial=-np.inf), energies[occupations < 1].min(initial=np.inf)
    return {
        "homo": homo * Hartree, "lumo": lumo * Hartree, "gap": (lumo - homo) * Hartree,
        "mu": float(np.linalg.norm(result.get("dipole"))) * Bohr / Debye,
        "energy": float(result.get("energy")) * Hartree,
    }  # fmt: skip
