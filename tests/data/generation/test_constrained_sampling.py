"""Frames that are generated under constraints keep to them, whatever the method."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixedLine, FixedPlane, Hookean

from ik_e3nn.data.generation.labeling import Labeler
from ik_e3nn.data.generation.langevin import LangevinSampler
from ik_e3nn.data.generation.normal_modes import NormalModeSampler
from ik_e3nn.data.generation.plan import fingerprint
from ik_e3nn.data.generation.sampling import Origin, RattleSampler
from ik_e3nn.data.generation.settings import GenerateSettings

SAMPLERS = {
    "rattle": RattleSampler(0.05, 0.0),
    "md": LangevinSampler(2.0, interval=5, equilibration=5, friction=0.02),
    "normal modes": NormalModeSampler(),
}


def copper(constraint) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint(constraint)
    return atoms


def moved(sampler, start: Atoms, seed: int = 0) -> np.ndarray:
    labeler, rng = Labeler(EMT()), np.random.default_rng(seed)
    frame = sampler.frame(Origin(start, labeler, 600.0, sampler.prepare(start, labeler)), None, rng)
    bare = start.copy()
    bare.set_constraint()
    bare.positions = frame.positions
    bare.calc = EMT()
    np.testing.assert_allclose(frame.labels.forces, bare.get_forces(), atol=1e-9)  # labels are without constraints
    return frame.positions - start.positions


@pytest.mark.parametrize("name", SAMPLERS)
def test_held_directions_stay(name):
    sampler = SAMPLERS[name]
    cartesian = moved(sampler, copper(FixCartesian([0, 1], (True, False, True))))
    assert np.abs(cartesian[:2, [0, 2]]).max() < 1e-12
    assert np.abs(cartesian[:2, 1]).min() > 1e-4
    plane = moved(sampler, copper(FixedPlane(0, (0, 1, 1))))
    assert abs(plane[0, 1] + plane[0, 2]) < 1e-12
    assert np.abs(plane[0]).max() > 1e-4
    line = moved(sampler, copper(FixedLine(0, (1, 1, 0))))
    assert np.abs(line[0, [0, 2]] - [line[0, 1], 0.0]).max() < 1e-12
    assert np.abs(line[0]).max() > 1e-4
    fixed = moved(sampler, copper(FixAtoms([2])))
    assert not fixed[2].any()
    assert np.abs(fixed[[0, 1, 3]]).min() > 1e-5


@pytest.mark.parametrize("name", SAMPLERS)
def test_bonds_of_fixed_length_keep_it(name):
    start = bulk("Cu", cubic=True) * (2, 2, 1)  # each neighbor is nearest in one image only, but along z
    start.set_constraint(FixBondLengths([[0, 3], [0, 7]]))
    shift = moved(SAMPLERS[name], start)
    assert np.abs(shift).max() > 1e-3
    after = start.copy()
    after.positions += shift
    for pair in ((0, 3), (0, 7)):
        assert after.get_distance(*pair, mic=True) == pytest.approx(start.get_distance(*pair, mic=True), abs=1e-9)


def test_thermal_motion_under_constraints_is_that_of_the_free_directions():
    """An atom on a spring that may move along x alone: its mean square there is kT/k."""
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 30.0]])
    atoms.set_constraint([FixAtoms([1]), FixedLine(0, (1, 0, 0)), Hookean(0, (0.0, 0.0, 0.0), 20.0, 0.0)])
    sampler, labeler, rng = NormalModeSampler(), Labeler(EMT()), np.random.default_rng(0)
    origin = Origin(atoms, labeler, 300.0, sampler.prepare(atoms, labeler))
    frames = [sampler.frame(origin, None, rng).positions[0] for _ in range(400)]
    assert np.abs(np.array(frames)[:, 1:]).max() < 1e-12
    assert np.var(np.array(frames)[:, 0]) == pytest.approx(units.kB * 300.0 / 20.0, rel=0.2)


def test_other_constraints_are_another_run():
    settings = GenerateSettings(output="a.xyz", structures=["b.xyz"])
    one, other = ([[copper(FixedPlane(0, normal))]] for normal in ((0, 0, 1), (0, 1, 0)))
    assert fingerprint(settings, one) != fingerprint(settings, other)
    assert fingerprint(settings, one) == fingerprint(settings, [[copper(FixedPlane(0, (0, 0, 1)))]])
