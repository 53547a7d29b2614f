"""From a topology of OpenMM to the forces of a potential, with the checks of what the model and OpenMM can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms

from ik_e3nn.errors import ConfigError, DataError, MissingInputError
from ik_e3nn.graph import fields
from ik_e3nn.graph.bonds.charges import USUAL, check_possible
from ik_e3nn.optional import needed
from ik_e3nn_calculators.calculator.inputs import check_structure
from ik_e3nn_calculators.openmm.force import EnergyAndForces
from ik_e3nn_calculators.openmm.stored import StoredPotential

TOGETHER = "bonds of no strength, which keep molecules together"


def add_forces(
    stored: StoredPotential,
    topology: Any,
    system: Any,
    chosen: Sequence[int] | None,
    group: int,
    *,
    charge: float | None = None,
    spin: float | None = None,
    periodic: bool | None = None,
    subtract_e0: bool = False,
) -> None:
    """Add a potential to a system.

    OpenMM learns from bonds which atoms are a molecule: barostats move molecules, and trajectories keep them whole.
    The bonds of the topology are therefore added too, with a force constant of zero.

    Args:
        stored: The potential.
        topology: The topology of the system.
        system: The system.
        chosen: Indices of the atoms that the model computes; None for all.
        group: Group of the forces.
        charge: Total charge of these atoms in e; None for the sum of the topology's formal charges.
        spin: Their spin multiplicity 2S+1, for a model that uses it.
        periodic: Whether these atoms have periodic images; None if the topology has a cell.
        subtract_e0: Subtract the energies of isolated atoms.

    Raises:
        UnknownSpeciesError: The model does not know an element.
        DataError: Atoms are repeated, or have no element; the charge or spin is impossible, or the model does not use
            it; or only one of the topology and the system is periodic.
        MissingInputError: The model uses a charge or spin that is not given.
        ConfigError: A flag is not True or False.
    """
    openmm = needed("openmm")
    _check_flags(subtract_e0=subtract_e0, periodic=False if periodic is None else periodic)
    everything = list(topology.atoms())
    _check_chosen(chosen, len(everything))
    some = everything if chosen is None else [everything[index] for index in chosen]
    if periodic is None:
        periodic = _periodic(topology, system, chosen)
    caps = {atom.index for atom in some if system.isVirtualSite(atom.index)}  # hydrogen at bonds that are cut
    stated = [0 if atom.index in caps else atom.formalCharge for atom in some]
    atoms = Atoms(_numbers(some), pbc=periodic, info=_info(stored, stated, charge=charge, spin=spin))
    check_structure(atoms, stored.members[0].species)
    learned = openmm.PythonForce(EnergyAndForces(stored, atoms, subtract_e0=subtract_e0))
    learned.setName("ik_e3nn")
    if chosen is not None:
        learned.setParticles(chosen)
    bonds = openmm.HarmonicBondForce()
    bonds.setName(TOGETHER)
    inside = {atom.index for atom in some}
    for first, second in topology.bonds():
        if first.index in inside and second.index in inside:
            bonds.addBond(first.index, second.index, 0.1, 0.0)
    for force in (learned, bonds) if bonds.getNumBonds() else (learned,):
        force.setForceGroup(group)
        force.setUsesPeriodicBoundaryConditions(periodic)
        system.addForce(force)


def _check_flags(**flags: object) -> None:
    """Refuse flags that are not True or False."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ConfigError(f"{name} must be True or False, got {flag!r}")


def _check_chosen(chosen: Sequence[int] | None, number: int) -> None:
    """Refuse no atoms, which OpenMM would take for all atoms, and atoms that are repeated or do not exist."""
    if chosen is None:
        return
    if not chosen:
        raise DataError("no atoms were chosen for the model; give the indices of at least one atom")
    if len(set(chosen)) < len(chosen):
        twice = sorted({index for index in chosen if chosen.count(index) > 1})
        raise DataError(f"atoms were chosen more than once for the model: {twice[:5]}; give each index once")
    wrong = [index for index in chosen if not 0 <= index < number]
    if wrong:
        raise DataError(f"there is no atom {wrong[0]}; the topology has {number} atoms, numbered from 0")


def _periodic(topology: Any, system: Any, chosen: Sequence[int] | None) -> bool:
    """Whether the atoms have periodic images: whether the topology has a cell, which must fit a classical system."""
    cell = topology.getPeriodicBoxVectors() is not None
    classical = chosen is not None and system.getNumForces() > 0  # with interpolate=True, the system here is empty
    if classical and cell != system.usesPeriodicBoundaryConditions():
        first, second = ("topology", "classical system") if cell else ("classical system", "topology")
        raise DataError(
            f"the {first} is periodic, but the {second} is not; give periodic=True or periodic=False for the model"
        )
    return cell


def _numbers(atoms: Sequence[Any]) -> list[int]:
    """Atomic numbers.

    Raises:
        DataError: An atom has no element.
    """
    without = [atom for atom in atoms if atom.element is None]
    if without:
        named = ", ".join(f"{a.index} ({a.name} of {a.residue.name} {a.residue.id})" for a in without[:5])
        raise DataError(
            f"{len(without)} atoms have no element, the first: {named}; extra particles cannot be computed by the "
            "model: leave them out, or use a water model without them"
        )
    return [int(atom.element.atomic_number) for atom in atoms]


def _info(
    stored: StoredPotential, stated: Sequence[int | None], *, charge: float | None, spin: float | None
) -> dict[str, Any]:
    """Charge and spin for a model that uses them, as in ``atoms.info``, from formal charges and what is given."""
    inputs = stored.members[0].inputs
    given = {"charge": charge, "spin": spin}
    check_possible(Atoms(info={key: value for key, value in given.items() if value is not None}))
    info: dict[str, Any] = {}
    total = sum(one for one in stated if one is not None)
    known = None not in stated
    if fields.TOTAL_CHARGE in inputs:
        if charge is None and not known:
            raise MissingInputError(
                "the model uses the total charge, but the topology states formal charges for "
                f"{len(stated) - stated.count(None)} of {len(stated)} atoms only; give charge=... in e"
            )
        if charge is not None and known and charge != total:
            raise DataError(
                f"the charge is given as {charge:g}, but the formal charges of the topology sum to {total:+d}; leave "
                "out charge=..., or correct the topology"
            )
        info["charge"] = total if charge is None else charge
    else:
        _check_unused("charge", charge)
        if total:
            raise DataError(
                f"the formal charges of the topology sum to {total:+d}, but the model does not use charges; use a "
                "model with the input total_charge, or remove the formal charges if all its labels had this charge"
            )
    if fields.SPIN in inputs:
        if spin is None:
            raise MissingInputError("the model uses the spin multiplicity 2S+1, which no topology has; give spin=...")
        info["spin"] = spin
    else:
        _check_unused("spin", spin)
    return info


def _check_unused(key: str, value: float | None) -> None:
    """Refuse an unusual charge or spin that the model does not use."""
    if value is not None and value != USUAL[key]:
        raise DataError(
            f"{key} is {value!r}, but the model does not use it; leave it out, or use a model with this input"
        )
