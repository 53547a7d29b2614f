"""Without TorchSim, or with a release for older Pythons, one error says what to do."""

import sys
from importlib import import_module, metadata
from types import ModuleType

import pytest

from ik_e3nn.errors import MissingDependencyError

MODULE = "ik_e3nn_calculators.torchsim.installed"


@pytest.fixture
def fresh(monkeypatch):
    """The import happens anew, and is forgotten afterwards."""
    for name in (MODULE, "ik_e3nn_calculators.torchsim.model"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_an_old_release_is_refused(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_sim", ModuleType("torch_sim"))
    monkeypatch.setattr(metadata, "version", lambda name: "0.3.0")
    with pytest.raises(MissingDependencyError, match=r"TorchSim 0.3.0 is installed, but IKModel needs 0.6 or newer, "
                                                     r"which needs Python 3.12"):  # fmt: skip
        import_module(MODULE)


def test_a_missing_package_is_named(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_sim", None)

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(
        MissingDependencyError,
        match=r'IKModel needs Python 3.12 and TorchSim, which cannot.*pip install "ik-e3nn\[torchsim\]"',
    ):
        from ik_e3nn_calculators.torchsim import IKModel  # noqa: F401
