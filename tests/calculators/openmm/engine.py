"""Systems of OpenMM from structures of ASE, and what its Contexts return, in ASE's units."""

import numpy as np
import pytest
from ase import units

openmm = pytest.importorskip("openmm", reason="needs OpenMM (pip install openmm openmmml)")
openmmml = pytest.importorskip("openmmml", reason="needs openmmml (pip install openmm openmmml)")

from openmm import app, unit  # noqa: E402

from ik_e3nn_calculators.openmm.factory import IKPotentialFactory  # noqa: E402

openmmml.MLPotential.registerImplFactory("ik_e3nn", IKPotentialFactory())  # as its entry point does

KJ = units.kJ / units.mol


def topology_of(atoms, bonds=(), charges=None, sizes=None):
    """A topology with one residue for each molecule; ``sizes`` are their numbers of atoms."""
    topology = app.Topology()
    chain = topology.addChain()
    sizes = sizes or [len(atoms)]
    residues = [topology.addResidue("MOL", chain) for _ in sizes]
    of = np.repeat(np.arange(len(sizes)), sizes)
    charges = [None] * len(atoms) if charges is None else charges
    made = []
    for index, (number, charge) in enumerate(zip(atoms.numbers, charges, strict=True)):
        element = app.Element.getByAtomicNumber(int(number))
        made.append(topology.addAtom(f"X{index}", element, residues[of[index]], formalCharge=charge))
    for first, second in bonds:
        topology.addBond(made[first], made[second])
    if atoms.pbc.any():
        topology.setPeriodicBoxVectors(atoms.cell.array / 10 * unit.nanometer)
    return topology


def potential(model, **options):
    return openmmml.MLPotential("ik_e3nn", model=model, device="cpu", **options)


def context_of(system, atoms, platform="Reference", integrator=None):
    chosen = openmm.Platform.getPlatformByName(platform)
    properties = {"Threads": "1"} if platform == "CPU" else {}
    context = openmm.Context(system, integrator or openmm.VerletIntegrator(0.0005), chosen, properties)
    context.setPositions(atoms.positions / 10)
    return context


def results(context):
    """Energy in eV and forces in eV/A."""
    state = context.getState(getEnergy=True, getForces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer) * KJ / 10
    return energy, np.array(forces)
