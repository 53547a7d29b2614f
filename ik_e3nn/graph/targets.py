"""Properties of whole molecules: what kind of quantity each is, its unit, and its columns in a graph's ``targets``."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, Literal, get_args

from ik_e3nn.errors import ConfigError

Kind = Literal["extensive", "intensive", "dipole", "dipole_norm", "polarizability", "spatial_extent"]
SHAPES: Final[dict[str, tuple[int, ...]]] = {"dipole": (3,), "polarizability": (3, 3)}


@dataclass(frozen=True)
class Target:
    """One property of a molecule.

    - ``extensive``: a sum over atoms, like an energy or an isotropic polarizability,
    - ``intensive``: a number that does not grow with the molecule, like the energy of an orbital,
    - ``dipole``: a vector, about the center of nuclear charge,
    - ``dipole_norm``: the length of such a vector,
    - ``polarizability``: a symmetric tensor,
    - ``spatial_extent``: the electronic <r^2> about the center of nuclear charge.

    Args:
        name: What data files and predictions call it.
        kind: What kind of quantity it is.
        unit: Its unit, as text: values are never converted on their way through a model.

    Raises:
        ConfigError: An unknown kind, or no name.

    Example:
        >>> Target("mu", "dipole", "D").width
        3
    """

    name: str
    kind: Kind
    unit: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"target {self.name!r} is of kind {self.kind!r}, but it must be one of {', '.join(get_args(Kind))}"
            )
        if not self.name:
            raise ConfigError("a target needs a name, that of its column or key in the data")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value of one molecule."""
        return SHAPES.get(self.kind, ())

    @property
    def by_element(self) -> bool:
        """Whether what composition says of it is a sum over atoms, so that every element has a number of its own.

        >>> Target("U0", "extensive", "eV").by_element, Target("gap", "intensive", "eV").by_element
        (True, False)
        """
        return self.kind in ("extensive", "polarizability", "spatial_extent")

    @property
    def width(self) -> int:
        """Numbers of one molecule."""
        return prod(self.shape)

    @classmethod
    def parse(cls, name: str, text: str) -> "Target":
        """A target from "kind" or "kind unit", as in a YAML file.

        >>> Target.parse("homo", "intensive eV")
        Target(name='homo', kind='intensive', unit='eV')
        """
        kind, _, unit = text.strip().partition(" ")
        return cls(name, kind, unit.strip())  # type: ignore[arg-type]


def columns(targets: Sequence[Target]) -> dict[str, slice]:
    """Columns of every target in a graph's ``targets``.

    Raises:
        ConfigError: Two targets of one name.

    Example:
        >>> columns([Target("mu", "dipole", "D"), Target("gap", "intensive", "eV")])
        {'mu': slice(0, 3, None), 'gap': slice(3, 4, None)}
    """
    places: dict[str, slice] = {}
    start = 0
    for target in targets:
        if target.name in places:
            raise ConfigError(f"target {target.name!r} is given twice")
        places[target.name] = slice(start, start + target.width)
        start += target.width
    return places
