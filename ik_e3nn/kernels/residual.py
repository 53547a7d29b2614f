"""The sum of an implicit kernel and the analytic kernel of the same basis."""

import torch
from torch import Tensor, nn

from ik_e3nn.kernels.base import Kernel, TiledFilter
from ik_e3nn.kernels.implicit import ImplicitKernel
from ik_e3nn.nn.layout import layout, to_blocks

FIRST_SHARE = 0.2  # of the MLP in a new kernel


class ResidualKernel(Kernel):
    r"""An implicit kernel that contains the analytic one: its MLP learns only what the basis lacks.

    .. math:: h(r, a) = w(|r|) \, \big( f(r) + s \, \mathrm{MLP}(f(r) \oplus a) \big)

    With as many fields as the basis has functions, an MLP alone can distort their span, but not widen it; with few data
    the distortion costs accuracy. The factor s is learned and begins at 0.2, so that a new kernel is nearly the
    analytic one.

    Args:
        kernel: The implicit kernel, whose filter fields have the type of its basis.

    Raises:
        ValueError: They have another type.

    Example:
        >>> from ik_e3nn.basis import GaussianBasis, RadialHarmonicBasis
        >>> basis = RadialHarmonicBasis(GaussianBasis(2.0, 4), l_max=1)
        >>> ResidualKernel(ImplicitKernel("", "4x0e + 4x1o", "SO2", basis=basis)).irreps_filter
        4x0e+4x1o
    """

    def __init__(self, kernel: ImplicitKernel) -> None:
        super().__init__()
        irreps = kernel.basis.irreps_out
        if kernel.irreps_filter != irreps:
            raise ValueError(
                f"the filter fields of a residual kernel have the type of its basis, {irreps}; got a kernel with "
                f"irreps_filter {kernel.irreps_filter}"
            )
        self.implicit, self.basis, self.group = kernel, kernel.basis, kernel.group
        self.irreps_attributes, self.irreps_filter = kernel.irreps_attributes, kernel.irreps_filter
        self.irreps_hidden, self.blocks = kernel.irreps_hidden, layout(irreps)
        self.share = nn.Parameter(torch.tensor(FIRST_SHARE))

    def from_geometry(
        self, geometry: tuple[Tensor, ...], attributes: Tensor | None = None, hidden: Tensor | None = None
    ) -> TiledFilter:
        """Filter fields; see the base class."""
        features, window = geometry
        learned = self.implicit.from_geometry(geometry, attributes, hidden)

        def fields(known: Tensor, *rows: Tensor) -> list[Tensor]:
            pairs = zip(to_blocks(known, self.blocks), learned.function(*rows), strict=True)
            return [a + self.share * b for a, b in pairs]

        return TiledFilter(fields, (features * window, *learned.rows), learned.dim)
