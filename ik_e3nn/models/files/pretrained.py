"""The base models of the package, and the paths of model files."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from ik_e3nn.errors import ModelFileError
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn.user_path import is_file, user_path

FOLDER = Path(__file__).parents[1] / "base"
MODEL, CARD, CARD_DATA = "model.safetensors", "README.md", "card.json"
PROPERTIES, PROPERTIES_CARD = "properties.safetensors", "PROPERTIES.md"
BASE, BASE_PROPERTIES = "base", "base-properties"
BASE_METHOD = "GFN2-xTB"  # level of theory of the training data of both
RECIPE, PROPERTIES_RECIPE = "examples/08_base_model.py", "examples/10_property_base.py"


DOMAINS = {MODEL: Domain(max_atoms=20), PROPERTIES: Domain(max_atoms=22)}  # molecules one by one: see their cards


def packaged_domain(path: Path) -> Domain | None:
    """The domain of a model that comes with the package; None for other files.

    Example:
        >>> packaged_domain(Path("run/model.safetensors")) is None
        True
    """
    for name, domain in DOMAINS.items():
        ours = FOLDER / name
        if path.is_file() and ours.is_file() and path.samefile(ours):
            return domain
    return None


def base_model_path() -> Path:
    """The file of the base model: GFN2-xTB energies and forces of small organic molecules.

    Returns:
        The path of a model file; its card, ``README.md``, is beside it.

    Raises:
        ModelFileError: This copy of the package has no base model.

    Example:
        >>> base_model_path().name  # doctest: +SKIP
        'model.safetensors'
    """
    path = FOLDER / MODEL
    if not path.is_file():
        raise ModelFileError(
            f"this copy of ik_e3nn comes without the base model ({path} is missing): give a model file (--model, or "
            f"IKCalculator('my_run/{MODEL}')), or make the base model with `python {RECIPE} --work WORK --install`"
        )
    return path


def model_path(model: str | PathLike[str]) -> Path:
    """The model file of a setting: a path, or a model that comes with the package.

    Args:
        model: A path; "base" for the base model; "base-properties" for the base model of properties, GFN2-xTB orbital
            energies, dipole moments and atomization energies, whose card is ``PROPERTIES.md``.

    Raises:
        ModelFileError: The model of the package is missing.

    Example:
        >>> str(model_path("run/model.safetensors"))
        'run/model.safetensors'
    """
    if model != BASE_PROPERTIES:
        return base_model_path() if model == BASE else user_path(model)
    path = FOLDER / PROPERTIES
    if not path.is_file():
        raise ModelFileError(
            f"this copy of ik_e3nn comes without the base model of properties ({path} is missing); make it with "
            f"`python {PROPERTIES_RECIPE} --work WORK --install`"
        )
    return path


def hint_for(path: Path) -> str:
    """What a user may have meant with a path that is no file, as the end of a message; "" if nothing is near.

    Example:
        >>> hint_for(Path("Base")), hint_for(Path("run/other.safetensors"))
        ("; did you mean 'base'?", '')
    """
    if is_file(path / MODEL):
        return f", which is a folder; did you mean {str(path / MODEL)!r}?"
    if os.path.isdir(path):
        return ", which is a folder; give the model file"
    near = difflib.get_close_matches(str(path).lower().replace("_", "-"), (BASE, BASE_PROPERTIES), 1, cutoff=0.8)
    return f"; did you mean {near[0]!r}?" if near else ""


def model_files(models: str | Sequence[str]) -> list[Path]:
    """The model files of a name, a glob pattern, or a list of these; names are resolved by ``model_path``.

    Example:
        >>> [path.name for path in model_files(["a.safetensors", "b.safetensors"])]
        ['a.safetensors', 'b.safetensors']
    """
    found: list[Path] = []
    for name in [models] if isinstance(models, str) else models:
        matches = sorted(glob.glob(str(user_path(name))))
        found += [Path(match) for match in matches] or [model_path(name)]
    return found
