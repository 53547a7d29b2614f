"""The parts of an equivariant linear layer: maps between connected blocks, and the invariant bias."""

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.constants import ExactModule
from ik_e3nn.nn.layout import BlockMap, layout
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.symmetry.intertwiners import irrep_intertwiners


class ChannelMixing(nn.Module):
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
        self.muls_out = [irreps_out[k].mul for k in rows]
        self.mul_out = sum(self.muls_out)
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

    def fold(self, weight: Tensor) -> BlockMap:
        """The map of blocks with components first, for weights (mul_in * mul_out,)."""
        matrix = self.matrix(weight)

        def apply(blocks: list[Tensor]) -> list[Tensor]:
            x = blocks[0] if len(blocks) == 1 else torch.cat(blocks, 2)
            y = (x.reshape(self.dim * x.shape[1], self.mul_in) @ matrix).view(self.dim, x.shape[1], self.mul_out)
            return [y] if len(self.muls_out) == 1 else list(y.split(self.muls_out, 2))

        return apply


class DenseMixing(ExactModule):
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
        self.shapes_out = [(irreps_out[k].ir.dim, irreps_out[k].mul) for k in rows]
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

    def fold(self, weight: Tensor) -> BlockMap:
        """The map of blocks with components first, for weights (num_weights,)."""
        matrix = self.matrix(weight, "numv")

        def apply(blocks: list[Tensor]) -> list[Tensor]:
            rows = [b.transpose(0, 1).flatten(1) for b in blocks]  # (N, (2l+1) * mul)
            y = (rows[0] if len(rows) == 1 else torch.cat(rows, 1)) @ matrix
            parts = y.split([dim * mul for dim, mul in self.shapes_out], 1)
            return [p.unflatten(1, s).transpose(0, 1) for p, s in zip(parts, self.shapes_out, strict=True)]

        return apply

    def matrix(self, weight: Tensor, order: str = "unvm") -> Tensor:
        r"""Fold weights (num_weights,) and intertwiners into one matrix (dim_in, dim_out).

        .. math:: W[(u, m_{in}), (v, m_{out})] = \sum_p w_p[u, v] \, B_p[m_{out}, m_{in}]

        Args:
            weight: The weights.
            order: Order of the axes of a block, with n for m_in and m for m_out: "unvm" for flat features, as in the
                formula, "numv" for components first.
        """
        start, columns = 0, []
        for row in self.blocks:
            column = []
            for name, paths, mul_in, mul_out in row:
                basis = getattr(self, name)
                w = weight[start : start + paths * mul_in * mul_out].view(paths, mul_in, mul_out)
                start += w.numel()
                block = torch.einsum(f"puv,pmn->{order}", w, basis)
                column.append(block.reshape(mul_in * basis.shape[2], mul_out * basis.shape[1]))
            columns.append(torch.cat(column, 0))
        return torch.cat(columns, 1)


class InvariantBias(ExactModule):
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
        self.blocks = layout(irreps)
        self.fixed = [group.invariants(ir.l, ir.p).shape[0] > 0 for _, ir in irreps]
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

    def fold(self) -> list[Tensor | None]:
        """The vector as one (2l+1, 1, mul) for each block; None for blocks where it is zero."""
        vector = self()
        return [
            vector[b.place].view(b.mul, b.dim).T[:, None] if fixed else None
            for b, fixed in zip(self.blocks, self.fixed, strict=True)
        ]


def inverse_square_root(matrix: Tensor) -> Tensor:
    """Pseudo-inverse (d, d) of the square root of a positive semidefinite matrix (d, d)."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * torch.where(values > 1e-9, values, torch.inf).rsqrt()) @ vectors.T


def _fixed_vectors(mul: int, ir: o3.Irrep, group: SymmetryGroup) -> Tensor:
    """Vectors of ``mul`` copies of an irrep that G leaves fixed, (mul * n, mul * (2l+1)) for n of one copy; float64."""
    return torch.kron(torch.eye(mul, dtype=torch.float64), group.invariants(ir.l, ir.p))
