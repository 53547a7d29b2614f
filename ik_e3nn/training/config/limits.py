"""Limits on the size of batches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLimits:
    """Limits on the size of batches; a structure larger than a limit makes a batch of its own.

    Args:
        batch_size: Most structures in a batch, over all processes together.
        max_atoms: Most atoms in a batch, per process.
        max_edges: Most edges (neighbors of all atoms) in a batch, per process; memory grows with them.
    """

    batch_size: int
    max_atoms: int | None = None
    max_edges: int | None = None
