"""Paths as users write them."""

import os
from pathlib import Path


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of a leading ``~`` or ``~name``.

    Args:
        path: As it was given.

    Returns:
        The path.

    Raises:
        FileNotFoundError: There is no such home folder.

    Example:
        >>> user_path("~nobody-of-this-name/a.xyz")
        Traceback (most recent call last):
        ...
        FileNotFoundError: '~nobody-of-this-name/a.xyz' begins with the home folder of a user who is not known here
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            f"{os.fspath(path)!r} begins with the home folder of a user who is not known here"
        ) from error


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is such a file; a long SMILES string, or one with odd letters, is no name of one.

    Args:
        path: As it was given.

    Example:
        >>> is_file("C" * 10_000)
        False
    """
    try:
        return user_path(path).is_file()
    except (OSError, ValueError, RuntimeError):
        return False
