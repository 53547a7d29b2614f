"""What ``module:Class`` may be: a class of calculators, or a function that is declared to return one."""

import uuid

import pytest

from ik_e3nn.data.generation.labeling import make_calculator
from ik_e3nn.errors import DataError

MODULE = """
from pathlib import Path
from ase.calculators.emt import EMT

def plain(**options):
    Path("called").touch()
    return EMT(**options)

def declared(**options) -> EMT:
    return EMT(**options)

def quoted(**options) -> "EMT":
    return EMT(**options)

def wrong(**options) -> EMT:
    return Path("called")

def broken(**options) -> "Missing":
    Path("called").touch()

class Mine(EMT):
    pass
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the working folder."""
    monkeypatch.chdir(tmp_path)
    name = f"mine_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


@pytest.mark.parametrize("name", ["declared", "quoted", "Mine"])
def test_calculators_from_a_module_of_ones_own(module, name):
    assert "energy" in make_calculator(f"{module}:{name}").implemented_properties


@pytest.mark.parametrize("name", ["plain", "broken"])
def test_other_functions_are_not_called(module, tmp_path, name):
    with pytest.raises(DataError, match="is a function, which is not called: a calculator must be a subclass of"):
        make_calculator(f"{module}:{name}")
    assert not (tmp_path / "called").exists()


def test_a_function_that_returns_something_else(module):
    with pytest.raises(DataError, match="gives a PosixPath, which is not an ASE calculator"):
        make_calculator(f"{module}:wrong")


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("os:system", {"command": "touch called"}),
        ("subprocess:check_output", {"args": ["touch", "called"]}),
        ("subprocess:Popen", {"args": ["touch", "called"]}),
        ("pathlib:Path.touch", {"self": "called"}),
        ("builtins:eval", {"source": "open('called', 'w')"}),
        ("builtins:object", {}),
        ("ase:Atoms", {}),
    ],
)
def test_no_program_is_started_by_a_name(tmp_path, monkeypatch, target, options):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"is not called: a calculator must be|cannot be imported"):
        make_calculator(target, options=options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["def (", "raise KeyError(1)", "import not_there"])
def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    name = f"broken_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(DataError, match=f"the calculator '{name}:X' cannot be imported"):
        make_calculator(f"{name}:X")
