"""A process that compiles leaves whole packages or nothing, and never outlives the process that has started it."""

import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from ase.build import molecule

from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import CompileWarning, InteratomicPotential, compile_potential
from ik_e3nn.models.compiled import beside
from ik_e3nn.models.compiled import potential as compiled_module
from ik_e3nn.models.compiled.beside import Compilation, missing_compiler
from ik_e3nn.models.compiled.package import compile_to, package_of
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


@pytest.mark.slow
@pytest.mark.skipif(missing_compiler() != "", reason="no C++ compiler, which torch needs to compile")
def test_a_process_makes_code_with_the_forces_of_the_eager_model(cache):
    model = potential().double()
    graph = build_graph(molecule("H2O"), model.r_max, dtype=torch.float64)
    eager = model(graph)["forces"]
    compilation = Compilation([model], cache=cache)
    while compilation.is_running:
        time.sleep(0.1)
    assert compilation.failure == ""
    assert list(cache.iterdir()) == [package_of(model, cache=cache)]
    assert load_compiled(model, cache=cache)
    assert model.compiled is not None
    assert eager.abs().max() > 1e-2
    torch.testing.assert_close(model(graph)["forces"], eager, rtol=1e-12, atol=1e-12 * float(eager.abs().max()))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs signals")
def test_a_process_that_is_killed_says_so(monkeypatch, cache):
    def started(errors):
        return subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE, stderr=errors, process_group=0)

    monkeypatch.setattr(beside, "_started", started)
    compilation = Compilation([potential()], cache=cache)
    compilation._process.kill()
    compilation._process.wait()
    assert compilation.failure == f"the compiling process was ended by signal {int(signal.SIGKILL)}"
    compilation.stop()


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


@pytest.mark.parametrize(("damage", "is_kept"), [(None, True), ("short", False), ("flipped", False)])
def test_only_a_damaged_package_is_removed(cache, damage, is_kept):
    """One that cannot be loaded now, as without memory, may be loaded next time."""
    model = potential()
    path = package_of(model, cache=cache)
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("code", b"0123456789" * 100)
    whole = path.read_bytes()
    if damage == "short":
        path.write_bytes(whole[:500])
    if damage == "flipped":
        path.write_bytes(whole[:200] + b"x" + whole[201:])
    path.chmod(0o600)
    with pytest.warns(CompileWarning, match="the model is not compiled for inference"):
        assert not load_compiled(model, cache=cache)
    assert path.exists() is is_kept


def test_a_package_that_others_can_write_to_is_removed_with_a_word(cache, caplog):
    """Where nobody asked for code, this is no warning."""
    model = potential()
    path = package_of(model, cache=cache)
    path.touch()
    path.chmod(0o666)
    with caplog.at_level(logging.INFO), pytest.warns(CompileWarning, match="there is no machine code in"):
        assert not load_compiled(model, cache=cache)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == f"the machine code in {path} is removed, because others may write to it (mode 0666)"
    assert not path.exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs permissions")
def test_code_is_private_before_it_is_there(monkeypatch, cache):
    def package(path, files):
        Path(path).write_bytes(b"code")

    def replace(source, target):
        modes.append(stat.S_IMODE(os.stat(source).st_mode))
        rename(source, target)

    rename, modes = os.replace, []
    monkeypatch.setattr("ik_e3nn.models.compiled.graph._compiled", lambda part, options: [])
    monkeypatch.setattr("torch._inductor.package.package.package_aoti", package)
    monkeypatch.setattr(os, "replace", replace)
    before = os.umask(0)
    try:
        compile_to(potential(), cache / "code.pt2")
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert stat.S_IMODE((cache / "code.pt2").stat().st_mode) == 0o600


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
