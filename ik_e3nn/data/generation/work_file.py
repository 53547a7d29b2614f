"""The work file of a generation: one line a result, so that a killed run loses at most the result it was at."""

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
    """Results by key, appended to a file as they come and read back when the run is continued.

    Args:
        path: The file; one JSON object a line, the first telling what run it belongs to.
        fingerprint: What identifies the run; a file of another run is refused.
        resume: Whether to continue from an existing file; otherwise it is started anew.

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
        """The result under a key; where there is none, a new one, or the reason why it could not be made.

        Args:
            key: Its name.
            make: Makes it.
            what: What messages call it.

        Returns:
            The result, or {"failed": reason} where a calculator failed.
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
        """A result.

        Args:
            key: Its key.

        Returns:
            The result, or None if there is none yet.
        """
        return self._results.get(key)

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Keep a result, in memory and in the file.

        Args:
            key: Its key.
            result: Anything that JSON can hold.
        """
        self._results[key] = result
        line = {"key": key, "result": result}
        with naming(self.path):
            self._stream.write(json.dumps(line | {"crc": _crc(line)}) + "\n")
            self._stream.flush()

    def remove(self) -> None:
        """Close and delete the file, when its results are safe elsewhere."""
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def _load(self, header: dict[str, Any]) -> None:
        """Read an existing file; a last line that a kill cut short is dropped, from the file too."""
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
                    logger.warning("line %d of %s is damaged: that result is made again", number + 1, self.path)
                whole += len(line)
        with self.path.open("r+b") as stream:
            stream.truncate(whole)
        logger.info("continuing from %s with %d results", self.path, len(self._results))

    def _check_header(self, entry: object, header: dict[str, Any]) -> None:
        """Raise unless the first line is that of this run."""
        if entry != header:
            raise DataError(
                f"the work file {self.path} belongs to other settings or structures, or is damaged; "
                "use the settings it was made with, delete it, or set resume to false to start over"
            )


def _crc(line: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(line).encode())


def _is_whole(entry: Any) -> bool:
    """Whether a line is as it was written; those of earlier versions have no checksum."""
    if not isinstance(entry, dict) or not {"key", "result"} <= entry.keys() <= {"key", "result", "crc"}:
        return False
    if not isinstance(entry["key"], str) or not isinstance(entry["result"], dict):
        return False
    crc = entry.pop("crc", None)
    return crc is None or crc == _crc(entry)
