"""Meshes in the Object File Format (OFF), and archives of them."""

import zipfile
from pathlib import Path

import numpy as np

from ik_e3nn.arrays import IntArray
from ik_e3nn.data.shapes.solids import Mesh
from ik_e3nn.errors import DataError


class Archive:
    """A tree of OFF files ``CLASS/SPLIT/NAME.off``, in a folder or in a zip file.

    Args:
        path: The folder (or one above it), or the zip file.

    Raises:
        DataError: The file is not a zip archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.zip: zipfile.ZipFile | None = None
        if path.is_file():
            try:
                self.zip = zipfile.ZipFile(path)
            except Exception as error:  # of any kind: the content may be anything
                raise DataError(f"{path} is not a readable zip archive ({error}); download it again") from error

    def names(self, split: str) -> list[str]:
        """Files of a split, sorted."""
        if self.zip is not None:
            found = self.zip.namelist()
        else:
            files = [*self.path.glob(f"*/{split}/*.off"), *self.path.glob(f"*/*/{split}/*.off")]
            found = [file.relative_to(self.path.parent).as_posix() for file in files]
        parts = [(name, name.split("/")) for name in found if name.endswith(".off") and "__MACOSX" not in name]
        return sorted(name for name, p in parts if len(p) >= 3 and p[-2] == split and not p[-1].startswith("."))

    def read(self, name: str) -> str:
        """Text of a file.

        Raises:
            DataError: The zip archive is damaged.
        """
        if self.zip is not None:
            try:
                return self.zip.read(name).decode(errors="replace")
            except Exception as error:  # of any kind: the content may be anything
                raise DataError(f"{name} in {self.path} is damaged ({error}); download the archive again") from error
        return (self.path.parent / name).read_text(errors="replace")


def read_off(text: str, name: str = "the file") -> Mesh:
    r"""A mesh from the text of an OFF file; polygons are cut into triangles.

    Args:
        text: The file's content. Some files of ModelNet lack the line break after "OFF".
        name: Name of the file in messages.

    Raises:
        DataError: The text is not an OFF file, or is damaged.

    Example:
        >>> read_off("OFF3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n").faces.tolist()
        [[0, 1, 2]]
    """
    content = "\n".join(line.split("#")[0] for line in text.splitlines()).strip()
    if not content.startswith("OFF"):
        raise DataError(f"{name} is not an OFF file: it begins with {content[:20]!r}")
    try:
        words = content[3:].split()
        num_vertices, num_faces = int(words[0]), int(words[1])
        if min(num_vertices, num_faces) < 0:
            raise ValueError(f"its header gives {num_vertices} vertices and {num_faces} faces")
        stop = 3 + 3 * num_vertices
        vertices = np.array(words[3:stop], dtype=np.float64).reshape(num_vertices, 3)
        faces = _triangles(np.array(words[stop:], dtype=np.int64), num_faces)
    except (ValueError, IndexError) as error:
        raise DataError(f"{name} is a broken OFF file: {error}") from error
    if faces.size and not 0 <= faces.min() <= faces.max() < num_vertices:
        raise DataError(f"{name} is a broken OFF file: a face names a vertex that does not exist")
    return Mesh(vertices, faces)


def _triangles(numbers: IntArray, count: int) -> IntArray:
    """Faces (F, 3) from "corners, vertex, vertex, ..." of every polygon.

    Raises:
        IndexError: The numbers end too early.
        ValueError: A polygon has fewer than three corners, or the numbers end too early.
    """
    rows = numbers[: 4 * count]
    if len(rows) == 4 * count and (rows[::4] == 3).all():
        return rows.reshape(count, 4)[:, 1:]
    faces, place = [], 0
    for _ in range(count):
        corners = int(numbers[place])
        polygon = numbers[place + 1 : place + 1 + corners]
        if corners < 3 or len(polygon) < corners:
            raise ValueError(f"a face must have at least 3 corners; got {corners}, of which {len(polygon)} are named")
        faces += [(polygon[0], polygon[k], polygon[k + 1]) for k in range(1, corners - 1)]
        place += 1 + corners
    return np.array(faces, dtype=np.int64).reshape(-1, 3)
