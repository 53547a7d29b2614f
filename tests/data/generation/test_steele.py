import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.lattice.hexagonal import Graphite
from scipy.integrate import quad
from scipy.spatial.transform import Rotation

from ik_e3nn.data.generation.labeling import make_calculator
from ik_e3nn.data.generation.steele import DENSITY, EPSILON_SURFACE, LAYER, SIGMA_SURFACE, UFF, SteeleWall, steele
from ik_e3nn.errors import DataError, UnknownSpeciesError


def pair(symbol):
    """sigma (A) and epsilon (eV) of an atom with graphite's, by the definition of the rules."""
    minimum, well = UFF[symbol]
    return (minimum / 2 ** (1 / 6) + SIGMA_SURFACE) / 2, np.sqrt(well * units.kcal / units.mol * EPSILON_SURFACE)


@pytest.mark.parametrize(("symbol", "z"), [("C", 3.4), ("H", 2.7), ("Ar", 5.0)])
def test_it_is_the_integral_of_lennard_jones_over_layers(symbol, z):
    """The first terms are exact for one smeared layer; the last one stands for the layers below, to about 5 %."""
    sigma, epsilon = pair(symbol)

    def layer(height):
        def ring(r):
            x = sigma**2 / (r**2 + height**2)
            return 4 * epsilon * (x**6 - x**3) * 2 * np.pi * r * DENSITY * LAYER

        return quad(ring, 0, np.inf)[0]

    energy, _ = steele(np.array([z]), Atoms(symbol).numbers)
    depth = 2 * np.pi * epsilon * DENSITY * sigma**2 * LAYER
    first = layer(z)
    assert first == pytest.approx(depth * (0.4 * (sigma / z) ** 10 - (sigma / z) ** 4), rel=1e-6)
    assert energy[0] - first == pytest.approx(sum(layer(z + n * LAYER) for n in range(1, 400)), rel=0.05)


def test_forces_are_the_derivative_of_the_energy():
    atoms = molecule("CH3CH2OH")
    atoms.positions[:, 2] += 2.5 - atoms.positions[:, 2].min()
    atoms.calc = SteeleWall()
    forces = atoms.get_forces()
    assert np.abs(forces[:, :2]).max() == 0
    for index in (0, 2, 5):
        step = atoms.copy()
        energies = []
        for h in (1e-4, -1e-4):
            step.positions[index, 2] = atoms.positions[index, 2] + h
            step.calc = SteeleWall()
            energies.append(step.get_potential_energy())
        assert -(energies[0] - energies[1]) / 2e-4 == pytest.approx(forces[index, 2], abs=1e-7)


def test_the_wall_may_stand_anywhere():
    atoms = molecule("H2O")
    atoms.positions[:, 2] += 3.0
    atoms.calc = SteeleWall()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    turn, shift = Rotation.from_rotvec([0.3, -1.0, 0.2]).as_matrix(), np.array([1.0, 2.0, -3.0])
    atoms.positions = atoms.positions @ turn.T + shift
    atoms.info.update(surface_normal=2 * turn[:, 2], surface_origin=shift)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), forces @ turn.T, atol=1e-12)
    atoms.info["surface_origin"] = shift - 0.5 * turn[:, 2]  # nothing else changes
    assert abs(atoms.get_potential_energy() - energy) > 1e-3


def test_a_slit_is_two_walls():
    atoms = Atoms("Ar", [[0, 0, 0.7]])
    below, above = (Atoms("Ar", [[0, 0, z]], calculator=SteeleWall()) for z in (4.7, 3.3))
    atoms.calc = SteeleWall(width=8.0)
    assert atoms.get_potential_energy() == pytest.approx(below.get_potential_energy() + above.get_potential_energy())
    np.testing.assert_allclose(atoms.get_forces(), below.get_forces() - above.get_forces())


def test_errors_name_the_atom_the_element_and_the_width():
    with pytest.raises(DataError, match=r"atom 1 \(H\) is 0.20 A behind the wall"):
        Atoms("CH", [[0, 0, 3], [0, 0, -0.2]], calculator=SteeleWall()).get_potential_energy()
    with pytest.raises(UnknownSpeciesError, match="no parameters of the Steele wall for Au; known are H"):
        Atoms("Au", [[0, 0, 3]], calculator=SteeleWall()).get_potential_energy()
    with pytest.raises(DataError, match="width of a slit must be positive"):
        SteeleWall(width=0)


def test_calculators_can_be_summed_by_name():
    atoms = molecule("CO")
    atoms.positions[:, 2] += 4.0
    energies = []
    for name in ("emt", "steele", "emt+steele"):
        atoms.calc = make_calculator(name)
        energies.append(atoms.get_potential_energy())
    assert energies[2] == pytest.approx(energies[0] + energies[1], abs=1e-12)
    with pytest.raises(DataError, match="must be grouped by the names in it; got rc"):
        make_calculator("lj+steele", options={"rc": 3.0})


def test_the_density_is_that_of_graphite():
    crystal = Graphite("C", latticeconstant={"a": 2.46, "c": 2 * LAYER})
    assert len(crystal) / crystal.get_volume() == pytest.approx(DENSITY, rel=0.01)
