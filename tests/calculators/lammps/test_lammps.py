"""LAMMPS with one to four processes has the energies, forces and stress of the ASE calculator."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule

from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.lammps.build import LammpsBuildSettings, build_lammps
from ik_e3nn_calculators.lammps.export import package_for_lammps
from tests.calculators.lammps.engine import Engine, needs_lammps
from tests.shared import made_once

ELEMENTS = ["H", "C", "O", "Al", "Cu"]
CUTOFF = 3.5
EXACT = 1e-10

pytestmark = [pytest.mark.slow, needs_lammps]


def potential(**options):
    torch.manual_seed(0)
    options = {"num_channels": 2, "num_layers": 2, "l_max": 1, "l_features": 1, "correlation": 2} | options
    model = InteratomicPotential(ELEMENTS, CUTOFF, **options)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.set_scale(30.0)
    model.set_energy_reference({z: -float(z) for z in model.species}, "test")
    return model.double().eval()


MODELS = {
    "O3": (potential, {}),
    "surface": (
        lambda: potential(num_layers=1, group="SO2", inputs=["surface", "total_charge"]),
        {"charge": 1, "surface_origin": [0, 0, 1.0]},
    ),
}


@pytest.fixture(scope="session")
def plugin(tmp_path_factory):
    return made_once(tmp_path_factory, "lammps-plugin", lambda folder: build_lammps(LammpsBuildSettings(str(folder))))


@pytest.fixture(scope="module")
def packages(tmp_path_factory, quickest_compiler):
    def fill(folder):
        for name, (make, info) in MODELS.items():
            package_for_lammps(make(), folder / f"{name}.pt2", info)

    return made_once(tmp_path_factory, "lammps-packages", fill)


@pytest.fixture
def engine(tmp_path, plugin, packages):
    return Engine(tmp_path, packages / "O3.pt2", plugin / "ik_e3nnplugin.so", ELEMENTS)


def liquid():
    """Water molecules in random orientations on a lattice."""
    rng = np.random.default_rng(0)
    box = Atoms(cell=[9.3] * 3, pbc=True)
    for corner in np.ndindex(3, 3, 3):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.positions += 3.1 * np.array(corner)
        box += water
    box.wrap()
    return box


def crystal():
    """Methanol in a skewed cell, two molecules each way."""
    cell = molecule("CH3OH")
    cell.set_cell([[4.6, 0, 0], [0.7, 5.0, 0], [-0.4, 0.9, 4.4]])
    cell.pbc = True
    cell = cell.repeat(2)
    cell.rattle(0.05, seed=0)
    cell.wrap()
    return cell


def metal():
    cell = bulk("Cu", cubic=True).repeat(2)
    cell.set_cell(cell.cell.array * [1.02, 0.99, 1.01], scale_atoms=True)
    cell.rattle(0.1, seed=0)
    cell.wrap()
    return cell


def slab():
    cell = fcc111("Al", (2, 3, 3), vacuum=6.0, orthogonal=False)
    cell.rattle(0.1, seed=0)
    cell.wrap()
    return cell


def isolated(name="CH3OH"):
    atoms = molecule(name, vacuum=5.0)
    atoms.rattle(0.05, seed=0)
    return atoms


SYSTEMS = [crystal, liquid, metal, slab, isolated]


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("make", SYSTEMS)
def test_the_calculator_of_ase_has_the_same_results(engine, make, processes):
    turned, found = engine.predict(make(), processes)
    turned.calc = IKCalculator(potential())
    forces = turned.get_forces()
    assert abs(forces).max() > 0.1
    assert found["energy"] == pytest.approx(turned.get_potential_energy(), rel=EXACT)
    np.testing.assert_allclose(found["forces"], forces, atol=EXACT * abs(forces).max())
    np.testing.assert_allclose(found["energies"], turned.get_potential_energies(), rtol=EXACT)
    np.testing.assert_allclose(found["virials"].sum(0) / turned.get_volume(), found["stress"], atol=1e-10)
    if turned.pbc.any():
        stress, virials = turned.get_stress(), turned.get_stresses() * turned.get_volume()
        np.testing.assert_allclose(found["virials"], virials, atol=EXACT * abs(virials).max())
        np.testing.assert_allclose(found["stress"], stress, atol=EXACT * abs(stress).max())


def test_tiles_change_only_the_rounding(engine):
    _, small = engine.predict(liquid())
    engine.style = "ik_e3nn"
    _, whole = engine.predict(liquid())
    for name, value in whole.items():
        np.testing.assert_allclose(small[name], value, rtol=1e-12, atol=1e-12 * np.abs(value).max())


@pytest.mark.parametrize("processes", [1, 2])
def test_a_charged_molecule_over_a_surface(engine, packages, processes):
    """Beside a surface the sign of edge vectors matters, and strains are defined along the surface only."""
    engine.model = packages / "surface.pt2"
    atoms = crystal()
    atoms.set_cell([[9.2, 0, 0], [1.4, 10.0, 0], [0, 0, 20.0]])
    atoms.positions[:, 2] += 2.0
    atoms.pbc = (True, True, False)
    turned, found = engine.predict(atoms, processes)
    turned.info |= {"charge": 1, "surface_origin": [0, 0, 1.0]}
    turned.calc = IKCalculator(MODELS["surface"][0]())
    forces, stress = turned.get_forces(), turned.get_stress()
    assert abs(forces.sum(0)[2]) > 1e-3  # the surface pushes back
    assert found["energy"] == pytest.approx(turned.get_potential_energy(), rel=EXACT)
    np.testing.assert_allclose(found["forces"], forces, atol=EXACT * abs(forces).max())
    np.testing.assert_allclose(found["stress"], stress, atol=EXACT * abs(stress).max())


@pytest.mark.parametrize("atoms", [Atoms("O", cell=[9, 9, 9], positions=[[4, 4, 4]]), isolated("OH")], ids=["1", "2"])
@pytest.mark.parametrize("processes", [1, 4])
def test_few_atoms_and_processes_without_any(engine, atoms, processes):
    turned, found = engine.predict(atoms, processes)
    turned.calc = IKCalculator(potential())
    assert found["energy"] == pytest.approx(turned.get_potential_energy(), rel=EXACT)
    np.testing.assert_allclose(found["forces"], turned.get_forces(), atol=1e-10)


def test_other_units(engine):
    _, in_eV = engine.predict(liquid())
    _, in_kcal = engine.predict(liquid(), units="real")
    kcal = units.kcal / units.mol
    assert in_kcal["energy"] * kcal == pytest.approx(in_eV["energy"], rel=1e-6)  # LAMMPS's constants are older
    np.testing.assert_allclose(in_kcal["forces"] * kcal, in_eV["forces"], rtol=1e-6, atol=1e-7)
    atm = 1.01325  # bar
    np.testing.assert_allclose(in_kcal["stress"] * atm, in_eV["stress"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("processes", [1, 2])
def test_hybrid_styles_and_atoms_that_are_left_out(engine, processes):
    """Atoms of type NULL feel nothing, and the others do not feel them."""
    atoms = liquid()
    atoms.symbols[:3] = ["Al", "Cu", "Cu"]  # one molecule that the model does not see
    turned = engine.write(atoms)
    start = engine.commands(atoms)[:-2]
    both = ["pair_style hybrid/overlay zero 5.0 ik_e3nn max_edges 300", "pair_coeff * * zero"]
    both.append(f"pair_coeff * * ik_e3nn {engine.model} H C O NULL NULL")
    dump = ["dump 1 all custom 1 out.dump id fx fy fz", "dump_modify 1 sort id format float %.17g"]
    log = engine.run([*start, *both, TABLE, "thermo_modify format float %.15g", *dump, "run 0"], processes)
    forces = np.loadtxt(engine.folder / "out.dump", skiprows=9)[:, 1:4]
    seen = turned[3:]
    seen.calc = IKCalculator(potential())
    assert last_row(log)[2] == pytest.approx(seen.get_potential_energy(), rel=EXACT)
    np.testing.assert_allclose(forces[3:], seen.get_forces(), atol=EXACT * abs(forces).max())
    assert not forces[:3].any()


MD = [
    "velocity all create 300 1 loop geom",
    "fix 1 all nve",
    "timestep 0.0001",
    "thermo 10",
    "thermo_modify format float %.15g",
]
TABLE = "thermo_style custom step etotal pe press"


def last_row(log):
    """The last row of the last table of a log."""
    lines = log.splitlines()
    stop = max(k for k, line in enumerate(lines) if line.startswith("Loop time"))
    return np.array(lines[stop - 1].split(), dtype=float)


def test_energy_is_conserved_and_runs_continue_where_they_stopped(engine):
    engine.write(crystal())
    start = [*engine.commands(crystal()), TABLE, *MD]
    first = engine.run([*start, "run 0"])
    whole = last_row(engine.run([*start, "run 40"], 2))
    before = last_row(first)
    assert abs(whole[2] - before[2]) > 0.1  # kinetic and potential energy are exchanged
    assert whole[1] == pytest.approx(before[1], abs=1e-2 * abs(whole[2] - before[2]))
    halves = last_row(engine.run([*start, "run 20", "write_restart half.restart", "run 20"], 1))
    np.testing.assert_allclose(halves[1:], whole[1:], rtol=1e-8)
    plugin, *_, style, coeff = engine.commands(crystal())
    again = [plugin, "read_restart half.restart", style, coeff, TABLE, *MD[1:], "run 20"]
    np.testing.assert_allclose(last_row(engine.run(again, 2)), whole, rtol=1e-8)


def test_minimizing_a_dump_again_and_a_barostat(engine):
    atoms = metal()
    turned = engine.write(atoms)
    start = [*engine.commands(atoms), TABLE, "thermo_modify format float %.15g"]
    relaxed = last_row(engine.run([*start, "dump 1 all custom 1 m.dump id type x y z", "minimize 0 1e-3 50 100"]))
    turned.calc = IKCalculator(potential())
    assert relaxed[2] < turned.get_potential_energy() - 0.1
    again = last_row(engine.run([*start, "rerun m.dump dump x y z"]))
    assert again[2] == pytest.approx(relaxed[2], abs=1e-4)  # a dump has few digits
    barostat = [*MD[:1], "fix 1 all npt temp 300 300 0.1 aniso 0 0 1.0", *MD[2:3], "thermo 10", "run 20"]
    one, two = (last_row(engine.run([*start, *barostat], processes)) for processes in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-8)


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        (["pair_style ik_e3nn 3.5"], "expected pair_style ik_e3nn, or pair_style ik_e3nn max_edges N"),
        (["pair_style ik_e3nn max_edges 0"], "max_edges of pair_style ik_e3nn must be at least 1, got 0"),
        (["pair_coeff * * {model} H C"], "one element, or NULL, for each of the 5 atom types"),
        (
            ["pair_coeff * * {model} H C O Al Xe"],
            "does not know Xe, the element of atom type 5; it was made for H C O Al Cu",
        ),
        (["pair_coeff * * none.pt2 H C O Al Cu"], "the model none.pt2 does not exist, or cannot be read"),
        (["newton off", "read_data structure.data"], "needs newton on"),
        (["neigh_modify exclude type 1 1", "run 0"], "neigh_modify exclude leaves some out"),
        (["set atom 2 x 1 y 1 z 1", "set atom 1 x 1 y 1 z 1", "run 0"], "atoms . and . are in the same place"),
        (["units lj"], "needs units metal or real, got units lj"),
    ],
)
def test_what_cannot_be_done_is_refused(engine, commands, message):
    atoms = isolated()
    engine.write(atoms)
    usual = engine.commands(atoms)
    if commands[0] == "newton off":
        usual.insert(1, "newton off")
        commands = ["run 0"]
    if commands[0].startswith("units"):
        usual[1], commands = commands[0], ["run 0"]
    with pytest.raises(RuntimeError, match=message):
        engine.run([*usual, *(command.format(model=engine.model) for command in commands)])


def test_an_order_of_elements_that_does_not_fit_the_masses_is_reported(engine):
    engine.write(isolated())
    right, wrong = engine.commands(isolated()), f"pair_coeff * * {engine.model} C H O Al Cu"
    assert "is the order" not in engine.run([*right, "run 0"])
    assert "atom type 1 is C by pair_coeff, but its mass 1.008 is that of H" in engine.run(
        [*right[:-1], wrong, "run 0"]
    )


def test_a_package_of_another_model_kind_is_refused(engine, tmp_path):
    save_model(potential(), tmp_path / "model.safetensors")
    engine.model = tmp_path / "model.safetensors"
    engine.write(isolated())
    with pytest.raises(
        RuntimeError, match=r"model.safetensors is not a file of ik-e3nn export lammps, or it is damaged"
    ):
        engine.run([*engine.commands(isolated()), "run 0"])
