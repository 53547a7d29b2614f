"""The content of an output file when a run is continued, and a warning about missing parts."""

import logging
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """The steps in a file of frames or rows after it was cut back to a checkpoint.

    Args:
        first: Step of the first frame or row; None if there is none or its step is unknown.
        last: Step of the last frame or row; None also if it is not needed, because the file is complete.
        whole: Whether the file was at least as long as the checkpoint recorded.
    """

    first: int | None
    last: int | None
    whole: bool

    def warn_of_missing(self, path: Path, what: str, step: int) -> None:
        """Warn about missing frames or rows, if there are any.

        Every run writes both at step 0; those after the checkpoint are written again and do not count as missing.

        Args:
            path: The file.
            what: What the file holds, such as "frames".
            step: The step of the checkpoint.
        """
        gaps = [f"before step {self.first}"] if self.first is not None and self.first > 0 else []
        if not self.whole and (not path.exists() or path.stat().st_size == 0):
            gaps.append(f"up to step {step}")
        elif not self.whole and self.last is not None and self.last < step:
            gaps.append(f"after step {self.last} up to step {step}")
        if gaps:
            _log.warning(
                "%s holds no %s %s: it was shortened or removed after they were written, and they are lost",
                *(path, what, " and none ".join(gaps)),
            )
        elif not self.whole:
            _log.warning("%s is shorter than it was at step %d: some %s are missing", path, step, what)
