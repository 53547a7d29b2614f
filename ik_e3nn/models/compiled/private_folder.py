"""Folders that nobody but their owner can write to: machine code that is kept on disk runs when it is loaded."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # as many as Linux follows


def private_folder(path: Path) -> Path:
    """A folder of this user alone; it is made, with the mode 0700, if it is not there.

    Args:
        path: The folder.

    Returns:
        Its absolute path.

    Raises:
        PermissionError: Somebody else could change what is in it: the folder or one above it belongs to another user or
            may be written by others, or the folder is a link.
    """
    path = Path(os.path.abspath(path.expanduser()))
    if not hasattr(os, "getuid"):  # Windows: the user's folders are the user's own
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


def why_not_private(path: Path) -> str | None:
    """Why a file or a folder could be somebody else's work; None if only this user can have written it."""
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
    tighten = f"empty it and say chmod 700 {path}, or " if own else ""
    return f"; {tighten}set IK_E3NN_CACHE to a folder that is yours alone"


def _check_above(place: Path) -> None:
    """Whoever can write to a folder can put another in the place of one within it, unless it is sticky as /tmp is."""
    status = place.lstat()
    link = stat.S_ISLNK(status.st_mode)
    owners = {os.getuid(), 0, os.lstat("/").st_uid}  # in some containers the system's user has another number
    if status.st_uid not in owners:
        reason = f"belongs to another user ({status.st_uid})"
    elif not link and _others_can_replace(status):
        reason = f"may be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    else:
        return
    own = status.st_uid == os.getuid() and not link
    advice = f"say chmod go-w {place}, or " if own else ""
    raise PermissionError(
        f"machine code is not kept below {place}, because that {reason}; {advice}set IK_E3NN_CACHE to a folder that is "
        "yours alone"
    )


def _others_can_replace(status: os.stat_result) -> bool:
    mode = status.st_mode
    if mode & stat.S_ISVTX:
        return False
    return bool(mode & stat.S_IWOTH) or (bool(mode & stat.S_IWGRP) and not _is_own_group(status.st_gid))


def _is_own_group(group: int) -> bool:
    """Whether a group is that of this user alone, as most systems make one for every user."""
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == user.pw_name and set(entry.gr_mem) <= {user.pw_name}


def _way_to(path: Path) -> Iterator[Path]:
    """All folders and links that a path goes through, as far as they exist."""
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
