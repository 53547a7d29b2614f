"""Order and composition of the batches: shuffled by epoch, bounded by atoms, shared among processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ik_e3nn.errors import ConfigError


def pack(
    order: Sequence[int], num_atoms: Sequence[int], *, batch_size: int, max_atoms: int | None = None, processes: int = 1
) -> list[list[int]]:
    """Cut an order of structures into batches, each for one optimizer step of all processes together.

    Args:
        order: Indices of the structures.
        num_atoms: Atoms of every structure.
        batch_size: Most structures in a batch.
        max_atoms: Most atoms per process in a batch; a structure larger than that makes a batch of its own.
        processes: No batch holds fewer structures than this, so that no process is idle.

    Returns:
        Batches of indices that together hold ``order`` exactly once.

    Raises:
        ConfigError: There are fewer structures than processes.

    >>> pack(range(5), [3, 3, 3, 9, 1], batch_size=2, max_atoms=7)
    [[0, 1], [2], [3], [4]]
    """
    if len(order) < processes:
        raise ConfigError(f"{len(order)} structures cannot be shared by {processes} processes; use fewer processes.")
    bound = float("inf") if max_atoms is None else float(max_atoms * processes)
    batches: list[list[int]] = [[]]
    atoms = 0
    for index in order:
        size = int(num_atoms[index])
        full = len(batches[-1]) >= batch_size or atoms + size > bound
        if full and len(batches[-1]) >= processes:
            batches.append([])
            atoms = 0
        batches[-1].append(index)
        atoms += size
    if len(batches) > 1 and len(batches[-1]) < processes:
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


class EpochSampler:
    """Batches of structure indices, the same for the same seed and epoch, this process's share only.

    Args:
        num_atoms: Atoms of every structure.
        batch_size: Structures per step over all processes.
        max_atoms: Most atoms per process in a batch.
        seed: Epoch ``n`` is shuffled with ``seed + n``; None keeps the order (validation).
        rank: This process, 0 <= rank < processes.
        processes: Number of processes.
    """

    def __init__(
        self,
        num_atoms: Sequence[int],
        *,
        batch_size: int,
        max_atoms: int | None = None,
        seed: int | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self._num_atoms = num_atoms
        self._limits = (batch_size, max_atoms)
        self._seed = seed
        self._rank, self._processes = rank, processes
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls this before each."""
        count = len(self._num_atoms)
        order = list(range(count))
        if self._seed is not None:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(self._seed + epoch)).tolist()
        batch_size, max_atoms = self._limits
        packed = pack(order, self._num_atoms, batch_size=batch_size, max_atoms=max_atoms, processes=self._processes)
        self._batches = [batch[self._rank :: self._processes] for batch in packed]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)
