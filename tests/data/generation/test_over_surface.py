import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc100, fcc111, molecule
from ase.calculators.emt import EMT
from ase.io import read, write

from ik_e3nn.data.generation.generate import GenerateSettings, generate
from ik_e3nn.data.generation.labeling import Labeler, make_calculator
from ik_e3nn.data.generation.over_surface import OverSubstrate, RandomPlacement, lifted
from ik_e3nn.data.generation.sampling import Origin, RattleSampler
from ik_e3nn.data.generation.steele import SteeleWall
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import build_graph, surface_vectors
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.symmetry import PlaneGroup


def test_frames_are_turned_at_random_and_put_at_all_heights():
    sampler, labeler, start = (
        RandomPlacement(RattleSampler(0.0, 0.0), heights=(2.5, 9.0), lateral=2.0),
        Labeler(SteeleWall()),
        lifted(molecule("CH3OH"), 5.0),
    )
    frames = [sampler.frame(Origin(start, labeler), None, np.random.default_rng(seed)) for seed in range(300)]
    heights = np.array([frame.positions[:, 2].min() for frame in frames])
    assert heights.min() >= 2.5
    assert heights.max() <= 9.0
    assert np.quantile(heights, [0.25, 0.75]) == pytest.approx([4.1, 7.4], abs=0.6)
    axes = np.array([frame.positions[1] - frame.positions[0] for frame in frames])
    lengths = np.linalg.norm(axes, axis=1)
    np.testing.assert_allclose(lengths, lengths[0])  # rigid
    cosines = axes / lengths[:, None]
    assert np.abs(cosines.mean(0)).max() < 0.12  # uniform on the sphere: 0 +- 0.033
    np.testing.assert_allclose((cosines**2).mean(0), 1 / 3, atol=0.08)
    assert np.ptp([frame.positions[:, 0].mean() for frame in frames]) > 3.0


def test_labels_and_momenta_belong_to_the_turned_frame():
    from ik_e3nn.data.generation.langevin import LangevinSampler

    start = lifted(molecule("CO"), 6.0)
    sampler = RandomPlacement(LangevinSampler(0.5, 2, 0, 0.01), heights=(3.0, 3.0))
    frame = sampler.frame(Origin(start, Labeler(EMT()), 300.0), None, np.random.default_rng(0))
    again = start.copy()
    again.positions, again.calc = frame.positions, EMT()
    np.testing.assert_allclose(frame.labels.forces, again.get_forces(), atol=1e-10)
    plain = sampler.frames.frame(Origin(start, Labeler(EMT()), 300.0), None, np.random.default_rng(0))
    axis = frame.positions[1] - frame.positions[0]
    before = plain.positions[1] - plain.positions[0]
    np.testing.assert_allclose(frame.momenta @ axis, plain.momenta @ before, atol=1e-10)  # turned with the molecule
    np.testing.assert_allclose(np.linalg.norm(frame.momenta, axis=1), np.linalg.norm(plain.momenta, axis=1))
    assert np.abs(frame.momenta - plain.momenta).max() > 0.1
    assert abs(frame.labels.forces[0] @ axis) > 0.99 * np.linalg.norm(frame.labels.forces[0]) * np.linalg.norm(axis)


def test_a_substrate_acts_and_is_not_there():
    slab = fcc111("Cu", (3, 3, 2), vacuum=8.0)
    atoms = Atoms("O", [[0.0, 0.0, 1.4]], calculator=OverSubstrate(EMT(), slab))
    top = slab.positions[:, 2].max()
    center = slab.positions[:, :2].mean(axis=0)
    both = slab.copy()
    both.append("O")
    both.positions[-1] = [*center, top + 1.4]
    both.calc = EMT()
    alone = slab.copy()
    alone.calc = EMT()
    assert atoms.get_potential_energy() == pytest.approx(both.get_potential_energy() - alone.get_potential_energy())
    np.testing.assert_allclose(atoms.get_forces()[0], both.get_forces()[-1], atol=1e-10)
    assert abs(atoms.get_forces()[0, 2]) > 0.01


def test_generate_over_a_wall(tmp_path):
    path = tmp_path / "a.xyz"
    settings = GenerateSettings(
        output=str(path), smiles=["CO"], calculator="emt+steele", heights=[2.6, 7.0], num_frames=6, method="rattle",
        isolated_atoms=True,
    )  # fmt: skip
    generate(settings)
    frames = read(path, ":")
    isolated = [atoms for atoms in frames if atoms.info["config_type"] == "IsolatedAtom"]
    assert len(isolated) == 3
    for atoms in isolated:
        assert atoms.info["REF_energy"] == pytest.approx(_emt(atoms), abs=1e-6)
    for atoms in frames:  # a single atom over a wall is no isolated one
        np.testing.assert_array_equal(atoms.info["surface_origin"], [0.0, 0.0, 0.0])
    for atoms in frames[3:]:
        assert 2.6 <= atoms.positions[:, 2].min() <= 7.0
        wall = atoms.copy()
        wall.calc = SteeleWall()
        assert atoms.info["REF_energy"] == pytest.approx(_emt(atoms) + wall.get_potential_energy(), abs=1e-6)


def test_generate_over_a_substrate(tmp_path):
    write(tmp_path / "slab.xyz", bare(fcc111("Cu", (3, 3, 2), vacuum=8.0)))
    path = tmp_path / "a.xyz"
    settings = GenerateSettings(
        output=str(path), smiles=["C"], calculator="emt", heights=[2.0, 4.0], lateral=1.0, num_frames=3,
        method="rattle", substrate=str(tmp_path / "slab.xyz"),
    )  # fmt: skip
    generate(settings)
    frames = read(path, ":")
    assert [atoms.get_chemical_formula() for atoms in frames] == ["CH4"] * 3
    assert not frames[0].pbc.any()


def test_isolated_atoms_are_far_from_the_substrate_of_frames_that_are_not_placed(tmp_path):
    write(tmp_path / "slab.xyz", bare(fcc111("Cu", (3, 3, 2), vacuum=8.0)))
    write(tmp_path / "start.xyz", Atoms("O", [[0.0, 0.0, 1.5]]))
    settings = GenerateSettings(
        output=str(tmp_path / "a.xyz"), structures=[str(tmp_path / "start.xyz")], calculator="emt", num_frames=1,
        method="rattle", substrate=str(tmp_path / "slab.xyz"), isolated_atoms=True,
    )  # fmt: skip
    generate(settings)
    isolated = read(tmp_path / "a.xyz", 0)
    assert isolated.info["config_type"] == "IsolatedAtom"
    assert isolated.info["REF_energy"] == pytest.approx(_emt(isolated), abs=1e-6)


@pytest.mark.parametrize("make", [fcc100, fcc111])
def test_frames_over_a_crystal_know_its_lattice(make, tmp_path, caplog):
    """The labels of the reference have the symmetry that is written, about the origin that is written."""
    pytest.importorskip("spglib")
    slab = bare(make("Cu", (4, 4, 2), vacuum=8.0))
    slab.positions += [1.3, -0.4, 2.0]
    write(tmp_path / "slab.xyz", slab)
    settings = GenerateSettings(
        output=str(tmp_path / "a.xyz"), smiles=["O"], calculator="emt", heights=[1.2, 2.0], lateral=3.0, num_frames=2,
        method="rattle", substrate=str(tmp_path / "slab.xyz"), isolated_atoms=True,
    )  # fmt: skip
    report = generate(settings)
    plane = PlaneGroup.from_config(json.loads(report.text().split("train with model: ")[1])["group"])
    assert plane.name == ("p4m" if make is fcc100 else "p3m1")
    *isolated, frame, other = read(tmp_path / "a.xyz", ":")
    for atoms in (*isolated, other):
        np.testing.assert_allclose(atoms.info["surface_cell"], frame.info["surface_cell"])
    vectors = surface_vectors(frame)
    cell, origin = vectors["surface_cell"], vectors["surface_origin"]
    assert np.linalg.norm(np.cross(*cell)) == pytest.approx(np.linalg.norm(np.cross(*slab.cell[:2])) / 16)
    frame.calc = OverSubstrate(EMT(), slab)
    assert frame.get_potential_energy() == pytest.approx(frame.info["REF_energy"], abs=1e-6)
    model = InteratomicPotential(["H", "O"], 4.0, num_channels=2, num_layers=1, group=plane, inputs=["face"])
    with torch.no_grad():
        for weight in model.double().parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    predicted = model.eval()(build_graph(frame, 4.0, dtype=torch.float64))["energy"]
    for R, t in [*zip(plane.rotations.numpy(), plane.shifts.numpy(), strict=True), (np.eye(2), [1, -1])]:
        moved = frame.copy()
        u = (frame.positions - origin) @ np.linalg.pinv(cell)
        moved.positions[:, :2] = ((u @ R.T + t) @ cell + origin)[:, :2]
        moved.calc = OverSubstrate(EMT(), slab)
        assert moved.get_potential_energy() == pytest.approx(frame.get_potential_energy(), abs=1e-7)
        again = model(build_graph(moved, 4.0, dtype=torch.float64))["energy"]
        assert float(again) == pytest.approx(float(predicted), abs=1e-9)
    moved.positions[:, 0] += 1.3
    assert abs(moved.get_potential_energy() - frame.get_potential_energy()) > 1e-3
    assert "come as near as" not in caplog.text


def test_a_flake_is_given_its_lattice(tmp_path, caplog):
    flake = molecule("C6H6")
    write(tmp_path / "flake.xyz", flake)
    settings = GenerateSettings(
        output=str(tmp_path / "a.xyz"), smiles=["O"], calculator="emt", heights=[2.0, 4.0], num_frames=1,
        method="rattle", substrate=str(tmp_path / "flake.xyz"), surface_cell=[2.46, 0, 0, 1.23, 2.13, 0],
    )  # fmt: skip
    generate(settings)
    (frame,) = read(tmp_path / "a.xyz", ":")
    np.testing.assert_allclose(frame.info["surface_cell"], [[2.46, 0, 0], [1.23, 2.13, 0]])
    write(tmp_path / "slab.xyz", bare(fcc111("Cu", (2, 2, 2), vacuum=8.0)))
    small = replace(settings, substrate=str(tmp_path / "slab.xyz"), surface_cell=(), overwrite=True)
    generate(small)
    assert "images of a molecule in the cell of the substrate come as near as 3.6 A" in caplog.text
    assert "all frames are over one place of the substrate: give lateral" in caplog.text
    with pytest.raises(DataError, match="surface_cell is for substrates that are not periodic"):
        generate(replace(small, surface_cell=settings.surface_cell))
    turned = bare(fcc111("Cu", (2, 2, 2), vacuum=8.0))
    turned.rotate(20, "x", rotate_cell=True)
    write(tmp_path / "slab.xyz", turned)
    with pytest.raises(DataError, match="a periodic substrate must be a slab with the normal z"):
        generate(small)


def test_structures_over_a_substrate_may_stay_where_they_are(tmp_path):
    write(tmp_path / "slab.xyz", bare(fcc100("Cu", (4, 4, 2), vacuum=8.0)))
    start = Atoms("N2", [[0.3, 0.2, 2.2], [0.3, 1.2, 2.3]])
    write(tmp_path / "start.xyz", start)
    settings = GenerateSettings(
        output=str(tmp_path / "a.xyz"), structures=[str(tmp_path / "start.xyz")], calculator="emt", num_frames=2,
        substrate=str(tmp_path / "slab.xyz"), relax=False, temperatures=[50.0], equilibration=0, interval=5,
    )  # fmt: skip
    generate(settings)
    for frame in read(tmp_path / "a.xyz", ":"):
        assert np.abs(frame.positions - start.positions).max() < 0.3
        frame.calc = OverSubstrate(EMT(), read(tmp_path / "slab.xyz"))
        assert frame.get_potential_energy() == pytest.approx(frame.info["REF_energy"], abs=1e-6)


def test_an_ion_over_a_neutral_substrate(tmp_path):
    """Far over it the energy is that of the ion: the substrate does not take its charge or spin over."""
    pytest.importorskip("tblite")
    write(tmp_path / "neon.xyz", Atoms("Ne2", [[0, 0, 0], [3.0, 0, 0]]))
    path = tmp_path / "a.xyz"
    settings = GenerateSettings(
        output=str(path), smiles=["[NH4+]"], calculator="gfn2-xtb", heights=[40.0, 50.0], num_frames=2,
        method="rattle", substrate=str(tmp_path / "neon.xyz"), isolated_atoms=True,
    )  # fmt: skip
    generate(settings)
    frames = read(path, ":")
    assert [atoms.info["charge"] for atoms in frames] == [0, 0, 1, 1]
    for atoms in frames:
        free = make_calculator("gfn2-xtb", atoms.info["charge"], atoms.info["spin"]).get_potential_energy(atoms)
        assert atoms.info["REF_energy"] == pytest.approx(free, abs=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"calculator": "emt+steele"}, "a surface needs heights"),
        ({"substrate": "slab.xyz"}, "a surface needs heights"),
        ({"heights": [5.0]}, "two positive numbers, the smallest and largest"),
        ({"heights": [5.0, 2.0]}, "two positive numbers, the smallest and largest"),
        ({"lateral": -1.0, "heights": [2.0, 3.0]}, "lateral is -1.0, but it must be zero or positive"),
        ({"heights": [2.0, 3.0], "surface_cell": [1, 0, 0]}, "surface_cell must be the two lattice vectors"),
        ({"heights": [2.0, 3.0]}, "gfn2-xtb has no surface, so that labels would be those of free molecules"),
        ({"lateral": 1.0}, "no heights are given; give heights, too"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises((ConfigError, DataError), match=message):
        GenerateSettings(output="a.xyz", smiles=["C"], **wrong)


def test_a_crystal_is_not_turned(tmp_path):
    write(tmp_path / "cu.xyz", bare(fcc111("Cu", (1, 1, 2), vacuum=8.0)))
    settings = GenerateSettings(
        output=str(tmp_path / "a.xyz"), structures=[str(tmp_path / "cu.xyz")], calculator="emt+steele", heights=[2, 3]
    )
    with pytest.raises(DataError, match="heights are for molecules"):
        generate(settings)


def bare(atoms):
    """Without ASE's notes on adsorption sites, which extxyz cannot hold."""
    atoms.info = {}
    return atoms


def _emt(atoms):
    copy = atoms.copy()
    copy.calc = EMT()
    return copy.get_potential_energy()
