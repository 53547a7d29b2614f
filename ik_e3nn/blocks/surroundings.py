"""Surroundings of a structure that break its symmetry: a surface, a wire or a site, with direction and origin."""

from collections.abc import Mapping
from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import PlaceBasis
from ik_e3nn.blocks import derivatives
from ik_e3nn.constants import ExactModule
from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import fields
from ik_e3nn.nn import EquivariantLinear
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.symmetry.closure import rotation_to

SPACING = 0.625  # A, between the shells of functions of positions
COMMUTES = 1e-9


class Surroundings(ExactModule):
    r"""Positions of atoms relative to surroundings that the structure does not contain.

    .. math:: u_i = P F (r_i - o)

    o is the origin and F the rotation that takes the normal to the main axis of the group. P projects on the directions
    that the surroundings fix: the height over a "surface" (or in a slit), the displacement from a "wire", or the whole
    displacement from a "site". Moving the structure along the other directions changes nothing. F and o come from the
    graph: ``surface_normal`` (by default the axis of the group), ``surface_origin`` (by default zero) and, for groups
    that distinguish directions across the normal, ``surface_x``. Without a normal, the frame of the structure is that
    of the group. With a normal, F takes ``surface_x`` to the x axis of the frame of the group. For a group given by
    name this is a mirror or twofold axis, but not for a group in another orientation, like one that
    ``ik_e3nn.data.suggest_group`` finds in a slab; give neither vector for structures on that slab.

    Attributes:
        is_normal: Whether G contains everything that keeps the normal of a surface, C-infinity-v: then every
            G-equivariant function is an O(3)-equivariant function of the atoms and the normal.
        in_features: Whether layers of O(3) see the group by the features of positions alone.

    Args:
        kind: "surface", "wire" or "site".
        group: The symmetry group G in the frame of the surroundings.

    Raises:
        ValueError: The kind is unknown, or the group does not keep the directions that the surroundings fix, as O(3)
            does not keep the normal of a surface.

    Example:
        >>> from ase import Atoms
        >>> from ik_e3nn.graph import build_graph
        >>> atoms = Atoms("H", [[1.0, 2.0, 3.0]], info={"surface_normal": [0, 1, 0], "surface_origin": [0, 0.5, 0]})
        >>> surface = Surroundings("surface", SymmetryGroup("Cinfv"))
        >>> graph = build_graph(atoms, 5.0)
        >>> surface(surface.displacements(graph), surface.frames(graph))
        tensor([[0.0000, 0.0000, 1.5000]], dtype=torch.float64)
    """

    projector: Tensor
    triad: Tensor

    def __init__(self, kind: str, group: SymmetryGroup) -> None:
        super().__init__()
        frame = rotation_to(torch.tensor(group.axis, dtype=torch.float64))  # its columns: across, across, along
        axis = frame[:, 2]
        along = torch.outer(axis, axis)
        identity = torch.eye(3, dtype=torch.float64)
        projectors = {"surface": along, "wire": identity - along, "site": identity}
        if kind not in projectors:
            raise ValueError(f"surroundings must be one of {', '.join(projectors)}; got {kind!r}")
        projector = projectors[kind]
        for g in group.generators:
            if (g @ projector - projector @ g).abs().max() > COMMUTES:
                raise ValueError(
                    f"the group {group.name} does not keep a {kind} along its axis: choose a group that does "
                    '("Cinfv", "SO2", "C4v", ... for a surface, "Dinfh" for a slit or a wire)'
                )
        self.kind, self.group = kind, group
        self.keeps_places = all(bool((g @ projector - projector).abs().max() < COMMUTES) for g in group.generators)
        self.needs_x = group.is_finite
        keeps_vector, keeps_axial_vector = (len(group.invariants(1, p)) > 0 for p in (-1, 1))
        self.in_features = self.is_normal = (
            kind == "surface" and keeps_vector and not keeps_axial_vector and not group.is_finite
        )
        self.register_exact("projector", projector)
        self.register_exact("triad", frame)

    def forward(self, displacements: Tensor, frames: Tensor) -> Tensor:
        """Positions u of atoms, (N, 3), from displacements from the origin (N, 3), in A, and frames (N, 3, 3)."""
        return (frames @ displacements[:, :, None]).squeeze(-1) @ self.projector.to(displacements.dtype)

    def frames(self, graph: Mapping[str, Tensor]) -> Tensor:
        """F of every structure, (B, 3, 3), in the dtype of the positions.

        Raises:
            MissingInputError: The group distinguishes directions across the normal, and only a normal is given.
        """
        dtype = graph[fields.POSITIONS].dtype
        if fields.SURFACE_NORMAL not in graph:
            return torch.eye(3, dtype=dtype, device=self.triad.device).expand(graph[fields.CELL].shape[0], 3, 3)
        normal = nn.functional.normalize(graph[fields.SURFACE_NORMAL].to(dtype), dim=1)
        if fields.SURFACE_X in graph:
            x = graph[fields.SURFACE_X].to(dtype)
        elif self.needs_x:
            raise MissingInputError(
                f"the group {self.group.name} distinguishes directions across the normal: beside surface_normal the "
                'structure must give atoms.info["surface_x"], the direction of the twofold axes and mirrors'
            )
        else:  # any direction across the normal is equivalent: use the coordinate axis farthest from the normal
            x = nn.functional.one_hot(normal.abs().argmin(1), 3).to(dtype)
        x = nn.functional.normalize(x - (x * normal).sum(1, keepdim=True) * normal, dim=1)
        own = torch.stack([x, torch.linalg.cross(normal, x), normal], 1)
        return self._constant("triad", dtype) @ own

    def checked(self, graph: Mapping[str, Tensor]) -> Tensor:
        """The frames (B, 3, 3) of structures, which must be periodic in free directions only.

        Raises:
            DataError: A structure is periodic in a direction that the surroundings fix.
            MissingInputError: See ``frames``.
        """
        frames = self.frames(graph)
        if not torch.compiler.is_compiling():
            periodic = graph[fields.CELL].to(frames.dtype) * graph[fields.PBC][:, :, None]
            fixed = (periodic - periodic @ self.free_directions(frames)).detach()
            if fixed.numel() and float(fixed.abs().max()) > 1e-6 * float(periodic.abs().max()):
                raise DataError(
                    f"the structure is periodic in a direction in which the {self.kind} of the model fixes positions; "
                    "set pbc to False there, as in atoms.pbc = (True, True, False) for a surface across z"
                )
        return frames

    def displacements(self, graph: Mapping[str, Tensor]) -> Tensor:
        """Displacements r - o of atoms along the fixed directions, (N, 3), in A and in the dtype of the positions.

        The free directions are projected out, so that a large coordinate along them does not cost precision.
        """
        displacements, batch = graph[fields.POSITIONS], graph[fields.BATCH]
        if fields.SURFACE_ORIGIN in graph:
            displacements = displacements - graph[fields.SURFACE_ORIGIN].to(displacements.dtype).index_select(0, batch)
        if self.kind == "site":
            return displacements
        frames = self.frames(graph)
        fixed = frames.mT @ self._constant("projector", frames.dtype) @ frames
        return (fixed.index_select(0, batch) @ displacements[:, :, None]).squeeze(-1)

    def prepared(self, graph: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
        """What a model needs of the surroundings of every atom, by the names of ``fields.PREPARED``.

        Args:
            graph: The graph.
            dtype: Floating type of the model.

        Raises:
            DataError: See ``checked``.
            MissingInputError: See ``frames``.
        """
        frames = self.checked(graph)
        return {
            fields.DISPLACEMENTS: self.displacements(graph).to(dtype),
            fields.FRAMES: frames.to(dtype).index_select(0, graph[fields.BATCH]),
        }

    def places(self, edges: Mapping[str, Tensor], count: int | None = None) -> Tensor:
        """Positions u (N, 3) of all atoms, or of the first ones, from the output of ``prepared``."""
        places: Tensor = self(edges[fields.DISPLACEMENTS][:count], edges[fields.FRAMES][:count])
        return places

    def virials(self, vectors: Tensor, gradient: Tensor, graph: Mapping[str, Tensor], structures: Tensor) -> Tensor:
        """Contributions of edges to dE/d(strain), (E, 3, 3), in eV, for strains along free directions.

        Args:
            vectors: Edge vectors (E, 3), in A.
            gradient: dE/d(edge vectors), (E, 3), in eV/A.
            graph: The graph.
            structures: Structure of every edge, (E,).
        """
        free = self.free_directions(self.frames(graph))
        return derivatives.projected(derivatives.edge_virials(vectors, gradient), free, structures)

    def basis(self, reach: float, l_max: int) -> nn.Module:
        """Functions of u up to a degree, as far as a reach in A."""
        return PlaceBasis(reach, max(round(reach / SPACING), 1), l_max=1 if self.kind == "surface" else l_max)

    @property
    def mixing(self) -> SymmetryGroup:
        """The group of linear maps of these functions."""
        return self.group

    def free_directions(self, frames: Tensor) -> Tensor:
        """Projectors (B, 3, 3) on the directions along which moving a structure changes nothing."""
        identity = torch.eye(3, dtype=frames.dtype, device=frames.device)
        return frames.mT @ (identity - self._constant("projector", frames.dtype)) @ frames

    def _constant(self, name: str, dtype: torch.dtype) -> Tensor:
        """A constant in the dtype of the positions, which can be more precise than the dtype of the model."""
        return self._exact[name].to(dtype=dtype, device=getattr(self, name).device)


class PlaceEmbedding(nn.Module):
    r"""Features of atoms from their positions in the surroundings, with weights for every species; zero at first.

    .. math:: y_i = L_{Z_i} f(u_i)

    Args:
        num_species: Number of species.
        irreps_out: Type of y.
        reach: Distance (A) of the outermost functions f.
        surroundings: The surroundings.
        degree: Largest degree of f beside a site or a wire; by default that of y, and at least 1.

    Example:
        >>> surface = Surroundings("surface", SymmetryGroup("Cinfv"))
        >>> embedding = PlaceEmbedding(3, "8x0e", reach=5.0, surroundings=surface)
        >>> embedding(torch.zeros(2, 3), torch.tensor([0, 2])).shape
        torch.Size([2, 8])
    """

    function_of: Tensor
    species_of: Tensor

    def __init__(
        self,
        num_species: int,
        irreps_out: o3.Irreps | str,
        *,
        reach: float,
        surroundings: Surroundings,
        degree: int = 1,
    ) -> None:
        super().__init__()
        self.irreps_out = o3.Irreps(irreps_out)
        lmax = self.irreps_out.lmax
        basis: Any = surroundings.basis(reach, lmax if surroundings.mixing.is_isotropic else max(lmax, degree))
        self.basis, self.num_species = basis, num_species
        # in x = e_Z (x) f, irrep by irrep: the function and the species of every column
        irreps = o3.Irreps([(num_species * mul, ir) for mul, ir in basis.irreps_out])
        functions = torch.arange(basis.irreps_out.dim).split([mul * ir.dim for mul, ir in basis.irreps_out])
        self.register_buffer("function_of", torch.cat([f.repeat(num_species) for f in functions]), persistent=False)
        types = [torch.arange(num_species).repeat_interleave(len(f)) for f in functions]
        self.register_buffer("species_of", torch.cat(types), persistent=False)
        self.linear = EquivariantLinear(irreps, self.irreps_out, surroundings.mixing)
        nn.init.zeros_(self.linear.weight)

    def forward(self, places: Tensor, species: Tensor) -> Tensor:
        """Features y (N, irreps_out.dim) of atoms at positions u (N, 3), in A, with species indices (N,)."""
        return self.of_functions(self.basis(places), species)

    def of_functions(self, functions: Tensor, species: Tensor) -> Tensor:
        """Features y (N, irreps_out.dim) from the functions f of positions, (N, K), and species indices (N,)."""
        types = self.num_species**0.5 * torch.eye(self.num_species, dtype=functions.dtype, device=functions.device)
        one_hot = types.index_select(0, species)
        x = functions.index_select(1, self.function_of) * one_hot.index_select(1, self.species_of)
        y: Tensor = self.linear(x)
        return y
