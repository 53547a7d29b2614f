"""OpenMM has the energies and forces of the ASE calculator, for whole systems and for a part of a classical one."""

import copy
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet

from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators import IKCalculator

pytest.importorskip("openmmml", reason="needs OpenMM (pip install openmm openmmml)")

from tests.calculators.openmm.engine import KJ, context_of, openmm, potential, results, topology_of, unit

EXACT = 1e-8


def model(seed=0, **options):
    torch.manual_seed(seed)
    options = {"num_channels": 2, "num_layers": 2, "l_max": 1, "l_features": 1, "correlation": 2} | options
    made = InteratomicPotential(["H", "C", "O"], 3.5, **options)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    made.set_scale(3.0)
    made.set_energy_reference({z: -10.0 * z for z in made.species}, "test")
    return made.double().eval()


def isolated():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    return atoms


def liquid():
    """Water in a skewed cell, smaller than two cutoffs, with atoms outside of it."""
    rng = np.random.default_rng(0)
    box = Atoms(cell=[[6.4, 0, 0], [1.2, 6.2, 0], [-0.9, 0.7, 6.6]], pbc=True)
    for corner in np.ndindex(2, 2, 2):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.positions += (np.array(corner) / 2) @ box.cell.array
        box += water
    return box


def bonds_of_waters(number):
    return [(3 * k, 3 * k + j) for k in range(number) for j in (1, 2)]


def reference(atoms, made, **info):
    atoms = atoms.copy()
    atoms.info |= info
    atoms.calc = IKCalculator(made, device="cpu")
    return atoms.get_potential_energy(), atoms.get_forces()


def assert_same(found, expected):
    assert abs(expected[1]).max() > 0.1
    assert found[0] == pytest.approx(expected[0], rel=EXACT)
    np.testing.assert_allclose(found[1], expected[1], atol=EXACT * abs(expected[1]).max())


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("make", [isolated, liquid])
def test_a_whole_system_has_the_results_of_ase(make, platform):
    atoms, made = make(), model()
    context = context_of(potential(made).createSystem(topology_of(atoms)), atoms, platform)
    found, expected = results(context), reference(atoms, made)
    if platform == "Reference":
        assert_same(found, expected)
    else:  # rounds forces to float32
        np.testing.assert_allclose(found[1], expected[1], atol=1e-6 * abs(expected[1]).max())
        assert found[0] == pytest.approx(expected[0], rel=EXACT)


def test_a_committee_a_file_and_another_precision(tmp_path):
    atoms, members = isolated(), [model(0), model(1)]
    both = [reference(atoms, one) for one in members]
    mean = np.mean([energy for energy, _ in both]), np.mean([forces for _, forces in both], axis=0)
    system = potential(members).createSystem(topology_of(atoms))
    assert_same(results(context_of(system, atoms)), mean)
    save_model(members[0], tmp_path / "model.safetensors")
    single = potential(str(tmp_path / "model.safetensors"), dtype="float32", max_edges=20)
    energy, forces = results(context_of(single.createSystem(topology_of(atoms)), atoms))
    np.testing.assert_allclose(forces, both[0][1], atol=1e-4 * abs(forces).max())
    assert abs(forces - both[0][1]).max() > 0
    assert energy == pytest.approx(both[0][0], rel=1e-6)


def test_a_system_survives_xml_without_the_model_file(tmp_path):
    atoms, path = liquid(), tmp_path / "model.safetensors"
    save_model(model(), path)
    system = potential(path).createSystem(topology_of(atoms, bonds_of_waters(8)))
    expected = reference(atoms, model())
    text = openmm.XmlSerializer.serialize(system)
    path.unlink()
    assert_same(results(context_of(openmm.XmlSerializer.deserialize(text), atoms)), expected)
    assert_same(results(context_of(copy.deepcopy(system), atoms)), expected)


def test_contexts_of_one_system_can_run_in_threads():
    made, atoms = model(), isolated()
    system = potential(made).createSystem(topology_of(atoms))
    structures = [atoms.copy() for _ in range(3)]
    for seed, one in enumerate(structures):
        one.rattle(0.1, seed=seed + 1)
    contexts = [context_of(system, one) for one in structures]
    expected = [reference(one, made) for one in structures]
    with ThreadPoolExecutor(3) as threads:
        for _ in range(20):
            for context, one in zip(contexts, structures, strict=True):
                context.setPositions(one.positions / 10)  # so that forces are computed anew
            for found, wanted in zip(threads.map(results, contexts), expected, strict=True):
                assert_same(found, wanted)


def test_the_energies_of_isolated_atoms_can_be_subtracted():
    atoms, made = isolated(), model()
    e0 = sum(-10.0 * z for z in atoms.numbers)
    system = potential(made).createSystem(topology_of(atoms), subtract_e0=True)
    energy, forces = results(context_of(system, atoms))
    expected = reference(atoms, made)
    assert energy == pytest.approx(expected[0] - e0, abs=1e-8)
    assert abs(energy) < 0.5 * abs(expected[0])
    np.testing.assert_allclose(forces, expected[1], atol=EXACT)


def classical(topology, atoms):
    """Two molecules of water: harmonic bonds, charges and Lennard-Jones between all atoms of different molecules."""
    system = openmm.System()
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
    bonds, nonbonded = openmm.HarmonicBondForce(), openmm.NonbondedForce()
    for number in atoms.numbers:
        nonbonded.addParticle(-0.8 if number == 8 else 0.4, 0.3, 0.6 if number == 8 else 0.1)
    for first, second in bonds_of_waters(len(atoms) // 3):
        bonds.addBond(first, second, 0.1, 2e5)
    for k in range(len(atoms) // 3):
        for pair in ((0, 1), (0, 2), (1, 2)):
            nonbonded.addException(3 * k + pair[0], 3 * k + pair[1], 0, 1, 0)
    system.addForce(bonds)
    system.addForce(nonbonded)
    if atoms.pbc.any():
        system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
        nonbonded.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        nonbonded.setCutoffDistance(0.29)
        bonds.setUsesPeriodicBoundaryConditions(True)
    return system


def two_waters():
    first, second = molecule("H2O"), molecule("H2O")
    second.rotate(70, (1, 2, 3))
    second.positions += [0.3, 0.4, 3.0]
    both = first + second
    both.rattle(0.03, seed=1)
    return both


@pytest.mark.parametrize("make", [two_waters, liquid])
def test_a_part_of_a_classical_system(make):
    """The model replaces what the force field has inside the part, and nothing else."""
    atoms, made = make(), model()
    topology = topology_of(atoms, bonds_of_waters(len(atoms) // 3), sizes=[3] * (len(atoms) // 3))
    whole = classical(topology, atoms)
    chosen = [4, 3, 5]  # in an order of its own
    mixed = potential(made).createMixedSystem(topology, whole, chosen)
    part = Atoms(atoms.numbers[3:6], atoms.positions[3:6], cell=atoms.cell, pbc=atoms.pbc)
    alone = openmm.System()
    for number in range(len(atoms)):
        alone.addParticle(float(number + 1))
    inside = openmm.HarmonicBondForce()
    inside.setUsesPeriodicBoundaryConditions(bool(atoms.pbc.any()))
    for first, second in ((3, 4), (3, 5)):
        inside.addBond(first, second, 0.1, 2e5)
    alone.addForce(inside)
    alone.setDefaultPeriodicBoxVectors(*whole.getDefaultPeriodicBoxVectors())
    all_mm, part_mm = results(context_of(whole, atoms)), results(context_of(alone, atoms))
    part_ml = reference(part, made)
    forces = all_mm[1] - part_mm[1]
    forces[3:6] += part_ml[1]
    expected = all_mm[0] - part_mm[0] + part_ml[0], forces
    assert abs(all_mm[0]) > 1e-3
    assert_same(results(context_of(mixed, atoms)), expected)

    between = potential(made).createMixedSystem(topology, whole, chosen, interpolate=True)
    context = context_of(between, atoms)
    for weight in (0.0, 0.3, 1.0):
        context.setParameter("lambda_interpolate", weight)
        energy, forces = results(context)
        assert energy == pytest.approx(weight * expected[0] + (1 - weight) * all_mm[0], rel=EXACT, abs=1e-7)
        line = weight * expected[1] + (1 - weight) * all_mm[1]
        np.testing.assert_allclose(forces, line, atol=EXACT * abs(line).max())
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(between))
    assert results(context_of(again, atoms))[0] == pytest.approx(expected[0], rel=EXACT)


def test_bonds_to_classical_atoms_are_closed_by_hydrogen():
    """openmmml adds the hydrogen as a virtual site: the model computes methane, and its forces act on both atoms."""
    atoms, made = molecule("C2H6"), model()
    atoms.rattle(0.1, seed=0)
    bonds = [(0, 1), *((0, k) for k in (2, 3, 4)), *((1, k) for k in (5, 6, 7))]
    topology = topology_of(atoms, bonds)
    mm = openmm.System()
    for atom in topology.atoms():
        mm.addParticle(atom.element.mass)
    info = potential(made).createMixedSystem(topology, mm, [0, 2, 3, 4], returnInfo=True, periodic=False)
    system = info["system"]
    assert system.getNumParticles() == 9
    start = Atoms([*atoms.numbers, 1], [*atoms.positions, [0, 0, 0]])
    context = context_of(system, start)
    context.computeVirtualSites()
    placed = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    methane = Atoms("CH4", placed[[0, 2, 3, 4, 8]])
    expected = reference(methane, made)
    energy, forces = results(context)
    assert energy == pytest.approx(expected[0], rel=EXACT)
    assert abs(forces[1]).max() > 1e-3
    np.testing.assert_allclose(forces[:8].sum(0), 0, atol=1e-8)  # that on the site is shared among them


@pytest.mark.parametrize("kind", ["whole", "mixed", "interpolated"])
def test_a_barostat_moves_molecules(kind):
    """Bonds of no strength tell OpenMM which atoms belong together; the energy stays that of ASE in the new cell."""
    atoms, made = liquid(), model()
    topology = topology_of(atoms, bonds_of_waters(8), sizes=[3] * 8)
    if kind == "whole":
        system = potential(made).createSystem(topology)
    else:
        # openmmml itself ties all chosen atoms together if it interpolates
        chosen, options = (range(12, 15), {"interpolate": True}) if kind == "interpolated" else (range(12, 24), {})
        system = potential(made).createMixedSystem(topology, classical(topology, atoms), chosen, **options)
    assert system.usesPeriodicBoundaryConditions()
    barostat = openmm.MonteCarloBarostat(1e4 * unit.bar, 300 * unit.kelvin, 1)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    context = context_of(system, atoms, integrator=openmm.VerletIntegrator(1e-9))
    assert sorted(map(sorted, context.getMolecules())) == [[k, k + 1, k + 2] for k in range(0, 24, 3)]
    context.setVelocitiesToTemperature(1e-6, 1)
    context.getIntegrator().step(20)
    state = context.getState(getPositions=True, getEnergy=True)
    moved = atoms.copy()
    moved.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    moved.cell[:] = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)
    assert abs(moved.get_volume() / atoms.get_volume() - 1) > 1e-3
    for k in range(0, 24, 3):
        old, new = (one.get_distance(k, k + 1, mic=True) for one in (atoms, moved))
        assert new == pytest.approx(old, abs=1e-6)
    if kind == "whole":
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ
        assert energy == pytest.approx(reference(moved, made)[0], rel=EXACT)


def velocity_verlet(step):
    integrator = openmm.CustomIntegrator(step)
    integrator.addPerDofVariable("x1", 0)
    integrator.addUpdateContextState()
    integrator.addComputePerDof("v", "v+0.5*dt*f/m")
    integrator.addComputePerDof("x", "x+dt*v")
    integrator.addComputePerDof("v", "v+0.5*dt*f/m")
    return integrator


def test_dynamics_follows_the_trajectory_of_ase():
    atoms, made = isolated(), model()
    system = potential(made).createSystem(topology_of(atoms), removeCMMotion=False)
    masses = [system.getParticleMass(k).value_in_unit(unit.dalton) for k in range(len(atoms))]
    atoms.set_masses(masses)
    atoms.set_velocities(np.random.default_rng(0).normal(size=(len(atoms), 3)) * 0.02)
    context = context_of(system, atoms, integrator=velocity_verlet(0.0002))
    context.setVelocities(atoms.get_velocities() * units.fs * 1e3 / 10)
    atoms.calc = IKCalculator(made, device="cpu")
    start, total = atoms.positions.copy(), atoms.get_total_energy()
    VelocityVerlet(atoms, 0.2 * units.fs).run(50)
    context.getIntegrator().step(50)
    state = context.getState(getPositions=True, getEnergy=True)
    end = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    assert abs(end - start).max() > 0.05
    np.testing.assert_allclose(end, atoms.positions, atol=1e-6)
    whole = (state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoule_per_mole) * KJ
    assert whole == pytest.approx(total, abs=0.02 * abs(atoms.get_kinetic_energy()))


def test_formal_charges_of_the_topology_are_the_charge_of_the_model():
    atoms, made = isolated(), model(inputs=["total_charge", "spin"])
    neutral, anion = (reference(atoms, made, charge=charge, spin=1) for charge in (0, -1))
    assert abs(neutral[1] - anion[1]).max() > 0.01
    charges = [0] * len(atoms)
    charges[2] = -1
    for topology, options in [
        (topology_of(atoms, charges=charges), {}),
        (topology_of(atoms, charges=charges), {"charge": -1}),
        (topology_of(atoms), {"charge": -1}),
    ]:
        system = potential(made).createSystem(topology, spin=1, **options)
        assert_same(results(context_of(system, atoms)), anion)
    system = potential(model(), compile=False).createSystem(topology_of(atoms), charge=0, spin=1)
    assert_same(results(context_of(system, atoms)), reference(atoms, model()))


def test_hydrogen_that_caps_a_bond_has_no_charge():
    ethane, bonds = molecule("C2H6"), [(0, 1), *((0, k) for k in (2, 3, 4)), *((1, k) for k in (5, 6, 7))]
    topology = topology_of(ethane, bonds, charges=[0] * 8)
    classical = openmm.System()
    for atom in topology.atoms():
        classical.addParticle(atom.element.mass)
    made = model(inputs=["total_charge"])
    mixed = potential(made).createMixedSystem(topology, classical, [0, 2, 3, 4], periodic=False)
    assert [force.getName() for force in mixed.getForces()].count("ik_e3nn") == 1


def test_the_entry_point_is_the_factory():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    (name, value), *others = project["entry-points"]["openmmml.potentials"].items()
    assert (name, others) == ("ik_e3nn", [])
    impl = EntryPoint(name, value, "openmmml.potentials").load()().createImpl(name, model=model())
    assert impl.getMLLongRange() is False
