"""What a model or OpenMM cannot do is refused by name."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.errors import ConfigError, DataError, MissingInputError, UnknownSpeciesError
from ik_e3nn.models import InteratomicPotential
from tests.calculators.pair_potential import PairPotential

pytest.importorskip("openmmml", reason="needs OpenMM (pip install openmm openmmml)")

from tests.calculators.openmm.engine import context_of, openmm, potential, results, topology_of


def model(**options):
    torch.manual_seed(0)
    return InteratomicPotential(["H", "O"], 3.0, num_channels=2, **options).double().eval()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ["bond_types"]}, "the model uses bond types, and OpenMM cannot give it any"),
        ({"group": "SO2", "inputs": ["surface"]}, "the model knows a surface at a fixed place"),
        (
            {"group": {"plane": "p4m", "cell": [[2.5, 0], [0, 2.5]]}, "inputs": ["face"]},
            "the model knows a face at a fixed place",
        ),
    ],
)
def test_inputs_that_openmm_cannot_give(options, message):
    with pytest.raises(DataError, match=message):
        potential(model(**options))


def test_arguments_of_the_potential():
    with pytest.raises(TypeError, match=r'MLPotential\("ik_e3nn"\) got no model; expected model='):
        potential(None)
    with pytest.raises(TypeError, match=r"has no argument 'modelPath'; arguments are model, device, dtype"):
        potential(model(), modelPath="model.safetensors")
    with pytest.raises(ConfigError, match="dtype must be 'float32' or 'float64', got 'double'"):
        potential(model(), dtype="double")
    with pytest.raises(ConfigError, match="compile must be True or False, got 'yes'"):
        potential(model(), compile="yes")
    with pytest.raises(DataError, match="OpenMM needs an InteratomicPotential, .* got PairPotential"):
        potential(PairPotential())


WATER = molecule("H2O")


@pytest.mark.parametrize(
    ("inputs", "charges", "options", "error", "message"),
    [
        ([], None, {"precision": "double"}, TypeError, "createSystem of ik_e3nn has no argument 'precision'"),
        ([], None, {"mlLongRange": False}, TypeError, "createSystem of ik_e3nn has no argument 'mlLongRange'"),
        ([], None, {"subtract_e0": 1}, ConfigError, "subtract_e0 must be True or False, got 1"),
        ([], None, {"periodic": "no"}, ConfigError, "periodic must be True or False, got 'no'"),
        ([], None, {"charge": 1}, DataError, "charge is 1, but the model does not use it; leave it out"),
        ([], None, {"spin": 2}, DataError, "spin is 2, but the model does not use it; leave it out"),
        ([], [None, 1, None], {}, DataError, r"formal charges of the topology sum to \+1, but the model does not use"),
        (["total_charge"], [None, 0, 0], {}, MissingInputError, "formal charges for 2 of 3 atoms only; give charge="),
        (["total_charge"], [-1, 0, 0], {"charge": 1}, DataError, "the charge is given as 1, but .* sum to -1"),
        (["total_charge"], None, {"charge": "one"}, DataError, "must be one finite number; got 'one'"),
        (["spin"], None, {}, MissingInputError, "uses the spin multiplicity 2S\\+1, which no topology has; give spin="),
    ],
)
def test_arguments_of_the_system(inputs, charges, options, error, message):
    with pytest.raises(error, match=message):
        potential(model(inputs=inputs)).createSystem(topology_of(WATER, charges=charges), **options)


def classical(number, periodic=False):
    system = openmm.System()
    force = openmm.NonbondedForce()
    for _ in range(number):
        system.addParticle(1)
        force.addParticle(0, 1, 0)
    if periodic:
        force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        force.setCutoffDistance(0.5)
    system.addForce(force)
    return system


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([], "no atoms were chosen for the model"),
        ([0, 1, 1], "chosen more than once for the model: \\[1\\]"),
        ([0, -1], "there is no atom -1; the topology has 3 atoms, numbered from 0"),
    ],
)
def test_chosen_atoms(chosen, message):
    impl = potential(model())._impl
    with pytest.raises(DataError, match=message):
        impl.addForces(topology_of(WATER), openmm.System(), chosen, 0)


def test_elements():
    with pytest.raises(UnknownSpeciesError, match="the structure holds C, but the model knows only H, O"):
        potential(model()).createSystem(topology_of(molecule("CH4")))
    topology = topology_of(WATER)
    topology.addAtom("M", None, next(topology.residues()))
    with pytest.raises(DataError, match=r"1 atoms have no element, the first: 3 \(M of MOL 1\)"):
        potential(model()).createSystem(topology)


def test_a_cell_of_the_topology_alone_or_of_the_system_alone():
    cell = Atoms(WATER.numbers, WATER.positions, cell=[12.0] * 3, pbc=True)
    with pytest.raises(DataError, match="the topology is periodic, but the classical system is not; give periodic="):
        potential(model()).createMixedSystem(topology_of(cell), classical(3), [0, 1, 2])
    with pytest.raises(DataError, match="the classical system is periodic, but the topology is not; give periodic="):
        potential(model()).createMixedSystem(topology_of(WATER), classical(3, periodic=True), [0, 1, 2])
    mixed = potential(model()).createMixedSystem(topology_of(cell), classical(3), [0, 1, 2], periodic=False)
    assert not mixed.usesPeriodicBoundaryConditions()


def test_nan_and_unphysical_positions_stop_a_run():
    system = potential(model()).createSystem(topology_of(WATER))
    atoms = WATER.copy()
    atoms.positions[1] = np.nan
    with pytest.raises(
        openmm.OpenMMException, match=r"positions are NaN or infinite for 1 of 3 atoms, the first: 1 \(H\)"
    ):
        results(context_of(system, atoms))
