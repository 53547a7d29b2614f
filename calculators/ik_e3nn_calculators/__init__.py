"""Simulation engines for ``ik_e3nn`` potentials: the ASE calculator, molecular dynamics and relaxation."""

from ik_e3nn_calculators.adsorption import adsorption_energy, surface_stress
from ik_e3nn_calculators.calculator.calculator import IKCalculator
from ik_e3nn_calculators.md.run import MDSettings, MDSummary, run_md
from ik_e3nn_calculators.relax.run import RelaxSettings, RelaxSummary, run_relax

__all__ = [
    "IKCalculator",
    "MDSettings",
    "MDSummary",
    "RelaxSettings",
    "RelaxSummary",
    "adsorption_energy",
    "run_md",
    "run_relax",
    "surface_stress",
]
