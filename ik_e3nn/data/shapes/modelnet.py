"""ModelNet-10 and ModelNet-40 from files on disk; nothing is downloaded."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm

from ik_e3nn.data.shapes.clouds import mesh_cloud, point_cloud
from ik_e3nn.data.shapes.off_file import Archive, read_off
from ik_e3nn.data.shapes.solids import Mesh
from ik_e3nn.errors import DataError, locating
from ik_e3nn.optional import needed

logger = logging.getLogger(__name__)

MODELNET10 = (
    "bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet",
)  # fmt: skip
MODELNET40 = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup", "curtain",
    "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop", "mantel", "monitor",
    "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa", "stairs", "stool", "table",
    "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox",
)  # fmt: skip
CLASSES = {10: MODELNET10, 40: MODELNET40}
OFFICIAL = {(10, "train"): 3991, (10, "test"): 908, (40, "train"): 9843, (40, "test"): 2468}
WHERE = (
    "ik_e3nn downloads nothing. Get ModelNet10.zip or ModelNet40.zip (meshes) from https://modelnet.cs.princeton.edu, "
    "or modelnet40_normal_resampled.zip or modelnet40_ply_hdf5_2048.zip (points with normals) from "
    "https://shapenet.cs.stanford.edu/media, and name the unpacked folder (or the archive of meshes)"
)
Split = Literal["train", "test"]


class Shape(NamedTuple):
    """A shape on disk: its class, its place, and a function that reads it with a number of points, label and seed."""

    name: str
    place: str
    read: Callable[[int, int, int], Data]  # points, label, seed


def read_modelnet(
    path: str | Path, split: Split, *, classes: int = 40, points: int = 1024, seed: int = 0, progress: bool = False
) -> list[Data]:
    """Labeled point clouds with normals, of radius 1, from any of the common file formats of ModelNet.

    * The archive of meshes: ``ModelNet40/chair/train/chair_0001.off``, as a folder or still in its zip file. Points are
      sampled evenly over the faces.
    * The resampled text files: ``chair/chair_0001.txt`` with ``x,y,z,nx,ny,nz``, and ``modelnet40_train.txt``.
    * The hdf5 files of 2,048 points: ``ply_data_train0.h5`` with ``data``, ``normal``, ``label``, and
        ``train_files.txt``.

    Args:
        path: The folder, or the zip file.
        split: "train" or "test", the official split.
        classes: 40, or 10 for the classes of ModelNet-10 (whose split is the same).
        points: Points of a cloud; from files that hold points, a random selection.
        seed: Seed of sampling and selection.
        progress: Show a progress bar.

    Returns:
        One ``Data`` for each shape: ``pos`` and ``normal`` (P, 3), float32; ``y`` (1,), the place in ``MODELNET40`` or
        ``MODELNET10``.

    Raises:
        DataError: No ModelNet is found, a file is damaged, or it holds fewer points than requested.
        MissingDependencyError: hdf5 files are given, and h5py is not installed.
        ValueError: The split, number of classes or number of points is not one of those above.

    Reference:
        Wu et al., 3D ShapeNets, CVPR 2015; Qi et al., PointNet++, NeurIPS 2017 (the files with points).
    """
    if classes not in CLASSES or split not in ("train", "test") or points < 1:
        raise ValueError(
            f"classes must be 10 or 40, split 'train' or 'test', points at least 1; got {classes}, {split!r}, {points}"
        )
    path = Path(path)
    if not path.exists():
        raise DataError(f"no ModelNet at {path}: it does not exist. {WHERE}")
    names = CLASSES[classes]
    shapes = [shape for shape in _find(path, split, classes) if shape.name in names]
    if not shapes:
        raise DataError(f"no ModelNet-{classes} ({split}) at {path}. {WHERE}")
    if len(shapes) != OFFICIAL[classes, split]:
        logger.warning(
            "%s holds %d of the %d shapes of ModelNet-%d (%s)",
            path, len(shapes), OFFICIAL[classes, split], classes, split,
        )  # fmt: skip
    bar = tqdm(shapes, desc=f"ModelNet-{classes} {split}", unit="shape", disable=not progress)
    clouds = []
    for index, shape in enumerate(bar):
        with locating(shape.place):
            clouds.append(shape.read(points, names.index(shape.name), _seed(seed, index)))
    return clouds


def from_modelnet(dataset: Iterable[Data], *, points: int = 1024, seed: int = 0) -> list[Data]:
    """Labeled point clouds from PyG's ``ModelNet``, or objects with ``pos``, ``y``, and ``face`` or ``normal``.

    Args:
        dataset: The objects; they are only read. Classes are PyG's numbers: ``MODELNET40`` or ``MODELNET10``.
        points: Points of a cloud, sampled over the faces, or selected at random if the objects hold points.
        seed: Seed of sampling and selection.

    Returns:
        See ``read_modelnet``.

    Raises:
        DataError: An object has neither faces nor normals, no label, no area, or fewer points than requested.
        ValueError: ``points`` is less than 1.

    Example:
        >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
        >>> mesh = Data(pos=corners, face=torch.tensor([[0], [1], [2]]), y=torch.tensor([4]))
        >>> from_modelnet([mesh], points=7)[0].normal[0].tolist()
        [0.0, 0.0, 1.0]
    """
    if points < 1:
        raise ValueError(f"the number of points of a cloud must be at least 1; got {points}")
    clouds = []
    for index, data in enumerate(dataset):
        positions, faces, normals, label = (data.get(key) for key in ("pos", "face", "normal", "y"))
        if positions is None or label is None or (faces is None and normals is None):
            raise DataError(
                f"object {index} needs pos, y, and face or normal; it has {sorted(data.keys())}. Remove SamplePoints, "
                "or give it include_normals=True"
            )
        with locating(f"object {index}"):
            if faces is not None:
                mesh = Mesh(positions.double().numpy(), faces.T.numpy())
                clouds.append(mesh_cloud(mesh, points, int(label), seed=_seed(seed, index)))
            else:
                clouds.append(_chosen(positions, normals, points, int(label), _seed(seed, index)))
    return clouds


def _find(path: Path, split: str, classes: int) -> Iterator[Shape]:
    """The shapes of a split, in whichever format is found."""
    if list(path.glob(f"*{split}*.h5")):
        yield from _hdf5(path, split)
    elif (lists := sorted(path.glob(f"modelnet*_{split}.txt"))) != []:
        wanted = path / f"modelnet{classes}_{split}.txt"
        yield from _text(path, wanted if wanted in lists else lists[-1])
    else:
        yield from _meshes(Archive(path), split)


def _meshes(archive: Archive, split: str) -> Iterator[Shape]:
    for name in archive.names(split):

        def read(points: int, label: int, seed: int, name: str = name) -> Data:
            return mesh_cloud(read_off(archive.read(name), name), points, label, seed=seed)

        yield Shape(name.split("/")[-3], name, read)


def _text(path: Path, listed: Path) -> Iterator[Shape]:
    for line in listed.read_text().split():
        kind = line.rsplit("_", 1)[0]
        file = path / kind / f"{line}.txt"

        def read(points: int, label: int, seed: int, file: Path = file) -> Data:
            if not file.is_file():
                raise DataError(f"{listed} names {file}, which does not exist; unpack the archive again")
            try:
                rows = np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2)
            except ValueError as error:
                raise DataError(f"{file} cannot be read as lines of x,y,z,nx,ny,nz: {error}") from error
            if rows.shape[1] != 6:
                raise DataError(f"{file} must have six columns x,y,z,nx,ny,nz; it has {rows.shape[1]}")
            table = torch.from_numpy(rows)
            return _chosen(table[:, :3], table[:, 3:], points, label, seed)

        yield Shape(kind, str(file), read)


def _hdf5(path: Path, split: str) -> Iterator[Shape]:
    h5py = needed("h5py")
    names_file = path / "shape_names.txt"
    names = tuple(names_file.read_text().split()) if names_file.is_file() else MODELNET40
    for file in sorted(path.glob(f"*{split}*.h5")):
        try:
            with h5py.File(file) as content:
                missing = {"data", "normal", "label"} - set(content)
                if missing:
                    raise DataError(f"{file} lacks {', '.join(sorted(missing))}; it holds {', '.join(sorted(content))}")
                positions, normals = (torch.from_numpy(content[key][:]) for key in ("data", "normal"))
                labels = content["label"][:].reshape(-1).astype(int)
        except OSError as error:
            raise DataError(f"{file} is not a readable hdf5 file ({error}); download it again") from error
        if not len(positions) == len(normals) == len(labels):
            raise DataError(
                f"{file} must have a normal and a label for each shape; it has {len(positions)} shapes, "
                f"{len(normals)} sets of normals and {len(labels)} labels"
            )
        outside = labels[(labels < 0) | (labels >= len(names))]
        if outside.size:
            raise DataError(f"{file} has label {outside[0]}, but there are {len(names)} classes, from 0 on")
        for row, (x, n, number) in enumerate(zip(positions, normals, labels.tolist(), strict=True)):

            def read(points: int, label: int, seed: int, x: Tensor = x, n: Tensor = n) -> Data:
                return _chosen(x, n, points, label, seed)

            yield Shape(names[number], f"{file}, shape {row}", read)


def _chosen(positions: Tensor, normals: Tensor, points: int, label: int, seed: int) -> Data:
    """A cloud of randomly selected points of a file."""
    if len(positions) < points:
        raise DataError(f"it holds {len(positions)} points, fewer than the {points} requested")
    order = np.random.default_rng(seed).permutation(len(positions))[:points]
    chosen = torch.from_numpy(np.sort(order))
    return point_cloud(positions[chosen], normals[chosen], label)


def _seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
