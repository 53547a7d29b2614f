r"""G-equivariant linear and bilinear maps between irreps of O(3), from 3j symbols and invariant vectors.

.. math:: \mathrm{Hom}_G(l_1, l_2) \simeq \mathrm{Inv}_G(l_1 \otimes l_2)
          = \bigoplus_{l=|l_1-l_2|}^{l_1+l_2} \mathrm{Inv}_G(l)

so that every equivariant linear map is a Clebsch-Gordan product with an invariant vector, and every equivariant
bilinear map is a Clebsch-Gordan product followed by an equivariant linear map.
"""

import functools

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.symmetry.group import SymmetryGroup


@functools.cache
def irrep_intertwiners(ir_in: o3.Irrep, ir_out: o3.Irrep, group: SymmetryGroup) -> Tensor:
    r"""Orthonormal basis of :math:`\mathrm{Hom}_G(\text{ir\_in}, \text{ir\_out})`.

    .. math:: B_{l,v}[m_2, m_1] = \sqrt{2l+1} \sum_m C^{l_2 l_1 l}_{m_2 m_1 m} v_m,
              \qquad v \in \mathrm{Inv}_G(l, p_1 p_2)

    Returns:
        Tensor (paths, 2 l_out + 1, 2 l_in + 1), float64, with :math:`\langle B_p, B_q \rangle = \delta_{pq}`.
    """
    parity = ir_in.p * ir_out.p
    basis = [torch.zeros(0, ir_out.dim, ir_in.dim, dtype=torch.float64)]
    for l in range(abs(ir_in.l - ir_out.l), ir_in.l + ir_out.l + 1):
        fixed = group.invariants(l, parity)
        if not len(fixed):
            continue  # skip the 3j symbols, which take seconds for high degrees
        cg = o3.wigner_3j(ir_out.l, ir_in.l, l, dtype=torch.float64) * (2 * l + 1) ** 0.5
        maps = torch.einsum("pm,jim->pji", fixed, cg)
        # the sign of a map is arbitrary: choose a positive trace, so that O(3) gives the identity and not its negative
        basis.append(
            maps * (maps.diagonal(dim1=1, dim2=2).sum(1).sign() if l == 0 else torch.ones(len(maps)))[:, None, None]
        )
    return torch.cat(basis)


def intertwiners(irreps_in: o3.Irreps | str, irreps_out: o3.Irreps | str, group: SymmetryGroup) -> Tensor:
    r"""Orthonormal basis of all G-equivariant linear maps from irreps_in to irreps_out (e3nn's flat layout).

    Args:
        irreps_in: Type of the input.
        irreps_out: Type of the output.
        group: The symmetry group G.

    Returns:
        Tensor (paths, irreps_out.dim, irreps_in.dim), float64. It is large if there are multiplicities;
        ``EquivariantLinear`` never builds it.

    Example:
        >>> intertwiners("2x0e + 1o", "0e + 1o", SymmetryGroup("O3")).shape
        torch.Size([3, 4, 5])
    """
    irreps_in, irreps_out = o3.Irreps(irreps_in), o3.Irreps(irreps_out)
    slices_in = [(ir, s) for (_, ir), s in zip(unit_irreps(irreps_in), unit_irreps(irreps_in).slices(), strict=True)]
    slices_out = [(ir, s) for (_, ir), s in zip(unit_irreps(irreps_out), unit_irreps(irreps_out).slices(), strict=True)]
    maps = [torch.zeros(0, irreps_out.dim, irreps_in.dim, dtype=torch.float64)]
    for ir_out, rows in slices_out:
        for ir_in, columns in slices_in:
            block = irrep_intertwiners(ir_in, ir_out, group)
            whole = torch.zeros(len(block), irreps_out.dim, irreps_in.dim, dtype=torch.float64)
            whole[:, rows, columns] = block
            maps.append(whole)
    return torch.cat(maps)


def unit_irreps(irreps: o3.Irreps) -> o3.Irreps:
    """The same flat layout with every multiplicity written out as copies: 2x0e -> 0e + 0e."""
    return o3.Irreps([(1, ir) for mul, ir in irreps for _ in range(mul)])


@functools.cache
def trilinear_invariants(ir_1: o3.Irrep, ir_2: o3.Irrep, ir_out: o3.Irrep, group: SymmetryGroup) -> Tensor:
    r"""Orthonormal basis of the G-equivariant bilinear maps ir_1 x ir_2 -> ir_out.

    .. math:: T_{l,B}[m_1, m_2, m_3] = \sqrt{2l+1} \sum_m C^{l_1 l_2 l}_{m_1 m_2 m} B[m_3, m],
              \qquad B \in \mathrm{Hom}_G(l, l_3)

    For G = O(3) this is the 3j symbol (one path if the parities agree); smaller groups have more paths.

    Returns:
        Tensor (paths, 2 l_1 + 1, 2 l_2 + 1, 2 l_out + 1), float64, orthonormal.

    Example:
        >>> T = trilinear_invariants(o3.Irrep("1o"), o3.Irrep("1o"), o3.Irrep("1e"), SymmetryGroup("O3"))
        >>> torch.allclose(T[0].abs(), o3.wigner_3j(1, 1, 1, dtype=torch.float64).abs())
        True
    """
    tensors = [torch.zeros(0, ir_1.dim, ir_2.dim, ir_out.dim, dtype=torch.float64)]
    for ir in ir_1 * ir_2:
        cg = o3.wigner_3j(ir_1.l, ir_2.l, ir.l, dtype=torch.float64) * ir.dim**0.5
        tensors.append(torch.einsum("abm,pcm->pabc", cg, irrep_intertwiners(ir, ir_out, group)))
    return torch.cat(tensors)
