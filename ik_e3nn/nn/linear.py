"""The G-equivariant linear layer."""

from typing import cast

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.constants import ExactModule
from ik_e3nn.nn.layout import from_components, layout, to_components
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.symmetry.intertwiners import irrep_intertwiners


class EquivariantLinear(nn.Module):
    r"""The most general linear map that commutes with a group G.

    .. math:: y_k = S_k^{-1/2} \sum_i \sum_p (w_{ikp} \otimes B_{ikp}) \, x_i + b_k,
              \qquad B_{ikp} \in \mathrm{Hom}_G(i, k), \; S_k = \sum_{ip} \mathrm{mul}_i \, B_{ikp} B_{ikp}^T

    The weights are initialized with standard normal numbers. :math:`S_k` is the covariance of the output for inputs of
    unit variance; it commutes with G, so that dividing by its root gives *every component* unit variance and keeps
    equivariance. (Scaling whole blocks is not enough: components that G leaves invariant would grow from layer to
    layer.) For G = O(3) the layer is equivalent to ``o3.Linear``.

    Blocks of x and y that G connects are multiplied in one GEMM; if the only maps are multiples of the identity
    (always for O(3) and SO(3)), the GEMM runs over channels alone.

    Args:
        irreps_in: Type of the input x.
        irreps_out: Type of the output y. A block to which no input block maps is zero.
        group: The group G, or its name.
        bias: Add a learnable G-invariant vector b (irreps_out.dim,), zero at first.

    Attributes:
        weight: All weights w one after the other, (number of weights,): see ``weight_shapes``.

    Example:
        >>> linear = EquivariantLinear("4x0e + 4x1o", "2x0e + 2x1o", "SO2")
        >>> linear(torch.randn(5, 16)).shape
        torch.Size([5, 8])
        >>> linear.weight.numel()  # of (4 + 4) x 2 scalars and 4 x 2 + 4 x 2 x 3 vectors
        48
    """

    permutation: Tensor

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        irreps_out: o3.Irreps | str,
        group: SymmetryGroup | str = "O3",
        *,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = o3.Irreps(irreps_in), o3.Irreps(irreps_out)
        self.dim_in = self.irreps_in.dim
        self.group = SymmetryGroup.from_config(group)
        components: list[_ChannelMixing | _DenseMixing] = [
            _ChannelMixing(self.irreps_in, self.irreps_out, rows, columns)
            if _only_identities(self.irreps_in, self.irreps_out, rows, columns, self.group)
            else _DenseMixing(self.irreps_in, self.irreps_out, rows, columns, self.group)
            for columns, rows in _connected_components(self.irreps_in, self.irreps_out, self.group)
        ]
        self.components = nn.ModuleList(components)
        self.weight = nn.Parameter(torch.randn(sum(c.num_weights for c in components)))
        self.bias = _InvariantBias(self.irreps_out, self.group) if bias else None
        self.blocks_in, self.blocks_out = layout(self.irreps_in), layout(self.irreps_out)
        self.block_by_block = bias is False and all(
            isinstance(c, _ChannelMixing) and len(c.rows) == len(c.columns) == 1 for c in components
        )
        order = [s for c in components for k in c.rows for s in _span(self.irreps_out, k)]
        present = set(order)
        missing = [s for s in range(self.irreps_out.dim) if s not in present]
        self.num_missing = len(missing)
        permutation = torch.tensor(order + missing, dtype=torch.long).argsort()
        self.in_order = bool((permutation == torch.arange(len(permutation))).all())
        self.register_buffer("permutation", permutation, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: Flat features (..., irreps_in.dim).

        Returns:
            Flat features (..., irreps_out.dim).

        Raises:
            ValueError: The last dimension of x is not irreps_in.dim.
        """
        if x.shape[-1] != self.dim_in:
            raise ValueError(f"expected features of {self.irreps_in}, dimension {self.dim_in}; got {tuple(x.shape)}")
        weights = self.weight.split([c.num_weights for c in self.components])
        pieces = [c(x, w) for c, w in zip(self.components, weights, strict=True)]
        if self.num_missing:
            pieces.append(x.new_zeros(*x.shape[:-1], self.num_missing))
        y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)
        if not self.in_order:
            y = y[..., self.permutation]
        return y if self.bias is None else y + self.bias()

    def on_components(self, x: Tensor) -> Tensor:
        """Apply the layer to features with components first, for types of one multiplicity.

        Args:
            x: (M_in, N, C_in), with M_in the sum of 2l+1 over the irreps of irreps_in and C_in their multiplicity.

        Returns:
            (M_out, N, C_out), with M_out and C_out likewise for irreps_out.
        """
        if not self.block_by_block:
            return to_components(self(from_components(x, self.blocks_in)), self.blocks_out)
        nodes = x.shape[1]
        parts = x.split([b.dim for b in self.blocks_in])
        results = [x.new_zeros(b.dim, nodes, b.mul) for b in self.blocks_out]
        weights = self.weight.split([c.num_weights for c in self.components])
        for c, weight in zip(cast(list[_ChannelMixing], list(self.components)), weights, strict=True):
            y = parts[c.columns[0]].reshape(c.dim * nodes, c.mul_in) @ c.matrix(weight)
            results[c.rows[0]] = y.view(c.dim, nodes, c.mul_out)
        return results[0] if len(results) == 1 else torch.cat(results)

    def weight_matrices(self) -> list[tuple[list[int], int]]:
        """The matrices (channels in, channels out) that ``weight`` holds one after the other.

        The layer is equivariant for all values of the matrices.

        Returns:
            For each matrix, the input blocks whose channels are its rows, and the number of its columns.

        Example:
            >>> EquivariantLinear("4x0e + 4x1o", "2x0e + 2x1o").weight_matrices()
            [([0], 2), ([1], 2)]
        """
        components = cast(list[_ChannelMixing | _DenseMixing], list(self.components))
        return [matrix for c in components for matrix in c.matrices]

    def weight_shapes(self) -> list[tuple[int, int]]:
        """Shapes (channels in, channels out) of the matrices of ``weight_matrices``.

        Example:
            >>> EquivariantLinear("4x0e + 4x1o", "2x0e + 2x1o").weight_shapes()
            [(4, 2), (4, 2)]
        """
        return [(sum(self.irreps_in[i].mul for i in blocks), size) for blocks, size in self.weight_matrices()]

    def extra_repr(self) -> str:
        """One line that ``print`` shows for this layer."""
        return f"{self.irreps_in} -> {self.irreps_out}, {self.group.name}, {self.weight.numel()} weights"


def _span(irreps: o3.Irreps, block: int) -> range:
    """Columns of a block in flat features."""
    s = irreps.slices()[block]
    return range(s.start, s.stop)


def _connected_components(
    irreps_in: o3.Irreps, irreps_out: o3.Irreps, group: SymmetryGroup
) -> list[tuple[list[int], list[int]]]:
    """Partition the blocks into sets between which G allows linear maps.

    Returns:
        Indices (of input blocks, of output blocks) of each set, in the order of the output blocks.
    """
    components: list[tuple[list[int], list[int]]] = []
    for k, (mul_out, ir_out) in enumerate(irreps_out):
        inputs = {
            i
            for i, (mul_in, ir_in) in enumerate(irreps_in)
            if mul_in * mul_out and len(irrep_intertwiners(ir_in, ir_out, group))
        }
        if not inputs:
            continue
        touching = [c for c in components if inputs & set(c[0])]
        components = [c for c in components if c not in touching]
        columns = sorted(inputs.union(*[c[0] for c in touching]))
        components.append((columns, sorted([k, *[row for c in touching for row in c[1]]])))
    return sorted(components, key=lambda c: c[1][0])


def _only_identities(
    irreps_in: o3.Irreps, irreps_out: o3.Irreps, rows: list[int], columns: list[int], group: SymmetryGroup
) -> bool:
    """Whether all maps from input blocks ``columns`` to output blocks ``rows`` are multiples of the identity."""
    irreps = {irreps_in[i].ir for i in columns} | {irreps_out[k].ir for k in rows}
    if len({ir.l for ir in irreps}) > 1:
        return False
    maps = [irrep_intertwiners(a, b, group) for a in irreps for b in irreps]
    identity = torch.eye(maps[0].shape[-1], dtype=torch.float64)
    return all(len(m) == 1 and bool((m[0] / m[0, 0, 0] - identity).abs().max() < 1e-10) for m in maps)


class _ChannelMixing(nn.Module):
    """Mixes the channels of blocks of one degree l, (..., mul_in, 2l+1) to (..., mul_out, 2l+1).

    Args:
        irreps_in: Type of the input of the layer.
        irreps_out: Type of the output of the layer.
        rows: Indices of the output blocks; mul_out is the sum of their multiplicities.
        columns: Indices of the input blocks; mul_in is the sum of their multiplicities.
    """

    def __init__(self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, rows: list[int], columns: list[int]) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.slices = [irreps_in.slices()[i] for i in columns]
        self.dim = irreps_in[columns[0]].ir.dim
        self.mul_in = sum(irreps_in[i].mul for i in columns)
        self.mul_out = sum(irreps_out[k].mul for k in rows)
        self.num_weights = self.mul_in * self.mul_out
        self.matrices = [(columns, self.mul_out)]

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Map the input blocks to the output blocks.

        Args:
            x: All features (..., irreps_in.dim); the input blocks are taken from them.
            weight: (mul_in * mul_out,).

        Returns:
            The output blocks one after the other, (..., mul_out * (2l+1)).
        """
        x = x[..., self.slices[0]] if len(self.slices) == 1 else torch.cat([x[..., s] for s in self.slices], -1)
        matrix = self.matrix(weight)
        if self.dim == 1:
            return x @ matrix
        y = x.unflatten(-1, (self.mul_in, self.dim)).transpose(-1, -2) @ matrix
        return y.transpose(-1, -2).flatten(-2)

    def matrix(self, weight: Tensor) -> Tensor:
        """Weights (mul_in * mul_out,) as a matrix (mul_in, mul_out), divided by the root of mul_in."""
        return weight.view(self.mul_in, self.mul_out) * self.mul_in**-0.5


class _DenseMixing(ExactModule):
    """Maps all connected blocks by one matrix, which is folded from weights and intertwiners at each call.

    Args:
        irreps_in: Type of the input of the layer.
        irreps_out: Type of the output of the layer.
        rows: Indices of the output blocks; dim_out is the sum of their mul * (2l+1).
        columns: Indices of the input blocks; dim_in is the sum of their mul * (2l+1).
        group: The group G.

    Attributes:
        basis_{k}_{i}: Normalized intertwiners from block i to block k, (paths, 2 l_out + 1, 2 l_in + 1).
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, rows: list[int], columns: list[int], group: SymmetryGroup
    ) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.slices = [irreps_in.slices()[i] for i in columns]
        self.num_weights = 0
        self.matrices: list[tuple[list[int], int]] = []
        self.blocks: list[list[tuple[str, int, int, int]]] = []
        for k in rows:
            mul_out, ir_out = irreps_out[k]
            maps = [irrep_intertwiners(irreps_in[i].ir, ir_out, group) for i in columns]
            covariance = sum(
                irreps_in[i].mul * torch.einsum("pmn,pkn->mk", m, m) for i, m in zip(columns, maps, strict=True)
            )
            whitening = inverse_square_root(torch.as_tensor(covariance))
            row = []
            for i, m in zip(columns, maps, strict=True):
                name = f"basis_{k}_{i}"
                self.register_exact(name, whitening @ m)
                row.append((name, len(m), irreps_in[i].mul, mul_out))
                self.num_weights += len(m) * irreps_in[i].mul * mul_out
                self.matrices += [([i], mul_out)] * len(m)
            self.blocks.append(row)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Map the input blocks to the output blocks.

        Args:
            x: All features (..., irreps_in.dim); the input blocks are taken from them.
            weight: (num_weights,).

        Returns:
            The output blocks one after the other, (..., dim_out).
        """
        x = x[..., self.slices[0]] if len(self.slices) == 1 else torch.cat([x[..., s] for s in self.slices], -1)
        return x @ self.matrix(weight)

    def matrix(self, weight: Tensor) -> Tensor:
        r"""Fold weights (num_weights,) and intertwiners into one matrix (dim_in, dim_out).

        .. math:: W[(u, m_{in}), (v, m_{out})] = \sum_p w_p[u, v] \, B_p[m_{out}, m_{in}]
        """
        start, columns = 0, []
        for row in self.blocks:
            column = []
            for name, paths, mul_in, mul_out in row:
                basis = getattr(self, name)
                w = weight[start : start + paths * mul_in * mul_out].view(paths, mul_in, mul_out)
                start += w.numel()
                block = torch.einsum("puv,pmn->unvm", w, basis)
                column.append(block.reshape(mul_in * basis.shape[2], mul_out * basis.shape[1]))
            columns.append(torch.cat(column, 0))
        return torch.cat(columns, 1)


class _InvariantBias(ExactModule):
    """A learnable vector that G leaves fixed.

    Args:
        irreps: Type of the vector.
        group: The group G.

    Attributes:
        weight: (n,), with n the number of invariant vectors of ``irreps``.
        basis: These vectors, (n, irreps.dim); absent for scalars alone.
    """

    basis: Tensor

    def __init__(self, irreps: o3.Irreps, group: SymmetryGroup) -> None:
        super().__init__()
        # for scalars alone the vector is the weights: the basis would be a large identity matrix
        self.only_scalars = all(ir == o3.Irrep("0e") for _, ir in irreps)
        if self.only_scalars:
            self.weight = nn.Parameter(torch.zeros(irreps.dim))
            return
        rows = [_fixed_vectors(mul, ir, group) for mul, ir in irreps]
        self.register_exact("basis", torch.block_diag(*rows))
        self.weight = nn.Parameter(torch.zeros(self.basis.shape[0]))

    def forward(self) -> Tensor:
        """The vector, (irreps.dim,)."""
        return self.weight if self.only_scalars else self.weight @ self.basis


def inverse_square_root(matrix: Tensor) -> Tensor:
    """Pseudo-inverse (d, d) of the square root of a positive semidefinite matrix (d, d)."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * torch.where(values > 1e-9, values, torch.inf).rsqrt()) @ vectors.T


def _fixed_vectors(mul: int, ir: o3.Irrep, group: SymmetryGroup) -> Tensor:
    """Vectors of ``mul`` copies of an irrep that G leaves fixed, (mul * n, mul * (2l+1)) for n of one copy; float64."""
    return torch.kron(torch.eye(mul, dtype=torch.float64), group.invariants(ir.l, ir.p))
