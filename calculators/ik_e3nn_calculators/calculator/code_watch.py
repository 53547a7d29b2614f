"""Where a run takes other code over."""

import logging

from ik_e3nn_calculators.calculator.code import Code

_log = logging.getLogger(__name__)


class CodeWatch:
    """Follows which code evaluates the model of a run, and logs where it changes.

    Args:
        code: The code.

    Attributes:
        compiled_from: The step from which on machine code is used; None if the model runs eagerly.
    """

    def __init__(self, code: Code) -> None:
        self.compiled_from: int | None = None
        self._code, self._last = code, False

    def begin(self, step: int, compiled_from: int | None = None) -> None:
        """Note the code of the first evaluation.

        Args:
            step: Its step.
            compiled_from: Where a run that is continued began to use machine code.
        """
        self._last = self._code.is_compiled
        self.compiled_from = (step if compiled_from is None else compiled_from) if self._last else None

    def look(self, step: int) -> bool:
        """Whether other code was used for this step than for the one before, which is logged."""
        if self._code.is_compiled == self._last:
            return False
        self._last = not self._last
        self.compiled_from = step if self._last else None
        _log.info("step %s: %s from here on", f"{step:,}", "compiled code" if self._last else "the eager model")
        return True
