"""Errors that users meet; each message says what was wrong, what was expected and what to do."""


class IKError(Exception):
    """Base class of every error that this library raises on purpose."""


class DataError(IKError, ValueError):
    """A structure, label or data file cannot be used as it is."""


class ModelFileError(IKError, ValueError):
    """A model file is broken, truncated, or written by a newer version."""


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
