"""Elements in messages: their symbols, and those that something does not know."""

from collections.abc import Collection, Iterable

from ase.data import chemical_symbols


def symbols_of(numbers: Iterable[int]) -> str:
    """Symbols of elements, in the order given.

    Example:
        >>> symbols_of([1, 8, 200])
        'H, O, element 200'
    """
    known = dict(enumerate(chemical_symbols))
    return ", ".join(known.get(int(number), f"element {number}") for number in numbers)


def unknown_symbols(numbers: Iterable[int], species: Collection[int]) -> str:
    """Symbols of those elements that are not among some; "" if there are none.

    Example:
        >>> unknown_symbols([17, 1, 17, 35], [1, 6])
        'Cl, Br'
    """
    return symbols_of(sorted({int(number) for number in numbers} - {*species}))
