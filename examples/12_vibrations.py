"""Vibrations: the barrier of the inversion of ammonia, with zero-point energies, for NH3 and ND3; half a minute.

    python examples/12_vibrations.py --output ammonia

The flat molecule is the transition state: it has one imaginary frequency. Each folder has a picture of the frequencies.
"""

import argparse
from pathlib import Path

from ase import Atoms
from ase.build import molecule

from ik_e3nn.data.structures.isotopes import set_isotopes
from ik_e3nn_calculators.vibrations.run import VibrationSettings, VibrationSummary, run_vibrations


def ammonia(hydrogen: int, *, flat: bool) -> Atoms:
    """Ammonia, pyramidal or flat, with an isotope of hydrogen (0 is the natural mixture)."""
    atoms = molecule("NH3")
    if flat:
        atoms.positions[:, 2] = 0.0  # stays flat in a relaxation, by symmetry
    set_isotopes(atoms, [0, hydrogen, hydrogen, hydrogen])
    return atoms


def vibrations(folder: Path, hydrogen: int, *, flat: bool) -> VibrationSummary:
    name = f"{'H' if hydrogen == 0 else 'D'}_{'flat' if flat else 'pyramid'}"
    settings = VibrationSettings(name, output=str(folder / name), overwrite=True, progress=False)
    return run_vibrations(settings, atoms=ammonia(hydrogen, flat=flat))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("ammonia"))
    folder = parser.parse_args().output
    for hydrogen, name in ((0, "NH3"), (2, "ND3")):
        pyramid, flat = (vibrations(folder, hydrogen, flat=flat) for flat in (False, True))
        barrier = flat.energy_eV - pyramid.energy_eV
        corrected = barrier + flat.zero_point_eV - pyramid.zero_point_eV
        print(
            f"{name}: barrier {barrier:.3f} eV, with zero-point energies {corrected:.3f} eV; "
            f"imaginary frequency {-(flat.lowest_per_cm or 0):.0f}i/cm; "
            f"entropy {pyramid.entropy_eV_per_K * 1e3:.3f} meV/K"
        )


if __name__ == "__main__":
    main()
