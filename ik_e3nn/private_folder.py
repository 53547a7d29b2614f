"""Folders that only their owner can write to, for machine code, because it is run when it is loaded."""

import getpass
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_log = logging.getLogger(__name__)

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # the limit of Linux


def cache_folder(cache: str | Path | None = None) -> Path:
    """The folder of machine code: the given one, ``$IK_E3NN_CACHE``, or the user's cache folder; it may not exist."""
    chosen = cache or os.environ.get("IK_E3NN_CACHE")
    return Path(chosen or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "ik_e3nn"))


def keep_compiler_private() -> None:
    """Make torch's compiler store its files in a folder that only this user can write to; its default is in /tmp."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container that has no name for its user
        user = f"uid_{os.getuid()}"
    default = Path(tempfile.gettempdir()) / f"torchinductor_{user}"  # the default of torch
    try:
        folder = private_folder(Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default))
    except PermissionError as error:
        folder = private_folder(cache_folder() / "torchinductor")
        _log.warning("%s; torch's compiler uses %s instead", error, folder)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)  # torch sets this variable as well


def private_folder(path: Path) -> Path:
    """A folder that only this user can write to; it is made, with the mode 0700, if it does not exist.

    Args:
        path: The folder.

    Returns:
        Its absolute path.

    Raises:
        PermissionError: Another user could change its contents: the folder or one above it belongs to another user or
            may be written by others, or the folder is a link.
    """
    path = Path(os.path.abspath(path.expanduser()))
    if not hasattr(os, "getuid"):  # Windows: folders of a user are private by default
        path.mkdir(parents=True, exist_ok=True)
        return path
    for place in _way_to(path.parent):
        _check_above(place)
    try:
        for place in (*reversed(path.parents), path):
            if not os.path.lexists(place):
                place.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise PermissionError(
            f"the folder {place} for machine code cannot be made ({error.strerror}); set IK_E3NN_CACHE to a folder "
            "that is yours alone"
        ) from error
    reason = why_not_private(path)
    if reason is None and not path.is_dir():
        reason = "it is not a folder"
    if reason is not None:
        raise PermissionError(f"the folder {path} for machine code is not used, because {reason}{_advice(path)}")
    return path


def is_trusted(path: Path, *, level: int = logging.WARNING) -> bool:
    """Whether a file exists that only this user can have written; others are removed, with a message of a level."""
    if not os.path.lexists(path):
        return False
    reason = why_not_private(path)
    if reason is not None:
        _log.log(level, "the machine code in %s is removed, because %s", path, reason)
        path.unlink()
    return reason is None


def why_not_private(path: Path) -> str | None:
    """Why another user could have written a file or folder; None if only this user can."""
    if not hasattr(os, "getuid"):
        return None
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return "it is a link"
    if status.st_uid != os.getuid():
        return f"it belongs to another user ({status.st_uid})"
    if status.st_mode & _OTHERS:
        return f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _advice(path: Path) -> str:
    own = path.lstat().st_uid == os.getuid() and path.is_dir() and not path.is_symlink()
    tighten = f"empty it and run chmod 700 {path}, or " if own else ""
    return f"; {tighten}set IK_E3NN_CACHE to a folder that is yours alone"


def _check_above(place: Path) -> None:
    """Refuse a parent folder in which another user could replace a folder; sticky folders like /tmp are accepted."""
    status = place.lstat()
    link = stat.S_ISLNK(status.st_mode)
    owners = {os.getuid(), 0, os.lstat("/").st_uid}  # in some containers the system's user has another id
    if status.st_uid not in owners:
        reason = f"belongs to another user ({status.st_uid})"
    elif not link and _others_can_replace(status):
        reason = f"may be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    else:
        return
    own = status.st_uid == os.getuid() and not link
    advice = f"run chmod go-w {place}, or " if own else ""
    raise PermissionError(
        f"machine code is not kept below {place}, because it {reason}; {advice}set IK_E3NN_CACHE to a folder that is "
        "yours alone"
    )


def _others_can_replace(status: os.stat_result) -> bool:
    mode = status.st_mode
    if mode & stat.S_ISVTX:
        return False
    return bool(mode & stat.S_IWOTH) or (bool(mode & stat.S_IWGRP) and not _is_own_group(status.st_gid))


def _is_own_group(group: int) -> bool:
    """Whether a group has only this user, like the private group that most systems make for every user."""
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == user.pw_name and set(entry.gr_mem) <= {user.pw_name}


def _way_to(path: Path) -> Iterator[Path]:
    """All existing folders and links along a path."""
    here, rest, links = Path(path.anchor), list(path.parts[1:]), 0
    yield here
    while rest:
        part = rest.pop(0)
        here = here.parent if part == ".." else here / part
        if not os.path.lexists(here):
            return
        yield here
        if here.is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise PermissionError(f"{path} goes through too many links")
            target = Path(os.readlink(here))
            rest = [*target.parts[target.is_absolute() :], *rest]
            here = Path(target.anchor) if target.is_absolute() else here.parent
