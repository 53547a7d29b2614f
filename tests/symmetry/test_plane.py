"""Plane groups and the waves of a lattice that have their symmetry."""

import math

import numpy as np
import pytest
import torch

from ik_e3nn.symmetry import PlaneGroup, representation_matrix
from ik_e3nn.symmetry.plane import GENERATORS, identified, with_usual_origin
from ik_e3nn.symmetry.waves import symmetric_waves

HEXAGONAL, ACUTE = [[2.6, 0.0], [-1.3, 1.3 * math.sqrt(3)]], [[2.6, 0.0], [1.3, 1.3 * math.sqrt(3)]]
CELLS = {"3": HEXAGONAL, "6": HEXAGONAL, "4": [[2.6, 0.0], [0.0, 2.6]]}
ORDERS = {
    "p1": 1, "p2": 2, "pm": 2, "pg": 2, "cm": 4, "pmm": 4, "pmg": 4, "pgg": 4, "cmm": 8, "p4": 4, "p4m": 8, "p4g": 8,
    "p3": 3, "p3m1": 6, "p31m": 6, "p6": 6, "p6m": 12,
}  # fmt: skip


def plane_of(name):
    return PlaneGroup(name, CELLS.get(name[1], [[2.4, 0.0], [0.0, 3.1]]))


def test_all_seventeen_are_groups():
    assert set(GENERATORS) == set(ORDERS)
    for name, order in ORDERS.items():
        plane = plane_of(name)
        assert plane.order == order
        identity = torch.eye(3, dtype=torch.float64)
        torch.testing.assert_close(plane.matrices @ plane.matrices.mT, identity.expand(order, 3, 3))
        pairs = list(zip(plane.rotations, plane.shifts, strict=True))
        for R, t in pairs:
            for S, s in pairs:
                u = R @ s + t
                gaps = [(u - v) - (u - v).round() for Q, v in pairs if (Q == R @ S).all()]
                assert min(float(gap.abs().max()) for gap in gaps) < 1e-14


@pytest.mark.parametrize("name", GENERATORS)
def test_waves_transform_and_are_normalized_and_complete(name):
    """As many as the traces of the operations say: the mean over the group of the trace on all waves."""
    plane, longest = plane_of(name), 6.0
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(7, 2, generator=generator, dtype=torch.float64) * 5
    grid = torch.cartesian_prod(*[torch.arange(24, dtype=torch.float64) / 24] * 2)
    reciprocal = 2 * math.pi * torch.linalg.inv(plane.cell).T
    every = torch.cartesian_prod(*[torch.arange(-6.0, 7.0, dtype=torch.float64)] * 2)
    every = every[(every @ reciprocal).norm(dim=1) <= longest]
    for l in range(3):
        D = [representation_matrix(l, (-1) ** l, g) for g in plane.matrices]
        found = 0
        for one in symmetric_waves(plane, l, longest):

            def f(u, one=one):
                phases = 2 * math.pi * u @ one.vectors.T
                return torch.einsum("nj,jfm->nfm", torch.cat([phases.cos(), phases.sin()], 1), one.functions)

            found += one.functions.shape[1]
            for R, t, matrix in zip(plane.rotations, plane.shifts, D, strict=True):
                torch.testing.assert_close(f(u @ R.T + t), f(u) @ matrix.T, atol=1e-12, rtol=0)
            values = f(grid)
            gram = torch.einsum("nfm,ngm->fg", values, values) / len(grid)
            torch.testing.assert_close(gram, (2 * l + 1) * torch.eye(len(gram), dtype=torch.float64))
        traces = 0.0
        for R, t, matrix in zip(plane.rotations, plane.shifts, D, strict=True):
            fixed = (every @ torch.linalg.inv(R) - every).abs().amax(1) < 1e-9
            traces += float((2 * math.pi * every[fixed] @ t).cos().sum() * matrix.trace())
        assert found == round(traces / plane.order)
        assert found > 0


def test_names_are_found_from_operations_at_any_origin():
    generator = torch.Generator().manual_seed(1)
    for name in GENERATORS:
        plane = plane_of(name)
        if name in ("cm", "cmm"):  # a primitive cell of a centered rectangle
            T = np.array([[0.5, 0.5], [-0.5, 0.5]])
        else:
            T = np.array([[1.0, 0.0], [1.0, 1.0]])  # another cell of the same lattice
        inverse = np.linalg.inv(T.T)
        origin = torch.rand(2, generator=generator, dtype=torch.float64).numpy()
        operations = [
            (inverse @ R @ T.T, inverse @ t + origin - inverse @ R @ T.T @ origin)
            for R, t in zip(plane.rotations.numpy(), plane.shifts.numpy(), strict=True)
        ]
        other = PlaneGroup("found", T @ plane.cell.numpy(), operations)
        assert identified(other) == name
        assert other.order == plane.order / len(plane.translations)


def test_the_usual_origin_gives_the_standard_operations():
    generator = torch.Generator().manual_seed(2)
    for name in GENERATORS:
        plane = plane_of(name)
        if name in ("cm", "cmm"):
            T = np.array([[0.5, 0.5], [-0.5, 0.5]])
        else:
            T = np.eye(2)
        inverse = np.linalg.inv(T.T)
        origin = torch.rand(2, generator=generator, dtype=torch.float64).numpy()
        noise = 1e-4 * torch.randn(plane.order, 2, generator=generator, dtype=torch.float64).numpy()
        operations = [
            (inverse @ R @ T.T, inverse @ t + origin - inverse @ R @ T.T @ origin + e)
            for R, t, e in zip(plane.rotations.numpy(), plane.shifts.numpy(), noise, strict=True)
        ]
        found = PlaneGroup("found", T @ plane.cell.numpy(), operations)
        usual, moved = with_usual_origin(found)
        assert usual.name == name
        assert ("operations" in usual.to_config()) == (name in ("cm", "cmm"))
        assert usual.order == found.order
        for R, t in zip(found.rotations, found.shifts, strict=True):
            about = t + R @ moved - moved
            gaps = [(s - about) - (s - about).round()
                    for S, s in zip(usual.rotations, usual.shifts, strict=True) if (S == R).all()]  # fmt: skip
            assert min(float(gap.abs().max()) for gap in gaps) < 2e-3


def test_operations_that_are_almost_a_group_become_one():
    plane = plane_of("p4g")
    noise = np.random.default_rng(0).normal(scale=1e-4, size=(8, 2))
    operations = list(zip(plane.rotations.numpy(), plane.shifts.numpy() + noise, strict=True))
    near = PlaneGroup("found", [[2.6, 0.001], [0.0, 2.602]], operations)
    for R, t in zip(near.rotations, near.shifts, strict=True):
        for S, s in zip(near.rotations, near.shifts, strict=True):
            u = R @ s + t
            gaps = [(u - v) - (u - v).round() for Q, v in zip(near.rotations, near.shifts, strict=True)
                    if (Q == R @ S).all()]  # fmt: skip
            assert min(float(gap.abs().max()) for gap in gaps) < 1e-14
    assert near.cell[0].norm() == pytest.approx(float(near.cell[1].norm()), abs=1e-14)


def test_hexagonal_cells_may_have_60_degrees():
    for name in ("p3", "p3m1", "p31m", "p6", "p6m"):
        obtuse, acute = PlaneGroup(name, HEXAGONAL), PlaneGroup(name, ACUTE)
        for g in obtuse.matrices:
            assert (acute.matrices - g).abs().amax((1, 2)).min() < 1e-12
        assert identified(acute) == name


def test_configurations_make_the_same_group():
    plane = PlaneGroup("p4gm", [[0.0, 2.5, 0.0], [0.0, 0.0, 2.5]])
    assert plane.name == "p4g"
    custom = PlaneGroup("mine", [[2.4, 0.0], [0.0, 3.1]], [([[-1, 0], [0, 1]], [0.3, 0.5])])
    for one in (plane, custom):
        again = PlaneGroup.from_config(one.to_config())
        torch.testing.assert_close(again.cell, one.cell, atol=1e-14, rtol=0)
        torch.testing.assert_close(again.shifts, one.shifts, atol=1e-14, rtol=0)
        assert again.to_config() == one.to_config()
    assert PlaneGroup.from_config(plane) is plane


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("p5", [[1, 0], [0, 1]]), "unknown plane group 'p5'"),
        (("p4m", [[2.5, 0], [0, 3.0]]), "does not have the symmetry p4m: it differs by"),
        (("p6m", [[2.5, 0], [0, 2.5]]), "a hexagonal one for p3"),
        (("p1", [[2.5, 0], [0, -2.5]]), "must be right-handed"),
        (("p1", [[2.5, 0], [5.0, 0]]), "must be right-handed"),
        (("p1", [[2.5, 0]]), "must be two finite vectors"),
        (("x", [[2, 0], [0, 2]], [([[1, 0.5], [0, 1]], [0, 0])]), "2 x 2 matrix of whole numbers"),
        (("x", [[2, 0], [0, 2]], [([[1, 0], [0, 1]], [0.001234567 * math.pi, 0])]), "they have more than 192 products"),
    ],
)
def test_what_is_no_plane_group_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PlaneGroup(*arguments)


def test_a_configuration_must_be_one():
    with pytest.raises(ValueError, match="a mapping with 'plane'"):
        PlaneGroup.from_config({"plane": "p1"})
    with pytest.raises(ValueError, match="a mapping with 'plane'"):
        PlaneGroup.from_config("p4m")
