"""Machine code is kept, and loaded, where nobody else can write: the rules of ``private_folder``."""

import os
import stat

import pytest

from ik_e3nn.private_folder import private_folder, why_not_private

ROOT = os.getuid() == 0
SOMEBODY = 12345


@pytest.fixture
def umask():
    """No protection by the process's own mask, as in some containers."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_all_that_is_made_has_the_mode_0700(tmp_path, umask):
    folder = private_folder(tmp_path / "a" / "b")
    assert [stat.S_IMODE(place.stat().st_mode) for place in (folder, folder.parent)] == [0o700, 0o700]
    assert private_folder(folder) == folder


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_what_others_may_write_to_is_refused(tmp_path, umask, mode):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(PermissionError, match=rf"others may write to it \(mode {mode:04o}\); .* chmod 700 {folder}"):
        private_folder(folder)


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o2750])
def test_what_others_may_only_read_is_used(tmp_path, mode):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    assert private_folder(folder) == folder


def test_a_folder_above_that_others_may_write_to_is_refused_unless_it_is_sticky(tmp_path, umask):
    above = tmp_path / "shared"
    above.mkdir(mode=0o777)
    with pytest.raises(PermissionError, match=rf"not kept below {above}, .* written by others \(mode 0777\)"):
        private_folder(above / "mine")
    assert not (above / "mine").exists()
    above.chmod(0o1777)  # as /tmp
    assert private_folder(above / "mine").is_dir()


def test_links(tmp_path, umask):
    """The folder itself must not be a link; one above it may be, and what it goes through is checked."""
    target = private_folder(tmp_path / "target")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(PermissionError, match="link for machine code is not used, because it is a link"):
        private_folder(tmp_path / "link")
    assert private_folder(tmp_path / "link" / "cache") == tmp_path / "link" / "cache"
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    (shared / "more").symlink_to(target)
    (tmp_path / "through").symlink_to("shared/more")
    with pytest.raises(PermissionError, match=f"not kept below {shared}"):
        private_folder(tmp_path / "through" / "cache")
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(PermissionError, match="too many links"):
        private_folder(tmp_path / "round" / "cache")
    (tmp_path / "nowhere").symlink_to("gone")
    with pytest.raises(PermissionError, match="is a link"):
        private_folder(tmp_path / "nowhere")


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_what_belongs_to_somebody_else_is_refused(tmp_path):
    folder = private_folder(tmp_path / "above" / "cache")
    os.chown(folder, SOMEBODY, SOMEBODY)
    with pytest.raises(PermissionError, match=rf"belongs to another user \({SOMEBODY}\); set IK_E3NN_CACHE"):
        private_folder(folder)
    os.chown(folder, os.getuid(), os.getgid())
    os.chown(folder.parent, SOMEBODY, SOMEBODY)
    with pytest.raises(PermissionError, match=rf"below {folder.parent}, because it belongs to another user"):
        private_folder(folder)


def test_the_group_of_the_user_alone_is_nobody_else(tmp_path, monkeypatch):
    """Systems with a group for each user make folders with the mode 0775."""
    above = tmp_path / "home"
    above.mkdir()
    above.chmod(0o775)
    os.chown(above, -1, os.getgid())
    monkeypatch.setattr("grp.getgrgid", lambda gid: SimpleGroup("others", []))
    with pytest.raises(PermissionError, match=r"written by others \(mode 0775\)"):
        private_folder(above / "cache")
    import pwd

    monkeypatch.setattr("grp.getgrgid", lambda gid: SimpleGroup(pwd.getpwuid(os.getuid()).pw_name, []))
    assert private_folder(above / "cache").is_dir()


class SimpleGroup:
    """An entry of the group database."""

    def __init__(self, name, members):
        self.gr_name, self.gr_mem = name, members


def test_what_is_no_folder_or_cannot_be_made(tmp_path):
    (tmp_path / "file").touch(mode=0o600)
    with pytest.raises(PermissionError, match="it is not a folder"):
        private_folder(tmp_path / "file")
    with pytest.raises(PermissionError, match=r"cannot be made \(Not a directory\); set IK_E3NN_CACHE"):
        private_folder(tmp_path / "file" / "cache")


def test_files(tmp_path):
    file = tmp_path / "a.pt2"
    file.touch(mode=0o600)
    assert why_not_private(file) is None
    file.chmod(0o664)
    assert why_not_private(file) == "others may write to it (mode 0664)"
    (tmp_path / "b.pt2").symlink_to(file)
    assert why_not_private(tmp_path / "b.pt2") == "it is a link"
