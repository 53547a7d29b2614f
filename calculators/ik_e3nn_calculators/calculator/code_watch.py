"""Where a run takes other code over."""

import logging

from ik_e3nn_calculators.calculator.code import Code

_log = logging.getLogger(__name__)

_NAMES = {True: "machine code", False: "the eager model"}


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

    def begin(self, step: int) -> None:
        """Note the code of the first evaluation.

        Args:
            step: Its step.
        """
        self._last = self._code.is_compiled
        self.compiled_from = step if self._last else None

    def resume(self, step: int, compiled_from: int | None) -> None:
        """Note the code of the first evaluation of a run that is continued, and warn if it is not that of before.

        Args:
            step: Its step.
            compiled_from: The step from which on the run used machine code; None if it used none.
        """
        self.begin(step)
        before = compiled_from is not None
        if before and self._last:
            self.compiled_from = compiled_from
        elif before != self._last and self._code.models:  # not another calculator
            _log.warning(
                "the run used %s until its last checkpoint, and goes on with %s: from here it is the same to rounding, "
                "but not to the last bit",
                *(_NAMES[before], _NAMES[self._last]),
            )

    def look(self, step: int) -> bool:
        """Whether other code was used for this step than for the one before, which is logged."""
        if self._code.is_compiled == self._last:
            return False
        self._last = not self._last
        self.compiled_from = step if self._last else None
        _log.info("step %s: %s from here on", f"{step:,}", "compiled code" if self._last else "the eager model")
        return True
