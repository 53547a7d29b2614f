"""Symmetry groups, defined by their generators."""

import functools
from typing import Any

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.symmetry.closure import Closure, close, rotation_to
from ik_e3nn.symmetry.invariants import invariants as invariant_vectors
from ik_e3nn.symmetry.named import generators_of, rotation

ORTHOGONALITY_TOLERANCE = 1e-6
SAME_MATRIX = 1e-6


class SymmetryGroup:
    r"""A closed subgroup G of O(3), given by its Schoenflies name or by generators.

    Features stay typed by irreps of O(3); G is only the set of invariant vectors
    :math:`\mathrm{Inv}_G(l,p) = \{v : D^{(l,p)}(g) v = v \; \forall g \in G\}`.

    Args:
        name: Schoenflies symbol or alias: "O3", "SO3", "SO2", "Cinfv" (= "O2"), "Cinfh", "Dinf", "Dinfh", "C1", "Cs",
            "Ci", "C4", "C4v", "C3h", "D3", "D3h", "D3d", "S4", "T", "Td", "Th", "O", "Oh", "I", "Ih".
        axis: Direction of the main axis; it need not be normalized.

    Raises:
        ValueError: Unknown name, or an axis that is not three finite numbers with a length.

    Example:
        >>> SymmetryGroup("C4v").order
        8
        >>> SymmetryGroup("SO2", axis=(1, 0, 0)).invariants(1, -1)
        tensor([[1., 0., 0.]], dtype=torch.float64)
    """

    def __init__(self, name: str, axis: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> None:
        direction = torch.tensor([float(x) for x in axis], dtype=torch.float64)
        if direction.shape != (3,) or not torch.isfinite(direction).all() or direction.norm() < 1e-12:
            raise ValueError(f"axis of a symmetry group must be three finite numbers, not all zero; got {tuple(axis)}")
        self.name = name
        self.axis: tuple[float, ...] = tuple((direction / direction.norm()).tolist())
        frame = rotation_to(direction / direction.norm())
        self.generators = frame @ generators_of(name) @ frame.T
        self._named = True

    @classmethod
    def from_generators(
        cls, matrices: Tensor | Any, name: str = "custom", axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    ) -> "SymmetryGroup":
        """The smallest closed group that contains the given orthogonal matrices.

        Args:
            matrices: (k, 3, 3), a tensor, an array or a sequence of matrices, in double precision. A rotation by an
                irrational fraction of a turn generates all rotations about its axis.
            name: Name of the group, for messages and model files.
            axis: Main axis of a finite group: the direction to which the normal of a surface is rotated.

        Raises:
            ValueError: A matrix is not 3x3, not finite or not orthogonal, or not exact enough to determine the group.

        Example:
            >>> SymmetryGroup.from_generators([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]]).order
            4
        """
        single = [torch.as_tensor(m, dtype=torch.float64, device="cpu").detach() for m in matrices]
        wrong = [tuple(m.shape) for m in single if m.shape != (3, 3)]
        if wrong:
            raise ValueError(f"generators must be 3x3 matrices, shape (k, 3, 3); got one of shape {wrong[0]}")
        generators = torch.stack(single) if single else torch.zeros(0, 3, 3, dtype=torch.float64)
        error = (generators @ generators.mT - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2))
        for index, e in enumerate(error.tolist()):
            if not e < ORTHOGONALITY_TOLERANCE:
                raise ValueError(
                    f"generator {index} is not orthogonal: max |g g^T - 1| = {e:.2e}, expected below "
                    f"{ORTHOGONALITY_TOLERANCE:.0e}; give rotations and reflections as orthogonal 3x3 matrices"
                )
        group = cls("C1", axis)
        group.name = name
        u, _, vh = torch.linalg.svd(generators)
        group.generators = u @ vh  # the nearest orthogonal matrices
        group._named = False
        if not group.is_finite:
            # powers of a given irrational rotation may come close to the identity; those of the standard ones do not
            closure = group._closure
            frame = rotation_to(closure.axis)
            connected = generators_of("SO2" if closure.continuous == "axial" else "SO3")
            group.generators = torch.cat([frame @ connected @ frame.T, closure.components])
            group.axis = tuple(closure.axis.tolist())
        return group

    @property
    def _closure(self) -> Closure:
        return _cached_closure(self)

    @property
    def is_finite(self) -> bool:
        """Whether the group has finitely many elements."""
        return self._closure.continuous == "none"

    @property
    def is_isotropic(self) -> bool:
        """Whether the group contains all rotations: SO(3) or O(3)."""
        return self._closure.continuous == "spherical"

    @property
    def turns(self) -> Tensor:
        """Axes about which the group contains all rotations: 3, 1 or 0 perpendicular unit vectors, (n, 3), float64.

        Example:
            >>> SymmetryGroup("Cinfv").turns, SymmetryGroup("Oh").turns.shape
            (tensor([[0., 0., 1.]], dtype=torch.float64), torch.Size([0, 3]))
        """
        axes = {"none": torch.zeros(0, 3), "axial": self._closure.axis[None], "spherical": torch.eye(3)}
        return axes[self._closure.continuous].double()

    @property
    def order(self) -> float:
        """Number of elements; infinity for continuous groups."""
        return len(self._closure.components) if self.is_finite else float("inf")

    @property
    def components(self) -> Tensor:
        """One element from every connected component, (n, 3, 3), float64; for a finite group, all its elements."""
        return self._closure.components.clone()

    def contains(self, g: Tensor) -> bool:
        """Whether an orthogonal matrix (3, 3) is an element of the group.

        Example:
            >>> mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0]))
            >>> SymmetryGroup("Cinfv").contains(mirror), SymmetryGroup("SO2").contains(mirror)
            (True, False)
        """
        closure = self._closure
        rest = closure.components.mT @ g.detach().to("cpu", torch.float64)  # in the connected part for one component
        proper = torch.linalg.det(rest) > 0
        if closure.continuous == "spherical":
            return bool(proper.any())
        if closure.continuous == "axial":
            return bool((proper & ((rest @ closure.axis - closure.axis).abs().amax(1) < SAME_MATRIX)).any())
        return bool(((rest - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2)) < SAME_MATRIX).any())

    def random_elements(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Elements drawn from the uniform (Haar) distribution on the group.

        Args:
            count: How many.
            generator: Source of random numbers; torch's global one if absent.

        Returns:
            Orthogonal matrices (count, 3, 3), float64.
        """
        components = self._closure.components
        picks = components[torch.randint(len(components), (count,), generator=generator)]
        if self.is_finite:
            return picks
        angles = 2 * torch.pi * torch.rand(count, generator=generator, dtype=torch.float64)
        if self._closure.continuous == "axial":
            axis = tuple(self._closure.axis.tolist())
            turns = [rotation(axis, angle) for angle in angles.tolist()]
        else:
            gauss = torch.randn(count, 4, generator=generator, dtype=torch.float64)
            turns = list(o3.quaternion_to_matrix(gauss / gauss.norm(dim=1, keepdim=True)))
        return torch.stack(turns) @ picks if count else picks

    def invariants(self, l: int, p: int) -> Tensor:
        """Orthonormal basis (n, 2l+1), float64, of the vectors of irrep (l, p) that every element leaves fixed."""
        return _cached_invariants(self, l, p).clone()

    def to_config(self) -> dict[str, Any]:
        """Plain data from which ``from_config`` makes the same group."""
        if self._named:
            return {"name": self.name, "axis": list(self.axis)}
        return {"name": self.name, "generators": self.generators.tolist(), "axis": list(self.axis)}

    @classmethod
    def from_config(cls, config: "SymmetryGroup | str | dict[str, Any]") -> "SymmetryGroup":
        """A group from its name or from the data of ``to_config``; a group is returned as it is.

        Raises:
            ValueError: ``config`` is none of these.

        Example:
            >>> SymmetryGroup.from_config(SymmetryGroup("C4v").to_config()) == SymmetryGroup("C4v")
            True
        """
        if isinstance(config, SymmetryGroup):
            return config
        if isinstance(config, str):
            return cls(config)
        known = {"name", "axis", "generators"}
        if not isinstance(config, dict) or not {"name", "generators"} & config.keys() or config.keys() - known:
            raise ValueError(
                f"a symmetry group is a name such as 'C4v', or a mapping with 'name' and 'axis', or with 'generators'; "
                f"got {config!r:.80}"
            )
        axis = tuple(config.get("axis", (0.0, 0.0, 1.0)))
        if "generators" in config:
            return cls.from_generators(config["generators"], config.get("name", "custom"), axis)
        return cls(config["name"], axis)

    @property
    def _key(self) -> tuple[float, ...]:
        return tuple((self.generators.flatten().round(decimals=9) + 0.0).tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymmetryGroup) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"SymmetryGroup({self.name!r}, axis={tuple(round(x, 6) for x in self.axis)})"


@functools.cache
def _cached_invariants(group: SymmetryGroup, l: int, p: int) -> Tensor:
    return invariant_vectors(group.generators, l, p)


@functools.cache
def _cached_closure(group: SymmetryGroup) -> Closure:
    return close(group.generators)
