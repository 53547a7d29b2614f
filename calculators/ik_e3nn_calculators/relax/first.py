"""The relaxation that another command begins with."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from ik_e3nn_calculators.relax.run import run_relax
from ik_e3nn_calculators.relax.settings import RelaxSettings
from ik_e3nn_calculators.run_settings import RunSettings
from ik_e3nn_calculators.systems.structures import load_structure


def relaxed_first(settings: RunSettings, atoms: Atoms, calculator: Calculator, folder: Path, **own: Any) -> Atoms:
    """Relax the structure of another command, with the settings that all runs share.

    Args:
        settings: The settings of the command.
        atoms: The structure; it is copied.
        calculator: The calculator of the command.
        folder: The folder of the relaxation, which is replaced.
        **own: Settings of the relaxation, such as ``fmax``.

    Returns:
        The relaxed structure; see ``largest_force`` for whether it converged.

    Raises:
        DataError: The structure cannot be relaxed; see ``run_relax``.
        ExplosionError: Energy or forces became NaN.
    """
    shared = {one.name: getattr(settings, one.name) for one in fields(RunSettings) if one.init}
    options = {"optimizer": "bfgs", **shared, **own, "output": str(folder), "overwrite": True}
    summary = run_relax(RelaxSettings(**options), atoms=atoms, calculator=calculator)
    return load_structure(summary.structure)


def largest_force(atoms: Atoms) -> float:
    """The largest norm of a force on an atom that is not held, in eV/A.

    Args:
        atoms: The structure, with its calculator.
    """
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max(initial=0.0))
