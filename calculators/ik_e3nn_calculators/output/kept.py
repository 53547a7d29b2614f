"""What is left in a file of a run that is continued, and a word on what is missing."""

import logging
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """What a file of frames or rows holds after it was cut back to where a checkpoint left it.

    Args:
        first: Step of the first one; None if there is none, or if it is not known.
        last: Step of the last one, likewise; not looked for where nothing is missing at the end.
        whole: Whether the file reached as far as the checkpoint had seen it.
    """

    first: int | None
    last: int | None
    whole: bool

    def warn_of_missing(self, path: Path, what: str, step: int) -> None:
        """Say in one sentence which frames or rows are missing, if any are.

        Runs write both at step 0, whatever the intervals; what was written after the checkpoint is not missed.

        Args:
            path: The file.
            what: What it holds, such as "frames".
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
            _log.warning("%s is shorter than the run had left it at step %d: %s are missing in it", path, step, what)
