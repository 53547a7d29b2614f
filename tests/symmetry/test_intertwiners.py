"""Equivariant linear and bilinear maps: as many as there should be, equivariant, and nested as the groups are."""

import itertools

import pytest
import torch
from e3nn import o3

from ik_e3nn.nn import EquivariantLinear
from ik_e3nn.symmetry import SymmetryGroup, intertwiners, trilinear_invariants
from ik_e3nn.symmetry.intertwiners import irrep_intertwiners
from tests.symmetry import textbook

PAIRS = [("1o", "1o"), ("0e", "3e"), ("2e", "1e"), ("2o", "2e"), ("3o", "2e"), ("4e", "4e"), ("8e", "5o"), ("4o", "8o")]


def _representation(irreps, elements):
    blocks = [textbook.representations(elements, ir.l, ir.p) for mul, ir in irreps for _ in range(mul)]
    return torch.stack([torch.block_diag(*matrices) for matrices in zip(*blocks, strict=True)])


@pytest.mark.parametrize("name", textbook.ALL)
def test_counts_are_the_sum_of_invariants_and_of_characters(name):
    """dim Hom_G(l1, l2) = sum over l in |l1-l2|..l1+l2 of dim Inv_G(l); the invariants are counted by characters."""
    group = SymmetryGroup(name)
    for text_in, text_out in PAIRS:
        ir_in, ir_out = o3.Irrep(text_in), o3.Irrep(text_out)
        degrees = range(abs(ir_in.l - ir_out.l), ir_in.l + ir_out.l + 1)
        expected = sum(round(textbook.haar_average(name, l, ir_in.p * ir_out.p)) for l in degrees)
        found = irrep_intertwiners(ir_in, ir_out, group)
        assert found.shape == (expected, ir_out.dim, ir_in.dim), (text_in, text_out)


@pytest.mark.parametrize("name", textbook.ALL)
def test_intertwiners_commute_with_the_group_and_are_orthonormal(name):
    group = SymmetryGroup(name)
    elements = group.random_elements(6, torch.Generator().manual_seed(0))
    for text_in, text_out in PAIRS:
        ir_in, ir_out = o3.Irrep(text_in), o3.Irrep(text_out)
        B = irrep_intertwiners(ir_in, ir_out, group)
        D_in = textbook.representations(elements, ir_in.l, ir_in.p)
        D_out = textbook.representations(elements, ir_out.l, ir_out.p)
        error = torch.einsum("gij,pjk->gpik", D_out, B) - torch.einsum("pij,gjk->gpik", B, D_in)
        gram = torch.einsum("pij,qij->pq", B, B)
        if len(B):
            assert error.abs().max() < 1e-10
            assert (gram - torch.eye(len(B), dtype=torch.float64)).abs().max() < 1e-11


@pytest.mark.parametrize("name", ["C3v", "D4", "Ci", "SO2", "O", "O3"])
def test_whole_irreps_with_multiplicities(name):
    group = SymmetryGroup(name)
    irreps_in, irreps_out = o3.Irreps("2x0e + 1o + 2x2e"), o3.Irreps("0o + 2x1o + 1e + 3o")
    B = intertwiners(irreps_in, irreps_out, group)
    elements = group.random_elements(6, torch.Generator().manual_seed(0))
    D_in, D_out = _representation(irreps_in, elements), _representation(irreps_out, elements)
    error = torch.einsum("gij,pjk->gpik", D_out, B) - torch.einsum("pij,gjk->gpik", B, D_in)
    assert error.abs().max() < 1e-10
    assert (torch.einsum("pij,qij->pq", B, B) - torch.eye(len(B), dtype=torch.float64)).abs().max() < 1e-11


@pytest.mark.parametrize("name", ["C1", "C2v", "S4", "D3", "Td", "Ih"])
def test_they_are_all_equivariant_maps_there_are(name):
    """Averaging any matrix over a finite group gives an equivariant map, and it lies in the span."""
    group = SymmetryGroup(name)
    elements = textbook.all_elements(group)
    irreps_in, irreps_out = o3.Irreps("0e + 1o + 2e"), o3.Irreps("0o + 1o + 1e + 3o")
    D_in, D_out = _representation(irreps_in, elements), _representation(irreps_out, elements)
    matrix = torch.randn(irreps_out.dim, irreps_in.dim, dtype=torch.float64)
    average = torch.einsum("gij,jk,glk->il", D_out, matrix, D_in) / len(elements)
    B = intertwiners(irreps_in, irreps_out, group)
    assert average.abs().max() > 1e-3 or not len(B)
    assert (average - torch.einsum("p,pij->ij", (B * average).sum((1, 2)), B)).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("irreps_in", "irreps_out"),
    [("3x0e + 2x1o + 2e", "2x0e + 4x1o + 3x2e"), ("0e + 1e + 2x1o", "1e + 0o + 2x1o + 0e"), ("4x0e", "4x0e")],
)
def test_o3_is_e3nns_linear(irreps_in, irreps_out):
    """Same paths (in number) and same function, with the weights copied over."""
    ours = EquivariantLinear(irreps_in, irreps_out, "O3").double()
    theirs = o3.Linear(irreps_in, irreps_out).double()
    assert ours.weight.numel() == theirs.weight_numel == len(intertwiners(irreps_in, irreps_out, SymmetryGroup("O3")))
    weights, start = {}, 0
    for component in ours.components:
        matrix = ours.weight[start : start + component.num_weights].view(component.mul_in, component.mul_out)
        start += component.num_weights
        row = 0
        for i in component.columns:
            column = 0
            for k in component.rows:
                mul_in, mul_out = ours.irreps_in[i].mul, ours.irreps_out[k].mul
                weights[i, k] = matrix[row : row + mul_in, column : column + mul_out]
                column += mul_out
            row += mul_in
    with torch.no_grad():
        theirs.weight.copy_(
            torch.cat([weights[i.i_in, i.i_out].flatten() for i in theirs.instructions if i.path_shape])
        )
    x = torch.randn(11, o3.Irreps(irreps_in).dim, dtype=torch.float64)
    assert ours(x).abs().max() > 0.1
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)


def test_trilinear_invariants_of_o3_are_the_3j_symbols():
    O3 = SymmetryGroup("O3")
    for l1, l2, l3 in itertools.product(range(4), repeat=3):
        irreps = [o3.Irrep(l1, 1), o3.Irrep(l2, -1)]
        for parity in (1, -1):
            T = trilinear_invariants(*irreps, o3.Irrep(l3, parity), O3)
            allowed = abs(l1 - l2) <= l3 <= l1 + l2 and parity == -1
            assert len(T) == int(allowed)
            if allowed:
                symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
                assert min((T[0] - symbol).abs().max(), (T[0] + symbol).abs().max()) < 1e-12


@pytest.mark.parametrize("name", ["C1", "Cs", "C3v", "D2d", "Th", "SO2", "Dinfh", "SO3"])
def test_trilinear_invariants_are_equivariant_and_complete(name):
    group = SymmetryGroup(name)
    elements = group.random_elements(5, torch.Generator().manual_seed(0))
    for texts in (("1o", "2e", "1o"), ("1e", "1o", "0o"), ("2e", "2e", "3o")):
        ir_1, ir_2, ir_3 = (o3.Irrep(t) for t in texts)
        T = trilinear_invariants(ir_1, ir_2, ir_3, group)
        D1, D2, D3 = (textbook.representations(elements, ir.l, ir.p) for ir in (ir_1, ir_2, ir_3))
        moved = torch.einsum("pabc,gai,gbj,gck->gpijk", T, D1, D2, D3)
        if len(T):
            assert (moved - T).abs().max() < 1e-10
            gram = torch.einsum("pabc,qabc->pq", T, T)
            assert (gram - torch.eye(len(T), dtype=torch.float64)).abs().max() < 1e-11
        count = sum(
            round(textbook.haar_average(name, l, ir_1.p * ir_2.p * ir_3.p))
            for ir in ir_1 * ir_2
            for l in range(abs(ir.l - ir_3.l), ir.l + ir_3.l + 1)
        )
        assert len(T) == count


@pytest.fixture(scope="module")
def supergroups():
    """For every named group G, the named groups H that hold all its elements, all with the same axes."""
    groups = {name: SymmetryGroup(name) for name in textbook.ALL}
    samples = {
        name: textbook.all_elements(group) if group.is_finite else group.random_elements(24)
        for name, group in groups.items()
    }
    return {
        small: [
            large
            for large in textbook.ALL
            if not (small in textbook.CONTINUOUS and large in textbook.FINITE)
            and textbook.contains(large, samples[small], samples[large])
        ]
        for small in textbook.ALL
    }


def test_the_lattice_of_subgroups_is_the_textbooks(supergroups):
    assert set(supergroups["C1"]) == set(textbook.ALL)
    assert all(name in larger and "O3" in larger for name, larger in supergroups.items())
    assert set(supergroups["Ih"]) == {"Ih", "O3"}
    assert set(supergroups["Oh"]) == {"Oh", "O3"}
    assert set(supergroups["Cinfv"]) == {"Cinfv", "Dinfh", "O3"}
    assert set(supergroups["T"]) == {"T", "Td", "Th", "O", "Oh", "I", "Ih", "SO3", "O3"}
    assert {"C6v", "D3h", "D6h", "Cinfv"} <= set(supergroups["C3v"])
    assert "C4v" not in supergroups["C3v"]
    assert sum(len(larger) for larger in supergroups.values()) > 700


CONTAINMENT = ("0e + 1o + 2e + 3o", "0o + 1e + 1o + 2e")


@pytest.mark.parametrize("name", textbook.ALL)
def test_intertwiners_contain_those_of_every_larger_group(name, supergroups):
    small = _span(name)
    for larger in supergroups[name]:
        large = _span(larger)
        assert len(large) <= len(small)
        if len(large):
            remainder = large - (large @ small.T) @ small
            assert remainder.abs().max() < 1e-10, larger
    for l in range(textbook.L_MAX + 1):
        for p in (1, -1):
            mine = SymmetryGroup(name).invariants(l, p)
            theirs = torch.cat([SymmetryGroup(larger).invariants(l, p) for larger in supergroups[name]])
            if len(theirs):
                assert (theirs - theirs @ mine.T @ mine).abs().max() < 1e-10, (l, p)


_SPANS = {}


def _span(name):
    if name not in _SPANS:
        _SPANS[name] = intertwiners(*CONTAINMENT, SymmetryGroup(name)).flatten(1)
    return _SPANS[name]
