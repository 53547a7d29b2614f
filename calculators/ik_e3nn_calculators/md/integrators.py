"""ASE integrators for the ensembles, and the state that they keep besides the atoms."""

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet

from ik_e3nn.errors import DataError
from ik_e3nn_calculators.md.settings import MDSettings

_PS = 1000.0 * units.fs


def build_integrator(ensemble: str, atoms: Atoms, settings: MDSettings, rng: np.random.Generator) -> MolecularDynamics:
    """The integrator of an ensemble, acting on ``atoms``, which must have a calculator.

    ``npt`` scales the cell isotropically (Langevin-Hoover equations of Quigley and Probert, J. Chem. Phys. 120, 11432
    (2004), BAOAB splitting) with the barostat mass (3N + 3) k T tau^2 of Martyna, Tobias and Klein.

    Args:
        ensemble: ``nve``, ``langevin`` or ``npt``.
        atoms: Structure with calculator and momenta.
        settings: Time step, temperature, pressure and friction.
        rng: Random numbers of the thermostat.

    Returns:
        An ASE integrator whose ``step()`` makes one time step.

    Raises:
        DataError: ``npt`` for a structure that is not periodic in three directions, or that has constraints.
    """
    timestep = settings.timestep * units.fs
    if ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    if ensemble == "langevin":
        return Langevin(
            atoms,
            timestep,
            temperature_K=settings.temperature,
            friction=settings.friction / _PS,
            fixcm=False,
            rng=rng,
        )
    _check_npt(atoms, settings)
    response = settings.barostat_ps * _PS
    return LangevinBAOAB(
        atoms,
        timestep,
        temperature_K=settings.temperature,
        externalstress=-settings.pressure * units.GPa,
        hydrostatic=True,
        T_tau=_PS / settings.friction,
        P_tau=response,
        P_mass=(3 * len(atoms) + 3) * units.kB * settings.temperature * response**2,
        rng=rng,
    )


def integrator_state(integrator: MolecularDynamics) -> dict[str, float]:
    """The state that an integrator keeps between steps besides atoms and random numbers.

    Args:
        integrator: From ``build_integrator``.

    Returns:
        Momentum of the cell and force on it for ``npt``; empty otherwise.
    """
    if isinstance(integrator, LangevinBAOAB):
        return {"p_eps": float(integrator.p_eps), "force_eps": float(integrator.force_eps)}
    return {}


def restore_integrator(integrator: MolecularDynamics, state: dict[str, float]) -> None:
    """Give an integrator the state that ``integrator_state`` returned.

    Args:
        integrator: A new integrator on the restored atoms.
        state: The saved state.
    """
    for name, value in state.items():
        setattr(integrator, name, value)


def _check_npt(atoms: Atoms, settings: MDSettings) -> None:
    """Refuse structures whose volume cannot be controlled."""
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise DataError(
            f"npt needs three periodic directions, but pbc is {atoms.pbc.tolist()}; use nve or langevin instead"
        )
    if atoms.constraints:
        raise DataError("npt cannot keep constraints, because it scales all positions; use langevin or remove them")
    if settings.temperature <= 0:
        raise DataError("npt needs a temperature above 0 K")
