"""Channelwise products of steerable features, followed by a G-linear layer."""

from itertools import zip_longest
from typing import cast

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.constants import ExactModule
from ik_e3nn.nn.layout import BlockMap, from_components, layout, to_blocks, to_components
from ik_e3nn.nn.linear import EquivariantLinear
from ik_e3nn.nn.mixing import inverse_square_root
from ik_e3nn.symmetry import SymmetryGroup, trilinear_invariants


def channels(irreps: o3.Irreps, what: str) -> int:
    """The multiplicity that all blocks of irreps share.

    Args:
        irreps: The type.
        what: Name of the type in the error message.

    Raises:
        ValueError: The multiplicities differ; channelwise products need one number of channels.
    """
    muls = {mul for mul, _ in irreps}
    if len(muls) != 1:
        raise ValueError(f"{what} must have one multiplicity for all irreps, like 8x0e+8x1o; got {irreps}")
    return muls.pop()


class CouplingPaths:
    r"""All G-equivariant bilinear maps between the irreps of two types, stacked in one constant matrix.

    Args:
        irreps_in1: Type of the first factor; its multiplicities only weight the paths in the normalization.
        irreps_in2: Type of the second factor; the same holds for its multiplicities.
        irreps_out: Irreps of the product; paths to other irreps are left out.
        group: The group G.
        symmetric: Both factors are the same vector: maps that vanish for equal arguments are left out, and the
            normalization takes the correlation of the factors into account.

    Attributes:
        irreps_in1: The irreps of the first factor, each once.
        irreps_in2: The irreps of the second factor, each once.
        paths: For every path (index in irreps_in1, index in irreps_in2, output irrep, T), with T of shape
            (2 l_1 + 1, 2 l_2 + 1, 2 l_out + 1), float64, scaled to unit variance for standard normal arguments.
        irreps_mid: Output irreps of the paths, one after the other; paths to the same irrep are adjacent.
    """

    def __init__(
        self,
        irreps_in1: o3.Irreps,
        irreps_in2: o3.Irreps,
        irreps_out: o3.Irreps,
        group: SymmetryGroup,
        *,
        symmetric: bool = False,
    ) -> None:
        self.irreps_in1 = o3.Irreps([(1, ir) for _, ir in irreps_in1])
        self.irreps_in2 = o3.Irreps([(1, ir) for _, ir in irreps_in2])
        self.paths: list[tuple[int, int, o3.Irrep, Tensor]] = []
        for ir_out in dict.fromkeys(ir for _, ir in irreps_out):
            paths, total, covariance = [], 0, torch.zeros(ir_out.dim, ir_out.dim, dtype=torch.float64)
            for a, (_, ir_1) in enumerate(self.irreps_in1):
                for b, (_, ir_2) in enumerate(self.irreps_in2):
                    if symmetric and b < a:
                        continue
                    for T in trilinear_invariants(ir_1, ir_2, ir_out, group):
                        moment = _second_moment(T, correlated=symmetric and a == b)
                        scale = float(moment.trace()) / ir_out.dim
                        if scale > 1e-8:
                            paths.append((a, b, ir_out, T * scale**-0.5))
                            weight = irreps_in1[a].mul * irreps_in2[b].mul
                            covariance += moment * weight / scale
                            total += weight
            # a random mixture of the paths has unit variance in every component; see EquivariantLinear
            whitening = inverse_square_root(covariance / max(total, 1))
            self.paths += [(a, b, ir, T @ whitening) for a, b, ir, T in paths]
        self.irreps_mid = o3.Irreps([(1, ir) for _, _, ir, _ in self.paths])

    def matrix(self) -> Tensor:
        """The tensors T of all paths as one matrix (irreps_in1.dim * irreps_in2.dim, irreps_mid.dim), float64."""
        whole = torch.zeros(self.irreps_in1.dim, self.irreps_in2.dim, self.irreps_mid.dim, dtype=torch.float64)
        rows, columns = self.irreps_in1.slices(), self.irreps_in2.slices()
        for (a, b, _, T), s in zip(self.paths, self.irreps_mid.slices(), strict=True):
            whole[rows[a], columns[b], s] = T
        return whole.flatten(0, 1)


def _second_moment(T: Tensor, *, correlated: bool) -> Tensor:
    """E[z z^T] for z_m = sum_ab T_abm x_a y_b with standard normal x and y (Wick's theorem).

    Args:
        T: (2 l_1 + 1, 2 l_2 + 1, 2 l_out + 1).
        correlated: Whether y = x; otherwise x and y are independent.

    Returns:
        (2 l_out + 1, 2 l_out + 1).
    """
    moment = torch.einsum("abm,abn->mn", T, T)
    if correlated:
        trace = torch.einsum("aam->m", T)
        moment = moment + torch.einsum("abm,ban->mn", T, T) + torch.outer(trace, trace)
    return moment


class TensorProduct(ExactModule):
    r"""Multiply channel c of x with channel c of y, then apply a G-linear layer over all paths and channels.

    .. math:: z = L\big( \textstyle\bigoplus_p T_p(x^c, y^c) \big)

    The arguments have the same names as in :class:`e3nn.o3.FullyConnectedTensorProduct`.

    Args:
        irreps_in1: Type of x; all irreps have the same multiplicity C.
        irreps_in2: Type of y; all irreps have the multiplicity C too.
        irreps_out: Type of the product z.
        group: The group G, or its name.
        symmetric: x and y will be equal; paths that vanish then are left out. See :class:`SelfTensorProduct`.

    Attributes:
        coupling: The tensors T of all paths, (M_1 * M_2, dimension of all paths), with M_1 and M_2 the sums of 2l+1
            over the irreps of x and y.

    Raises:
        ValueError: The multiplicities differ.

    Example:
        >>> product = TensorProduct("8x0e + 8x1o", "8x0e + 8x1o", "4x0e + 4x1o + 4x2e")
        >>> product(torch.randn(5, 32), torch.randn(5, 32)).shape
        torch.Size([5, 36])
    """

    coupling: Tensor

    def __init__(
        self,
        irreps_in1: o3.Irreps | str,
        irreps_in2: o3.Irreps | str,
        irreps_out: o3.Irreps | str,
        group: SymmetryGroup | str = "O3",
        *,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.irreps_in1, self.irreps_in2, self.irreps_out = (
            o3.Irreps(irreps_in1),
            o3.Irreps(irreps_in2),
            o3.Irreps(irreps_out),
        )
        self.group = SymmetryGroup.from_config(group)
        self.blocks_in1, self.blocks_in2 = layout(self.irreps_in1), layout(self.irreps_in2)
        mul = channels(self.irreps_in1, "irreps_in1")
        if channels(self.irreps_in2, "irreps_in2") != mul:
            raise ValueError(
                f"both factors need the same number of channels; got {self.irreps_in1} and {self.irreps_in2}"
            )
        paths = CouplingPaths(self.irreps_in1, self.irreps_in2, self.irreps_out, self.group, symmetric=symmetric)
        self.register_exact("coupling", paths.matrix())
        self.linear = PathLinear(paths.irreps_mid, mul, self.irreps_out)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Multiply.

        Args:
            x: Flat features (N, irreps_in1.dim).
            y: Flat features (N, irreps_in2.dim).

        Returns:
            Flat features z, (N, irreps_out.dim).
        """
        blocks = self.on_components(to_components(x, self.blocks_in1), to_components(y, self.blocks_in2))
        return from_components(blocks, self.linear.blocks)

    def on_components(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Multiply features with components first.

        Args:
            x: (M_1, N, C), with M_1 the sum of 2l+1 over irreps_in1.
            y: (M_2, N, C), with M_2 the sum of 2l+1 over irreps_in2.

        Returns:
            One tensor (2l+1, N, mul) for each irrep of irreps_out.
        """
        products = (x[:, None] * y[None]).flatten(0, 1)  # (M_1 * M_2, N, C)
        return self.linear((self.coupling.T @ products.flatten(1)).view(self.coupling.shape[1], *x.shape[1:]))


class SelfTensorProduct(nn.Module):
    """The product of features with themselves, which raises the body order of a message by one factor.

    Args:
        irreps_in: Type of x; all irreps have the same multiplicity.
        irreps_out: Type of the product.
        group: The group G, or its name.

    Example:
        >>> SelfTensorProduct("8x0e + 8x1o", "8x0e + 8x1o")(torch.randn(5, 32)).shape
        torch.Size([5, 32])
    """

    def __init__(
        self, irreps_in: o3.Irreps | str, irreps_out: o3.Irreps | str, group: SymmetryGroup | str = "O3"
    ) -> None:
        super().__init__()
        self.product = TensorProduct(irreps_in, irreps_in, irreps_out, group, symmetric=True)
        self.irreps_in, self.irreps_out = self.product.irreps_in1, self.product.irreps_out

    def forward(self, x: Tensor) -> Tensor:
        """Map flat features (N, irreps_in.dim) to (N, irreps_out.dim)."""
        result: Tensor = self.product(x, x)
        return result


class TensorPowers(nn.Module):
    r"""Sum of powers of features, built from all bilinear maps of a group.

    .. math:: y = \sum_{k=1}^{n} L_k x^{(k)}, \qquad x^{(1)} = x, \quad x^{(k)} = L(x^{(k-1)} \otimes x)

    Args:
        irreps_in: Type of x; all irreps have the same multiplicity C_in.
        irreps_out: Type of y; all irreps have the same multiplicity C_out.
        group: The group G, or its name.
        correlation: Number of factors n, at least 1.

    Example:
        >>> TensorPowers("8x0e + 8x1o", "4x0e + 4x1o", "C4v", correlation=3)(torch.randn(5, 32)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        irreps_out: o3.Irreps | str,
        group: SymmetryGroup | str = "O3",
        *,
        correlation: int = 2,
    ) -> None:
        super().__init__()
        if correlation < 1:
            raise ValueError(f"a product needs at least 1 factor; got correlation={correlation}")
        self.irreps_in, self.irreps_out = o3.Irreps(irreps_in), o3.Irreps(irreps_out)
        self.blocks_in, self.blocks_out = layout(self.irreps_in), layout(self.irreps_out)
        targets = [self.irreps_in] * (correlation - 2) + [self.irreps_out] * (correlation > 1)
        self.products = nn.ModuleList(
            TensorProduct(self.irreps_in, self.irreps_in, target, group, symmetric=k == 0)
            for k, target in enumerate(targets)
        )
        self.linear = nn.ModuleList(
            EquivariantLinear(self.irreps_in, self.irreps_out, group) for _ in range(max(correlation - 1, 1))
        )
        self.norm = correlation**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """Map flat features (N, irreps_in.dim) to (N, irreps_out.dim)."""
        return from_components(self.on_components(to_components(x, self.blocks_in)), self.blocks_out)

    def on_components(self, x: Tensor) -> Tensor:
        """Take the powers of features with components first.

        Args:
            x: (M_in, N, C_in), with M_in the sum of 2l+1 over irreps_in.

        Returns:
            (M_out, N, C_out), with M_out the sum of 2l+1 over irreps_out.
        """
        products = cast(list[TensorProduct], list(self.products))
        first, *others = cast(list[EquivariantLinear], list(self.linear))
        power, y = x, first.on_components(x)
        for product, linear in zip_longest(products, others):
            power = torch.cat(product.on_components(power, x))
            y = y + (power if linear is None else linear.on_components(power))
        return y * self.norm


class DampedSquare(nn.Module):
    r"""Products of the fields of a channel with each other, damped so that they grow no faster than the fields.

    .. math:: y = \tfrac{1}{\sqrt2} \Big( L x
              + k \, L' \bigoplus_c \frac{x^c \otimes x^c}{\sqrt{1 + |x^c|^2 / M}} \Big)

    with M components x^c of channel c. The products are quadratic for small fields and linear for large ones, so that
    such layers can be stacked, whereas plain powers would diverge. The layer is exactly equivariant, because norms are
    invariant under all of O(3).

    Args:
        irreps: Type of x and y; all irreps have the same multiplicity C.
        group: The group G, or its name.
        gain: The factor k. With the root of 2 both parts are equally large for normal fields; 1 makes products smaller.

    Example:
        >>> DampedSquare("8x0e + 8x1o", "SO2")(torch.randn(5, 32)).shape
        torch.Size([5, 32])
    """

    def __init__(self, irreps: o3.Irreps | str, group: SymmetryGroup | str = "O3", *, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.irreps_in = self.irreps_out = o3.Irreps(irreps)
        self.blocks = layout(self.irreps_in)
        self.linear = EquivariantLinear(self.irreps_in, self.irreps_out, group)
        self.product = TensorProduct(self.irreps_in, self.irreps_in, self.irreps_out, group, symmetric=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map flat features (..., irreps.dim) to the same shape."""
        blocks = self.fold()(to_blocks(x.reshape(-1, x.shape[-1]), self.blocks))
        return from_components(blocks).view(x.shape)

    def fold(self) -> BlockMap:
        """The layer as a function of blocks with components first; see ``EquivariantLinear.fold``."""
        linear = self.linear.fold()

        def apply(blocks: list[Tensor]) -> list[Tensor]:
            parts = torch.cat(blocks)  # (M, N, C)
            damped = parts * ((1 + parts.square().mean(0)).rsqrt() * self.gain)
            pairs = zip(linear(blocks), self.product.on_components(parts, damped), strict=True)
            return [(a + b) * 0.5**0.5 for a, b in pairs]

        return apply


class PathLinear(nn.Module):
    """Mixes the paths of a product and their channels.

    The outputs of the paths already are of the irreps of the result and G-equivariant, so that only paths and channels
    are mixed here, for every group.

    Args:
        irreps_mid: Output irreps of the paths; paths to the same irrep are adjacent.
        mul: Number of channels of every path.
        irreps_out: Type of the result.

    Attributes:
        weights: One matrix (paths to the irrep * mul, multiplicity) for each block of irreps_out.
    """

    def __init__(self, irreps_mid: o3.Irreps, mul: int, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.irreps_mid, self.mul, self.irreps_out = irreps_mid, mul, irreps_out
        fan = {ir: mul * sum(1 for _, mid in irreps_mid if mid == ir) for _, ir in irreps_out}
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(fan[ir], m)) for m, ir in irreps_out)
        starts = {ir: s.start for (_, ir), s in reversed(list(zip(irreps_mid, irreps_mid.slices(), strict=True)))}
        self.spans = [(starts.get(ir, 0), fan[ir] // mul) for _, ir in irreps_out]
        self.blocks = layout(irreps_out)
        kinds = list(dict.fromkeys(ir for _, ir in irreps_mid))  # paths to one irrep are adjacent
        self.sizes = [ir.dim * irreps_mid.count(ir) for ir in kinds]
        self.sources = [kinds.index(ir) if ir in kinds else None for _, ir in irreps_out]

    def forward(self, z: Tensor) -> list[Tensor]:
        """Mix paths and channels.

        Args:
            z: Outputs of all paths with components first, (irreps_mid.dim, N, mul).

        Returns:
            One tensor (2l+1, N, multiplicity) for each block of irreps_out.
        """
        nodes, results, parts = z.shape[1], [], z.split(self.sizes)
        for block, weight, source in zip(self.blocks, self.weights, self.sources, strict=True):
            if source is None:
                results.append(z.new_zeros(block.dim, nodes, block.mul))
                continue
            paths = self.sizes[source] // block.dim
            part = parts[source].unflatten(0, (paths, block.dim))
            part = part.permute(1, 2, 0, 3).reshape(block.dim * nodes, paths * self.mul)
            results.append((part @ (weight * (paths * self.mul) ** -0.5)).view(block.dim, nodes, block.mul))
        return results
