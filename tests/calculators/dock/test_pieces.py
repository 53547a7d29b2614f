"""The pieces of a pose search: molecules and their symmetry, regions, relaxation, distances of poses."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, fcc111, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import write
from ase.optimize import LBFGS
from scipy.spatial.transform import Rotation

from ik_e3nn.data import slab_operations
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import get_bonds, set_bonds
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn_calculators.dock.poses.cluster import PoseDistance, cluster
from ik_e3nn_calculators.dock.poses.results import tilt
from ik_e3nn_calculators.dock.search.relax import MEMORY, RelaxState, relax
from ik_e3nn_calculators.dock.settings import DockSettings, RegionSettings
from ik_e3nn_calculators.dock.system.checks import check_cell, check_slab, warn_of_images
from ik_e3nn_calculators.dock.system.host import Host, pocket_of, read_host
from ik_e3nn_calculators.dock.system.ligand import read_ligand
from ik_e3nn_calculators.dock.system.region import check_reach, clashes, make_region, starting_poses

SURFACE = Host(Atoms(), "surface")


@pytest.mark.parametrize(
    ("smiles", "maps"),
    [("c1ccccc1", 12), ("CCO", 1), ("CC", 2), ("C", 1), ("CC(=O)[O-]", 2), ("Cc1ccccc1", 2), ("[H][H]", 2)],
)
def test_automorphisms_of_heavy_atoms(smiles, maps):
    assert len(read_ligand(smiles, 1, 0).automorphisms()) == maps


def test_a_file_gives_the_first_conformer_and_its_bonds(tmp_path):
    atoms = molecule("CH3CH2OH")
    write(tmp_path / "a.xyz", atoms)
    ligand = read_ligand(str(tmp_path / "a.xyz"), 3, 0)
    np.testing.assert_allclose(ligand.conformers[0].positions, atoms.positions, atol=1e-6)
    assert len(ligand.molecule.GetBonds()) == 8
    assert len(ligand.conformers) > 1


def test_ligands_that_are_none_are_named(tmp_path):
    with pytest.raises(DataError, match="there is no file gone.sdf"):
        read_ligand("gone.sdf", 1, 0)
    with pytest.raises(DataError, match="cannot be read"):
        read_ligand("C1CC", 1, 0)
    with pytest.raises(DataError, match="'O.O' are 2 molecules"):
        read_ligand("O.O", 1, 0)
    block = "\n  bad\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n" + "".join(
        f"    {x:.4f}    0.0000    0.1000 {s}   0  0  0  0  0  0  0  0  0  0  0  0\n" for x, s in ((0, "F"), (1.4, "N"))
    )
    (tmp_path / "bad.sdf").write_text(block + "  1  2  3  0\nM  END\n$$$$\n")
    with pytest.raises(DataError, match="fails RDKit's sanitization"):
        read_ligand(str(tmp_path / "bad.sdf"), 1, 0)
    slab = fcc111("Cu", (1, 1, 2), vacuum=5)
    slab.info = {}
    write(tmp_path / "slab.xyz", slab)
    with pytest.raises(DataError, match="is periodic"):
        read_ligand(str(tmp_path / "slab.xyz"), 1, 0)


def test_places_are_uniform_in_the_region_and_orientations_on_the_sphere():
    ligand, rng = read_ligand("CC", 1, 0), np.random.default_rng(0)
    region = make_region(RegionSettings(sphere=[1.0, 2.0, 3.0, 4.0]), SURFACE)
    poses, _ = starting_poses(ligand, SURFACE, region, 2000, rng)
    middle = poses.mean(axis=1) - [1, 2, 3]
    radii = np.linalg.norm(middle, axis=1)
    assert radii.max() <= 4.0 + 1e-9
    assert np.quantile(radii, [0.125, 0.5]) == pytest.approx([2.0, 4 * 0.5 ** (1 / 3)], abs=0.15)
    axes = poses[:, 1] - poses[:, 0]
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    assert np.abs(axes.mean(0)).max() < 0.05
    np.testing.assert_allclose((axes**2).mean(0), 1 / 3, atol=0.03)


def test_over_a_surface_the_lowest_atom_has_the_height():
    ligand = read_ligand("CCO", 2, 0)
    region = make_region(RegionSettings(heights=[2.0, 3.0], lateral=1.5), SURFACE)
    poses, kinds = starting_poses(ligand, SURFACE, region, 50, np.random.default_rng(0))
    lowest = poses[:, :, 2].min(1)
    assert (lowest >= 2).all()
    assert (lowest <= 3).all()
    assert np.abs(poses.mean(1)[:, :2]).max() <= 1.5
    assert set(kinds) <= {0, 1}


def test_poses_over_a_slab_cover_the_cell_and_do_not_clash():
    slab = fcc111("Cu", (3, 3, 2), vacuum=8.0)
    host = Host(slab, "slab.xyz")
    ligand = read_ligand("O", 1, 0)
    poses, _ = starting_poses(
        ligand, host, make_region(RegionSettings(heights=[1.0, 3.0]), host), 60, np.random.default_rng(0)
    )
    scaled = np.linalg.solve(slab.cell.array.T, poses.mean(1).T).T[:, :2] % 1
    assert np.ptp(scaled, axis=0).min() > 0.8
    assert not any(clashes(pose, ligand.conformers[0].numbers, host) for pose in poses)
    shifted = poses[0] - slab.cell.array[0]
    inside = slab.positions[-1] + [0, 0, 0.5] + poses[0] - poses[0].mean(0)
    assert not clashes(shifted, ligand.conformers[0].numbers, host)
    assert clashes(inside - slab.cell.array[0], ligand.conformers[0].numbers, host)


def test_a_region_without_room_is_named():
    lump = Host(Atoms("Cu", [[0, 0, 0]]), "lump.xyz")
    region = make_region(RegionSettings(sphere=[0, 0, 0, 0.1]), lump)
    with pytest.raises(DataError, match=r"no room for O: 0 of 2000 random places .* clash with lump.xyz"):
        starting_poses(read_ligand("O", 1, 0), lump, region, 10, np.random.default_rng(0))
    with pytest.raises(DataError, match="not a surface, so it needs a region"):
        make_region(RegionSettings(), lump)
    with pytest.raises(DataError, match=r"no atom of lump.xyz is within 5.0 A of the region; the nearest is at 50"):
        pocket_of(lump, np.array([50.0]), 5.0)


def test_a_region_far_from_a_surface_or_behind_it_is_named():
    """Images count: a pose one cell away is at home."""
    slab = Host(fcc111("Cu", (3, 3, 2), vacuum=8.0), "slab.xyz")
    pose, numbers = np.array([[[0.0, 0.0, slab.top + 5.0]]]), np.array([18])
    check_reach(pose + slab.atoms.cell.array[0], numbers, slab, 6.0)
    with pytest.raises(DataError, match=r"all 1 poses begin farther than 4.0 A from slab.xyz"):
        check_reach(pose, numbers, slab, 4.0)
    check_reach(np.array([[[0.0, 0, 20]], [[0.0, 0, 5]]]), numbers, SURFACE, 8.0)
    with pytest.raises(DataError, match="from surface"):
        check_reach(np.array([[[0.0, 0, 20]]]), numbers, SURFACE, 8.0)
    behind = make_region(RegionSettings(sphere=[0, 0, -5, 1]), SURFACE)
    with pytest.raises(DataError, match="no room for O"):
        starting_poses(read_ligand("O", 1, 0), SURFACE, behind, 2, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sphere": [0, 0, 0, 1], "around": "a.sdf"}, "one region; got sphere and around"),
        ({"heights": [3, 2]}, "the least and the largest"),
        ({"sphere": [0, 0, 1]}, "x, y, z and a radius"),
        ({"box": [0, 0, 1]}, "x, y, z of two corners"),
        ({"radius": -1, "around": "a.sdf"}, "region.radius is -1, but it must be zero or positive"),
        ({"heights": [2, np.inf]}, r"heights is \[2, inf\], but it must be a list, each item a finite number"),
        ({"radius": 2.0}, "a sphere around region.around, which is not given"),
        ({"radius": 2.0, "sphere": [0, 0, 0, 1]}, "a sphere around region.around, which is not given"),
        ({"heights": [2, 5], "sphere": [0, 0, 0, 1]}, "heights is for a search over a surface .* with region.sphere"),
        ({"lateral": 1.0, "around": "a.sdf"}, "lateral is for a search over a surface .* with region.around"),
    ],
)
def test_impossible_regions(options, message):
    with pytest.raises(ConfigError, match=message):
        RegionSettings(**options)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("poses", 0, "poses is 0, but it must be at least 1"),
        ("poses", 2.5, "poses is 2.5, but it must be a whole number"),
        ("seed", -1, "seed is -1, but it must be between 0 and"),
    ],
)
def test_numbers_of_things_are_whole(name, value, message):
    with pytest.raises(ConfigError, match=message):
        DockSettings("C", "m", **{name: value})


def test_settings_that_are_not_given_have_their_defaults():
    assert make_region(RegionSettings(), SURFACE).lower.tolist() == [0, 0, 2]
    assert make_region(RegionSettings(heights=[2, 4], lateral=1), SURFACE).upper.tolist() == [1, 1, 4]


def slab_of(builder=fcc111, size=(3, 3, 2), pbc=(True, True, False)):
    slab = builder("Cu", size, vacuum=8.0)
    slab.pbc = pbc
    return slab


def check(atoms, smiles="O", **region):
    """All checks of a host and its cell, in the order of a search."""
    host, ligand = Host(atoms, "host.xyz"), read_ligand(smiles, 1, 0)
    check_slab(host)
    check_cell(host, ligand, make_region(RegionSettings(**region), host))


def test_slabs_across_z_are_searched():
    for pbc in ((True, True, False), True):
        check(slab_of(pbc=pbc))
    check(bulk("Cu", cubic=True).repeat(3), sphere=[0, 0, 0, 1])  # a pore of a crystal is a site like any other


def test_slabs_that_do_not_lie_across_z_are_refused():
    tilted = slab_of()
    tilted.rotate(20, "x", rotate_cell=True)
    with pytest.raises(
        DataError, match=r"normal of host.xyz is \(-?0.00, -0.34, 0.94\).* whose normal is z .* rotate it"
    ):
        check(tilted)
    upright = slab_of()
    upright.set_cell(upright.cell.array[[0, 2, 1]])
    upright.pbc = (True, False, True)
    with pytest.raises(DataError, match=r"along cell vectors \[1, 3\]; .* reorder its cell vectors"):
        check(upright)


def test_crystals_are_no_surfaces():
    with pytest.raises(DataError, match=r"host.xyz is not a surface.* 5 A of vacuum or more.* got pbc .* and 1.8 A"):
        check(bulk("Cu", cubic=True).repeat(3))


def test_cells_without_room_are_refused():
    with pytest.raises(
        DataError, match=r"c1ccccc1 is \d.\d A long and its images .* 5.1 A apart; expected at least [67].\d"
    ):
        check(slab_of(size=(2, 2, 2)), "c1ccccc1")
    close = slab_of(pbc=True)
    with pytest.raises(DataError, match=r"16.0 A of vacuum; O, 1.\d A long, at heights up to 14.0 A needs 17.\d A"):
        check(close, heights=[2, 14])
    close.pbc[2] = False
    check(close, heights=[2, 14])


def test_a_warning_of_molecules_that_feel_their_images(caplog):
    """Argon in the cell of a slab is 7.7 A from its images: three times 3.6 / sqrt(2)."""
    slab, ligand = Host(slab_of(), "slab.xyz"), read_ligand("[Ar]", 1, 0)
    warn_of_images(slab, ligand, 7.0)
    assert not caplog.text
    warn_of_images(slab, ligand, 8.0)
    distance = 3 * bulk("Cu").cell.lengths()[0]
    assert f"come as near as {distance:.1f} A to each other, within the model's cutoff of 8.0 A" in caplog.text


def test_a_part_of_a_host_keeps_its_bonds_and_must_not_be_charged():
    chain = Atoms("C4", [[1.5 * k, 0, 0] for k in range(4)])
    set_bonds(chain, [[0, 1, 1], [1, 2, 2], [2, 3, 1]])
    distances = 6.0 - chain.positions[:, 0]
    part = pocket_of(Host(chain, "chain.xyz"), distances, 4.0)
    assert len(part.atoms) == 2
    assert get_bonds(part.atoms).tolist() == [[0, 1, 1]]
    chain.info["charge"] = -1
    assert pocket_of(Host(chain, "chain.xyz"), distances, 40.0).atoms.info["charge"] == -1
    with pytest.raises(DataError, match="chain.xyz has charge -1 and multiplicity 1, but only 2 of its 4 atoms"):
        pocket_of(Host(chain, "chain.xyz"), distances, 4.0)


def test_crystal_water_is_left_out_and_residues_stay_whole(tmp_path):
    lines = [
        ("ATOM", 1, "N", "ALA", 1, 0.0), ("ATOM", 2, "CA", "ALA", 1, 1.5), ("ATOM", 3, "N", "GLY", 2, 9.0),
        ("ATOM", 4, "CA", "GLY", 2, 10.5), ("HETATM", 5, "O", "HOH", 3, 1.0),
    ]  # fmt: skip
    text = "".join(
        f"{kind:<6}{serial:>5} {name:<4} {residue} A{number:>4}    {x:8.3f}{0:8.3f}{0:8.3f}"
        f"  1.00  0.00          {name[0]:>2}\n"
        for kind, serial, name, residue, number, x in lines
    )
    (tmp_path / "a.pdb").write_text(text + "END\n")
    host = read_host(str(tmp_path / "a.pdb"))
    assert len(host.atoms) == 4
    pocket = pocket_of(host, np.abs(host.atoms.positions[:, 0] + 1.0), 1.2)
    assert pocket.atoms.symbols.get_chemical_formula() == "CN"
    assert not host.is_surface


def pdb_line(serial, name, location, residue, number, position, occupancy):
    x, y, z = position
    return (
        f"ATOM  {serial:>5} {name:<4}{location}{residue:<4}A{number:>4}    {x:8.3f}{y:8.3f}{z:8.3f}"
        f"{occupancy:6.2f}  0.00          {name[0]:>2}\n"
    )


def test_of_alternate_locations_one_conformer_is_the_host(tmp_path):
    """Two places of an oxygen atom, 2 A apart: the one of the higher occupancy, and of equal ones the first."""
    places = {"A": (1.4, 1.0, 0.0), "B": (1.4, -1.0, 0.0)}
    for occupancies, taken in (((0.3, 0.7), "B"), ((0.5, 0.5), "A")):
        lines = [pdb_line(1, "CB", " ", "SER", 7, (0, 0, 0), 1.0)]
        for serial, (letter, occupancy) in enumerate(zip("AB", occupancies, strict=True), 2):
            lines.append(pdb_line(serial, "OG", letter, "SER", 7, places[letter], occupancy))
        (tmp_path / "a.pdb").write_text("".join(lines) + "END\n")
        host = read_host(str(tmp_path / "a.pdb"))
        assert host.atoms.get_chemical_formula() == "CO"
        np.testing.assert_allclose(host.atoms.positions[1], places[taken])


def test_two_atoms_at_one_place_are_refused(tmp_path):
    write(tmp_path / "a.xyz", Atoms("Cu3", [[0, 0, 0], [2.6, 0, 0], [2.6, 0, 0.3]]))
    with pytest.raises(
        DataError, match=r"atoms 1 and 2 of .*a.xyz are closer than 0.5 A: it holds alternate locations"
    ):
        read_host(str(tmp_path / "a.xyz"))


def test_a_slab_in_a_pdb_file_stays_periodic_and_a_protein_does_not(tmp_path):
    slab = fcc111("Cu", (2, 2, 2), vacuum=8.0)
    slab.pbc = True
    write(tmp_path / "slab.pdb", slab)
    host = read_host(str(tmp_path / "slab.pdb"))
    assert host.is_surface
    assert host.vacuum == pytest.approx(16.0, abs=2e-3)
    crystal = "CRYST1   30.000   30.000   30.000  90.00  90.00  90.00 P 1           1\n"
    (tmp_path / "a.pdb").write_text(crystal + pdb_line(1, "N", " ", "ALA", 1, (0, 0, 0), 1.0) + "END\n")
    assert not read_host(str(tmp_path / "a.pdb")).atoms.pbc.any()


def spring(scale):
    return lambda x: (0.5 * scale * (x**2).sum((1, 2)), -scale * x)


class Valley(Calculator):
    """A quadratic well, stiff in some directions and soft in others."""

    implemented_properties = ("energy", "forces")
    minimum = np.zeros((4, 3))
    hessian = np.zeros((12, 12))

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        out = (atoms.positions - self.minimum).ravel()
        self.results = {"energy": 0.5 * out @ self.hessian @ out, "forces": -(self.hessian @ out).reshape(-1, 3)}


def test_relaxation_is_that_of_ase_pose_by_pose():
    """The same path as ASE's L-BFGS, however many poses are relaxed together, after the memory is full too."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    well = Valley()
    well.hessian = axes @ np.diag(np.logspace(-1, 2, 12)) @ axes.T
    starts = rng.normal(size=(3, 4, 3))

    def energies(poses):
        out = poses.reshape(len(poses), -1)
        slopes = out @ well.hessian
        return 0.5 * (out * slopes).sum(1), -slopes.reshape(poses.shape)

    state = RelaxState.start(starts)
    relax(state, energies, fmax=1e-9, steps=500)
    for k, start in enumerate(starts):
        atoms = Atoms("Ar4", start, calculator=well)
        optimizer = LBFGS(atoms, logfile=None, memory=MEMORY)
        assert optimizer.run(fmax=1e-9, steps=500)
        assert state.evaluations[k] - 1 == optimizer.nsteps > MEMORY
        np.testing.assert_allclose(state.positions[k], atoms.positions, atol=1e-7)


def test_steps_go_downhill_where_the_curvature_is_negative():
    """Atoms that begin far outside the inflection point of their bond still find the bond."""
    far = Atoms("Ar2", [[0, 0, 0], [0, 0, 2.2]])

    def energies(poses):
        found = []
        for pose in poses:
            atoms = Atoms("Ar2", pose, calculator=LennardJones(rc=30.0))
            found.append((atoms.get_potential_energy(), atoms.get_forces()))
        return np.array([e for e, _ in found]), np.array([f for _, f in found])

    state = RelaxState.start(far.positions[None])
    heights = []
    relax(state, energies, fmax=1e-6, steps=200, after_step=lambda state: heights.append(state.energies[0]))
    assert np.linalg.norm(np.diff(state.positions[0], axis=0)) == pytest.approx(2 ** (1 / 6), abs=1e-5)
    assert np.diff(heights[:5]).max() < 0


def test_where_there_is_no_curvature_poses_follow_their_force():
    def slope(x):
        return 0.1 * x[..., 2].sum(1), np.broadcast_to([0.0, 0.0, -0.1], x.shape)

    state = RelaxState.start(np.zeros((1, 1, 3)))
    relax(state, slope, fmax=1e-3, steps=100)
    assert state.positions[0, 0, 2] == pytest.approx(-100 * 0.1 / 70, rel=1e-6)


def test_poses_end_one_by_one_and_failures_stay_alone():
    start = np.zeros((3, 1, 3))
    start[:, 0, 0] = 0.001, 1.0, 2.0

    def energies(x):
        energy, force = spring(1.0)(x)
        return np.where(x[:, 0, 0] > 1.5, np.nan, energy), force

    state = RelaxState.start(start)
    relax(state, energies, fmax=0.01, steps=200)
    assert state.evaluations[0] == 1
    assert state.fmax[1] <= 0.01
    assert np.isnan(state.fmax[2])


def test_the_number_of_steps_is_bounded():
    state = RelaxState.start(np.full((2, 1, 3), 5.0))
    relax(state, spring(1e-3), fmax=1e-9, steps=7)
    assert (state.evaluations == 8).all()  # before the first step, and after each of seven
    assert (state.fmax > 1e-9).all()


def benzene():
    ring = molecule("C6H6").positions[:6]
    return ring, np.array([np.roll(np.arange(6), k)[::s] for k in range(6) for s in (1, -1)])


def test_numbering_turns_and_shifts_of_benzene_make_no_other_pose():
    ring, maps = benzene()
    lift = np.array([0, 0, 3.3])
    ring = ring + lift
    plain, surface = PoseDistance(maps), PoseDistance(maps, SymmetryGroup("Cinfv"))
    assert plain(ring, ring[[2, 3, 4, 5, 0, 1]]) == pytest.approx(0, abs=1e-6)
    moved = Rotation.from_rotvec([0, 0, 0.3]).apply(ring) + np.array([4.0, -2.0, 0])
    assert plain(ring, moved) > 3
    assert surface(ring, moved) == pytest.approx(0, abs=1e-6)
    assert surface(ring, ring + np.array([0, 0, 0.4])) == pytest.approx(0.4)
    tilted = Rotation.from_rotvec([0.5, 0, 0]).apply(ring - lift) + lift
    assert surface(ring, tilted) > 0.3


def test_mirror_images_are_the_same_only_where_the_surface_has_mirrors():
    points = np.random.default_rng(0).normal(size=(5, 3))
    mirrored = points * [-1, 1, 1]
    maps = np.arange(5)[None]
    assert PoseDistance(maps, SymmetryGroup("Cinfv"))(points, mirrored) == pytest.approx(0, abs=1e-6)
    assert PoseDistance(maps, SymmetryGroup("SO2"))(points, mirrored) > 0.1
    quarter = Rotation.from_rotvec([0, 0, np.pi / 2]).apply(points)
    assert PoseDistance(maps, SymmetryGroup("C4"))(points, quarter) == pytest.approx(0, abs=1e-6)
    assert PoseDistance(maps, SymmetryGroup("C3"))(points, quarter) > 0.1


def test_lattice_images_are_the_same():
    points = np.random.default_rng(0).normal(size=(5, 3))
    lattice = np.array([[4.0, 0, 0], [1.0, 5.0, 0]])
    distance = PoseDistance(np.arange(5)[None], None, lattice)
    assert distance(points, points + lattice[0] - 2 * lattice[1]) == pytest.approx(0, abs=1e-6)
    assert distance(points, points + 0.5 * lattice[0]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("builder", "size"),
    [(fcc100, (2, 2, 3)), (fcc111, (3, 3, 3)), (fcc111, (3, 2, 3))],
    ids=["square", "hexagonal", "rectangular"],
)
def test_poses_that_an_operation_of_the_slab_relates_are_one(builder, size):
    """The same molecule at another site of the same kind: the energy of any potential is the same there."""
    pytest.importorskip("spglib")
    slab = slab_of(builder, size)
    molecule_ = molecule("CH3OH")
    molecule_.rotate(50, (1, 2, 3))
    pose = molecule_.positions + np.array([0.4, 0.7, slab.positions[:, 2].max() + 2.5])
    rotations, shifts = slab_operations(slab)
    lattice = slab.cell.array[:2]
    maps = np.arange(len(pose))[None]
    plain, distance = PoseDistance(maps, None, lattice), PoseDistance(maps, None, lattice, (rotations, shifts))
    energies = []
    for rotation, shift in zip(rotations, shifts, strict=True):
        image = pose @ rotation.T + shift + lattice[0] - 2 * lattice[1]
        assert distance(pose, image) == pytest.approx(0, abs=1e-6)
        both = slab + Atoms(molecule_.numbers, image)
        both.calc = EMT()
        energies.append(both.get_potential_energy())
    np.testing.assert_allclose(energies, energies[0], atol=1e-6)
    assert max(plain(pose, pose @ r.T + t) for r, t in zip(rotations, shifts, strict=True)) > 1.0
    assert distance(pose, pose + np.array([0.9, 0.1, 0])) > 0.3  # no lattice vector of these slabs


def test_the_distance_over_a_slab_is_the_least_of_all_images():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4, 3)) * 2
    maps = np.array([[0, 1, 2, 3], [1, 0, 2, 3]])
    turns = Rotation.from_rotvec(np.outer(np.arange(4), [0, 0, np.pi / 2])).as_matrix()
    shifts, lattice = rng.normal(size=(4, 3)) * [1, 1, 0], np.array([[3.0, 0, 0], [1.0, 3.5, 0]])
    shifts[0] = 0
    images = [
        second[m] @ turn.T + shift + cell @ lattice
        for m in maps
        for turn, shift in zip(turns, shifts, strict=True)
        for cell in np.array(list(np.ndindex(9, 9))) - 4
    ]
    least = min(np.sqrt(((first - image) ** 2).sum(1).mean()) for image in images)
    assert PoseDistance(maps, None, lattice, (turns, shifts))(first, second) == pytest.approx(least)


def test_clusters_are_numbered_from_the_best():
    poses = np.array([[[0.0, 0, 0]], [[3.0, 0, 0]], [[0.2, 0, 0]], [[3.1, 0, 0]], [[9.0, 0, 0]]])
    numbers = cluster(poses, np.array([3, 0, 1, 2]), PoseDistance(np.array([[0]])), 0.5)
    assert numbers.tolist() == [1, 0, 1, 0, -1]


def test_tilt_of_planes_and_axes():
    ring, _ = benzene()
    assert tilt(ring) == pytest.approx(0, abs=1e-4)
    assert tilt(Rotation.from_rotvec([0.5, 0, 0]).apply(ring)) == pytest.approx(np.degrees(0.5), abs=1e-3)
    line = np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, 2.0]])
    assert tilt(line) == pytest.approx(90)
    assert tilt(line[:, [2, 1, 0]]) == pytest.approx(0)
