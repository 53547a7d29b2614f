"""Short lists in messages."""

from collections.abc import Sequence


def listed(items: Sequence[str], shown: int = 10) -> str:
    """Join the first items of a list, and add the number of the others.

    Args:
        items: The items.
        shown: Number of items to show.

    Returns:
        The text.

    Example:
        >>> listed(["row 1: no SMILES", "row 2: no SMILES", "row 9: infinite"], 2)
        'row 1: no SMILES; row 2: no SMILES; and 1 more'
    """
    more = [f"and {len(items) - shown} more"] if len(items) > shown else []
    return "; ".join([*items[:shown], *more])
