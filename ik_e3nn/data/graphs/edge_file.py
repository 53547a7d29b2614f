"""Neighbor lists of many structures in one memory-mapped file, for data sets larger than the memory."""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import DataError
from ik_e3nn.graph import Connectivity, fields, get_bonds

FORMAT = 2  # part of the key: increase it when the contents or the order of neighbor lists change
_WORD = 8  # bytes; every array in the file starts at a multiple of it
_COLUMNS = {fields.EDGE_INDEX: 2, fields.BOND_TYPES: 1, fields.EDGE_SHIFTS: 3}
EDGE_FIELDS = tuple(_COLUMNS)


class EdgeFile:
    """Edges of structures, read from a memory-mapped file when they are used.

    The file begins with 64-bit integers: the start of each structure, the end of the last one, and a checksum of
    each structure. Then follow ``edge_index`` (2, E), ``bond_types`` (E,) and ``edge_shifts`` (E, 3) of each.

    Args:
        path: A file written by ``write_edges``.
        count: Number of structures.
        dtype: Floating type of the shifts.

    Raises:
        DataError: The file is damaged; edges are checked when they are read.

    Example:
        >>> edges = {"edge_index": torch.tensor([[1, 0], [0, 1]]), "bond_types": torch.zeros(2, dtype=torch.long)}
        >>> edges["edge_shifts"] = torch.zeros(2, 3)
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_edges(Path(folder) / "edges", 1, [edges])
        ...     EdgeFile(Path(folder) / "edges", 1, torch.float32)[0]["edge_index"].tolist()
        [[1, 0], [0, 1]]
    """

    def __init__(self, path: Path, count: int, dtype: torch.dtype) -> None:
        size, table = path.stat().st_size, _WORD * (2 * count + 1)
        self._dtype, self._path = dtype, path
        self._starts: list[int] = []
        if size >= table:
            # private: changes of a tensor stay in this process and never reach the file
            self._bytes = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
            numbers = self._bytes[:table].view(torch.int64).tolist()
            self._starts, self._checksums = numbers[: count + 1], numbers[count + 1 :]
        if not self._starts or self._starts[-1] != size:
            raise self._damaged()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Edge tensors of one structure, under the names of ``ik_e3nn.graph.fields``; views of the file."""
        place = self._bytes[max(self._starts[index], 0) : max(self._starts[index + 1], 0)]
        if zlib.crc32(place.numpy().data) != self._checksums[index]:
            raise self._damaged()
        edges = len(place) // (3 * _WORD + 3 * self._dtype.itemsize)  # the remainder is padding
        tensors = {}
        for name, columns in _COLUMNS.items():
            dtype = self._dtype if name == fields.EDGE_SHIFTS else torch.int64
            values, place = place.tensor_split([columns * edges * dtype.itemsize])
            tensors[name] = values.view(dtype)
        tensors[fields.EDGE_INDEX] = tensors[fields.EDGE_INDEX].view(2, edges)
        tensors[fields.EDGE_SHIFTS] = tensors[fields.EDGE_SHIFTS].view(edges, 3)
        return tensors

    def _damaged(self) -> DataError:
        return DataError(f"the neighbor lists in {self._path} are damaged; delete the file, and it is written again")


def write_edges(path: Path, count: int, graphs: Iterable[dict[str, Tensor]]) -> None:
    """Write the edges of structures one after the other; the file appears only when it is complete.

    Args:
        path: The file; its folder is made if it does not exist.
        count: Number of structures.
        graphs: The structures' graphs; only the tensors of their edges are written.

    Raises:
        DataError: The file cannot be written.
    """
    table = np.zeros(2 * count + 1, dtype=np.int64)
    starts, checksums = table[: count + 1], table[count + 1 :]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_at_once(path) as file:
            file.write(table.tobytes())
            for number, graph in enumerate(graphs):
                starts[number] = file.tell()
                content = b"".join(graph[name].numpy().tobytes() for name in EDGE_FIELDS)
                content += bytes(-len(content) % _WORD)
                checksums[number] = zlib.crc32(content)
                file.write(content)
            starts[count] = file.tell()
            file.seek(0)
            file.write(table.tobytes())
    except OSError as error:
        raise DataError(f"cannot write the neighbor lists to {path}: {error.strerror}") from error


def edge_key(structures: Sequence[Atoms], r_max: float, dtype: torch.dtype, edges: Connectivity | None = None) -> str:
    """A name for the edges of structures, which changes with everything that they depend on.

    Args:
        structures: The structures; their order, positions, cells, periodicity and bonds matter.
        r_max: Cutoff radius in A.
        dtype: Floating type of the shifts.
        edges: The kind of graph, see ``StructureDataset``.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> edge_key([Atoms("H")], 5.0, torch.float32) == edge_key([Atoms("H")], 6.0, torch.float32)
        False
    """
    digest = hashlib.sha256(f"{FORMAT} {sys.byteorder} {len(structures)} {float(r_max).hex()} {dtype}".encode())
    digest.update((edges or "").encode())
    for number, atoms in enumerate(structures):
        try:
            bonds = get_bonds(atoms)
        except DataError as error:
            raise DataError(f"structure {number} ({atoms.get_chemical_formula()}): {error}") from error
        digest.update(np.array([len(atoms), len(bonds)]).tobytes())
        for array in (atoms.positions, atoms.cell.array, atoms.pbc, bonds):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
