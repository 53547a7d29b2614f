"""What holds for the distribution as a whole: version, command, typing markers, cheap and clean imports."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ik_e3nn
import ik_e3nn.training

ROOT = Path(ik_e3nn.__file__).parents[1]
PACKAGES = ("ik_e3nn", "ik_e3nn_calculators")


def _modules_after_import(package: str) -> set[str]:
    """Names of all modules in a fresh interpreter that has imported ``package``."""
    code = f"import sys, {package}; print(*sys.modules)"
    path = os.pathsep.join([str(ROOT), str(ROOT / "calculators")])
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    return set(run.stdout.split())


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent


def test_the_distribution_has_the_version_of_the_package() -> None:
    assert importlib.metadata.version("ik-e3nn") == ik_e3nn.__version__


def test_the_command_exists() -> None:
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="ik-e3nn")
    assert callable(command.load())


def test_importing_the_root_package_imports_nothing_else_of_weight() -> None:
    modules = _modules_after_import("ik_e3nn")
    assert "ik_e3nn" in modules
    assert not modules & {"torch", "numpy", "e3nn", "ase", "lightning"}
    assert {name for name in modules if name.startswith("ik_e3nn.")} == {"ik_e3nn.lazy"}


@pytest.mark.parametrize("package", [ik_e3nn, ik_e3nn.training])
def test_every_name_that_is_listed_is_there(package: ModuleType) -> None:
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        value = getattr(package, name)
        assert name in ("__version__", getattr(value, "__name__", ""))


def test_the_root_package_offers_what_one_begins_with() -> None:
    from ik_e3nn import load_model, train

    assert train is ik_e3nn.training.train
    assert load_model is ik_e3nn.models.load_model
    assert {"SymmetryGroup", "ImplicitKernel", "PointConv", "InteratomicPotential"} < set(dir(ik_e3nn))
    assert {"MolecularPropertyModel", "finetune", "evaluate", "predict"} < set(dir(ik_e3nn))
    with pytest.raises(AttributeError, match="module 'ik_e3nn' has no attribute 'Nothing'"):
        _ = ik_e3nn.Nothing


def test_calculators_need_neither_lightning_nor_the_training_code() -> None:
    modules = _modules_after_import("ik_e3nn_calculators")
    assert "ik_e3nn_calculators" in modules
    assert not modules & {"lightning", "pytorch_lightning", "jsonargparse", "ik_e3nn.training", "ik_e3nn.cli"}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_marked_as_typed(package: str) -> None:
    assert (_folder(package) / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_there_is_no_utils_module(package: str) -> None:
    names = {path.stem.strip("_") for path in _folder(package).rglob("*") if path.is_dir() or path.suffix == ".py"}
    assert not names & {"util", "utils", "helpers", "misc"}
