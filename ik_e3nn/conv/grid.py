"""The steerable convolution of dense fields: pixels and voxels."""

import copy
from typing import Any

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.constants import ExactModule
from ik_e3nn.conv.point import Mode, PointConv
from ik_e3nn.conv.snapshot import Snapshot
from ik_e3nn.conv.stencil import Stencil
from ik_e3nn.kernels import Kernel, SeparableFilter

CONVOLUTIONS = {2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}


class GridConv(ExactModule):
    r"""Convolve fields on a grid: a point convolution whose kernel is sampled once and folded into one tensor.

    .. math:: y(x) = \frac{1}{\sqrt d} \sum_{\delta \in \text{stencil}} K(-\delta, a) \, f(x + \delta)

    Features have the shape (B, irreps.dim, *grid): the channels of e3nn's flat layout, then the axes x, y(, z). The
    points of a plane are (x, y, 0) for the group. Fields outside the grid count as zero; for periodic fields pad with
    ``torch.nn.functional.pad(f, ..., mode="circular")`` and convolve with padding 0.

    The result is exactly equivariant under the elements of the group that map the grid to itself, and under the others
    as far as the grid resolves kernel and field.

    In evaluation the folded kernel is cached until a weight changes, by an optimizer, ``load_state_dict`` or any other
    operation that torch counts; changes through ``.data`` are not noticed. It is not cached if weights may need a
    gradient (use ``torch.no_grad()``), or if attributes give every sample its own kernel.

    Args:
        irreps_in: Type of the input.
        irreps_out: Type of the result.
        kernel: The kernel. A Gaussian window (``PolynomialBasis``) or an envelope that ends at ``stencil.reach`` keeps
            it smooth at the edge of the stencil.
        stencil: Points at which the kernel is sampled.
        mode: "full" or "depthwise"; see :class:`PointConv`.
        stride: Steps of the grid from one result to the next.
        padding: Zeros on both sides of every axis; by default ``stencil.padding(stride)``.
        channel_groups: Number of parts into which the channels of every irrep are split; each part of the output
            depends on one part of the input.

    Raises:
        ValueError: A number is out of range, a type is empty, the kernel is zero on the stencil, or channel_groups does
            not divide the multiplicities.

    Reference:
        Zhdanov et al., NeurIPS 2023, section 3.5.

    Example:
        >>> from ik_e3nn.basis import PolynomialBasis
        >>> from ik_e3nn.kernels import ImplicitKernel
        >>> kernel = ImplicitKernel("", "4x0e + 4x1o", "C4v", basis=PolynomialBasis(2), batch_norm=True)
        >>> conv = GridConv("1x0e", "4x0e + 4x1o", kernel, stencil=Stencil(5))
        >>> conv(torch.randn(2, 1, 12, 12)).shape
        torch.Size([2, 16, 12, 12])
    """

    vectors: Tensor
    places: Tensor
    order_in: Tensor
    order_out: Tensor

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        irreps_out: o3.Irreps | str,
        kernel: Kernel,
        *,
        stencil: Stencil = Stencil(),  # noqa: B008  (frozen)
        mode: Mode = "full",
        stride: int = 1,
        padding: int | None = None,
        channel_groups: int = 1,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = o3.Irreps(irreps_in), o3.Irreps(irreps_out)
        self.kernel, self.stencil, self.group = kernel, stencil, kernel.group
        self.stride, self.channel_groups = stride, channel_groups
        self.padding = stencil.padding(stride) if padding is None else padding
        least = {"stride": 1, "padding": 0, "channel_groups": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} of a convolution must be {bound} or more; got {getattr(self, name)}")
        self.symmetric = self.group.order > 1
        self.dim_in, self.dim_out = self.irreps_in.dim, self.irreps_out.dim
        if not self.dim_in or not self.dim_out:
            raise ValueError(
                f"a convolution needs input and output fields; got {self.irreps_in or 'none'} and "
                f"{self.irreps_out or 'none'}"
            )
        self.dim_attributes = kernel.irreps_attributes.dim
        self.conv = PointConv(_part(self.irreps_in, channel_groups), self.irreps_out, kernel, mode)
        self.register_exact("vectors", stencil.vectors())
        self.register_buffer("places", stencil.places(), persistent=False)
        self.register_buffer("order_in", _by_parts(self.irreps_in, channel_groups), persistent=False)
        self.register_buffer("order_out", _by_parts(self.irreps_out, channel_groups), persistent=False)
        self.conv.normalization.fill_(self._normalization())
        self._kept: tuple[Snapshot, Tensor] | None = None

    def forward(self, features: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            features: (B, irreps_in.dim, *grid).
            attributes: Attributes of the kernel of every sample, (B, irreps_attributes.dim of the kernel).

        Returns:
            (B, irreps_out.dim, *grid), on the grid that the stride leaves.

        Raises:
            ValueError: Features or attributes have another shape, or the strided grid would not be symmetric.
        """
        self._check(features, attributes)
        batch = features.shape[0]
        if self.channel_groups > 1:
            features = features.index_select(1, self.order_in)
        if attributes is None or not batch:
            result = self._convolve(features, self._folded() if attributes is None else self._nothing(), 1)
        else:  # every sample is one group of channels
            result = self._convolve(features.flatten(0, 1)[None], self.weight(attributes).flatten(0, 1), batch)
            result = result.unflatten(1, (batch, self.dim_out)).squeeze(0)
        return result.index_select(1, self.order_out.argsort()) if self.channel_groups > 1 else result

    def weight(self, attributes: Tensor | None = None) -> Tensor:
        """The folded kernel, as ``torch.nn.functional.conv2d`` and ``conv3d`` take it.

        Args:
            attributes: (B, irreps_attributes.dim of the kernel), for kernels that have attributes.

        Returns:
            (irreps_out.dim, irreps_in.dim / channel_groups, *stencil), with a leading dimension B if attributes are
            given. With several channel_groups the channels are ordered part by part.
        """
        samples, (points, _) = 1 if attributes is None else attributes.shape[0], self.vectors.shape
        if attributes is not None:
            attributes = attributes.repeat_interleave(points, 0)
        K = self.kernel.matrix(self.conv, self.vectors.repeat(samples, 1), attributes) * self.conv.normalization
        K = K.view(samples, points, *K.shape[1:])
        if self.channel_groups > 1:
            K = K.index_select(2, self.order_out)
        cube = K.new_zeros(samples, self.stencil.size**self.stencil.dims, *K.shape[2:]).index_copy(1, self.places, K)
        weight = cube.permute(0, 2, 3, 1).reshape(samples, *K.shape[2:], *self.stencil.shape)
        return weight[0] if attributes is None else weight

    def _convolve(self, x: Tensor, weight: Tensor, samples: int) -> Tensor:
        options = (self.stride, self.padding, self.stencil.dilation, samples * self.channel_groups)
        return CONVOLUTIONS[self.stencil.dims](x, weight, None, *options)

    def _folded(self) -> Tensor:
        """The folded kernel without attributes; cached while no weight changes."""
        learning = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())
        if self.training or learning or torch.compiler.is_compiling():
            return self.weight()
        if self._kept is None or not self._kept[0].holds():
            with torch.inference_mode(False), torch.no_grad():  # a later call may need the gradient of the features
                self._kept = Snapshot(self), self.weight()
        return self._kept[1]

    def _nothing(self) -> Tensor:
        """A kernel of the right shape for no samples."""
        shape = (self.dim_out, self.dim_in // self.channel_groups, *self.stencil.shape)
        return self.vectors.new_zeros(shape)

    def _normalization(self) -> float:
        """The factor 1/sqrt(d), with d the sum over the stencil of the mean square of the filter fields.

        With it, the result has unit variance for standard normal features and every window of the kernel.
        """
        generator = torch.Generator().manual_seed(0)
        kernel = copy.deepcopy(self.kernel)  # the running averages of a batch norm must not change
        dim, samples = kernel.irreps_attributes.dim, 64 if kernel.irreps_attributes.dim else 1
        points = self.vectors.shape[0]
        attributes = torch.randn(samples, dim, generator=generator, dtype=torch.float64).to(self.vectors)
        with torch.no_grad():
            h = kernel(self.vectors.repeat(samples, 1), attributes.repeat_interleave(points, 0))
            h = h.fields() if isinstance(h, SeparableFilter) else h
        size = float(points * h.double().square().mean()) if h.numel() else 0.0
        if size == 0:
            raise ValueError(
                f"the kernel is zero everywhere on the stencil of {points} points, with fields "
                f"{kernel.irreps_filter or 'none'}: use a larger stencil or other fields, and for a single point a "
                "kernel without batch norm"
            )
        return size**-0.5

    def _check(self, features: Tensor, attributes: Tensor | None) -> None:
        dims = self.stencil.dims
        if features.ndim != dims + 2 or features.shape[1] != self.dim_in:
            axes = ", ".join("XYZ"[:dims])
            raise ValueError(
                f"features must have shape (B, {self.dim_in}, {axes}) for {self.irreps_in} on a grid of {dims} "
                f"dimensions; got {tuple(features.shape)}"
            )
        if attributes is not None and attributes.shape != (features.shape[0], self.dim_attributes):
            raise ValueError(
                f"attributes must have shape ({features.shape[0]}, {self.dim_attributes}): one row per sample, of type "
                f"{self.kernel.irreps_attributes}; got {tuple(attributes.shape)}"
            )
        self.stencil.check(features.shape[2:], self.stride, self.padding, symmetric=self.symmetric)

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and other processes, without the cached kernel."""
        return {**self.__dict__, "_kept": None}


def _part(irreps: o3.Irreps, parts: int) -> o3.Irreps:
    """The type of one part of the channels.

    Raises:
        ValueError: ``parts`` does not divide a multiplicity.
    """
    if any(mul % parts for mul, _ in irreps):
        raise ValueError(f"channel_groups must divide all multiplicities; got {parts} for {irreps}")
    return o3.Irreps([(mul // parts, ir) for mul, ir in irreps])


def _by_parts(irreps: o3.Irreps, parts: int) -> Tensor:
    """Flat indices of irreps, (irreps.dim,), ordered part by part of the channels."""
    _part(irreps, parts)
    blocks = [torch.arange(s.start, s.stop).view(parts, -1) for s in irreps.slices()]
    return torch.cat(blocks, 1).flatten()
