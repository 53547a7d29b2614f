"""The base model that comes with the package, and where models are looked for."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from ik_e3nn.errors import ModelFileError

FOLDER = Path(__file__).parent / "base"
MODEL, CARD, CARD_DATA = "model.safetensors", "README.md", "card.json"
BASE = "base"
RECIPE = "examples/08_base_model.py"


def base_model_path() -> Path:
    """The file of the base model: GFN2-xTB energies and forces of small organic molecules.

    Returns:
        The path of a model file; its card, `README.md`, is beside it.

    Raises:
        ModelFileError: This copy of the package has none.

    Example:
        >>> base_model_path().name  # doctest: +SKIP
        'model.safetensors'
    """
    path = FOLDER / MODEL
    if not path.is_file():
        raise ModelFileError(
            f"no model was given, and this copy of ik_e3nn comes without the base model ({path} is not there): name a "
            f"model file (--model, or IKCalculator('my_run/{MODEL}')), or make the base model with `python {RECIPE} "
            "--work WORK --install`"
        )
    return path


def model_path(model: str | PathLike[str] | None) -> Path:
    """The file that a setting stands for: a path, or None or "base" for the base model.

    Raises:
        ModelFileError: The base model is asked for and is not there.

    Example:
        >>> str(model_path("run/model.safetensors"))
        'run/model.safetensors'
    """
    return base_model_path() if model is None or model == BASE else Path(model).expanduser()


def model_files(models: str | Sequence[str]) -> list[Path]:
    """The files of a name, a glob, or a list of them, as `model_path` finds them.

    Example:
        >>> [path.name for path in model_files(["a.safetensors", "b.safetensors"])]
        ['a.safetensors', 'b.safetensors']
    """
    found: list[Path] = []
    for name in [models] if isinstance(models, str) else models:
        matches = sorted(glob.glob(str(Path(name).expanduser())))
        found += [Path(match) for match in matches] or [model_path(name)]
    return found
