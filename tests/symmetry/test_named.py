"""The named groups have the elements that textbooks give them."""

from collections import Counter

import pytest
import torch

from ik_e3nn.symmetry import SymmetryGroup
from tests.symmetry import textbook


def _signature(det: float, angle: float) -> tuple[int, float]:
    """Determinant and cosine of the angle: together they fix the conjugacy class in O(3)."""
    return round(det), round(float(torch.cos(torch.tensor(angle, dtype=torch.float64))), 9) + 0.0


@pytest.mark.parametrize("name", textbook.FINITE)
def test_order_and_classes_are_the_textbooks(name):
    group = SymmetryGroup(name)
    assert group.is_finite
    assert not group.is_isotropic
    assert group.order == textbook.order(name)
    elements = textbook.all_elements(group)
    assert len(elements) == textbook.order(name)
    det = torch.linalg.det(elements)
    cosines = (det * elements.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    found = Counter((round(d), round(c, 9) + 0.0) for d, c in zip(det.tolist(), cosines.tolist(), strict=True))
    expected = Counter()
    for determinant, angle, count in textbook.classes(name):
        expected[_signature(determinant, angle)] += count
    assert found == expected


@pytest.mark.parametrize("name", textbook.CONTINUOUS)
def test_continuous_groups_are_infinite(name):
    group = SymmetryGroup(name)
    assert not group.is_finite
    assert group.order == float("inf")
    assert group.is_isotropic == (name in ("SO3", "O3"))


@pytest.mark.parametrize("name", textbook.CONTINUOUS)
def test_random_elements_of_continuous_groups_fill_the_group(name):
    generator = torch.Generator().manual_seed(1)
    elements = SymmetryGroup(name).random_elements(4000, generator)
    assert textbook.contains(name, elements, None)
    identity = torch.eye(3, dtype=torch.float64)
    assert (elements @ elements.mT - identity).abs().max() < 1e-12
    # the mean of a matrix over the group is the projector on its fixed vectors; characters average to their count
    for l, p in ((1, -1), (1, 1), (2, 1)):
        mean = textbook.representations(elements, l, p).mean(0)
        fixed = SymmetryGroup(name).invariants(l, p)
        assert (mean - fixed.T @ fixed).abs().max() < 0.08


def test_random_elements_of_a_finite_group_are_uniform():
    elements = SymmetryGroup("D3").random_elements(6000, torch.Generator().manual_seed(2))
    _, counts = torch.unique(elements.flatten(1).round(decimals=6) + 0.0, dim=0, return_counts=True)
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 5 * 30


def test_random_elements_follow_the_generator_and_may_be_none():
    group = SymmetryGroup("O3")
    first, second = (group.random_elements(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    for name in ("C1", "D4h", "SO2", "O3"):
        assert SymmetryGroup(name).random_elements(0).shape == (0, 3, 3)


SPELLINGS = {
    "SO2": ["SO(2)", "so2", "Cinf", "C_inf", "C∞"],
    "Cinfv": ["O2", "O(2)", "C_infv", "CINFV", "C∞v", "Cinf_v"],
    "Cinfh": ["C∞h", "C_infh"],
    "Dinf": ["D∞", "D_inf"],
    "Dinfh": ["D∞h", "Dinf_h"],
    "SO3": ["SO(3)", "K", "so_3"],
    "O3": ["O(3)", "Kh", "o3"],
    "C1": ["trivial", "E", "c_1"],
    "Ci": ["S2", "S_2", "ci"],
    "Cs": ["C1h", "C_s"],
    "C4v": ["C_4v", "c4V", "C_4_v"],
    "D3d": ["D_3d"],
    "S8": ["S_8"],
    "Oh": ["O_h", "oh"],
}


@pytest.mark.parametrize(("name", "spelling"), [(n, s) for n, spellings in SPELLINGS.items() for s in spellings])
def test_aliases_and_spellings(name, spelling):
    assert SymmetryGroup(spelling) == SymmetryGroup(name)
    assert hash(SymmetryGroup(spelling)) == hash(SymmetryGroup(name))


@pytest.mark.parametrize(
    "name", ["", "C", "X4", "C0", "C0v", "C-1", "D2v", "S4h", "C3d", "S4v", "Tx", "SO4", "U1", "C4vv", "4mm"]
)
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="unknown symmetry group .*expected one of"):
        SymmetryGroup(name)


def test_odd_rotoreflections_are_explained():
    with pytest.raises(ValueError, match="S_n with odd n is C_3h"):
        SymmetryGroup("S3")


@pytest.mark.parametrize("axis", [(0, 0, 0), (1, 0), (1, 0, 0, 0), (float("nan"), 0, 1), (float("inf"), 0, 0)], ids=str)
def test_impossible_axes_are_refused(axis):
    with pytest.raises(ValueError, match="axis of a symmetry group must be three finite numbers"):
        SymmetryGroup("C4", axis=axis)
