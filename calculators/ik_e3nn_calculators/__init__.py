"""Simulation engines for ``ik_e3nn`` potentials: the ASE calculator, dynamics, relaxation, LAMMPS, OpenMM, TorchSim.

The names below are imported when they are first used.
"""

from typing import TYPE_CHECKING

from ik_e3nn.lazy import lazy

if TYPE_CHECKING:
    from ik_e3nn_calculators.adsorption import adsorption_energy, surface_stress
    from ik_e3nn_calculators.calculator.calculator import IKCalculator
    from ik_e3nn_calculators.many.run import (
        ManyMDSettings,
        ManyRelaxSettings,
        ManySummary,
        run_many_md,
        run_many_relax,
    )
    from ik_e3nn_calculators.md.run import MDSettings, MDSummary, run_md
    from ik_e3nn_calculators.relax.run import RelaxSettings, RelaxSummary, run_relax
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "ik_e3nn_calculators.adsorption": ["adsorption_energy", "surface_stress"],
            "ik_e3nn_calculators.calculator.calculator": ["IKCalculator"],
            "ik_e3nn_calculators.many.run": [
                "ManyMDSettings",
                "ManyRelaxSettings",
                "ManySummary",
                "run_many_md",
                "run_many_relax",
            ],
            "ik_e3nn_calculators.md.run": ["MDSettings", "MDSummary", "run_md"],
            "ik_e3nn_calculators.relax.run": ["RelaxSettings", "RelaxSummary", "run_relax"],
        },
    )

__all__ = [
    "IKCalculator",
    "MDSettings",
    "MDSummary",
    "ManyMDSettings",
    "ManyRelaxSettings",
    "ManySummary",
    "RelaxSettings",
    "RelaxSummary",
    "adsorption_energy",
    "run_many_md",
    "run_many_relax",
    "run_md",
    "run_relax",
    "surface_stress",
]
