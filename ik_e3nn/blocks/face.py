r"""A crystal face without its atoms that keeps its lateral period: waves of its lattice over heights.

A potential of the plane group G needs features of atoms that depend on their places and satisfy
:math:`f(g u) = D_l(R_g) f(u)` for all g of G, on layers of O(3). At a general place such vectors have any direction, so
that no rotation or mirror leaves them fixed: layers of O(3) see all of the plane group by these features.
"""

import math
from collections.abc import Mapping

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.blocks import derivatives
from ik_e3nn.blocks.surroundings import SPACING, Surroundings
from ik_e3nn.constants import ExactModule
from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import fields
from ik_e3nn.symmetry import PlaneGroup, SymmetryGroup
from ik_e3nn.symmetry.waves import symmetric_waves

LONGEST = 5.2  # 1/A, reciprocal lattice vectors of the waves: they resolve 1.2 A
DECAY = 14.0  # G z beyond which a wave vanishes: over a crystal it decays like exp(-G z)
BELOW = 2  # shells below the plane, which adsorbed atoms can reach
LARGEST_STRAIN = 0.15
COMMENSURATE = 1e-3  # A
PARALLEL = 1e-4  # sine of an angle that counts as zero
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


class Face(Surroundings):
    r"""Positions of atoms over a crystal face, in the lattice of which they are periodic.

    .. math:: u_i = T F (r_i - o)

    F is the rotation that takes the lattice vectors of a structure, ``surface_cell``, to those of the plane group as
    closely as possible, and their normal to z. T takes the turned lattice exactly to that of the plane group, so that a
    strained lattice keeps its fractional coordinates. Operations of the plane group remain symmetries of a strained
    lattice as far as they are rotations and mirrors of it, and its lattice vectors always do.

    Args:
        plane: The plane group.

    Example:
        >>> from ase import Atoms
        >>> from ik_e3nn.graph import build_graph
        >>> cell = [[2.5, 0.0, 0.0], [0.0, 2.5, 0.0]]
        >>> atoms = Atoms("H", [[6.0, 0.5, 1.5]], info={"surface_cell": cell})
        >>> face = Face(PlaneGroup("p4m", [[2.5, 0.0], [0.0, 2.5]]))
        >>> face.places(face.prepared(build_graph(atoms, 5.0), torch.float64))
        tensor([[1.0000, 0.5000, 1.5000]], dtype=torch.float64)
    """

    def __init__(self, plane: PlaneGroup) -> None:
        super().__init__("surface", plane.point_group)
        self.kind, self.plane = "face", plane
        self.is_normal, self.in_features, self.needs_x = False, True, True
        self._translations = plane.translations.tolist()
        self.register_exact("lattice", plane.cell)

    def forward(self, displacements: Tensor, frames: Tensor, unstrain: Tensor | None = None) -> Tensor:
        """Positions u of atoms, (N, 3), from displacements (N, 3), in A, frames F and matrices T, (N, 3, 3)."""
        matrices = frames if unstrain is None else unstrain @ frames
        return (matrices @ displacements[:, :, None]).squeeze(-1)

    def prepared(self, graph: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
        """See ``Surroundings.prepared``; T of every atom besides."""
        T = self.unstrain(graph).to(dtype).index_select(0, graph[fields.BATCH])
        return super().prepared(graph, dtype) | {fields.UNSTRAIN: T}

    def places(self, edges: Mapping[str, Tensor], count: int | None = None) -> Tensor:
        """See ``Surroundings.places``."""
        names = (fields.DISPLACEMENTS, fields.FRAMES, fields.UNSTRAIN)
        places: Tensor = self(*(edges[name][:count] for name in names))
        return places

    def frames(self, graph: Mapping[str, Tensor]) -> Tensor:
        """F of every structure, (B, 3, 3), in the dtype of the positions.

        Raises:
            MissingInputError: A structure has no lattice.
        """
        own, cell = self._own(graph)
        turn = torch.linalg.inv(self._constant("lattice", cell.dtype)) @ cell  # rows: cell = lattice @ turn
        angle = torch.atan2(turn[:, 0, 1] - turn[:, 1, 0], turn[:, 0, 0] + turn[:, 1, 1])
        c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        back = torch.stack([torch.stack([c, s, zero], 1), torch.stack([-s, c, zero], 1), _z_like(c)], 1)
        return back @ own

    def unstrain(self, graph: Mapping[str, Tensor]) -> Tensor:
        """T of every structure, (B, 3, 3)."""
        frames = self.frames(graph)
        cell = self._cell(graph).to(frames.dtype)
        turned = (cell @ frames.mT)[:, :, :2]
        plane = self._constant("lattice", frames.dtype).T @ torch.linalg.inv(turned).mT
        return nn.functional.pad(plane, (0, 1, 0, 1)) + torch.diag(torch.tensor([0.0, 0, 1])).to(plane)

    def checked(self, graph: Mapping[str, Tensor]) -> Tensor:
        """The frames (B, 3, 3) of structures over a face that is like that of the model.

        Raises:
            DataError: The lattice is not one of this face, does not fit the normal, or a structure is periodic along
                other than lattice vectors.
            MissingInputError: A structure has no lattice.
        """
        frames = self.frames(graph)
        if not torch.compiler.is_compiling():
            self._check_lattice(graph)
            self._check_periods(graph)
        return frames

    def displacements(self, graph: Mapping[str, Tensor]) -> Tensor:
        """Displacements r - o of atoms, (N, 3), in A, by lattice vectors as near to zero as they can be.

        Moving them keeps single precision exact far from the origin.
        """
        displacements, batch = graph[fields.POSITIONS], graph[fields.BATCH]
        if fields.SURFACE_ORIGIN in graph:
            displacements = displacements - graph[fields.SURFACE_ORIGIN].to(displacements.dtype).index_select(0, batch)
        cell = self._cell(graph).to(displacements.dtype)
        inverse = torch.linalg.pinv(cell).index_select(0, batch)
        u = (displacements[:, None, :] @ inverse).detach().round()
        return displacements - (u @ cell.index_select(0, batch)).squeeze(1)

    def free_directions(self, frames: Tensor) -> Tensor:
        """None: moving a structure along the face changes its energy."""
        return torch.zeros_like(frames)

    def virials(self, vectors: Tensor, gradient: Tensor, graph: Mapping[str, Tensor], structures: Tensor) -> Tensor:
        r"""Contributions of edges to dE/d(strain), (E, 3, 3), in eV, if lattice and structure are strained together.

        .. math:: V = P W P - (n \cdot r \times g) \, \frac{\partial \theta}{\partial \epsilon}

        Strains :math:`\epsilon` are along the face, and fractional coordinates stay the same. W is the symmetric part
        of :math:`r \otimes g`. The second term is zero for the lattice of the model: the frame turns by :math:`\theta`
        if a strained lattice is strained further.
        """
        frames = self.frames(graph)
        along = frames.clone()
        along[:, 2] = 0
        P = along.mT @ along
        normal = frames[:, 2].index_select(0, structures)
        torques = (torch.linalg.cross(vectors, gradient) * normal).sum(1)
        turns = self._turns(graph, frames).index_select(0, structures)
        inside = derivatives.projected(derivatives.edge_virials(vectors, gradient), P, structures)
        return inside - torques[:, None, None] * turns

    def basis(self, reach: float, l_max: int) -> nn.Module:
        """See ``Surroundings.basis``."""
        return FaceBasis(self.plane, reach, l_max)

    @property
    def mixing(self) -> SymmetryGroup:
        """O(3): all functions of the basis have the symmetry of the plane group."""
        return SymmetryGroup("O3")

    def _turns(self, graph: Mapping[str, Tensor], frames: Tensor) -> Tensor:
        r"""The derivative of the angle of the frame by symmetric strains, (B, 3, 3).

        With the left stretch V of the lattice, :math:`d\theta = [\epsilon, V]_{21} / \mathrm{tr} V`.
        """
        T = self.unstrain(graph)
        V = torch.linalg.inv(T[:, :2, :2])  # symmetric, in the frame
        off = 0.5 * (V[:, 0, 0] - V[:, 1, 1])
        plane = torch.stack([-V[:, 0, 1], off, off, V[:, 0, 1]], 1).view(-1, 2, 2)
        plane = plane / (V[:, 0, 0] + V[:, 1, 1])[:, None, None]
        return frames[:, :2].mT @ plane @ frames[:, :2]

    def _cell(self, graph: Mapping[str, Tensor]) -> Tensor:
        if fields.SURFACE_CELL not in graph:
            raise MissingInputError(
                f"the model knows a crystal face of the plane group {self.plane.name}: the structure must give its "
                'lattice, two vectors in A, as atoms.info["surface_cell"]'
            )
        return graph[fields.SURFACE_CELL]

    def _own(self, graph: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Axes (B, 3, 3) with the first lattice vector as x and the normal as z, and the lattice in them, (B, 2, 2)."""
        cell = self._cell(graph).to(graph[fields.POSITIONS].dtype)
        x = nn.functional.normalize(cell[:, 0], dim=1)
        normal = nn.functional.normalize(torch.linalg.cross(cell[:, 0], cell[:, 1]), dim=1)
        own = torch.stack([x, torch.linalg.cross(normal, x), normal], 1)
        return own, (cell @ own.mT)[:, :, :2]

    def _check_lattice(self, graph: Mapping[str, Tensor]) -> None:
        """Refuse another lattice than that of the model, and another normal than that of the lattice."""
        T = self.unstrain(graph).detach()
        strain = (torch.linalg.inv(T) - torch.eye(3, dtype=T.dtype, device=T.device)).abs().amax((1, 2))
        if strain.numel() and float(strain.max()) > LARGEST_STRAIN:
            which = int(strain.argmax())
            raise DataError(
                f"surface_cell is {graph[fields.SURFACE_CELL][which].tolist()}, strained by {100 * strain.max():.0f} % "
                f"against the face of the model, {self.plane!r}: give the same two lattice vectors in the same order, "
                "not those of a larger cell"
            )
        if fields.SURFACE_NORMAL in graph:
            given = nn.functional.normalize(graph[fields.SURFACE_NORMAL].detach().to(T.dtype), dim=1)
            apart = (given - self.frames(graph).detach()[:, 2]).norm(dim=1)
            if apart.numel() and float(apart.max()) > PARALLEL:
                raise DataError(
                    "surface_normal must be the direction of the cross product of the vectors of surface_cell; got "
                    f"{given[int(apart.argmax())].tolist()}: leave it out, or exchange the vectors"
                )

    def _check_periods(self, graph: Mapping[str, Tensor]) -> None:
        """Refuse structures that are periodic along other than lattice vectors of the face."""
        cell = graph[fields.CELL].detach().double() * graph[fields.PBC][:, :, None]
        face = graph[fields.SURFACE_CELL].detach().double()
        u = cell @ torch.linalg.pinv(face)
        best = torch.full_like(u[:, :, 0], math.inf)
        for shift in self._translations:
            near = (u - u.new_tensor(shift)).round() + u.new_tensor(shift)
            best = torch.minimum(best, (cell - near @ face).norm(dim=2))
        if best.numel() and float(best.max()) > COMMENSURATE:
            structure, vector = divmod(int(best.argmax()), 3)
            raise DataError(
                f"cell vector {vector + 1} of structure {structure}, {cell[structure, vector].tolist()}, is no lattice "
                f"vector of the face ({best.max():.3g} A off): structures over a face are periodic along it by whole "
                "numbers of its vectors; set pbc to False in other directions, and change surface_cell with the cell"
            )


def _z_like(x: Tensor) -> Tensor:
    zero = torch.zeros_like(x)
    return torch.stack([zero, zero, torch.ones_like(x)], 1)


def surroundings_of(kind: str, group: SymmetryGroup | PlaneGroup) -> Surroundings:
    """Surroundings of a kind, with a plane group for a face and a symmetry group for others.

    Raises:
        ValueError: The group is not of the kind that is expected, or does not keep the surroundings.
    """
    if kind == "face":
        return Face(PlaneGroup.from_config(group))  # type: ignore[arg-type]
    if isinstance(group, PlaneGroup):
        raise ValueError(f"a plane group is for inputs: [face]; a {kind} has a group like 'Cinfv' or 'C4v'")
    return Surroundings(kind, group)


def parse_group(group: object, inputs: frozenset[str]) -> SymmetryGroup | PlaneGroup:
    """The group of a potential from its configuration: a plane group over a face, otherwise a symmetry group.

    Raises:
        ValueError: It is none, or not of the kind that the inputs need.

    Example:
        >>> parse_group("O3", frozenset()).name
        'O3'
    """
    plane = isinstance(group, PlaneGroup) or (isinstance(group, Mapping) and "plane" in group)
    if plane != ("face" in inputs):
        raise ValueError(
            "group of a potential with inputs: [face] must be a plane group with its cell, as in {plane: p4m, cell: "
            "[[2.5, 0], [0, 2.5]]}, and only there; "
            f"got {group!r:.80}"
        )
    if plane:
        return PlaneGroup.from_config(group)  # type: ignore[arg-type]
    return SymmetryGroup.from_config(group)  # type: ignore[arg-type]
