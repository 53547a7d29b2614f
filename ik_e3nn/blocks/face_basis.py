r"""Functions of places over a crystal face: waves of its lattice over heights.

A potential of the plane group G needs features of atoms that depend on their places and satisfy
:math:`f(g u) = D_l(R_g) f(u)` for all g of G, on layers of O(3). At a general place such vectors have any direction, so
that no rotation or mirror leaves them fixed: layers of O(3) see all of the plane group by these features.
"""

import math

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.blocks.surroundings import SPACING
from ik_e3nn.constants import ExactModule
from ik_e3nn.symmetry import PlaneGroup, SymmetryGroup
from ik_e3nn.symmetry.waves import symmetric_waves

LONGEST = 5.2  # 1/A, reciprocal lattice vectors of the waves: they resolve 1.2 A
DECAY = 14.0  # G z beyond which a wave vanishes: over a crystal it decays like exp(-G z)
BELOW = 2  # shells below the plane, which adsorbed atoms can reach
NEXT = ((1, 0), (0, 1), (1, 1), (1, -1))  # reciprocal lattice vectors that a basis has in any case


class FaceBasis(ExactModule):
    r"""Waves of a lattice with the symmetry of its plane group times shells of height: bounded, smooth, zero far away.

    .. math:: f_{nk}(u) = c \, e^{-(z - c_n)^2 / 2 \Delta^2} \, w_k(x, y), \qquad w_k(R u + t) = D_l(R) \, w_k(u)

    with w the symmetric Fourier components of every orbit of reciprocal lattice vectors, see
    :func:`ik_e3nn.symmetry.waves.symmetric_waves`. Those that change along the face, with vectors of length G, have
    shells only with :math:`G c_n` below 14, because over a crystal they decay like :math:`e^{-G z}` (W. A. Steele,
    Surf. Sci. 36, 317 (1973)). Those that are constant along the face but not isotropic about the normal have as many
    shells as those of the shortest G.

    Args:
        plane: The plane group.
        reach: Distance in A of the highest shells; above them they fall off as Gaussians.
        l_max: Largest degree.

    Example:
        >>> basis = FaceBasis(PlaneGroup("p6m", [[2.46, 0.0], [1.23, 2.13]]), 5.0, l_max=1)
        >>> basis.irreps_out, basis(torch.zeros(1, 3)).shape
        (26x0e+42x1o, torch.Size([1, 152]))
    """

    centers: Tensor
    vectors: Tensor

    def __init__(self, plane: PlaneGroup, reach: float, l_max: int) -> None:
        super().__init__()
        number = max(round(reach / SPACING), 1)
        self.spacing, self.l_max = reach / number, l_max
        centers = self.spacing * (torch.arange(-BELOW, number, dtype=torch.float64) + 0.5)
        reciprocal = 2 * math.pi * torch.linalg.inv(plane.cell).T
        lengths = [float((torch.tensor([h, k], dtype=torch.float64) @ reciprocal).norm()) for h, k in NEXT]
        waves = [symmetric_waves(plane, l, max(LONGEST, *lengths)) for l in range(l_max + 1)]
        every = dict.fromkeys(tuple(k) for degree in waves for one in degree for k in one.vectors.tolist())
        places = {k: j for j, k in enumerate(every)}
        J, shortest = len(places), min(lengths[:2])
        self.norm = (math.sqrt(math.pi) / number) ** -0.5  # as in PlaceBasis
        irreps = []
        for l, degree in enumerate(waves):
            matrix, shells = [], []
            for one in degree:
                rows = [places[tuple(k)] for k in one.vectors.tolist()]
                whole = torch.zeros(2 * J, *one.functions.shape[1:], dtype=torch.float64)
                whole[rows + [J + row for row in rows]] = one.functions
                for function in whole.unbind(1):
                    highest = (
                        math.inf if one.length == 0 and _is_axial(l, function) else DECAY / max(one.length, shortest)
                    )
                    shells.append(torch.arange(len(centers))[centers < max(highest, self.spacing)])
                    matrix.append(function)
            self.register_exact(f"functions_{l}", torch.stack(matrix, 1).flatten(1))
            counts = torch.tensor([len(one) for one in shells])
            self.register_buffer(f"function_{l}", torch.arange(len(shells)).repeat_interleave(counts), persistent=False)
            self.register_buffer(f"shell_{l}", torch.cat(shells), persistent=False)
            irreps.append((int(counts.sum()), (l, (-1) ** l)))
        self.irreps_out = o3.Irreps(irreps)
        self.register_exact("centers", centers)
        self.register_exact("vectors", torch.tensor(list(places), dtype=torch.float64) @ reciprocal)

    def forward(self, places: Tensor) -> Tensor:
        """Values (N, irreps_out.dim) at positions (N, 3) over the unstrained face, z along the normal, in A."""
        phases = places[:, :2] @ self.vectors.T
        waves = torch.cat([phases.cos(), phases.sin()], 1)
        shells = self.norm * torch.exp(-0.5 * ((places[:, 2:] - self.centers) / self.spacing) ** 2)
        blocks = []
        for l in range(self.l_max + 1):
            functions, function, shell = (getattr(self, f"{name}_{l}") for name in ("functions", "function", "shell"))
            values = (waves @ functions).unflatten(1, (-1, 2 * l + 1)).index_select(1, function)
            blocks.append((values * shells.index_select(1, shell)[:, :, None]).flatten(1))
        return torch.cat(blocks, 1)


def _is_axial(l: int, function: Tensor) -> bool:
    """Whether a constant of degree l, the first row of coefficients, is unchanged by all turns about the normal."""
    axial = SymmetryGroup("Cinfv").invariants(l, (-1) ** l)
    return bool((function[0] - function[0] @ axial.T @ axial).abs().max() < 1e-9)
