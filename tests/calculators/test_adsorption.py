import numpy as np
import pytest
from ase import Atoms, units
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from ik_e3nn.errors import DataError
from ik_e3nn.models import InteratomicPotential
from ik_e3nn_calculators import IKCalculator, adsorption_energy, surface_stress


def structures(count=1):
    slab, molecule = fcc111("Cu", (2, 2, 2), vacuum=8.0), Atoms("CO", [[0, 0, 0], [0, 0, 1.15]])
    combined = slab.copy()
    for number in range(count):
        add_adsorbate(combined, molecule, 1.8, "ontop", offset=number)
    return combined, slab, molecule


def with_calculators(make, *structures):
    for atoms in structures:
        atoms.calc = make()
    return structures


def test_it_is_the_difference_of_energies():
    combined, slab, molecule = with_calculators(EMT, *structures())
    expected = combined.get_potential_energy() - slab.get_potential_energy() - molecule.get_potential_energy()
    assert adsorption_energy(combined, slab, molecule) == pytest.approx(expected, abs=1e-12)
    assert expected < 0


def test_far_molecules_do_not_bind_and_two_share_their_energy():
    combined, slab, molecule = structures(2)
    combined.positions[len(slab) :, 2] += 40
    with_calculators(EMT, combined, slab, molecule)
    pair = combined[len(slab) :]
    pair.calc = EMT()
    each = pair.get_potential_energy() / 2 - molecule.get_potential_energy()
    assert adsorption_energy(combined, slab, molecule, molecules=2) == pytest.approx(each, abs=1e-10)


def test_references_that_do_not_match_are_named():
    combined, slab, molecule = with_calculators(EMT, *structures())
    with pytest.raises(
        DataError, match=r"do not make up the combined structure \(C: 1 instead of 2, O: 1 instead of 2\)"
    ):
        adsorption_energy(combined, slab, molecule, molecules=2)
    with pytest.raises(DataError, match="at least 1, got 0"):
        adsorption_energy(combined, slab, molecule, molecules=0)
    slab.cell[0] *= 1.01
    with pytest.raises(DataError, match="different cells"):
        adsorption_energy(combined, slab, molecule)
    combined, slab, molecule = with_calculators(EMT, *structures())
    slab.pbc = (True, False, False)
    with pytest.raises(DataError, match="combined is periodic along"):
        adsorption_energy(combined, slab, molecule)
    slab.pbc = combined.pbc
    molecule.info["charge"] = 1
    with pytest.raises(DataError, match="charges do not add up"):
        adsorption_energy(combined, slab, molecule)
    molecule.info["charge"] = 0
    molecule.calc = LennardJones()
    with pytest.raises(DataError, match=r"do not cancel .*molecule: LennardJones"):
        adsorption_energy(combined, slab, molecule)
    molecule.calc = None
    with pytest.raises(DataError, match="molecule has no calculator"):
        adsorption_energy(combined, slab, molecule)


def test_two_models_are_not_one_method():
    combined, slab, molecule = structures()
    models = [InteratomicPotential(["C", "O", "Cu"], 3.5, num_channels=2, num_layers=1) for _ in range(2)]
    for atoms, model in zip((combined, slab, molecule), (models[0], models[0], models[1]), strict=True):
        atoms.calc = IKCalculator(model)
    with pytest.raises(DataError, match="do not cancel"):
        adsorption_energy(combined, slab, molecule)
    molecule.calc = IKCalculator(models[0])
    assert np.isfinite(adsorption_energy(combined, slab, molecule))


def test_the_stress_of_a_film_does_not_depend_on_the_vacuum():
    films = [fcc111("Cu", (1, 1, 3), a=3.7, vacuum=vacuum) for vacuum in (6.0, 20.0)]
    for film in films:
        film.pbc = (True, True, False)
        film.calc = EMT()
    first, second = map(surface_stress, films)
    np.testing.assert_allclose(first, second, atol=1e-8)
    step = 1e-4
    energies = []
    for strain in (step, -step):
        strained = films[0].copy()
        strained.set_cell(strained.cell.array @ np.diag([1 + strain, 1, 1]), scale_atoms=True)
        strained.calc = EMT()
        energies.append(strained.get_potential_energy())
    area = np.linalg.norm(np.cross(*films[0].cell.array[:2]))
    joule_per_square_meter = units.m**2 / units.J
    assert first[0, 0] == pytest.approx(
        (energies[0] - energies[1]) / (2 * step) / area * joule_per_square_meter, rel=1e-4
    )


def test_only_films_have_one():
    film = fcc111("Cu", (1, 1, 3), vacuum=6.0)
    film.calc = EMT()
    film.pbc = True
    with pytest.raises(DataError, match="two periodic directions"):
        surface_stress(film)
