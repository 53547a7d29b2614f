"""Molecules and properties as a torch data set of graphs."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data
from tqdm import tqdm

from ik_e3nn.data.properties.set import PropertySet
from ik_e3nn.errors import DataError
from ik_e3nn.graph import Connectivity, average_neighbors, build_molecular_graph, check_all_stated, fields
from ik_e3nn.graph.build import NUMBER_KEYS


class PropertyDataset(Dataset[Data]):
    """Graphs with ``targets`` (1, T), float64, NaN where missing; made on first use and kept in memory.

    Total charge and spin are in all graphs if all molecules have them, else in none.

    Args:
        molecules: Molecules and properties.
        edges: "bonds", "radius" or "both"; see ``build_molecular_graph``.
        r_max: Cutoff radius in A, for all but "bonds".
        dtype: Floating type of shifts, charge and spin, see ``build_graph``.
        inputs: What a model reads; charges and spins among it are checked, see ``check_stated``.

    Raises:
        DataError: The charge or spin of a molecule was set for other atoms.

    Example:
        >>> from ase.build import molecule
        >>> water = PropertySet([molecule("H2O")], (), {}, ["water"])
        >>> PropertyDataset(water, "radius", 5.0)[0]["edge_index"].shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        molecules: PropertySet,
        edges: Connectivity = "bonds",
        r_max: float = 5.0,
        *,
        dtype: torch.dtype = torch.float32,
        inputs: Collection[str] = (),
    ) -> None:
        self.molecules, self.edges, self.r_max, self.dtype = molecules, edges, float(r_max), dtype
        infos = [atoms.info for atoms in molecules.structures]
        self._kept = {name for name, key in NUMBER_KEYS.items() if all(info.get(key) is not None for info in infos)}
        check_stated_numbers(molecules, self._kept.intersection(inputs))
        self._targets = torch.from_numpy(molecules.matrix())
        self._graphs: list[Data | None] = [None] * len(molecules)

    def __len__(self) -> int:
        return len(self.molecules)

    def __getitem__(self, index: int) -> Data:
        graph = self._graphs[index]
        if graph is None:
            graph = self._graphs[index] = self._build(index)
        return copy.copy(graph)  # a caller may add tensors without changing what is kept

    def prepare(self, *, progress: bool = False) -> None:
        """Make all graphs now instead of on first use."""
        for index in tqdm(range(len(self)), desc="graphs", disable=not progress):
            self[index]

    def average_neighbors(self) -> float:
        """Number that sums over neighbors are divided by, see ``ik_e3nn.graph.average_neighbors``."""
        graphs = (self[index] for index in range(len(self)))
        return average_neighbors((graph[fields.EDGE_INDEX][1], len(graph[fields.ATOMIC_NUMBERS])) for graph in graphs)

    def _build(self, index: int) -> Data:
        atoms = self.molecules.structures[index]
        try:
            graph = build_molecular_graph(atoms, self.edges, self.r_max, dtype=self.dtype)
        except DataError as error:
            raise DataError(f"molecule {self.molecules.ids[index]}: {error}") from error
        for name in NUMBER_KEYS:
            if name in graph and name not in self._kept:
                del graph[name]
        graph[fields.TARGETS] = self._targets[index : index + 1]
        return graph


def check_stated_numbers(molecules: PropertySet, inputs: Collection[str]) -> None:
    """Refuse molecules whose charge or spin, where a model reads it, was set before they were cut, joined or repeated.

    Args:
        molecules: The molecules.
        inputs: What the model reads.

    Raises:
        DataError: Names the first one.

    Example:
        >>> from ase import Atoms
        >>> check_stated_numbers(PropertySet([Atoms("OH", info={"charge": -1})], (), {}, ["a"]), ["total_charge"])
    """
    keys = [key for name, key in NUMBER_KEYS.items() if name in inputs]
    check_all_stated(molecules.structures, keys, molecules.names)
