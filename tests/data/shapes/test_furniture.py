"""Procedural furniture: solids are closed, classes differ as they should, and a seed gives the same clouds."""

import numpy as np
import pytest
import torch

from ik_e3nn.data.shapes.clouds import disturbed, mesh_cloud, point_cloud, turned, unit_ball
from ik_e3nn.data.shapes.furniture import DOWN, FURNITURE, OVER, furniture_clouds, furniture_mesh
from ik_e3nn.data.shapes.solids import Mesh, box, frustum, half_ring, join, prism, vessel
from ik_e3nn.errors import DataError

PAIRS = {
    "overturned table": ("table", OVER),
    "cradle": ("arch", OVER),
    "bell": ("vase", OVER),
    "rack": ("shelf", DOWN),
    "bolster": ("column", DOWN),
}


def test_solids_have_the_volumes_of_geometry():
    assert box((0, 0, 0), (1, 2, 3)).volume() == pytest.approx(6)
    assert frustum((0, 0, 0), (0, 0, 2), (1, 1), segments=200).volume() == pytest.approx(2 * np.pi, rel=1e-3)
    cone = np.pi / 3 * (1 + 0.5 + 0.25)
    assert frustum((0, 0, 0), (0, 0, 1), (1, 0.5), segments=200).volume() == pytest.approx(cone, rel=1e-3)
    ring = np.pi * (1 - 0.9**2)
    assert vessel((0, 1), (1, 1), 0.1, segments=200).volume() == pytest.approx(ring, rel=1e-3)
    arc = np.pi / 2 * (1 - 0.5**2) * 0.3
    assert half_ring(2.0, (0.5, 1.0), 0.3, segments=200).volume() == pytest.approx(arc, rel=1e-3)


def test_a_prism_points_outwards_whichever_way_its_corners_run():
    lower = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    for corners in (lower, lower[::-1]):
        for shift in ([0, 0, 2], [0, 0, -2]):
            assert prism(corners, corners + shift).volume() == pytest.approx(1)


@pytest.mark.parametrize("name", FURNITURE)
def test_furniture_is_closed_and_made_of_parts_that_point_outwards(name):
    for seed in range(5):
        mesh = furniture_mesh(name, np.random.default_rng(seed))
        a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
        total = np.cross(b - a, c - a).sum(0)  # of a closed surface, the sum of all area vectors is zero
        np.testing.assert_allclose(total, 0, atol=1e-12)
        assert mesh.volume() > 0
        assert 0.3 < np.ptp(mesh.vertices, axis=0).max() < 4


@pytest.mark.parametrize("name", PAIRS)
def test_some_classes_are_others_turned(name):
    other, matrix = PAIRS[name]
    assert np.linalg.det(matrix) == pytest.approx(1)
    mesh, upright = (furniture_mesh(n, np.random.default_rng(3)) for n in (name, other))
    np.testing.assert_allclose(mesh.vertices, upright.vertices @ matrix.T, atol=1e-15)
    assert (mesh.faces == upright.faces).all()


def test_there_are_enough_classes_and_no_two_pairs_share_a_solid():
    assert len(set(FURNITURE)) == len(FURNITURE) >= 12
    assert len({other for other, _ in PAIRS.values()}) == 5


def test_size_alone_does_not_tell_the_classes():
    """Nearest neighbors in the extents of the upright bounding box: better than chance, far from an answer."""

    def extents(seed):
        rng = np.random.default_rng(seed)
        names = list(FURNITURE) * 20
        rows = [np.ptp(furniture_mesh(name, rng).vertices, axis=0) for name in names]
        sizes = torch.tensor(np.array(rows))
        return sizes / sizes.norm(dim=1, keepdim=True), torch.tensor([FURNITURE.index(name) for name in names])

    (known, labels), (new, truth) = extents(0), extents(1)
    votes = labels[torch.cdist(new, known).topk(7, largest=False).indices]
    accuracy = (votes.mode(1).values == truth).float().mean()
    assert 1 / len(FURNITURE) < accuracy < 0.45, accuracy


def test_clouds_have_radius_one_unit_normals_and_fewer_points_by_dropout():
    clouds = furniture_clouds(32, seed=0, points=100, dropout=0.5)
    assert [int(cloud.y) for cloud in clouds] == list(range(len(FURNITURE))) * 2
    sizes = [len(cloud.pos) for cloud in clouds]
    assert min(sizes) < 60
    assert 50 <= min(sizes) <= max(sizes) <= 100
    for cloud in clouds:
        assert cloud.pos.dtype == cloud.normal.dtype == torch.float32
        torch.testing.assert_close(cloud.pos.norm(dim=1).max(), torch.tensor(1.0))
        torch.testing.assert_close(cloud.pos.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
        torch.testing.assert_close(cloud.normal.norm(dim=1), torch.ones(len(cloud.pos)))


def test_a_seed_gives_the_same_clouds_and_leaves_torchs_generator_alone():
    state = torch.get_rng_state()
    first, again, other = (furniture_clouds(4, seed=seed, points=50, rotation="SO2") for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.pos, b.pos)
        assert not torch.equal(a.pos[:10], c.pos[:10])


def test_points_lie_on_the_surface_and_normals_stand_on_it():
    cloud = mesh_cloud(box((0, 0, 0), (2, 2, 2)), 3000, 7, seed=0)
    assert cloud.y.tolist() == [7]
    face = cloud.normal.abs().argmax(1)
    assert torch.equal(cloud.normal.abs().sum(1), torch.ones(3000))
    outward = (cloud.pos * cloud.normal).sum(1)
    torch.testing.assert_close(
        outward, outward.mean().expand(3000), atol=0.05, rtol=0
    )  # all faces as far from the center
    assert (face.bincount() / 3000 - 1 / 3).abs().max() < 0.05  # evenly


def test_turning_about_z_leaves_heights_alone_and_mirrors_turn_normals():
    clouds = furniture_clouds(8, seed=0, points=50)
    for cloud, about_z, anyhow in zip(clouds, turned(clouds, "SO2", seed=1), turned(clouds, "O3", seed=1), strict=True):
        torch.testing.assert_close(about_z.pos[:, 2], cloud.pos[:, 2])
        torch.testing.assert_close(about_z.normal[:, 2], cloud.normal[:, 2])
        assert (about_z.pos - cloud.pos).abs().max() > 0.01
        for moved in (about_z, anyhow):
            products = (moved.pos @ moved.normal.T, cloud.pos @ cloud.normal.T)
            torch.testing.assert_close(*products, atol=1e-5, rtol=0)


def test_noise_has_the_width_asked_for():
    cloud = mesh_cloud(box((0, 0, 0), (2, 2, 2)), 4000, 0, seed=0)
    moved = disturbed(cloud, noise=0.05, dropout=0.0, rng=np.random.default_rng(0))
    scale = (moved.pos.square().sum() / cloud.pos.square().sum()).sqrt()  # radius is one again
    spread = (moved.pos / scale - cloud.pos).std()
    assert spread == pytest.approx(0.05, rel=0.1)
    assert torch.equal(moved.normal, cloud.normal)


def test_a_single_point_is_a_cloud():
    assert unit_ball(torch.full((1, 3), 5.0)).tolist() == [[0, 0, 0]]
    assert unit_ball(torch.zeros(0, 3)).shape == (0, 3)
    one = disturbed(point_cloud([[1.0, 2, 3]], [[0, 0, 2]], 0), noise=0.1, dropout=1.0, rng=np.random.default_rng(0))
    assert one.pos.tolist() == [[0, 0, 0]]
    assert one.normal.tolist() == [[0, 0, 1]]


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match="unknown class of furniture 'throne': expected one of table"):
        furniture_mesh("throne", np.random.default_rng(0))
    with pytest.raises(ValueError, match="count must not be negative and points at least 1; got 3 and 0"):
        furniture_clouds(3, seed=0, points=0)
    with pytest.raises(ValueError, match="noise must not be negative and dropout from 0 to 1; got -1"):
        furniture_clouds(3, seed=0, noise=-1.0)
    with pytest.raises(DataError, match=r"shape \(P, 3\); got \(2, 3\) and \(1, 3\)"):
        point_cloud(np.zeros((2, 3)), np.zeros((1, 3)), 0)
    with pytest.raises(DataError, match="not finite"):
        point_cloud([[np.nan, 0, 0]], [[0, 0, 1]], 0)
    flat = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    with pytest.raises(DataError, match="cannot be sampled on a mesh whose area is 0; it has 1 faces"):
        mesh_cloud(flat, 5, 0, seed=0)
    for wrong, area in ((np.nan, "nan"), (1e200, "inf")):
        with pytest.raises(DataError, match=f"a mesh whose area is {area}"):
            mesh_cloud(Mesh(wrong * np.eye(3), np.array([[0, 1, 2]])), 5, 0, seed=0)
    with pytest.raises(ValueError, match="points of a cloud must be at least 1; got 0"):
        mesh_cloud(box((0, 0, 0), (1, 1, 1)), 0, 0, seed=0)
    with pytest.raises(DataError, match=r"a face names vertex 3, but the mesh has 3"):
        mesh_cloud(Mesh(np.eye(3), np.array([[0, 1, 3]])), 5, 0, seed=0)
    assert join([box((0, 0, 0), (1, 1, 1))]).volume() == 1
