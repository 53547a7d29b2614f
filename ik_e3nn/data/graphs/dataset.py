"""Structures and labels as a torch data set of graphs."""

import copy
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch.utils.data import Dataset
from torch_geometric.data import Data
from tqdm import tqdm

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.graphs.edge_file import EDGE_FIELDS, EdgeFile, edge_key, write_edges
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.outliers import LARGE_FORCE, largest_forces
from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import (
    SURROUNDINGS,
    Connectivity,
    average_neighbors,
    build_graph,
    build_molecular_graph,
    check_all_stated,
    fields,
    has_bonds,
)
from ik_e3nn.graph.bonds.stored import KEPT_BY
from ik_e3nn.graph.build import NUMBER_KEYS, SURFACE_FIELDS
from ik_e3nn.targets import LabelLayout
from ik_e3nn.user_path import user_path

logger = logging.getLogger(__name__)


_ABSURD_RMS = 100.0  # eV/A
_NO_PAIRS = np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3))
_INFO_KEYS = {**NUMBER_KEYS, **{name: name for name in SURFACE_FIELDS}}


class StructureDataset(Dataset[Data]):
    """Graphs with labels, one for each structure; works with PyG's loaders.

    Neighbor lists, by far the largest part, are searched on first use and kept in memory, or in a memory-mapped file
    that the next data set of the same structures uses again. Every graph has the labels of all targets of the data, in
    float64, NaN where missing, so that any structures can be batched; see ``LabelLayout`` for their names. Total
    charge, spin and the vectors of a surface are in all graphs if all structures have them, otherwise in none.

    Args:
        data: Structures with or without labels.
        r_max: Cutoff radius in A.
        edges: "bonds", "radius" or "both", see ``build_molecular_graph``; None is "radius" with the types of the bonds
            that structures have.
        dtype: Floating type of shifts, charge and spin, see ``build_graph``.
        inputs: Optional inputs that the model declares. All structures must have a declared charge or spin; either all
            or none of them must have the vectors of a declared surface.
        cache: Folder for the files of neighbor lists; None keeps them in memory.

    Raises:
        DataError: A structure has no atoms, or inputs are unknown.
        MissingInputError: A declared input is missing in a structure.

    Example:
        >>> from ase.build import molecule
        >>> data = StructureDataset(LabeledSet.of_labels([molecule("H2O"), Atoms("Na")]), r_max=5.0)
        >>> len(data), data[0]["edge_index"].shape, data[1]["energy"]
        (2, torch.Size([2, 6]), tensor([nan], dtype=torch.float64))
    """

    def __init__(
        self,
        data: LabeledSet | Sequence[Atoms],
        r_max: float = 5.0,
        *,
        edges: Connectivity | None = None,
        dtype: torch.dtype = torch.float32,
        inputs: Collection[str] = (),
        cache: str | Path | None = None,
    ) -> None:
        self.data = data if isinstance(data, LabeledSet) else LabeledSet(list(data), (), {})
        self.structures, self.edges, self.r_max, self.dtype = self.data.structures, edges, float(r_max), dtype
        self.cache = None if cache is None else user_path(cache)
        empty = [number for number, atoms in enumerate(self.structures) if len(atoms) == 0]
        if empty:
            raise DataError(f"structure(s) {empty[:5]} have no atoms")
        self._kept_inputs = _settle_inputs(self.data, inputs)
        self._labels = LabelLayout(self.data.targets)
        self._graphs: list[Data | None] = [None] * len(self.structures)
        self._file: EdgeFile | None = None

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> Data:
        graph = self._graphs[index]
        if graph is None:
            graph = self._graphs[index] = self._build(index)
        # A shallow copy, so that callers may add or move tensors without changing the stored graph.
        return copy.copy(graph)

    @property
    def num_atoms(self) -> list[int]:
        """Number of atoms of each structure, for batches bounded by atoms."""
        return [len(atoms) for atoms in self.structures]

    def prepare(self, *, progress: bool = False) -> None:
        """Search all neighbor lists now instead of on first use.

        Args:
            progress: Show a progress bar.
        """
        if self.cache is not None and self._file is None:
            self._file = self._edge_file(self.cache, progress=progress)
        for index in tqdm(range(len(self)), desc="graphs", disable=not progress):
            self[index]

    def average_neighbors(self) -> float:
        """Average number of neighbors, which divides sums over neighbors; see ``ik_e3nn.graph.average_neighbors``."""
        edges = (self[index][fields.EDGE_INDEX][1] for index in range(len(self)))
        return average_neighbors(zip(edges, self.num_atoms, strict=True))

    def _build(self, index: int) -> Data:
        """Graph of one structure, with its labels."""
        if self.cache is None:
            graph = self._search(index)
        else:
            if self._file is None:
                self._file = self._edge_file(self.cache)
            graph = build_graph(self.structures[index], self.r_max, dtype=self.dtype, bonds=[], pairs=_NO_PAIRS)
            for name, tensor in self._file[index].items():
                graph[name] = tensor
        for name in _INFO_KEYS:
            if name in graph and name not in self._kept_inputs:
                del graph[name]
        self._labels.put(graph, {name: torch.tensor(value) for name, value in self.data.value(index).items()})
        return graph

    def _search(self, index: int) -> Data:
        """Graph of one structure without labels, with a new search for neighbors."""
        atoms = self.structures[index]
        try:
            if self.edges is None:
                return build_graph(atoms, self.r_max, dtype=self.dtype)
            return build_molecular_graph(atoms, self.edges, self.r_max, dtype=self.dtype)
        except DataError as error:
            raise DataError(f"{self.data.names[index]} ({atoms.get_chemical_formula()}): {error}") from error

    def _edge_file(self, folder: Path, *, progress: bool = False) -> EdgeFile:
        """The file of these structures' edges; it is written first if it does not exist."""
        path = folder / f"{edge_key(self.structures, self.r_max, self.dtype, self.edges)}.edges"

        def edges() -> Iterator[dict[str, torch.Tensor]]:
            for index in tqdm(range(len(self)), desc="neighbor lists", disable=not progress):
                graph = self._search(index)
                yield {name: graph[name] for name in EDGE_FIELDS}

        if not path.exists():
            write_edges(path, len(self), edges())
        logger.info("neighbor lists are in %s", path)
        return EdgeFile(path, len(self), self.dtype)


def force_rms(forces: FloatArray) -> float:
    """Root mean square of all force components.

    Args:
        forces: Forces in eV/A, any shape; missing ones (NaN) are ignored.

    Returns:
        The RMS in eV/A; 0.0 without forces.

    Example:
        >>> force_rms(np.array([[3.0, 0.0, 4.0], [np.nan] * 3])).__round__(4)
        2.8868
    """
    finite = forces[np.isfinite(forces)]
    return float(np.sqrt(np.mean(finite**2))) if len(finite) else 0.0


def force_scale(data: LabeledSet) -> float:
    """Root mean square of the force components, without a few absurdly large ones.

    The structures with the largest forces (one in a hundred, or at most one in ten if they exceed 50 eV/A) are left out
    with a warning if they make it more than three times as large.

    Args:
        data: Structures with forces; missing ones are ignored.

    Returns:
        The scale in eV/A; 0.0 without forces.

    Example:
        >>> from ik_e3nn.targets import MECHANICS
        >>> forces = np.r_[np.ones((198, 3)), np.full((2, 3), 1e5)]
        >>> labels = {"energy": np.zeros(100), "forces": forces, "stress": np.zeros((100, 3, 3))}
        >>> force_scale(LabeledSet([Atoms("H2")] * 100, MECHANICS, labels))
        1.0
    """
    forces, number = data.values["forces"], len(data)
    whole, largest = force_rms(forces), np.nan_to_num(largest_forces(data))
    absurd = int((largest > LARGE_FORCE).sum())
    few = max(number // 100, int(number >= 10), absurd if 10 * absurd <= max(number, 10) else 0)
    order = np.argsort(largest)
    rest = force_rms(forces[np.isin(data.atom_owners, order[: number - few])])
    if not 0.0 < 3.0 * rest < whole:
        if whole > _ABSURD_RMS:
            logger.warning(
                "the forces have a root mean square of %.3g eV/A, far more than usable structures have (largest: "
                "structure %d); check their unit, and look for placeholders: `ik-e3nn data check`",
                whole, order[-1],
            )  # fmt: skip
        return whole
    logger.warning(
        "%d of %d structures have forces so large (up to %.3g eV/A, in structure %d) that they alone would set the "
        "scale of the model (%.3g eV/A); the other structures set it, %.3g eV/A. Check them: `ik-e3nn data check`",
        few, number, largest.max(), order[-1], whole, rest,
    )  # fmt: skip
    return rest


def warn_without_bonds(sets: Sequence[LabeledSet], inputs: Collection[str]) -> None:
    """Warn once of all molecules without bonds in some sets, if the model uses bonds.

    Args:
        sets: The sets.
        inputs: Optional inputs of the model.
    """
    pairs = [pair for one in sets for pair in zip(one.names, one.structures, strict=True)]
    bare = [name for name, one in pairs if len(one) > 1 and not one.pbc.any() and not has_bonds(one)]
    if bare and fields.BOND_TYPES in inputs:
        logger.warning(
            "the model uses bonds, but %d of %d structures are molecules without bonds (first: %s); all their edges "
            "count as non-bonded. %s",
            len(bare), len(pairs), bare[0], KEPT_BY,
        )  # fmt: skip


def _settle_inputs(data: LabeledSet, inputs: Collection[str]) -> set[str]:
    """The inputs that all structures have, which go into the graphs."""
    structures = data.structures
    known = [fields.BOND_TYPES, *NUMBER_KEYS, *SURROUNDINGS]
    unknown = sorted(set(inputs) - set(known))
    if unknown:
        raise DataError(f"unknown input(s) {unknown}; known are {', '.join(known)}")
    warn_without_bonds([data], inputs)
    beside = any(name in inputs for name in SURROUNDINGS)
    kept = set()
    for name, key in _INFO_KEYS.items():
        missing = [number for number, atoms in enumerate(structures) if atoms.info.get(key) is None]
        some = 0 < len(missing) < len(structures)
        if not missing:
            kept.add(name)
            if name in inputs and name in NUMBER_KEYS:
                check_all_stated(structures, [key], data.names)
        elif name in inputs or (some and beside and name in SURFACE_FIELDS):
            raise MissingInputError(
                f'the model needs {name}, but {len(missing)} of {len(structures)} structures have no info["{key}"] '
                f"(first: structure {missing[0]}); add it to the file"
            )
        elif some:
            logger.info(
                "%d of %d structures have no %s; it is ignored in all structures", len(missing), len(structures), key
            )
    return kept
