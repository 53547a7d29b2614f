"""Errors that users meet; each message says what was wrong, what was expected and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


class IKError(Exception):
    """Base class of every error that this library raises on purpose."""


class DataError(IKError, ValueError):
    """A structure, label or data file cannot be used as it is."""


class ModelFileError(IKError, ValueError):
    """A model file is broken, truncated, or written by a newer version."""


class MissingModelError(ModelFileError, FileNotFoundError):
    """There is no such model file."""


class MissingInputError(IKError, ValueError):
    """A model needs an input (charge, spin, bonds) that the structure does not carry."""


class UnknownSpeciesError(IKError, ValueError):
    """A structure holds a chemical element that the model was not made for."""


class ExplosionError(IKError, RuntimeError):
    """A simulation left the physical range (NaN, or unreasonably fast or hot atoms)."""


class MissingDependencyError(IKError, ImportError):
    """An optional package that is needed is not installed."""


class ConfigError(IKError, ValueError):
    """A setting is unknown, mistyped, or impossible."""


class TrainingError(IKError, RuntimeError):
    """A training run cannot continue (diverged, lost a process, or has nothing to continue from)."""


@contextmanager
def locating(place: str) -> Iterator[None]:
    """Put a place before the message of a ``DataError``, unless the message names it already.

    Example:
        >>> with locating("structure 3 of a.xyz"):
        ...     raise DataError("there are no atoms")
        Traceback (most recent call last):
        ...
        ik_e3nn.errors.DataError: structure 3 of a.xyz: there are no atoms
    """
    try:
        yield
    except DataError as error:
        message = str(error)
        raise DataError(message if place in message else f"{place}: {message}") from error
