"""ModelNet in all forms, on small copies that the tests write."""

import logging
import zipfile

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from ik_e3nn.data.shapes.modelnet import MODELNET10, MODELNET40, OFFICIAL, from_modelnet, read_modelnet
from ik_e3nn.data.shapes.off_file import read_off
from ik_e3nn.data.shapes.solids import box, frustum
from ik_e3nn.errors import DataError, MissingDependencyError

POINTS = 60
FILES = [  # class, split, number; in the order of the archive of meshes
    ("airplane", "test", 3), ("chair", "test", 2), ("chair", "train", 1), ("night_stand", "test", 1),
    ("night_stand", "train", 2), ("xbox", "train", 1),
]  # fmt: skip


def mesh(kind, number):
    if kind == "chair":
        return box((0, 0, 0), (1, 2, 3 + number))
    return frustum((0, 0, 0), (0, 0, 1 + number), (1, 0.5), segments=5)


def off_text(mesh, header="OFF\n"):
    lines = [f"{header}{len(mesh.vertices)} {len(mesh.faces)} 0"]
    lines += [" ".join(repr(float(x)) for x in row) for row in mesh.vertices]
    lines += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    return "\n".join(lines) + "\n"


@pytest.fixture
def meshes(tmp_path):
    root = tmp_path / "ModelNet40"
    for kind, split, number in FILES:
        folder = root / kind / split
        folder.mkdir(parents=True, exist_ok=True)
        header = "OFF" if number == 2 else "OFF\n"  # some real files lack the line break
        (folder / f"{kind}_{number:04d}.off").write_text(off_text(mesh(kind, number), header))
    return root


@pytest.fixture
def clouds(meshes):
    """What the archive of meshes gives, by split."""
    return {split: read_modelnet(meshes, split, points=POINTS) for split in ("train", "test")}


def write_text(root, clouds):
    root.mkdir()
    for split, part in clouds.items():
        names = [f"{kind}_{number:04d}" for kind, s, number in FILES if s == split]
        (root / f"modelnet40_{split}.txt").write_text("\n".join(names) + "\n")
        for name, cloud in zip(names, part, strict=True):
            folder = root / name.rsplit("_", 1)[0]
            folder.mkdir(exist_ok=True)
            rows = torch.cat([cloud.pos, cloud.normal], 1).numpy()
            np.savetxt(folder / f"{name}.txt", rows, delimiter=",", fmt="%.9f")
    return root


def write_hdf5(root, clouds, *, without=()):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    root.mkdir()
    (root / "shape_names.txt").write_text("\n".join(MODELNET40) + "\n")
    for split, part in clouds.items():
        with h5py.File(root / f"ply_data_{split}0.h5", "w") as file:
            content = {
                "data": torch.stack([c.pos for c in part]).numpy(),
                "normal": torch.stack([c.normal for c in part]).numpy(),
                "label": np.array([[int(c.y)] for c in part], dtype=np.uint8),
            }
            for key in content.keys() - set(without):
                file[key] = content[key]
    return root


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.y, b.y)
        torch.testing.assert_close(a.pos, b.pos, atol=2e-6, rtol=0)
        torch.testing.assert_close(a.normal, b.normal, atol=2e-6, rtol=0)
        assert a.pos.abs().sum() > 1


def test_meshes_are_sampled_with_normals_and_the_split_is_that_of_the_folders(clouds):
    labels = {split: [MODELNET40[int(cloud.y)] for cloud in part] for split, part in clouds.items()}
    assert labels == {"train": ["chair", "night_stand", "xbox"], "test": ["airplane", "chair", "night_stand"]}
    for cloud in clouds["train"] + clouds["test"]:
        assert cloud.pos.shape == cloud.normal.shape == (POINTS, 3)
        torch.testing.assert_close(cloud.pos.norm(dim=1).max(), torch.tensor(1.0))
    chair = clouds["train"][0]
    assert torch.equal(chair.normal.abs().sum(1), torch.ones(POINTS))  # a box


def test_all_forms_give_the_same_clouds(meshes, clouds, tmp_path):
    text = write_text(tmp_path / "modelnet40_normal_resampled", clouds)
    for split in ("train", "test"):
        assert_same(read_modelnet(text, split, points=POINTS), clouds[split])


def test_hdf5_gives_the_same_clouds(clouds, tmp_path):
    folder = write_hdf5(tmp_path / "modelnet40_ply_hdf5_2048", clouds)
    for split in ("train", "test"):
        assert_same(read_modelnet(folder, split, points=POINTS), clouds[split])


def test_the_archive_need_not_be_unpacked(meshes, clouds, tmp_path):
    archive = tmp_path / "ModelNet40.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in meshes.rglob("*.off"):
            file.write(path, path.relative_to(tmp_path))
        file.writestr("__MACOSX/ModelNet40/chair/train/._chair_0001.off", "junk")
    assert_same(read_modelnet(archive, "train", points=POINTS), clouds["train"])
    assert_same(read_modelnet(tmp_path, "train", points=POINTS), clouds["train"])  # a folder above


def test_pygs_data_set_gives_the_same_clouds(meshes, clouds, tmp_path, monkeypatch):
    """Its own class on our files, which it finds unpacked; it numbers the classes that it finds by the alphabet."""
    from torch_geometric.datasets import ModelNet

    monkeypatch.setattr(ModelNet, "download", None)
    meshes.rename(tmp_path / "raw")
    for kind in MODELNET40:
        (tmp_path / "raw" / kind).mkdir(exist_ok=True)
    for split in ("train", "test"):
        dataset = ModelNet(str(tmp_path), name="40", train=split == "train")
        before = [data.pos.clone() for data in dataset]
        assert_same(from_modelnet(dataset, points=POINTS), clouds[split])
        assert all(torch.equal(data.pos, pos) for data, pos in zip(dataset, before, strict=True))
    sampled = [Data(pos=c.pos, normal=c.normal, y=c.y) for c in clouds["test"]]
    assert_same(from_modelnet(sampled, points=POINTS), clouds["test"])


def test_the_ten_classes_have_numbers_of_their_own(meshes):
    found = [MODELNET10[int(cloud.y)] for cloud in read_modelnet(meshes, "train", classes=10, points=POINTS)]
    assert found == ["chair", "night_stand"]
    assert set(MODELNET10) < set(MODELNET40)
    assert (len(set(MODELNET40)), sorted(MODELNET40)) == (40, list(MODELNET40))


def test_a_seed_gives_the_same_points_and_fewer_points_are_a_choice(meshes, clouds, tmp_path):
    assert_same(read_modelnet(meshes, "train", points=POINTS), clouds["train"])
    other = read_modelnet(meshes, "train", points=POINTS, seed=1)
    assert not torch.allclose(other[0].pos, clouds["train"][0].pos, atol=1e-3)
    text = write_text(tmp_path / "text", clouds)
    fewer = read_modelnet(text, "train", points=20)
    assert fewer[0].pos.shape == (20, 3)
    normals = {tuple(n) for n in clouds["train"][2].normal.round(decimals=4).tolist()}
    assert {tuple(n) for n in fewer[2].normal.round(decimals=4).tolist()} <= normals


def test_a_part_of_the_set_is_reported(meshes, caplog):
    with caplog.at_level(logging.WARNING):
        read_modelnet(meshes, "train", points=POINTS)
    assert "holds 3 of the 9843 shapes of ModelNet-40 (train)" in caplog.text
    assert OFFICIAL[40, "train"] + OFFICIAL[40, "test"] == 12311


def test_polygons_are_cut_into_triangles():
    text = "OFF # comment\n5 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n4 0 1 2 3\n3 0 1 4\n"
    assert read_off(text).faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 4]]


def test_broken_meshes_are_named():
    with pytest.raises(DataError, match="x.off is not an OFF file: it begins with 'ply'"):
        read_off("ply", "x.off")
    for text in (
        "OFF\n3 1 0\n0 0 0\n",
        "OFF\n",
        "OFF 1 -1 0 0 0 0",
        "OFF -1 1 0",
        "OFF 3 1 0 0 0 0 1 0 0 0 1 0 3 0 1\n",
        "OFF 1 1 0 0 0 0 2 0 0",
    ):
        with pytest.raises(DataError, match="x.off is a broken OFF file"):
            read_off(text, "x.off")
    with pytest.raises(DataError, match="a face names a vertex that does not exist"):
        read_off("OFF 3 1 0\n0 0 0 1 0 0 0 1 0 3 0 1 7")


def test_what_is_missing_is_said_with_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match="does not exist.*downloads nothing.*modelnet.cs.princeton.edu"):
        read_modelnet(tmp_path / "nothing", "train")
    with pytest.raises(DataError, match=r"no ModelNet-40 \(test\) at .*shapenet.cs.stanford.edu"):
        read_modelnet(tmp_path, "test")
    (tmp_path / "x.zip").write_text("no archive")
    with pytest.raises(DataError, match="not a readable zip archive"):
        read_modelnet(tmp_path / "x.zip", "test")
    for wrong in ({"classes": 11}, {"points": 0}, {"split": "valid"}):
        with pytest.raises(ValueError, match="classes must be 10 or 40, split 'train' or 'test', points at least 1"):
            read_modelnet(tmp_path, **{"split": "train", **wrong})


def test_broken_text_files_are_named(clouds, tmp_path):
    text = write_text(tmp_path / "text", clouds)
    with pytest.raises(DataError, match="holds 60 points, fewer than the 61 requested"):
        read_modelnet(text, "train", points=61)
    file = text / "chair" / "chair_0001.txt"
    file.write_text("1,2,3\n")
    with pytest.raises(DataError, match="must have six columns x,y,z,nx,ny,nz; it has 3"):
        read_modelnet(text, "train", points=1)
    file.write_text("nan,2,3,0,0,1\n")
    with pytest.raises(DataError, match="chair_0001.txt: .*numbers that are not finite"):
        read_modelnet(text, "train", points=1)
    file.write_text("1,2,x\n")
    with pytest.raises(DataError, match="cannot be read as lines of x,y,z,nx,ny,nz"):
        read_modelnet(text, "train", points=1)
    file.unlink()
    with pytest.raises(DataError, match=r"modelnet40_train.txt names .*chair_0001.txt, which does not exist"):
        read_modelnet(text, "train", points=1)


def test_hdf5_files_without_normals_are_named(clouds, tmp_path):
    with pytest.raises(DataError, match="ply_data_train0.h5 lacks normal; it holds data, label"):
        read_modelnet(write_hdf5(tmp_path / "h5", clouds, without=("normal",)), "train", points=POINTS)


def test_hdf5_labels_beyond_the_classes_are_named(clouds, tmp_path):
    folder = write_hdf5(tmp_path / "h5", clouds)
    (folder / "shape_names.txt").write_text("airplane\n")
    with pytest.raises(DataError, match="has label 8, but there are 1 classes, from 0 on"):
        read_modelnet(folder, "train", points=POINTS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("label", [[8], [23], [-1]], "has label -1, but there are 40 classes"),
        ("label", [[8], [23]], "it has 3 shapes, 3 sets of normals and 2 labels"),
        ("data", np.full((3, POINTS, 3), np.nan), "ply_data_train0.h5, shape 0: .*numbers that are not finite"),
        ("data", np.zeros((3, POINTS)), r"ply_data_train0.h5, shape 0: .* of shape \(P, 3\)"),
    ],
)
def test_hdf5_files_that_do_not_fit_are_named(clouds, tmp_path, key, value, message):
    folder = write_hdf5(tmp_path / "h5", clouds)
    with __import__("h5py").File(folder / "ply_data_train0.h5", "a") as file:
        del file[key]
        file[key] = np.array(value)
    with pytest.raises(DataError, match=message):
        read_modelnet(folder, "train", points=POINTS)


def test_a_broken_hdf5_file_is_named(tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed")
    (tmp_path / "ply_data_train0.h5").write_text("junk")
    with pytest.raises(DataError, match="ply_data_train0.h5 is not a readable hdf5 file"):
        read_modelnet(tmp_path, "train")


@pytest.mark.parametrize("corner", ["0 0 0", "nan 0 0", "1e200 0 0"])
def test_meshes_on_which_there_is_no_point_are_named(meshes, corner):
    (meshes / "chair/train/chair_0001.off").write_text(f"OFF\n3 1 0\n{corner}\n1 0 0\n2 0 0\n3 0 1 2\n")
    with pytest.raises(DataError, match="ModelNet40/chair/train/chair_0001.off: points cannot be sampled"):
        read_modelnet(meshes, "train", points=POINTS)


def test_a_damaged_archive_is_named(meshes, tmp_path):
    archive = tmp_path / "ModelNet40.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(meshes / "chair/train/chair_0001.off", "ModelNet40/chair/train/chair_0001.off")
    content = bytearray(archive.read_bytes())
    content[90] ^= 255  # in the file's text
    archive.write_bytes(content)
    with pytest.raises(
        DataError, match=r"chair_0001.off in .*ModelNet40.zip is damaged .*; download the archive again"
    ):
        read_modelnet(archive, "train", points=POINTS)


def test_hdf5_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "ply_data_train0.h5").write_text("")
    with pytest.raises(MissingDependencyError, match=r'hdf5 files needs h5py.*: pip install "ik-e3nn\[hdf5\]"'):
        read_modelnet(tmp_path, "train")


def test_objects_without_faces_or_normals_are_named():
    with pytest.raises(DataError, match="object 0: points cannot be sampled on a mesh whose area is 0"):
        from_modelnet([Data(pos=torch.zeros(3, 3), face=torch.tensor([[0], [1], [2]]), y=torch.tensor([0]))])
    with pytest.raises(DataError, match="object 0: it holds 3 points, fewer than the 5 requested"):
        from_modelnet([Data(pos=torch.zeros(3, 3), normal=torch.zeros(3, 3), y=torch.tensor([0]))], points=5)
    with pytest.raises(ValueError, match="points of a cloud must be at least 1; got 0"):
        from_modelnet([], points=0)
    with pytest.raises(DataError, match=r"object 0 needs pos, y, and face or normal; it has \['pos', 'y'\]"):
        from_modelnet([Data(pos=torch.zeros(3, 3), y=torch.tensor([0]))])
