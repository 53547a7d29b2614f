"""Which code evaluates a model: the eager model, or machine code that is compiled at once or beside a run."""

import logging
import math
import warnings
from collections.abc import Sequence
from typing import Any

from ik_e3nn.models import CompileWarning, InteratomicPotential, compile_layers, compile_potential
from ik_e3nn.models.compiled.beside import Compilation, missing_compiler
from ik_e3nn.models.compiled.package import for_one_thread
from ik_e3nn.models.compiled.potential import load_compiled

_log = logging.getLogger(__name__)

COMPILING = 90.0  # s for a package, measured: 70 to 90 s of a core
LOADING = 100  # evaluations of a small molecule that take as much longer without machine code as loading it takes
WAITING = 20.0  # s of eager evaluations before a run of unknown length is taken for a long one
_SURE = 1.0  # s of evaluations, after which their time is known


class Code:
    """The eager model, which is never compiled.

    Args:
        models: The potentials that are evaluated, one or the members of a committee.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        self.models = list(models)
        self._was_used, self._tiled = False, False

    @property
    def is_compiled(self) -> bool:
        """Whether the last evaluation used machine code."""
        return self._was_used

    @property
    def is_compiling(self) -> bool:
        """Whether the model is being compiled beside the evaluations."""
        return False

    def prepare(self, *, tiled: bool = False) -> None:
        """Choose the code for the next evaluation, with as many threads as torch has now.

        Args:
            tiled: Whether the model evaluates the structure in tiles, for which the machine code is another.
        """
        self._tiled = tiled
        if tiled:
            self._choose_for_tiles()
        else:
            self._choose()
        self._was_used = self._is_there

    @property
    def _is_there(self) -> bool:
        """Whether all models have machine code for what is evaluated."""
        place = "compiled_layers" if self._tiled else "compiled"
        return bool(self.models) and all(getattr(model, place, None) is not None for model in self.models)

    def _choose(self) -> None:
        """Choose the code for an evaluation without tiles."""

    def _choose_for_tiles(self) -> None:
        """Choose the code for an evaluation in tiles."""

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

    def stop(self) -> None:
        """End a compilation that is not finished."""


class AtOnce(Code):
    """Machine code that is compiled at the first structure.

    It is compiled for the number of threads that the first structure gets, and again if there are more later.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        super().__init__(models)
        self._threads, self._threads_of_tiles = _Threads(), _Threads()

    def _choose(self) -> None:
        if self._threads.need_other(self.models):
            for model in self.models:
                compile_potential(model)

    def _choose_for_tiles(self) -> None:
        if self._threads_of_tiles.need_other(self.models):
            for model in self.models:
                compile_layers(model)

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and other processes, whose models are eager and are compiled anew."""
        return {**self.__dict__, "_threads": _Threads(), "_threads_of_tiles": _Threads()}


class Beside(Code):
    """Machine code that is compiled beside a run of the eager model if this pays, and used from then on.

    Code in the cache is used from the first structure on, if the run is known to have a hundred evaluations or more,
    otherwise after a second. If there is none, a process compiles when the eager evaluations that are left take longer
    than compiling; if the length of the run is not known, it begins when the run has taken 20 s. Large systems, which
    are evaluated in tiles, stay eager.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        super().__init__(models)
        self._threads = _Threads()
        self._left, self._sure = math.inf, False
        self._evaluations, self._seconds = -1, 0.0  # the first evaluation takes longer and does not count
        self._must: bool | None = None  # whether the code must be machine code, or eager at first; None for any
        self._compilation: Compilation | None = None
        self._is_hopeless = False
        self._may_load = False  # whether code in the cache is used, even if compiling does not pay
        self._packages = len({str(getattr(model, "config", "")) for model in self.models})

    @property
    def is_compiling(self) -> bool:
        """See ``Code.is_compiling``."""
        return self._compilation is not None

    def prepare(self, *, tiled: bool = False) -> None:
        """See ``Code.prepare``."""
        super().prepare(tiled=tiled)
        self._left -= 1

    def _choose(self) -> None:
        if self._threads.need_other(self.models):
            self._begin()
        elif self._must:
            self._compile_now()
        if not (self._is_there or self._is_hopeless):
            self._go_on()

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
        """Begin, or go on with more threads, for which the code is another."""
        self.stop()
        for model in self.models:
            model.compiled = None
        if self._must:
            self._compile_now()
        else:
            self._may_load = self._must is None
            if self._sure and self._left >= LOADING:
                self._look()

    def _compile_now(self) -> None:
        """Load or compile in the foreground, because a run goes on that used machine code."""
        self._must = None
        self.stop()
        if self._is_there:
            return
        if not all(compile_potential(model) for model in self.models):
            for model in self.models:
                model.compiled = None
            self._is_hopeless = True

    def _look(self) -> None:
        """Look once whether there is code in the cache."""
        if self._may_load:
            self._may_load = False
            self._load()

    def _load(self) -> None:
        """Use the packages in the cache if all are there."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CompileWarning)
            try:
                loaded = [load_compiled(model) for model in self.models]
            except (OSError, RuntimeError) as error:  # the folder cannot be read, or there is no home
                self._give_up(error)
                loaded = [False]
        if not all(loaded):
            for model in self.models:
                model.compiled = None
        for warning in caught:
            _log.info("%s", warning.message)

    def _go_on(self) -> None:
        """Start a compilation if it pays, or use its result."""
        if self._compilation is None:
            if self._takes(COMPILING * self._packages, after=_SURE if self._sure else WAITING):
                self._load()
                if not (self._is_there or self._is_hopeless):
                    self._start()
            elif self._takes(_SURE, after=_SURE):
                self._look()
        elif not self._compilation.is_running:
            failure = self._compilation.failure
            self.stop()
            if failure:
                _log.info("the model could not be compiled beside the run, which goes on eagerly (%s)", failure)
            else:
                self._load()
            self._is_hopeless = not self._is_there

    def _takes(self, seconds: float, *, after: float) -> bool:
        """Whether the evaluations that are left take longer without machine code, as is known after some seconds."""
        return self._seconds >= after and self._left * self._seconds / self._evaluations > seconds

    def _start(self) -> None:
        """Start to compile, if there is a compiler."""
        missing = missing_compiler()
        if missing:
            self._is_hopeless = True
            _log.info("there is no C++ compiler (%s), with which the model would run faster", missing)
            return
        try:
            self._compilation = Compilation(self.models)
        except (OSError, RuntimeError) as error:
            self._give_up(error)
            return
        _log.info("compiling the model beside the run, which takes a minute or two, once for models of its size")

    def _give_up(self, error: Exception) -> None:
        """Stay with the eager model."""
        self._is_hopeless = True
        _log.info("the model is not compiled beside the run (%s)", error)


class Shared(Code):
    """The code of one of many runs that share a model: it is chosen for all of them, not by the length of one.

    Args:
        code: The code of the model.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code.models)
        self._code = code

    @property
    def is_compiled(self) -> bool:
        """See ``Code.is_compiled``."""
        return self._code.is_compiled

    @property
    def is_compiling(self) -> bool:
        """See ``Code.is_compiling``."""
        return self._code.is_compiling

    def resume(self, *, compiled: bool) -> None:
        """See ``Code.resume``."""
        self._code.resume(compiled=compiled)


class _Threads:
    """The threads that the machine code of models is for."""

    def __init__(self) -> None:
        self._one: bool | None = None  # None before there is any

    def need_other(self, models: Sequence[InteratomicPotential]) -> bool:
        """Whether other code is needed now; code for any number of threads does for one thread, too."""
        one = all(for_one_thread(model) for model in models)
        other = self._one is None or (self._one and not one)
        if other:
            self._one = one
        return other
