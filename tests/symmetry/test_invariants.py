"""The invariant vectors of every named group: their number, that they are fixed, that their basis is canonical."""

import pytest
import torch

from ik_e3nn.symmetry import SymmetryGroup, invariants
from ik_e3nn.symmetry.invariants import canonical_basis
from tests.symmetry import textbook

IRREPS = [(l, p) for l in range(textbook.L_MAX + 1) for p in (1, -1)]


@pytest.mark.parametrize("name", textbook.ALL)
def test_number_of_invariants_is_the_haar_average_of_the_character(name):
    group = SymmetryGroup(name)
    for l, p in IRREPS:
        average = textbook.haar_average(name, l, p)
        assert average == pytest.approx(round(average), abs=1e-10)
        assert group.invariants(l, p).shape == (round(average), 2 * l + 1), (l, p)


@pytest.mark.parametrize("name", textbook.ALL)
def test_invariants_are_orthonormal_and_fixed_by_every_element(name):
    group = SymmetryGroup(name)
    elements = group.random_elements(12, torch.Generator().manual_seed(0))
    for l, p in IRREPS:
        v = group.invariants(l, p)
        assert v.dtype == torch.float64
        if len(v):
            assert (v @ v.T - torch.eye(len(v), dtype=torch.float64)).abs().max() < 1e-12
            moved = torch.einsum("gij,vj->gvi", textbook.representations(elements, l, p), v)
            assert (moved - v).abs().max() < 1e-10, (l, p)


def test_the_textbook_facts_everyone_knows():
    """Rows of standard character tables: where x, y, z, the rotations and the quadrupoles are totally symmetric."""
    counts = {
        "C4v": {(1, -1): 1, (1, 1): 0, (2, 1): 1},  # z; none; z^2
        "C2v": {(1, -1): 1, (1, 1): 0, (2, 1): 2},  # z; none; x^2 - y^2, z^2
        "Cs": {(1, -1): 2, (1, 1): 1, (2, 1): 3},  # x, y; R_z; xy, x^2 - y^2, z^2
        "D2": {(1, -1): 0, (2, 1): 2, (3, -1): 1},  # xyz
        "Td": {(3, -1): 1, (3, 1): 0, (4, 1): 1},  # xyz
        "T": {(3, -1): 1, (3, 1): 1, (6, 1): 2},
        "Oh": {(4, 1): 1, (6, 1): 1, (8, 1): 1, (9, -1): 0},
        "Ih": {(6, 1): 1, (8, 1): 0, (10, 1): 1, (12, 1): 1},
        "I": {(15, -1): 1},
        "SO2": {(3, -1): 1, (3, 1): 1},
        "O3": {(0, 1): 1, (0, -1): 0, (4, 1): 0},
    }
    for name, table in counts.items():
        group = SymmetryGroup(name)
        assert {k: len(group.invariants(*k)) for k in table} == table, name


def test_the_invariant_of_an_axial_group_is_the_harmonic_of_its_axis():
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64)
    group = SymmetryGroup("Cinfv", axis=tuple(axis.tolist()))
    for l in range(textbook.L_MAX + 1):
        harmonic = torch.nn.functional.normalize(_harmonic(l, axis), dim=0)
        assert (group.invariants(l, (-1) ** l)[0] @ harmonic).abs() == pytest.approx(1, abs=1e-12)


def _harmonic(l, vector):
    from e3nn import o3

    return o3.spherical_harmonics(l, vector, normalize=True)


@pytest.mark.parametrize("name", ["C1", "Cs", "C3", "D2", "C4v", "D3d", "T", "I", "Cinfv"])
def test_the_basis_does_not_depend_on_the_generators(name):
    group = SymmetryGroup(name, axis=(1.0, 2.0, -0.5))
    elements = group.random_elements(6, torch.Generator().manual_seed(4))
    shuffled = torch.cat([group.generators.flip(0), group.generators.mT, elements])
    products = torch.cat([elements @ g for g in group.generators] or [elements]).flip(0)
    generating_sets = [shuffled, torch.cat([products, shuffled])]
    for l, p in IRREPS:
        reference = group.invariants(l, p)
        for matrices in generating_sets:
            assert torch.allclose(invariants(matrices, l, p), reference, atol=1e-11), (l, p)


def test_the_canonical_basis_depends_on_the_space_alone():
    generator = torch.Generator().manual_seed(5)
    for count, dim in ((1, 5), (3, 7), (5, 5), (0, 3)):
        rows = torch.randn(count, dim, generator=generator, dtype=torch.float64)
        rows[:, 0] = 0  # a column without pivot
        rows = rows[: dim - 1]
        mixing = torch.randn(len(rows), len(rows), generator=generator, dtype=torch.float64)
        basis = canonical_basis(rows)
        assert torch.allclose(canonical_basis(mixing @ rows), basis, atol=1e-11)
        assert torch.allclose(basis @ basis.T, torch.eye(len(rows), dtype=torch.float64), atol=1e-12)
        if count:  # it spans the same space
            assert torch.linalg.matrix_rank(torch.cat([rows, basis])) == len(rows)


def test_invariants_and_groups_are_cached():
    first = SymmetryGroup("D4h").invariants(4, 1)
    first.zero_()  # a caller's edits stay the caller's
    assert float(SymmetryGroup("D_4h").invariants(4, 1).norm()) > 1
    different = SymmetryGroup("D4h", axis=(1, 0, 0))
    assert different != SymmetryGroup("D4h")
    assert not torch.allclose(different.invariants(2, 1), SymmetryGroup("D4h").invariants(2, 1))
