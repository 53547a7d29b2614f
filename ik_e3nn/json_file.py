"""JSON files of runs: written atomically, and checked for damage when they are read."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import DataError


def read_json(path: Path, *names: str) -> dict[str, Any]:
    """Read the object in a JSON file.

    Args:
        path: The file.
        names: Names that the object must have.

    Returns:
        Its content.

    Raises:
        DataError: The file cannot be read, holds no object, or lacks a name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.json").write_text("[1")
        ...     read_json(Path(folder) / "a.json")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.DataError: .../a.json is damaged (Expecting ...)...
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}): restore a copy, or start the run anew") from error
    missing = [name for name in names if not isinstance(content, dict) or name not in content]
    if missing or not isinstance(content, dict):
        what = f"it has no {missing[0]!r}" if missing else "it holds no JSON object"
        raise DataError(f"{path} is damaged ({what}): restore a copy, or start the run anew")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write an object as JSON, atomically.

    Args:
        path: The file.
        content: A mapping, or a dataclass.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder) / "a.json", {"steps": 3})
        ...     read_json(Path(folder) / "a.json")
        {'steps': 3}
    """
    values = content if isinstance(content, Mapping) else asdict(content)
    with written_at_once(path) as file:
        file.write((json.dumps(values, indent=2) + "\n").encode())
