"""The zero of binding energies: the host, and the molecule far away from it."""

import logging

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.errors import DataError
from ik_e3nn_calculators.dock.search.energies import PoseEnergies
from ik_e3nn_calculators.dock.search.relax import RelaxState, relax
from ik_e3nn_calculators.dock.system.ligand import Ligand

_log = logging.getLogger(__name__)

SAME = 1e-3  # eV; lower energies than this are another geometry


def energies_alone(ligand: Ligand, energies: PoseEnergies, *, fmax: float, steps: int) -> tuple[float, float]:
    """Energies of the host alone and of the molecule alone, the lowest of its relaxed conformers.

    Args:
        ligand: The molecule.
        energies: Energies of the molecule and of the host.
        fmax: A molecule is relaxed when no force exceeds this, in eV/A.
        steps: Largest number of steps.

    Returns:
        Both energies in eV.

    Raises:
        DataError: An energy is not finite.
    """
    conformers = np.array([conformer.positions for conformer in ligand.conformers])
    state = _relaxed(conformers, energies, fmax, steps)
    if not (state.fmax <= fmax).any():
        _log.warning(
            "no conformer of %s alone has converged after %d steps (the largest force is %.3f eV/A), so all binding "
            "energies are too low by the strain that remains; raise steps or fmax",
            ligand.name, steps, np.min(state.fmax, initial=np.inf, where=np.isfinite(state.fmax)),
        )  # fmt: skip
    alone = energies.of_host(), _lowest(state)
    for name, energy in zip((energies.host.name, ligand.name), alone, strict=True):
        if not np.isfinite(energy):
            raise DataError(f"the energy of {name} alone is not finite ({energies.failure}), so no pose can be ranked")
    return alone


def lowest_alone(molecules: NDArray[np.float64], energies: PoseEnergies, *, fmax: float, steps: int) -> float:
    """The lowest energy in eV after relaxing geometries (M, n, 3) without the host; infinite if all fail."""
    return _lowest(_relaxed(molecules, energies, fmax, steps))


def _relaxed(molecules: NDArray[np.float64], energies: PoseEnergies, fmax: float, steps: int) -> RelaxState:
    """Relax molecules without the host."""
    state = RelaxState.start(molecules)
    relax(state, energies.alone, fmax=fmax, steps=steps)
    return state


def _lowest(state: RelaxState) -> float:
    return float(np.min(state.energies, initial=np.inf, where=np.isfinite(state.energies)))
