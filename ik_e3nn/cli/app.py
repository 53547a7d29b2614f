"""Entry point: find the command, run it, and turn expected errors into one line.

Exit statuses are the same for all commands: 0; 1 for a relaxation that did not converge, some of many structures that
could not be computed, or a check that found structures or values that cannot be used; 2 for an error that the message
explains; 129 after SIGHUP (a terminal that was closed), 130 after Ctrl-C and 143 after SIGTERM: 128 plus the number of
the signal, as shells expect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from ik_e3nn import __version__
from ik_e3nn.cli.commands import COMMANDS, FINETUNE, TRAIN, Command, find_command
from ik_e3nn.errors import ConfigError, IKError

USAGE_ERROR, INTERRUPTED = 2, 130
LONGEST_WORD = 250  # letters of a word in a message, such as a path; the middle of longer ones is left out
PROGRAM = "ik-e3nn"
OVERVIEW = ("-h", "--help", "help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after the program's name; by default those of this process.

    Returns:
        The exit status; see the top of this module.
    """
    # Users cannot act on torch's warnings about functions that torch_geometric and e3nn decorate on import.
    warnings.filterwarnings("ignore", "`torch.jit", category=DeprecationWarning)
    warnings.filterwarnings("ignore", "`torch.jit", category=FutureWarning)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not sys.stderr.isatty():  # a log file: a line every half minute, not ten a second
        os.environ.setdefault("TQDM_MININTERVAL", "30")
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with _console(), _signals():
            return _dispatch(words)
    except KeyboardInterrupt as error:
        if debug:
            raise
        command, _ = find_command(words)
        again = command is not None and not command.continues
        _complain("interrupted; the same command starts again from the beginning" if again else "interrupted")
        return error.status if isinstance(error, _Stopped) else INTERRUPTED
    except (IKError, OSError, ValueError) as error:  # libraries report wrong input with a ValueError
        if debug:
            raise
        _complain(f"{PROGRAM}: error: {_message(error)}")
        return USAGE_ERROR
    except SystemExit as error:  # --help
        return int(error.code or 0)


class _Stopped(KeyboardInterrupt):
    """Ctrl-C or a request to stop; commands that can be continued log how before they end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, and a second signal end it at once, without a traceback.

    A signal that is ignored from the start stays ignored: SIGHUP under ``nohup``, Ctrl-C in the background of a script.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            os._exit(128 + number)
        seen = True
        raise _Stopped(number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items() if not seen else ():  # a second signal may still come
            signal.signal(number, handler)


def _dispatch(words: list[str]) -> int:
    command, rest = find_command(words)
    if command is not None:
        return _run(command, rest)
    names = [one.name for one in COMMANDS]
    groups = {name.split()[0] for name in names if " " in name}
    if not words or words[0] in OVERVIEW or (words[0] in groups and {*words[1:2]} <= {*OVERVIEW}):
        _say(sys.stdout, overview())
        return 0
    if words[0] in ("-V", "--version"):
        _say(sys.stdout, f"{PROGRAM} {__version__}")
        return 0
    near = difflib.get_close_matches(" ".join(words[:2]), names, 1) or difflib.get_close_matches(words[0], names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"commands are {', '.join(names)}."
    given = " ".join(words[: 2 if words[0] in groups else 1])
    raise ConfigError(f"unknown command {given!r}; {hint}")


def overview() -> str:
    """The help of the program itself."""
    rows = [f"  {command.name:<14} {command.summary}" for command in COMMANDS]
    examples = [f"  {PROGRAM} {command.name} {command.example}".rstrip() for command in COMMANDS]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [options]",
            "",
            "Implicit steerable kernels for interatomic potentials.",
            "",
            "commands:",
            *rows,
            "",
            "examples:",
            *examples,
            "",
            f"'{PROGRAM} COMMAND --help' lists a command's options; --debug shows where an error comes from.",
        ]
    )


def _run(command: Command, words: list[str]) -> int:
    further = f" [{command.rest.upper()} ...]" if command.rest else ""
    positional = " ".join(name.upper() for name in command.positional) + further
    usage = f"{PROGRAM} {command.name} {positional} [options]".replace("  ", " ")
    summary = f"{command.summary[0].upper()}{command.summary[1:]}."
    if command.name in (TRAIN, FINETUNE):
        from ik_e3nn.cli.train import run_training

        _show(run_training(words, base_is_given=command.name == FINETUNE, usage=usage, summary=summary))
        return 0
    from ik_e3nn.cli.options import HELP, PRINT, help_of, parse_settings
    from ik_e3nn.training.config.file import settings_text

    settings_type, function = command.load()
    if {*HELP} & {*words}:
        _show(help_of(settings_type, (*command.positional, command.rest), usage=usage, description=summary))
        return 0
    given = [word for word in words if word != PRINT]
    settings = parse_settings(settings_type, command.positional, given, rest=command.rest)
    if PRINT in words:
        _show(settings_text(settings))
        return 0
    result = function(settings)
    if command.shows_result:
        _show(result)
    return int(getattr(result, "converged", True) is False or getattr(result, "is_usable", True) is False)


def _show(result: Any) -> None:
    """Write what a command returned to the standard output."""
    if isinstance(result, str):
        _say(sys.stdout, result)
    elif hasattr(result, "text"):
        _say(sys.stdout, result.text())
    elif dataclasses.is_dataclass(result) and not isinstance(result, type):
        # A message was logged as a warning already.
        values = {
            name: value
            for name, value in dataclasses.asdict(result).items()
            if value not in (None, "") and name != "message"
        }
        width = max(len(name) for name in values)
        for name, value in values.items():
            _say(sys.stdout, f"{name:<{width}}  {format(value, '.6g') if isinstance(value, float) else value}")


def _message(error: Exception) -> str:
    text = " ".join(str(error).split("\n"))
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.strerror}: {error.filename}"
    text = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:60]}...{word[0][-20:]}", text)
    return text or type(error).__name__


def _say(stream: Any, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


def _complain(text: str) -> None:
    """Write to the standard error stream, if it is still open."""
    with contextlib.suppress(OSError):
        _say(sys.stderr, text)


class _BarHandler(logging.Handler):
    """Writes messages above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        with contextlib.suppress(OSError):  # the terminal may be closed
            tqdm.write(f"{prefix}{record.getMessage()}", file=sys.stderr)


@contextlib.contextmanager
def _console() -> Iterator[None]:
    """Show this library's messages on the standard error stream."""
    handler = _BarHandler()
    loggers = [logging.getLogger(name) for name in ("ik_e3nn", "ik_e3nn_calculators")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
