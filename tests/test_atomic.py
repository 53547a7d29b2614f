"""Files that are written at once have the user's permissions, and leave nothing behind after an error."""

import os
import stat
from pathlib import Path

import pytest

from ik_e3nn.atomic import written_at_once


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with written_at_once(tmp_path / "file") as file:
            file.write(b"abc")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_an_error_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail():
        with written_at_once(path) as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path):
    def fill():
        with written_at_once(tmp_path / "model.bin"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*model.bin'"):
        fill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_names_the_log():
    from ik_e3nn_calculators.output.csvlog import CsvLog

    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        CsvLog(Path("/dev/full")).append({"step": 1})
