"""A crystal face without its atoms that keeps its lateral period, for structures in its lattice or a strained one."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ik_e3nn.blocks import derivatives
from ik_e3nn.blocks.face_basis import FaceBasis
from ik_e3nn.blocks.surroundings import Surroundings
from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import fields
from ik_e3nn.symmetry import PlaneGroup, SymmetryGroup

LARGEST_STRAIN = 0.15
COMMENSURATE = 1e-3  # A
PARALLEL = 1e-4  # sine of an angle that counts as zero


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
