"""Many runs at once: each waits for its predictions, and one call of the model serves all of them.

A run is ordinary code that asks a calculator for results. It has a thread of its own, but only one thread works at a
time: the group resumes each run in turn until it asks for its next predictions or ends. Nothing that runs share needs
a lock, and their order does not depend on chance.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from torch import Tensor

from ik_e3nn.graph import fields
from ik_e3nn.memory import is_out_of_memory
from ik_e3nn.threads import one_thread
from ik_e3nn_calculators.calculator.evaluator import Arrays, Evaluator, Predict
from ik_e3nn_calculators.calculator.together import batches, predict_together

_log = logging.getLogger(__name__)

FEW = 2000  # edges in a batch; 1,430 took 30 ms on two threads and 37 on one, but 1,000 ms beside another program
MOST = 256  # runs at once; each has a thread and a locked folder, and systems limit the number of open files


@dataclass(frozen=True)
class Job:
    """A run to be made.

    Args:
        name: Stands in front of all messages of the run.
        atoms: Number of atoms.
        work: Makes the run, with a function that evaluates the model.
        ended: Called with what ``work`` has returned, or with the ``Exception`` that it has raised.
    """

    name: str
    atoms: int
    work: Callable[[Predict], Any]
    ended: Callable[[Any], None]


class Group:
    """Makes runs together, as many as fit into one batch, at most 256; when one ends, the next begins.

    Args:
        evaluator: Calls the model.
        batch_atoms: Largest number of atoms in a call of the model; a larger structure has a call of its own.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn_calculators import IKCalculator
        >>> calculator, found = IKCalculator("base", device="cpu"), []
        >>> def energy(predict):
        ...     return calculator.sharing(predict).get_property("energy", molecule("H2"))
        >>> jobs = [Job(name, 2, energy, found.append) for name in ("one", "two")]
        >>> Group(calculator.whole, batch_atoms=100).run(jobs)
        >>> [round(energy) for energy in found]
        [-27, -27]
    """

    def __init__(self, evaluator: Evaluator, *, batch_atoms: int) -> None:
        self._evaluator, self._batch_atoms = evaluator, batch_atoms

    def run(self, jobs: Sequence[Job], after_call: Callable[[int, int], None] = lambda running, calls: None) -> None:
        """Make runs; if anything but an error of a run happens, such as Ctrl-C, stop all of them.

        Args:
            jobs: The runs, in the order in which they begin.
            after_call: Called after each evaluation of all unfinished runs with their number and that of evaluations.
        """
        waiting, running, calls = deque(jobs), list[_Run](), 0

        def resume(run: _Run) -> None:
            run.resume()
            if run.request is None:
                running.remove(run)
                if isinstance(run.outcome, BaseException) and not isinstance(run.outcome, Exception):
                    raise run.outcome
                run.job.ended(run.outcome)

        try:
            with _named_messages():
                while waiting or running:
                    for run in list(running):
                        resume(run)
                    while waiting and self._has_room(running, waiting[0]):
                        running.append(_Run(waiting.popleft()))
                        resume(running[-1])
                    self._answer(running)
                    calls += bool(running)
                    after_call(len(running), calls)
        finally:
            for run in running:
                run.stop()

    def _has_room(self, running: Sequence["_Run"], job: Job) -> bool:
        atoms = sum(run.job.atoms for run in running) + job.atoms
        return not running or (len(running) < MOST and atoms <= self._batch_atoms)

    def _answer(self, runs: Sequence["_Run"]) -> None:
        """Answer the requests of runs; those for the same outputs have a common call."""
        alike: dict[tuple[bool, ...], list[_Run]] = {}
        for run in runs:
            if run.request is not None:
                alike.setdefault(tuple(run.request.outputs.values()), []).append(run)
        for members in alike.values():
            for part in batches([run.job.atoms for run in members], self._batch_atoms):
                self._evaluate(members[part])

    def _evaluate(self, runs: Sequence["_Run"]) -> None:
        """Evaluate the model for runs with the same outputs; if this fails, for halves of them, down to single runs."""
        requests = [run.request for run in runs if run.request is not None]
        graphs = [one.graph for one in requests]
        few = sum(graph[fields.EDGE_INDEX].shape[1] for graph in graphs) < FEW
        try:
            with one_thread() if few else nullcontext():
                found = predict_together(self._evaluator, graphs, **requests[0].outputs)
        except Exception as error:  # noqa: BLE001  (a run reports it, and the others go on)
            if len(runs) > 1:
                half = len(runs) // 2
                if is_out_of_memory(error):
                    self._batch_atoms = max(sum(run.job.atoms for run in runs) // 2, 1)
                    _log.warning(
                        "the memory does not suffice for %d structures at once; going on with batches of %d atoms "
                        "(batch_atoms)",
                        *(len(runs), self._batch_atoms),
                    )
                self._evaluate(runs[:half])
                self._evaluate(runs[half:])
                return
            runs[0].answer = error
            return
        for run, answer in zip(runs, found, strict=True):
            run.answer = answer


@dataclass(frozen=True)
class _Request:
    """What a run needs to go on: predictions for a graph, ``outputs`` among them."""

    graph: dict[str, Tensor]
    outputs: dict[str, bool]


class _Run(threading.Thread):
    """The thread of a run.

    Attributes:
        request: What the run waits for; None if it has ended.
        answer: Predictions, or an error to raise in the run.
        outcome: What the run returned or raised.
    """

    request: _Request | None = None
    answer: Arrays | Exception | None = None
    outcome: Any = None

    def __init__(self, job: Job) -> None:
        super().__init__(name=job.name, daemon=True)
        self.job = job
        self._stopped = False
        self._turn: SimpleQueue[None] = SimpleQueue()  # of this thread
        self._back: SimpleQueue[None] = SimpleQueue()  # of the group

    def resume(self) -> None:
        """Let the run work until it asks for predictions, or ends."""
        if self.ident is None:
            self.start()
        else:
            self._turn.put(None)
        self._back.get()

    def stop(self) -> None:
        """End the run where it next asks for predictions, as an interruption would, and wait until it has ended."""
        self._stopped = True
        self._turn.put(None)
        if self.ident is not None:
            self.join()

    def run(self) -> None:
        """The work of the thread."""
        try:
            self.outcome = self.job.work(self._predict)
        except BaseException as error:  # noqa: BLE001  (the group reports it)
            self.outcome = error
        self.request = None
        self._back.put(None)

    def _predict(
        self, graph: dict[str, Tensor], *, stress: bool, atomic_stress: bool = False, std: bool = False
    ) -> Arrays:
        """Ask the group for predictions."""
        outputs = {"stress": stress, "atomic_stress": atomic_stress, "std": std}
        self.request, self.answer = _Request(graph, outputs), None
        if not self._stopped:
            self._back.put(None)
            self._turn.get()
        if self._stopped or self.answer is None:
            raise _Stop
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class _Stop(BaseException):
    """Raised in a run whose group is stopped; it is no error of the run."""


@contextmanager
def _named_messages() -> Iterator[None]:
    """Put the name of a run in front of the messages that it logs."""
    before = logging.getLogRecordFactory()

    def named(*args: Any, **options: Any) -> logging.LogRecord:
        record = before(*args, **options)
        thread = threading.current_thread()
        if isinstance(thread, _Run):
            record.msg, record.args = f"{thread.job.name}: {record.getMessage()}", ()
        return record

    logging.setLogRecordFactory(named)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)
