"""Which code evaluates a model: the eager model, or machine code that is compiled at once or beside a run."""

import logging
import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.models import CompileWarning, InteratomicPotential, Potential, compile_layers, compile_potential
from ik_e3nn.models.compiled.beside import Compilation, missing_compiler
from ik_e3nn.models.compiled.potential import load_compiled

_log = logging.getLogger(__name__)

Compile = bool | Literal["auto"]

COMPILING = 90.0  # s for a package, measured: 70 to 90 s of a core
LOADING = 100  # evaluations of a small molecule that take as much longer without machine code as loading it takes
WAITING = 20.0  # s of eager evaluations before a run of unknown length is taken for a long one
_SURE = 1.0  # s of evaluations, after which their time is known
_OTHER = (
    "the run used %s until its last checkpoint, and goes on with %s: from here it is the same to rounding, but not to "
    "the last bit"
)


class Code:
    """The eager model, which is never compiled.

    Args:
        models: The potentials that are evaluated, one or the members of a committee.
    """

    _tiled = False

    def __init__(self, models: Sequence[Any]) -> None:
        self.models = list(models)

    @property
    def is_compiled(self) -> bool:
        """Whether the last evaluation used machine code."""
        place = "compiled_layers" if self._tiled else "compiled"
        return bool(self.models) and all(getattr(model, place, None) is not None for model in self.models)

    @property
    def is_compiling(self) -> bool:
        """Whether the model is being compiled beside the evaluations."""
        return False

    def prepare(self, *, small: bool, tiled: bool = False) -> None:
        """Choose the code for the next evaluation.

        Args:
            small: Whether the system is small, so that torch has one thread now.
            tiled: Whether the system is so large that the model evaluates it in tiles, with other code.
        """
        self._tiled = tiled

    def took(self, seconds: float) -> None:
        """Report the time of an evaluation."""

    def expect(self, evaluations: int, *, sure: bool = True) -> None:
        """Report how many evaluations a run will need.

        Args:
            evaluations: The number.
            sure: Whether it is the number; otherwise there are at most so many, and perhaps far fewer.
        """

    def resume(self, *, compiled: bool) -> None:
        """Continue an earlier run with the code that it used.

        Args:
            compiled: Whether it used machine code.
        """
        if compiled and self.models:
            _log.warning(_OTHER, "machine code", "the eager model")

    def stop(self) -> None:
        """End a compilation that is not finished."""


class AtOnce(Code):
    """Machine code that is compiled at the first structure.

    It is compiled for the number of threads that the first structure gets, and again when a small system has grown.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        super().__init__(models)
        self._small: bool | None = None
        self._has_layers = False

    def prepare(self, *, small: bool, tiled: bool = False) -> None:
        """See ``Code.prepare``."""
        self._tiled = tiled
        if tiled:
            if not self._has_layers:
                self._has_layers = True
                for model in self.models:
                    compile_layers(model)
        elif self._small is None or (self._small and not small):
            self._small = small
            for model in self.models:
                compile_potential(model)

    def resume(self, *, compiled: bool) -> None:
        """See ``Code.resume``."""
        if not compiled:
            _log.warning(_OTHER, "the eager model", "machine code")


class Beside(Code):
    """Machine code that is compiled beside a run of the eager model if this pays, and used from then on.

    Code in the cache is used from the first structure on, if the run has a hundred evaluations or more. Otherwise a
    process compiles when the eager evaluations that are left take longer than compiling. If the length of the run is
    not known, it begins when the run has taken 20 s.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        super().__init__(models)
        self._small: bool | None = None
        self._left, self._sure = math.inf, False
        self._evaluations, self._seconds = -1, 0.0  # the first evaluation takes longer and does not count
        self._must: bool | None = None  # whether the code must be machine code, or eager at first; None for any
        self._compilation: Compilation | None = None
        self._is_hopeless = False
        self._packages = len({str(getattr(model, "config", "")) for model in self.models})

    @property
    def is_compiling(self) -> bool:
        """See ``Code.is_compiling``."""
        return self._compilation is not None

    def prepare(self, *, small: bool, tiled: bool = False) -> None:
        """See ``Code.prepare``; systems in tiles stay eager."""
        self._tiled = tiled
        if tiled:
            self._left -= 1
            return
        fits = self._small is not None and (small or not self._small)
        if not fits:
            self._small = small
            self._begin()
        elif self._must:
            self._compile_now()
        if not (self.is_compiled or self._is_hopeless):
            self._go_on()
        self._left -= 1

    def took(self, seconds: float) -> None:
        """See ``Code.took``."""
        self._evaluations += 1
        if self._evaluations:
            self._seconds += seconds

    def expect(self, evaluations: int, *, sure: bool = True) -> None:
        """See ``Code.expect``."""
        self._left, self._sure = evaluations, sure

    def resume(self, *, compiled: bool) -> None:
        """See ``Code.resume``."""
        self._must = compiled or bool(self._must)  # of several runs that continue together, one suffices

    def stop(self) -> None:
        """See ``Code.stop``."""
        if self._compilation is not None:
            self._compilation.stop()
            self._compilation = None

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and other processes, which do not share the compilation."""
        return {**self.__dict__, "_compilation": None}

    def _begin(self) -> None:
        """Begin with a system, or go on with one that is not small any more, for which the code is another."""
        self.stop()
        for model in self.models:
            model.compiled = None
        if self._must:
            self._compile_now()
        elif self._must is None and self._left >= LOADING:
            self._load()

    def _compile_now(self) -> None:
        """Load or compile in the foreground, because a run goes on that used machine code."""
        self._must = None
        self.stop()
        if self.is_compiled:
            return
        if not all(compile_potential(model) for model in self.models):
            for model in self.models:
                model.compiled = None
            self._is_hopeless = True
            _log.warning(_OTHER, "machine code", "the eager model")

    def _load(self) -> None:
        """Use the packages in the cache if all are there."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CompileWarning)
            loaded = [load_compiled(model) for model in self.models]
        if not all(loaded):
            for model in self.models:
                model.compiled = None
        for warning in caught:
            _log.info("%s", warning.message)

    def _go_on(self) -> None:
        """Start a compilation if it pays, or use its result."""
        if self._compilation is None:
            if self._pays():
                self._load()
                if not self.is_compiled:
                    self._start()
        elif not self._compilation.is_running:
            failure = self._compilation.failure
            self.stop()
            if failure:
                _log.info("the model could not be compiled beside the run, which goes on eagerly (%s)", failure)
            else:
                self._load()
            self._is_hopeless = not self.is_compiled

    def _pays(self) -> bool:
        """Whether the evaluations that are left take longer, without machine code, than compiling."""
        if self._seconds < (_SURE if self._sure else WAITING):
            return False
        return self._left * self._seconds / self._evaluations > COMPILING * self._packages

    def _start(self) -> None:
        """Start to compile, if there is a compiler."""
        missing = missing_compiler()
        if missing:
            self._is_hopeless = True
            _log.info("there is no C++ compiler (%s), with which the model would run faster", missing)
            return
        try:
            self._compilation = Compilation(self.models)
        except OSError as error:
            self._is_hopeless = True
            _log.info("the model is not compiled beside the run (%s)", error)
            return
        _log.info("compiling the model beside the run, which takes a minute or two, once for models of its size")


def check_compile(compile: object) -> None:  # noqa: A002  (torch's word for it)
    """Refuse anything but True, False and "auto".

    Raises:
        ConfigError: It is something else; the message gives its value.

    Example:
        >>> check_compile("yes")
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.ConfigError: compile must be True, False or 'auto', got 'yes'
    """
    if not (isinstance(compile, bool | np.bool_) or _is_auto(compile)):
        raise ConfigError(f"compile must be True, False or 'auto', got {compile!r}")


def code_for(model: Potential, compile: Compile) -> Code:  # noqa: A002
    """The code of a potential, for an argument ``compile``: True, False or "auto".

    Raises:
        ConfigError: The argument is something else.
        DataError: The potential is to be compiled, but is of a kind that cannot be compiled.
    """
    check_compile(compile)
    models = list(getattr(model, "members", [model]))
    if _is_auto(compile):
        return (Beside if all(type(one) is InteratomicPotential for one in models) else Code)(models)
    if compile and not all(hasattr(one, "compiled") for one in models):
        raise DataError(f"only an InteratomicPotential can be compiled, got {type(model).__name__}")
    return (AtOnce if compile else Code)(models)


def _is_auto(compile: object) -> bool:  # noqa: A002
    return isinstance(compile, str) and compile == "auto"
