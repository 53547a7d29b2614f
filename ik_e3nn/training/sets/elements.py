"""Finding structures with elements that a model or a training set lacks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ase import Atoms

from ik_e3nn.elements import unknown_symbols
from ik_e3nn.errors import UnknownSpeciesError
from ik_e3nn.listing import listed

_SHOWN = 20  # structures that one message names


def with_others(structures: Sequence[Atoms], species: Collection[int]) -> dict[int, str]:
    """Numbers of the structures with unknown elements, and the symbols of these elements.

    >>> with_others([Atoms("H2"), Atoms("HCl")], [1])
    {1: 'Cl'}
    """
    strange = {number: unknown_symbols(atoms.numbers, species) for number, atoms in enumerate(structures)}
    return {number: symbols for number, symbols in strange.items() if symbols}


def listing(strange: dict[int, str], places: Sequence[str]) -> str:
    """A list of structures and their unknown elements for a message, of limited length.

    >>> listing({1: "Cl", 4: "Br, Cl"}, [f"structure {k}" for k in range(9)])
    'structure 1 has Cl; structure 4 has Br, Cl'
    """
    return listed([f"{places[number]} has {symbols}" for number, symbols in strange.items()], _SHOWN)


def check_species(
    structures: Sequence[Atoms], species: Collection[int], places: Sequence[str] = (), *, advice: str = ""
) -> None:
    """Raise if structures hold elements that a model does not know.

    Args:
        structures: The structures.
        species: Known atomic numbers.
        places: Names of the structures in the message; their numbers if absent.
        advice: The end of the message.

    Raises:
        UnknownSpeciesError: Names the elements and the structures that have them.
    """
    strange = with_others(structures, species)
    if strange:
        named = places or [f"structure {number}" for number in range(len(structures))]
        raise UnknownSpeciesError(f"{listing(strange, named)}, which the model does not know{advice}.")
