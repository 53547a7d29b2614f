"""Structures that are in several of the sets of a training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations

_log = logging.getLogger(__name__)


def warn_of_common(names: Mapping[str, Sequence[str]], groups: Sequence[Sequence[int]], what: str) -> None:
    """Say which sets share structures: errors on what was trained on say nothing about other structures.

    Args:
        names: What messages call the structures of each set.
        groups: Numbers of equal structures, counted through all sets in their order.
        what: What they are called together.
    """
    owners = [(name, place) for name, places in names.items() for place in places]
    for first, second in combinations(names, 2):
        shared = [group for group in groups if {first, second} <= {owners[index][0] for index in group}]
        if shared:
            pair = [next(owners[k][1] for k in shared[0] if owners[k][0] == name) for name in (first, second)]
            _log.warning(
                "%d %s are both in data.%s and in data.%s, whose errors will look better than they are (the first: %s)",
                *(len(shared), what, first, second, " and ".join(dict.fromkeys(pair))),
            )
