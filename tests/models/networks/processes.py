"""Structures divided among processes, as an engine with domain decomposition divides them; here they are threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from ase import Atoms
from scipy.spatial import cKDTree

from ik_e3nn.graph import fields, surface_vectors


class Process:
    """The owned atoms of one process, with all ghosts within a distance.

    Attributes:
        atom: Index of the atom that each owned atom or ghost is, (N,).
        num_owned: Number of owned atoms.
        graph: Their graph, without periodicity.
    """

    def __init__(self, atoms, owned, r_max, reach):
        if atoms.pbc.any():
            lengths = np.linalg.norm(np.linalg.pinv(atoms.cell.array), axis=0)  # 1 / distance of planes
            span = np.ptp(atoms.cell.scaled_positions(atoms.positions), axis=0) if atoms.cell.rank == 3 else np.ones(3)
            images = np.where(atoms.pbc, np.ceil(reach * lengths + span).astype(int), 0)
        else:
            images = np.zeros(3, dtype=int)
        shifts = np.array([np.array(n) - images for n in np.ndindex(*(2 * images + 1))])
        shifts = shifts[np.argsort((shifts != 0).any(1), kind="stable")]  # the atoms themselves come first
        atom = np.tile(np.arange(len(atoms)), len(shifts))
        positions = (atoms.positions[None] + (shifts @ atoms.cell.array)[:, None]).reshape(-1, 3)
        is_owned = np.isin(atom, owned) & (np.arange(len(atom)) < len(atoms))
        distances, _ = cKDTree(positions[is_owned]).query(positions) if is_owned.any() else (np.full(len(atom), 99), 0)
        order = np.concatenate([np.flatnonzero(is_owned), np.flatnonzero(~is_owned & (distances < reach))])
        self.atom, self.num_owned = torch.tensor(atom[order]), int(is_owned.sum())
        pairs = cKDTree(positions[order]).query_pairs(r_max, output_type="ndarray")
        edges = torch.tensor(np.concatenate([pairs, pairs[:, ::-1]]).T.copy(), dtype=torch.long).reshape(2, -1)
        charge, spin = (
            torch.tensor([float(atoms.info.get(key, usual))]) for key, usual in (("charge", 0), ("spin", 1))
        )
        self.graph = {
            fields.ATOMIC_NUMBERS: torch.tensor(atoms.numbers)[self.atom],
            fields.POSITIONS: torch.tensor(positions[order]),
            fields.CELL: torch.zeros(1, 3, 3, dtype=torch.float64),
            fields.PBC: torch.zeros(1, 3, dtype=torch.bool),
            fields.BATCH: torch.zeros(len(order), dtype=torch.long),
            fields.EDGE_INDEX: edges,
            fields.EDGE_SHIFTS: torch.zeros(edges.shape[1], 3, dtype=torch.float64),
            fields.TOTAL_CHARGE: charge,
            fields.SPIN: spin,
        }
        self.graph |= {name: torch.tensor(vector)[None] for name, vector in surface_vectors(atoms).items()}


class Processes:
    """Several processes that exchange features."""

    def __init__(self, atoms: Atoms, number: int, r_max: float, reach: float) -> None:
        parts = np.array_split(np.argsort(atoms.positions[:, 0]), number)
        self.members = [Process(atoms, part, r_max, reach) for part in parts]
        self.barrier = threading.Barrier(number)
        self.shared = [torch.empty(0)] * number

    def each(self, function):
        """Results of ``function(process, exchange)`` for every process, at the same time."""
        with ThreadPoolExecutor(len(self.members)) as pool:
            waiting = [pool.submit(function, process, self._exchange(k)) for k, process in enumerate(self.members)]
            return [one.result() for one in waiting]

    def _gathered(self, rank: int, rows: torch.Tensor) -> torch.Tensor:
        """The sum over processes of rows (atoms of the whole, dim)."""
        self.shared[rank] = rows
        self.barrier.wait()
        total = torch.stack(self.shared).sum(0)
        self.barrier.wait()
        return total

    def _exchange(self, rank: int):
        process, size = self.members[rank], int(max(p.atom.max() for p in self.members if len(p.atom))) + 1
        num_owned, atom, gathered = process.num_owned, process.atom, self._gathered

        class Exchange(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                whole = x.new_zeros(size, x.shape[1]).index_copy(0, atom[:num_owned], x)
                return gathered(rank, whole)[atom]

            @staticmethod
            def backward(ctx, gradient):
                whole = gradient.new_zeros(size, gradient.shape[1]).index_add(0, atom, gradient)
                return gathered(rank, whole)[atom[:num_owned]]

        return Exchange.apply
