"""Classification of point clouds with normals by a steerable network, invariant under a given group."""

from collections.abc import Callable, Sequence

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import PolynomialBasis, spherical_irreps
from ik_e3nn.conv import PointConv
from ik_e3nn.graph import Level, Pyramid
from ik_e3nn.kernels import ImplicitKernel, Kernel
from ik_e3nn.models.networks.modes import in_own_precision
from ik_e3nn.nn import EquivariantBatchNorm, EquivariantLinear
from ik_e3nn.nn.mlp import Activation, nonlinearity
from ik_e3nn.symmetry import SymmetryGroup

KernelMaker = Callable[[SymmetryGroup, float], Kernel]


def cloud_kernel(group: SymmetryGroup, reach: float, *, activation: Activation = "gate") -> ImplicitKernel:
    """The kernel of the paper for point clouds: two linear layers, an activation between them, 8 fields up to degree 2.

    Args:
        group: The group G.
        reach: Initial width of the Gaussian window, in the unit of the positions.
        activation: See ``ImplicitKernel``; the paper uses "sphere".

    Reference:
        Zhdanov et al., NeurIPS 2023, appendix B.2, ModelNet-40.

    Example:
        >>> cloud_kernel(SymmetryGroup("SO2"), 0.3).irreps_filter
        8x0e+8x1o+8x2e
    """
    basis = PolynomialBasis(3, sigma=reach)
    return ImplicitKernel(
        "", spherical_irreps(2, 8), group, basis=basis, depth=1, activation=activation, batch_norm=True
    )


class PointCloudClassifier(nn.Module):
    r"""Class scores of point clouds, invariant under a group G that acts on points and input vectors.

    .. math:: f^{(0)} &= L n, \qquad
              f_i^{(t+1)} = \mathrm{BN}\Big( \sigma \sum_{j \in N_t(i)} K_t(r_{ij}) f_j^{(t)} \Big) \\
              s &= \mathrm{MLP}\big( \max\nolimits_i f_i^{(T)} \big)

    The network has convolutions, each with a nonlinearity and a batch norm and each to a coarser cloud; the last gives
    G-invariant features. Their maximum over the cloud is the input of an MLP. Scores do not change when a cloud is
    shifted, but depend on the unit of length. Rounding decides between neighbors at equal distances: see ``Pyramid``.
    Needs torch-cluster.

    Args:
        num_classes: Number of scores.
        group: Symmetry group G, or its name; it acts about z.
        irreps_in: Type of the input features; normals by default.
        channels: Number of fields of every degree after the embedding and after each convolution but the last: one
            number, or one for each.
        l_max: Largest degree of the features.
        scalars: Number of invariant features after the last convolution.
        kernel: Function that makes the kernel of a convolution from the group and the approximate distance of its
            farthest neighbors. Kernels with attributes get the input features of the sender and the receiver.
        activation: Nonlinearity after each convolution. With "gate" and "product" scores are invariant to rounding, if
            kernels are exact: to 1e-12 of their spread in float64 and 1e-4 in float32. "sphere" is the quotient ELU of
            the paper; ``functools.partial(cloud_kernel, activation="sphere")`` uses it in kernels too. Scores of new
            networks then change by some percent of their spread.
        pyramid: Numbers of points of the levels, with one convolution from each level to the next, and of neighbors.

    Raises:
        ValueError: A number is not positive, the numbers of channels do not fit the pyramid, or a kernel has other
            attributes.

    Reference:
        Zhdanov et al., NeurIPS 2023, section 5.3 and appendix B.2.

    Example:
        >>> model = PointCloudClassifier(40, "SO2", channels=4, pyramid=Pyramid((64, 32, 16), neighbors=8))
        >>> positions, normals = torch.randn(100, 3), torch.nn.functional.normalize(torch.randn(100, 3), dim=1)
        >>> model(positions, normals).shape
        torch.Size([1, 40])
    """

    def __init__(
        self,
        num_classes: int,
        group: SymmetryGroup | str = "SO2",
        *,
        irreps_in: o3.Irreps | str = "1o",
        channels: int | Sequence[int] = 16,
        l_max: int = 2,
        scalars: int = 128,
        kernel: KernelMaker = cloud_kernel,
        activation: Activation = "gate",
        pyramid: Pyramid | None = None,
    ) -> None:
        super().__init__()
        self.group = SymmetryGroup.from_config(group)
        self.irreps_in = o3.Irreps(irreps_in)
        self.pyramid = Pyramid() if pyramid is None else pyramid
        layers = len(self.pyramid.points) - 1
        self.channels = (channels,) * layers if isinstance(channels, int) else tuple(channels)
        if len(self.channels) != layers:
            raise ValueError(
                f"channels must be one number, or one after the embedding and each of the {layers} convolutions but "
                f"the last, {layers} in all; got {self.channels}"
            )
        least = {"num_classes": (num_classes, 1), "scalars": (scalars, 1), "channels": (min(self.channels), 1)}
        for name, (number, bound) in (least | {"l_max": (l_max, 0)}).items():
            if number < bound:
                raise ValueError(f"{name} must be at least {bound}; got {number}")
        types = [spherical_irreps(l_max, mul) for mul in self.channels] + [spherical_irreps(0, scalars)]
        self.embedding = EquivariantLinear(self.irreps_in, types[0], self.group, bias=True)
        kernels = [kernel(self.group, self.pyramid.reach(t + 1)) for t in range(layers)]
        ends = (self.irreps_in + self.irreps_in).simplify()
        for wanted in (k.irreps_attributes.simplify() for k in kernels):
            if wanted.dim and wanted != ends:
                raise ValueError(
                    f"attributes of the kernels must be the input features of both ends, {ends}, or nothing; got "
                    f"{wanted}"
                )
        self.layers = nn.ModuleList(
            CloudLayer(types[t], types[t + 1], k, self.pyramid.neighbors, activation) for t, k in enumerate(kernels)
        )
        self.head = nn.Sequential(nn.Linear(scalars, scalars), nn.ELU(), nn.Linear(scalars, num_classes))

    @in_own_precision
    def forward(
        self, positions: Tensor, features: Tensor, batch: Tensor | None = None, *, num_clouds: int | None = None
    ) -> Tensor:
        """Class scores, before any softmax.

        Args:
            positions: Points of all clouds, (N, 3).
            features: Input features of type irreps_in, normals by default, (N, irreps_in.dim).
            batch: Cloud of every point, (N,), ascending; by default all points are one cloud.
            num_clouds: Number of clouds B, if the last clouds may be empty.

        Returns:
            (B, num_classes). Empty clouds have scores too.

        Raises:
            MissingDependencyError: torch-cluster is not installed.
            ValueError: Shapes or numbers of clouds do not fit together, or positions are not finite.
        """
        if batch is None:
            batch = positions.new_zeros(len(positions), dtype=torch.long)
            num_clouds = 1 if num_clouds is None else num_clouds
        first, *levels = self.pyramid.levels(positions, batch, fresh=self.training)
        if features.shape != (len(positions), self.irreps_in.dim):
            raise ValueError(
                f"features of type {self.irreps_in} must have shape ({len(positions)}, {self.irreps_in.dim}), one row "
                f"per point; got {tuple(features.shape)}"
            )
        if not bool(torch.isfinite(features).all()):
            raise ValueError("features of point clouds must be finite; some are NaN or infinite")
        present = int(batch[-1]) + 1 if len(batch) else 0
        num_clouds = present if num_clouds is None else num_clouds
        if num_clouds < present:
            raise ValueError(f"batch has {present} clouds, but num_clouds is {num_clouds}")
        inputs = features.index_select(0, first.kept)
        x = self.embedding(inputs)
        for layer, level in zip(self.layers, levels, strict=True):
            x = layer(x, inputs, level)
            inputs = inputs.index_select(0, level.kept)
        scores: Tensor = self.head(cloud_maximum(x, levels[-1].batch, num_clouds))
        return scores


class CloudLayer(nn.Module):
    """One convolution, nonlinearity and normalization."""

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, kernel: Kernel, neighbors: int, activation: Activation
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.activation, wanted = nonlinearity(irreps_out, kernel.group, activation)
        self.conv = PointConv(irreps_in, wanted, kernel, num_neighbors=neighbors)
        self.norm = EquivariantBatchNorm(irreps_out)

    def forward(self, x: Tensor, inputs: Tensor, level: Level) -> Tensor:
        """Features of the points of a level (M, C_out), from features (N, C_in) and inputs of the level before."""
        attributes = None
        if self.kernel.irreps_attributes.dim:
            ends = inputs.index_select(0, level.kept).index_select(0, level.edge_index[1])
            attributes = torch.cat([inputs.index_select(0, level.edge_index[0]), ends], 1)
        fields = self.kernel.tiled(level.vectors, attributes)
        y = self.conv(x, level.edge_index, fields, num_nodes=len(level.kept))
        result: Tensor = self.norm(self.activation(y))
        return result


def cloud_maximum(x: Tensor, batch: Tensor, num_clouds: int) -> Tensor:
    """Largest value of every feature in every cloud, (num_clouds, C) from (N, C); 0 for empty clouds.

    Example:
        >>> cloud_maximum(torch.tensor([[-3.0], [-1.0], [2.0]]), torch.tensor([0, 0, 2]), 3).flatten()
        tensor([-1., 0., 2.])
    """
    index = batch[:, None].expand_as(x)
    return x.new_zeros(num_clouds, x.shape[1]).scatter_reduce(0, index, x, "amax", include_self=False)
