"""The argument ``compile``: True, False or "auto"."""

from typing import Literal

import numpy as np

from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.models import InteratomicPotential, Potential
from ik_e3nn_calculators.calculator.code import AtOnce, Beside, Code

Compile = bool | Literal["auto"]


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
