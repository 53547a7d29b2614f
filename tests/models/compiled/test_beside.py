"""A process that compiles leaves whole packages or nothing, and never outlives the process that has started it."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from ik_e3nn.errors import DataError
from ik_e3nn.models import CompileWarning, InteratomicPotential, compile_potential
from ik_e3nn.models.compiled import potential as compiled_module
from ik_e3nn.models.compiled.beside import Compilation, missing_compiler
from ik_e3nn.models.compiled.package import package_of
from ik_e3nn.models.compiled.potential import load_compiled, make_package
from ik_e3nn.models.compiled.worker import compile_one

SIZES = {"num_channels": 2, "num_layers": 1, "l_max": 1, "l_features": 1, "correlation": 2}


def potential(**options) -> InteratomicPotential:
    return InteratomicPotential(["H", "O"], 3.5, **SIZES, **options).eval().requires_grad_(False)


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return folder


@pytest.mark.slow
def test_a_process_that_fails_says_why(cache):
    cache.chmod(0o777)
    compilation = Compilation([potential(), potential()], cache=cache)
    while compilation.is_running:
        time.sleep(0.05)
    assert "PermissionError: " in compilation.failure
    assert "others may write to it (mode 0777)" in compilation.failure
    compilation.stop()


@pytest.mark.slow
def test_a_process_is_ended(cache):
    compilation = Compilation([potential()], cache=cache)
    time.sleep(0.2)
    assert compilation.is_running
    compilation.stop()
    assert not compilation.is_running
    assert compilation.failure == ""
    assert not list(cache.iterdir())


_RUN = """
import sys
from ik_e3nn.models.compiled.beside import Compilation
from tests.models.compiled.test_beside import potential
compilation = Compilation([potential()], cache=sys.argv[1])
print(compilation._process.pid, flush=True)
input()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes")
def test_a_process_ends_with_a_run_that_is_killed(cache):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _RUN, str(cache)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as run:
        worker = int(run.stdout.readline())
        os.kill(worker, 0)
        run.send_signal(signal.SIGKILL)
    end = time.monotonic() + 120.0
    while time.monotonic() < end:
        try:
            os.killpg(worker, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the process goes on")
    assert not list(cache.iterdir())


@pytest.mark.parametrize("inputs", [(), ("bond_types", "total_charge")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_process_compiles_for_the_model_that_asks(monkeypatch, cache, inputs, dtype):
    made = []
    monkeypatch.setattr(compiled_module, "compile_to", lambda probe, path: made.append((probe.dtype, path)))
    model = potential(inputs=inputs).to(dtype)
    path = package_of(model, cache=cache)
    compile_one(path=str(path), config=model.config, dtype=str(dtype), device="cpu")
    assert made == [(dtype, path)]
    path.touch(mode=0o600)
    make_package(model, path)  # it is there
    assert len(made) == 1
    with pytest.raises(DataError, match=f"{path.name} is machine code for other models"):
        make_package(potential(inputs=["spin"]), path)


def test_only_what_is_in_the_cache_is_loaded(monkeypatch, cache):
    monkeypatch.setattr(compiled_module, "compile_to", lambda probe, path: pytest.fail("it compiles"))
    model = potential()
    assert not load_compiled(model, cache=cache)
    package_of(model, cache=cache).write_bytes(b"damaged")
    package_of(model, cache=cache).chmod(0o600)
    with pytest.warns(CompileWarning, match="the model is not compiled for inference and runs eagerly"):
        assert not load_compiled(model, cache=cache)
    assert not list(cache.iterdir())


def test_a_user_without_a_home_gets_a_warning(monkeypatch):
    """As in a container without HOME and with an unknown number of the user."""

    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.expanduser", no_home)
    with pytest.warns(CompileWarning, match="runs eagerly .RuntimeError: Could not determine home directory"):
        assert not compile_potential(potential())
    with pytest.raises(RuntimeError, match="Could not determine home directory"):
        load_compiled(potential())


def test_the_compiler_is_that_of_torch(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert missing_compiler() == "no-such-compiler"
    monkeypatch.setenv("CXX", sys.executable)
    assert missing_compiler() == ""
    monkeypatch.delenv("CXX")
    assert (missing_compiler() == "") == (shutil.which("clang++" if sys.platform == "darwin" else "g++") is not None)
