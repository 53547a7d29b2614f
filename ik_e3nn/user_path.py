"""Paths as users write them."""

import os
from pathlib import Path


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of a leading ``~`` or ``~name``.

    Args:
        path: The path as it was given.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The home folder does not exist.

    Example:
        >>> user_path("~nobody-of-this-name/a.xyz")
        Traceback (most recent call last):
        ...
        FileNotFoundError: '~nobody-of-this-name/a.xyz' begins with the home folder of an unknown user
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"{os.fspath(path)!r} begins with the home folder of an unknown user") from error


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an existing file; a SMILES string that is too long or odd for a file name is not.

    Args:
        path: The path as it was given.

    Example:
        >>> is_file("C" * 10_000)
        False
    """
    try:
        return user_path(path).is_file()
    except (OSError, ValueError, RuntimeError):
        return False
