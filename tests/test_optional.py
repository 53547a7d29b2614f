"""What works without the optional packages, and what the error says where one is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import molecule

import ik_e3nn
from ik_e3nn.errors import MissingDependencyError
from ik_e3nn.optional import OptionalModule, needed
from ik_e3nn_calculators import IKCalculator

ROOT = Path(ik_e3nn.__file__).parents[1]
OPTIONAL = (
    "h5py",
    "ipi",
    "lightning",
    "openmm",
    "pytorch_lightning",
    "rdkit",
    "spglib",
    "tblite",
    "tensorboard",
    "torch_cluster",
)
SCRIPT = """
import contextlib, io, json, sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {packages!r} else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
from ase.io import read
from ik_e3nn.cli import main
from ik_e3nn_calculators import IKCalculator

def run(*words):
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        return main(words), errors.getvalue()

atoms = read("water.xyz")
atoms.calc = IKCalculator("base", device="cpu")
print(json.dumps({{
    "energy": atoms.get_potential_energy(),
    "md": run("md", "water.xyz", "--time_ps", "0.002", "--device", "cpu", "-o", "md"),
    "relax": run("relax", "water.xyz", "--fmax", "2", "--device", "cpu", "-o", "relaxed"),
    "eval": run("eval", "base", "water.xyz", "--device", "cpu", "-o", "predicted.xyz"),
    "train": run("train", "--data.train", "water.xyz"),
    "smiles": run("md", "CCO", "-o", "other"),
}}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a process without any optional package does."""
    folder = tmp_path_factory.mktemp("without")
    molecule("H2O").write(folder / "water.xyz")
    path = os.pathsep.join([str(ROOT), str(ROOT / "calculators")])
    command = [sys.executable, "-c", SCRIPT.format(packages=OPTIONAL)]
    run = subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    return folder, json.loads(run.stdout)


def test_the_calculator_needs_no_optional_package(found) -> None:
    atoms = molecule("H2O")
    atoms.write(found[0] / "same.xyz")
    atoms.calc = IKCalculator("base", device="cpu")
    assert found[1]["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-4)


@pytest.mark.parametrize(
    ("command", "output"), [("md", "md/trajectory.extxyz"), ("relax", "relaxed"), ("eval", "predicted.xyz")]
)
def test_commands_on_structures_need_no_optional_package(found, command, output) -> None:
    status, errors = found[1][command]
    assert status == 0, errors
    assert (found[0] / output).exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train", "error: training needs Lightning, {} (No module named 'lightning'): pip install \"ik-e3nn[train]\""),
        ("smiles", "isotopes need RDKit, {} (No module named 'rdkit'): pip install \"ik-e3nn[chem]\""),
    ],
)
def test_what_is_missing_is_named_in_one_line(found, command, message) -> None:
    status, errors = found[1][command]
    assert status == 2
    assert message.format("which cannot be imported here") in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("h5py", r'hdf5 files needs h5py.*"ik-e3nn\[hdf5\]"'),
        ("ipi.utils.units", r'the driver of i-PI needs i-PI.*"ik-e3nn\[ipi\]"'),
        ("openmm", r'simulations with OpenMM need openmm and openmmml.*"ik-e3nn\[openmm\]"'),
        ("phonopy", r'phonons need phonopy.*"ik-e3nn\[phonopy\]"'),
        ("rdkit.Chem", r'SMILES strings, SDF files, bonds of molecules and isotopes need RDKit.*"ik-e3nn\[chem\]"'),
        ("spglib", r'the symmetry of a slab needs spglib.*"ik-e3nn\[slab\]"'),
        ("tblite.ase", r'labels of GFN2-xTB need tblite.*"ik-e3nn\[xtb\]"'),
        ("tensorboard", r'training needs TensorBoard.*"ik-e3nn\[train\]"'),
        ("torch_cluster", r'graphs of point clouds need torch-cluster.*"ik-e3nn\[cluster\]"'),
    ],
)
def test_every_optional_package_has_a_clear_error(monkeypatch, module, message) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=message):
        needed(module)
    with pytest.raises(MissingDependencyError, match=message):
        _ = OptionalModule(module).anything
    assert not hasattr(OptionalModule(module), "__wrapped__")
