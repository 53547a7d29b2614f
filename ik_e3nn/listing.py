"""Lists within messages, not too long."""

from collections.abc import Sequence


def listed(items: Sequence[str], shown: int = 10) -> str:
    """The first of some sentences, and how many more there are.

    Args:
        items: The sentences.
        shown: How many to show.

    Returns:
        One sentence.

    Example:
        >>> listed(["row 1: no SMILES", "row 2: no SMILES", "row 9: infinite"], 2)
        'row 1: no SMILES; row 2: no SMILES; and 1 more'
    """
    more = [f"and {len(items) - shown} more"] if len(items) > shown else []
    return "; ".join([*items[:shown], *more])
