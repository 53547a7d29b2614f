"""Hyperparameters of potentials: presets of the size, and checks."""

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Literal, cast, get_args

from ase.data import atomic_numbers, chemical_symbols

from ik_e3nn.blocks.embedding import GLOBAL_INPUTS
from ik_e3nn.graph import SURROUNDINGS, fields

PRESETS: dict[str, dict[str, int]] = {
    "small": {"num_channels": 16, "num_layers": 2, "l_max": 2, "l_features": 1, "correlation": 3},
    "medium": {"num_channels": 32, "num_layers": 2, "l_max": 3, "l_features": 1, "correlation": 3},
    "large": {"num_channels": 64, "num_layers": 2, "l_max": 3, "l_features": 2, "correlation": 3},
}
LEAST = {"num_channels": 1, "num_layers": 1, "l_max": 0, "l_features": 0, "correlation": 1}
KernelFeatures = Literal["initial", "current"]
LARGEST_DEGREE = 12  # largest degree of spherical harmonics in e3nn
OPTIONAL_INPUTS = (fields.BOND_TYPES, *GLOBAL_INPUTS, *SURROUNDINGS)


def parse_species(species: Iterable[int | str]) -> tuple[int, ...]:
    """Sorted atomic numbers of elements that are given by number or symbol.

    Raises:
        ValueError: An element is unknown, or none is given.

    Example:
        >>> parse_species(["O", 1])
        (1, 8)
    """
    numbers = set()
    for s in species:
        number = atomic_numbers.get(s) if isinstance(s, str) else int(s)
        if number is None or not 0 < number < len(chemical_symbols):
            raise ValueError(f"unknown chemical element {s!r}: give atomic numbers or symbols")
        numbers.add(number)
    if not numbers:
        raise ValueError("a potential needs at least one species; got none")
    return tuple(sorted(numbers))


def parse_cutoff(r_max: object) -> float:
    """A cutoff radius in A.

    Raises:
        ValueError: It is not a positive, finite number.

    Example:
        >>> parse_cutoff(5)
        5.0
    """
    number = isinstance(r_max, Real) and not isinstance(r_max, bool)
    if not number or not 0.0 < float(cast(Any, r_max)) < float("inf"):
        raise ValueError(f"r_max must be positive and finite, a length in A; got {r_max!r}")
    return float(cast(Any, r_max))


def parse_sizes(preset: str, given: Mapping[str, int | None]) -> dict[str, int]:
    """The sizes of a preset, with the given sizes in their place.

    Raises:
        ValueError: The preset is unknown, or a size is out of range.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}")
    sizes = PRESETS[preset] | {name: value for name, value in given.items() if value is not None}
    for name, least in LEAST.items():
        if not isinstance(sizes[name], int) or isinstance(sizes[name], bool) or sizes[name] < least:
            raise ValueError(f"{name} must be a whole number of at least {least}; got {sizes[name]!r}")
    if sizes["l_max"] > LARGEST_DEGREE:
        raise ValueError(f"l_max must be at most {LARGEST_DEGREE}; got {sizes['l_max']}")
    if given["l_features"] is None:
        sizes["l_features"] = min(sizes["l_features"], sizes["l_max"])
    elif sizes["l_features"] > sizes["l_max"]:
        raise ValueError(f"l_features must be at most l_max, {sizes['l_max']}; got {sizes['l_features']}")
    return sizes


def parse_inputs(inputs: Iterable[str]) -> frozenset[str]:
    """Optional inputs of a model.

    Raises:
        ValueError: An input is unknown, or there is more than one kind of surroundings.
    """
    if isinstance(inputs, str):
        raise ValueError(f"inputs must be a list of names; got the text {inputs!r}")
    unknown = sorted(set(inputs) - set(OPTIONAL_INPUTS))
    if unknown:
        raise ValueError(f"inputs must be some of {', '.join(OPTIONAL_INPUTS)}; got {', '.join(map(str, unknown))}")
    outside = sorted(set(inputs) & set(SURROUNDINGS))
    if len(outside) > 1:
        raise ValueError(f"inputs must have one kind of surroundings at most; got {', '.join(outside)}")
    return frozenset(inputs)


def parse_kernel_features(kind: str) -> str:
    """Which features of atoms kernels see.

    Raises:
        ValueError: It is an unknown kind.
    """
    if kind not in get_args(KernelFeatures):
        raise ValueError(f"kernel_features must be one of {', '.join(get_args(KernelFeatures))}; got {kind!r}")
    return kind


def parse_field_degree(degree: object, inputs: Iterable[str]) -> None:
    """Check the degree of the external field; None is the usual one.

    Raises:
        ValueError: It is not a whole number from 1 to 12, or there is no site or wire.

    Example:
        >>> parse_field_degree(8, ["site"])
    """
    if degree is None:
        return
    if not isinstance(degree, int) or isinstance(degree, bool) or not 1 <= degree <= LARGEST_DEGREE:
        raise ValueError(f"field_degree must be a whole number from 1 to {LARGEST_DEGREE}; got {degree!r}")
    if not {"site", "wire"}.intersection(inputs):
        raise ValueError(
            f"field_degree is {degree}, but only a site or a wire has functions of directions: add one to inputs, or "
            "leave field_degree out"
        )
