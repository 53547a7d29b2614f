import os
import signal
import subprocess
import sys

import pytest

from ik_e3nn.atomic import remove_unfinished, written_at_once
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.locking import locked_file, locked_folder
from ik_e3nn.training.run.run_folder import locked

HOLD = """
import sys, time
from ik_e3nn.locking import locked_folder
with locked_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_user_of_a_folder_is_refused_and_told_what_to_do(tmp_path):
    with locked_folder(tmp_path) as folder:
        message = r"another process is writing to the output folder .*; wait until it has finished, or choose another"
        with pytest.raises(DataError, match=message), locked_folder(folder):
            pass
        with pytest.raises(ConfigError, match="run.output: another process is writing to the folder"), locked(folder):
            pass
    with locked_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_another_process_and_ends_with_it_even_when_it_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="another process"), locked_folder(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    with locked_folder(tmp_path):
        pass


def test_files_are_locked_one_by_one(tmp_path):
    with (
        locked_file(tmp_path / "a.xyz"),
        locked_file(tmp_path / "b.xyz"),
        pytest.raises(DataError, match=r"another process is writing to .*a.xyz"),
        locked_file(tmp_path / "a.xyz"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_that_stay_empty_are_not_left_behind(tmp_path):
    with pytest.raises(RuntimeError), locked_folder(tmp_path / "new" / "run"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with locked_folder(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()
    with locked_folder(tmp_path / "run") as folder:
        (folder / "log.csv").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.csv"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    message = "cannot write to the output folder .*Not a directory"
    with pytest.raises(DataError, match=message), locked_folder(tmp_path / "file" / "run"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    message = "cannot write to the output folder .*Permission denied"
    with pytest.raises(DataError, match=message), locked_folder(tmp_path):
        pass


def test_file_systems_without_locks_are_used_with_a_warning(tmp_path, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("ik_e3nn.locking.FileLock.acquire", fail)
    with locked_folder(tmp_path) as folder:
        (folder / "a").touch()
    assert "cannot be locked ([Errno 37] No locks available)" in caplog.text


def test_what_a_kill_left_half_written_is_removed_by_the_next_user(tmp_path):
    with written_at_once(tmp_path / "a.bin") as file:
        half = file.name
    (tmp_path / "a.bin").rename(half)
    (tmp_path / ".hidden").touch()
    with locked_folder(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".hidden", ".lock"}
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden"}


def test_names_of_half_written_files_do_not_collide(tmp_path):
    with written_at_once(tmp_path / "a.bin") as one, written_at_once(tmp_path / "a.bin") as other:
        one.write(b"one")
        other.write(b"other")
        assert one.name != other.name
    assert (tmp_path / "a.bin").read_bytes() == b"one"
