"""The driver gives i-PI the energies, forces and virials of the ASE calculator, for one structure or several."""

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from ik_e3nn.errors import ConfigError, DataError, ExplosionError, MissingInputError
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.ipi.driver import IKDriver
from tests.calculators.ipi.engine import crystal, isolated, needs_ipi, over_a_face, over_a_surface, potential, stored

pytestmark = needs_ipi

SURFACE = {"group": "SO2", "inputs": ["surface", "total_charge"]}
FACE = {"group": {"plane": "p1", "cell": [[2.3, 0.0], [0.7, 5.0]]}, "inputs": ["face"]}
BOHR, HARTREE = 0.52917721, 1 / 0.036749326  # as i-PI has them


def driver(folder, atoms, **options):
    atoms.write(folder / "template.extxyz")
    return IKDriver(str(folder / "template.extxyz"), stored(folder, **options), device="cpu")


def asked(atoms):
    """Cell and positions as i-PI gives them."""
    return atoms.cell.array.T / BOHR, atoms.positions / BOHR


@pytest.mark.parametrize(
    ("make", "options"), [(isolated, {}), (crystal, {}), (over_a_surface, SURFACE), (over_a_face, FACE)]
)
def test_the_calculator_of_ase_has_the_same_results(tmp_path, make, options):
    atoms = make()
    found = driver(tmp_path, atoms, **options)
    atoms.rattle(0.1, seed=1)
    energy, forces, virial, extras = found(*asked(atoms))
    atoms.calc = IKCalculator(potential(**options), device="cpu")
    expected = atoms.get_forces()
    assert abs(expected).max() > 0.1
    assert energy * HARTREE == pytest.approx(atoms.get_potential_energy(), rel=1e-7)
    np.testing.assert_allclose(forces * HARTREE / BOHR, expected, atol=3e-7 * abs(expected).max())
    assert extras == ""
    if atoms.pbc.any():
        stress = -virial * HARTREE / atoms.get_volume()
        assert abs(stress).max() > 1e-3
        np.testing.assert_allclose(stress, atoms.get_stress(voigt=False), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("make", [isolated, crystal])
def test_the_virial_is_minus_the_derivative_of_the_energy_by_the_strain(tmp_path, make):
    """For an open molecule too, because i-PI strains its atoms with the cell."""
    found = driver(tmp_path, make())
    cell, positions = asked(make())
    virial = found(cell, positions)[2]
    for row, column in [(0, 0), (1, 1), (2, 2), (0, 1), (2, 1)]:
        strain = np.zeros((3, 3))
        strain[row, column] = strain[column, row] = 1e-5
        ahead, behind = (found(F @ cell, positions @ F)[0] for F in (np.eye(3) + strain, np.eye(3) - strain))
        expected = (ahead - behind) / 2e-5 / (1 if row == column else 2)
        assert -virial[row, column] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_a_molecule_that_ipi_wraps_into_its_cell_is_refused(tmp_path):
    atoms = isolated()
    found = driver(tmp_path, atoms)
    atoms.positions -= atoms.positions[0] + 0.1  # some atoms are below zero now
    whole = found(*asked(atoms))[0]
    atoms.pbc = True
    atoms.wrap()
    atoms.positions += 0.3
    with pytest.raises(DataError, match=r'i-PI has wrapped \d of 6 atoms into its cell.*write pbc="false"'):
        driver(tmp_path, isolated())(*asked(atoms))
    assert whole == pytest.approx(driver(tmp_path, isolated())(*asked(isolated()))[0], rel=1e-10)


def test_beads_together_have_the_results_of_beads_alone_in_one_call_of_the_model(tmp_path):
    together, alone = driver(tmp_path, crystal()), driver(tmp_path, crystal())
    calls = []
    together._several.model.register_forward_hook(lambda *_: calls.append(1))
    for round_ in range(3):
        beads = [crystal() for _ in range(4)]
        for number, bead in enumerate(beads):
            bead.rattle(0.1 + 0.3 * round_, seed=10 * round_ + number)
        beads[3].set_cell(beads[3].cell.array * 1.05, scale_atoms=True)
        cells, positions = zip(*map(asked, beads), strict=True)
        for many, one in zip(together(list(cells), list(positions)), map(alone, cells, positions), strict=True):
            for a, b in zip(many[:3], one[:3], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    assert len(calls) == 3


def test_several_beads_cause_one_warning(tmp_path, caplog):
    atoms = isolated()
    atoms.info["charge"] = 1
    cell, positions = asked(atoms)
    driver(tmp_path, atoms)([cell] * 4, [positions] * 4)
    assert [record.getMessage() for record in caplog.records] == [
        "atoms.info['charge'] is 1, but the model does not use it (its inputs lack total_charge)"
    ]


def test_what_the_template_must_not_have(tmp_path):
    with pytest.raises(DataError, match=r"the template 'CCO' is not a file; expected a structure file such as extxyz"):
        IKDriver("CCO", stored(tmp_path))
    fixed = isolated()
    fixed.set_constraint(FixAtoms([0]))
    with pytest.raises(DataError, match=r"constraints, which i-PI does not know of; name fixed atoms in <fixatoms>"):
        driver(tmp_path, fixed)
    with pytest.raises(MissingInputError, match=r"the model needs the total charge in e"):
        driver(tmp_path, isolated(), inputs=["total_charge"])


def test_wrong_parameters_and_structures_are_refused(tmp_path):
    atoms = isolated()
    found = driver(tmp_path, atoms)
    template, model = str(tmp_path / "template.extxyz"), str(tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"ik_e3nn has no parameter 'templat'; did you mean 'template'\?"):
        IKDriver(template, model, templat="a.xyz")
    with pytest.raises(ConfigError, match=r"no parameter 'zzz'; parameters are template, model, device"):
        IKDriver(template, model, zzz=1)
    with pytest.raises(ConfigError, match=r"max_edges must be a whole number of at least 1"):
        IKDriver(template, model, max_edges=0)
    cell, positions = asked(atoms)
    with pytest.raises(DataError, match=r"i-PI gives 5 atoms, but the template has 6; make the template of the same"):
        found(cell, positions[1:])
    with pytest.raises(DataError, match=r"the cell of i-PI has no volume"):
        found(np.zeros((3, 3)), positions)
    with pytest.raises(DataError, match=r"positions are NaN or infinite for 1 of 6 atoms"):
        found([cell] * 2, [positions, np.where(np.arange(6)[:, None] == 2, np.nan, positions)])


def test_a_bead_that_explodes_is_named_by_its_closest_atoms(tmp_path, monkeypatch):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[9, 9, 9])
    found = driver(tmp_path, atoms)
    cell, positions = asked(atoms)
    monkeypatch.setattr(found._several.model.atomic_energy, "scale", found._several.model.atomic_energy.scale * np.inf)
    with pytest.raises(ExplosionError, match=r"NaN or infinite: .* in H2; check the structure"):
        found([cell] * 2, [positions] * 2)
