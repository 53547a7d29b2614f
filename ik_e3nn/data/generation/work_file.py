"""The work file of a generation: one line for each result, so that a killed run loses at most one result."""

import json
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ik_e3nn.atomic import naming
from ik_e3nn.data.generation.labeling import LabelError
from ik_e3nn.errors import DataError

logger = logging.getLogger(__name__)

_FORMAT = 1


class WorkFile:
    """Results by key, appended to a file at once, and read when the run is continued.

    Args:
        path: The file, with one JSON object on each line; the first line identifies the run.
        fingerprint: Fingerprint of the run; a file of another run is refused.
        resume: Whether to continue from an existing file; otherwise a new file replaces it.

    Raises:
        DataError: The file belongs to another run, is not a work file, or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for result in (1, 2):
        ...         with WorkFile(Path(folder) / "a.partial", "run 7", resume=True) as work:
        ...             known = len(work)
        ...             work.add(f"frame {result}", {"energy": float(result)})
        ...     known, work.get("frame 1")
        (1, {'energy': 1.0})
    """

    def __init__(self, path: Path, fingerprint: str, *, resume: bool) -> None:
        self.path = path
        self._results: dict[str, dict[str, Any]] = {}
        header = {"format": _FORMAT, "run": fingerprint}
        try:
            if resume and path.exists() and path.stat().st_size > 0:
                self._load(header)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(header) + "\n")
            self._stream: IO[str] = path.open("a")
        except OSError as error:
            raise DataError(f"cannot write the work file {path}: {error.strerror}") from error

    def __enter__(self) -> "WorkFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def __len__(self) -> int:
        return len(self._results)

    def result(self, key: str, make: Callable[[], dict[str, Any]], what: str) -> dict[str, Any]:
        """The stored result of a key, or, if there is none, a new result, which is stored.

        Args:
            key: Key of the result.
            make: Makes a new result.
            what: Name of the result in messages.

        Returns:
            The result, or {"failed": reason} if a calculator failed.
        """
        if key not in self._results:
            try:
                result = make()
            except LabelError as error:
                logger.warning("%s failed: %s", what, error)
                result = {"failed": str(error)}
            self.add(key, result)
        return self._results[key]

    def get(self, key: str) -> dict[str, Any] | None:
        """Get a stored result.

        Args:
            key: Key of the result.

        Returns:
            The result, or None if there is none yet.
        """
        return self._results.get(key)

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Store a result in memory and in the file.

        Args:
            key: Key of the result.
            result: A dictionary that JSON can store.
        """
        self._results[key] = result
        line = {"key": key, "result": result}
        with naming(self.path):
            self._stream.write(json.dumps(line | {"crc": _crc(line)}) + "\n")
            self._stream.flush()

    def remove(self) -> None:
        """Close and delete the file; its results must be stored elsewhere before."""
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def _load(self, header: dict[str, Any]) -> None:
        """Read an existing file; an incomplete last line, left by a kill, is also removed from the file."""
        whole = 0
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream):
                try:
                    entry: Any = json.loads(line) if line.endswith(b"\n") else None
                except (ValueError, RecursionError):
                    entry = None
                if number == 0:
                    self._check_header(entry, header)
                elif not line.endswith(b"\n"):
                    break
                elif _is_whole(entry):
                    self._results[entry["key"]] = entry["result"]
                else:
                    logger.warning("line %d of %s is damaged; its result is made again", number + 1, self.path)
                whole += len(line)
        with self.path.open("r+b") as stream:
            stream.truncate(whole)
        logger.info("continuing from %s with %d results", self.path, len(self._results))

    def _check_header(self, entry: object, header: dict[str, Any]) -> None:
        """Raise unless the first line belongs to this run."""
        if entry != header:
            raise DataError(
                f"the work file {self.path} belongs to other settings or structures, or is damaged; "
                "use the same settings again, delete it, or set resume to false to start over"
            )


def _crc(line: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(line).encode())


def _is_whole(entry: Any) -> bool:
    """Whether a line is undamaged; lines of earlier versions have no checksum."""
    if not isinstance(entry, dict) or not {"key", "result"} <= entry.keys() <= {"key", "result", "crc"}:
        return False
    if not isinstance(entry["key"], str) or not isinstance(entry["result"], dict):
        return False
    crc = entry.pop("crc", None)
    return crc is None or crc == _crc(entry)
