"""What ASE's constraints leave of the motion, counted independently: the rank of the map that they make of momenta."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import (
    ExternalForce,
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixCom,
    FixedLine,
    FixedMode,
    FixedPlane,
    FixInternals,
    FixLinearTriatomic,
    FixScaled,
    Hookean,
)

from ik_e3nn.errors import DataError
from ik_e3nn_calculators.md.velocities import conserved_motions, degrees_of_freedom, drift_share, set_thermal_velocities
from ik_e3nn_calculators.systems.constraints import (
    check_constraints,
    check_dynamics,
    free_motions,
    has_external_restraint,
    lost_in_extxyz,
)

CASES = {
    # constraints of ethanol: degrees of freedom left, and conserved ones among them
    "none": ([], 27, 6),
    "one atom": ([FixAtoms([0])], 24, 3),  # it can turn about that atom
    "twice the same": ([FixAtoms([0, 1]), FixAtoms([1, 2])], 18, 0),
    "overlapping": ([FixCartesian([0, 1], (True, False, True)), FixAtoms([1])], 22, 1),
    "plane": ([FixedPlane(0, (0, 0, 1))], 26, 5),
    "line": ([FixedLine([0, 3], (1, 1, 1))], 23, 2),
    "scaled": ([FixScaled([0, 1], (True, False, False))], 25, 4),
    "bonds": ([FixBondLengths([[0, 1], [1, 2]])], 25, 6),
    "internal": ([FixInternals(bonds=[[None, [0, 1]]], angles_deg=[[None, [0, 1, 2]]])], 19, 0),
    "center of mass": ([FixCom()], 24, 3),
    "spring": ([Hookean(0, 8, 5.0, 1.0)], 27, 6),
    "spring to a point": ([Hookean(0, (0.0, 0.0, 0.0), 5.0, 1.0)], 27, 0),
    "mode": ([FixedMode(np.eye(27)[0].reshape(9, 3))], 26, 5),
}


def ethanol(*constraints) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.cell = np.diag([10.0, 11.0, 12.0])
    atoms.set_constraint(list(constraints))
    return atoms


def rank_of_momenta(atoms: Atoms) -> int:
    passed = []
    for unit in np.eye(3 * len(atoms)):
        atoms.set_momenta(unit.reshape(-1, 3))
        passed.append(atoms.get_momenta().ravel())
    return int(np.linalg.matrix_rank(passed, tol=1e-6))


@pytest.mark.parametrize("case", CASES)
def test_degrees_of_freedom(case):
    constraints, free, conserved = CASES[case]
    atoms = ethanol(*constraints)
    check_constraints(atoms)
    check_dynamics(atoms)
    assert free_motions(atoms) == rank_of_momenta(atoms.copy()) == free
    assert len(conserved_motions(atoms)) == conserved
    for conserving in (True, False):
        set_thermal_velocities(atoms, 300.0, np.random.default_rng(0), conserved=conserving)
        freedom = free - conserved if conserving else free
        assert degrees_of_freedom(atoms, conserved=conserving) == freedom
        assert atoms.get_kinetic_energy() == pytest.approx(0.5 * freedom * units.kB * 300.0)
        assert drift_share(atoms) == pytest.approx(0.0, abs=1e-8) or not conserving


def test_equipartition_over_what_a_thermostat_moves():
    """The mean share of the center of mass is three of all degrees of freedom, not zero and not more."""
    shares = []
    for seed in range(400):
        atoms = molecule("H2")
        set_thermal_velocities(atoms, 300.0, np.random.default_rng(seed), conserved=False)
        shares.append((atoms.get_momenta().sum(axis=0) ** 2).sum() / 2 / atoms.get_masses().sum())
    expected = 1.5 * units.kB * 300.0
    assert np.mean(shares) == pytest.approx(expected, rel=0.1)


def test_rigid_water_turns_but_does_not_drift():
    water = molecule("H2O")
    water.set_constraint(FixBondLengths([[0, 1], [0, 2], [1, 2]]))
    set_thermal_velocities(water, 300.0, np.random.default_rng(0))
    assert np.abs(water.get_momenta().sum(axis=0)).max() < 1e-12
    assert water.get_kinetic_energy() == pytest.approx(1.5 * units.kB * 300.0)


def test_linear_triatomic_has_five():
    atoms = molecule("CO2")
    atoms.set_constraint(FixLinearTriatomic([(1, 0, 2)]))
    check_dynamics(atoms)
    assert free_motions(atoms) == rank_of_momenta(atoms.copy()) == 5


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([FixAtoms([0]), FixBondLengths([[0, 1]])], r"cannot keep these constraints .*\(FixAtoms, FixBondLengths\)"),
        ([ExternalForce(0, 1, 0.3)], r"cannot keep these constraints in dynamics \(ExternalForce\)"),
    ],
)
def test_constraints_that_ase_cannot_keep_are_refused(constraints, message):
    with pytest.raises(DataError, match=message):
        check_dynamics(ethanol(*constraints))


def test_scaled_coordinates_without_right_angles_are_refused():
    atoms = bulk("Cu") * 2
    atoms.set_constraint(FixScaled([0], (True, False, False)))
    with pytest.raises(DataError, match="FixScaled fixes some axes .* use FixCartesian"):
        check_dynamics(atoms)
    atoms.set_constraint(FixScaled([0], (True, True, True)))
    check_dynamics(atoms)
    assert free_motions(atoms) == 21


def test_what_is_too_large_to_be_counted_is_refused():
    atoms = Atoms("H301", positions=np.arange(903.0).reshape(-1, 3))
    atoms.set_constraint(FixedMode(np.ones((301, 3))))
    with pytest.raises(DataError, match=r"\(FixedMode\) can be counted for at most 300 atoms"):
        free_motions(atoms)


def test_constraints_that_cannot_be_stored_are_refused():
    class Mine(FixAtoms):
        def todict(self):
            return {"name": "Mine", "kwargs": {}}

    with pytest.raises(DataError, match="the constraint Mine cannot be stored by ASE"):
        check_constraints(ethanol(Mine([0])))
    longer = FixBondLengths([[0, 1]], bondlengths=[1.7])
    with pytest.raises(DataError, match="FixBondLengths sets bond lengths that differ from those of the structure"):
        check_constraints(ethanol(longer))


def test_what_extended_xyz_loses():
    assert lost_in_extxyz(ethanol(FixAtoms([0]), FixCartesian([1]))) == ""
    assert lost_in_extxyz(ethanol(FixAtoms([0]), Hookean(0, 1, 5.0, 1.0), FixCom())) == "FixCom, Hookean"
    assert has_external_restraint(ethanol(Hookean(0, (0.0, 0.0, 1.0, -7.0), 5.0)))
    assert not has_external_restraint(ethanol(Hookean(0, 1, 5.0, 1.0)))
