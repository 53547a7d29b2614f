"""Errors of predictions for test.xyz by set: frames of every temperature, scans."""

from pathlib import Path

import numpy as np
from ase.io import read


def errors_by_set(test: Path, energy: np.ndarray, forces: np.ndarray) -> dict[str, dict[str, float]]:
    """Errors of every set of frames.

    Energies of scans are differences to the minimum, because only differences matter there.

    Args:
        test: The file of ``molecules.prepare``.
        energy: Predicted energies, (B,), in eV.
        forces: Predicted forces, (N, 3), in eV/A.

    Returns:
        For frames of a temperature, root mean squares ``force_rmse_meV_per_A`` and ``energy_rmse_meV``, and
        ``energy_largest_meV``; for a scan ``force_rmse_meV_per_A``, the mean ``energy_mae_meV`` and
        ``energy_largest_meV``, and the same of the points below 1 eV.
    """
    frames = read(test, ":")
    names = np.array([atoms.info["config_type"] for atoms in frames])
    labels = np.array([atoms.info["REF_energy"] for atoms in frames])
    wrong = 1e3 * (energy - labels)
    by_atom = np.repeat(names, [len(atoms) for atoms in frames])
    wrong_forces = 1e3 * (forces - np.concatenate([atoms.arrays["REF_forces"] for atoms in frames]))
    minimum = int(np.flatnonzero(names == "minimum")[0])
    found = {}
    for name in dict.fromkeys(names[names != "minimum"]):
        row = {"force_rmse_meV_per_A": float(np.sqrt(np.mean(wrong_forces[by_atom == name] ** 2)))}
        chosen = np.flatnonzero(names == name)
        if name.endswith(" K"):
            row["energy_rmse_meV"] = float(np.sqrt(np.mean(wrong[chosen] ** 2)))
            row["energy_largest_meV"] = float(np.abs(wrong[chosen]).max())
        else:
            difference = np.abs(wrong[chosen] - wrong[minimum])
            low = difference[labels[chosen] - labels[minimum] < 1.0]
            row["energy_mae_meV"], row["energy_largest_meV"] = float(difference.mean()), float(difference.max())
            row["low_energy_mae_meV"], row["low_energy_largest_meV"] = float(low.mean()), float(low.max())
        found[name] = row
    return found
