"""Functions in C++ are compiled once, in a private folder, and problems are reported in the log alone."""

import logging
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from ik_e3nn import native

SOURCE = 'extern "C" int twice(int x) { return 2 * x; }\n'
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, native.COMPILERS)), reason="no C++ compiler")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("IK_E3NN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    path = tmp_path / "twice.cpp"
    path.write_text(SOURCE)
    return path


def compiled(source):
    """The library as another process would get it."""
    native.library.cache_clear()
    return native.library(source)


def no_compiler(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)


@needs_compiler
def test_a_function_is_compiled_once(source, monkeypatch):
    assert compiled(source).twice(21) == 42
    (file,) = Path(os.environ["IK_E3NN_CACHE"]).iterdir()
    assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
    no_compiler(monkeypatch)
    assert compiled(source).twice(4) == 8


@needs_compiler
def test_changed_source_is_compiled_again(source):
    assert compiled(source).twice(1) == 2
    source.write_text(SOURCE.replace("2 * x", "3 * x"))
    assert compiled(source).twice(1) == 3


def replaced_by(content, mode):
    """Put another file in place of the machine code, which this process has loaded."""
    (file,) = Path(os.environ["IK_E3NN_CACHE"]).iterdir()
    file.unlink()
    file.write_bytes(content)
    file.chmod(mode)


@needs_compiler
def test_code_that_others_may_have_written_is_replaced(source, caplog):
    compiled(source)
    replaced_by(b"harmful", 0o722)
    assert compiled(source).twice(5) == 10
    assert "is removed, because others may write to it" in caplog.text


@needs_compiler
def test_damaged_code_is_replaced(source):
    compiled(source)
    replaced_by(b"damaged", 0o700)
    assert compiled(source).twice(6) == 12


@needs_compiler
@pytest.mark.parametrize("flags", [("-march=native", "-fno-such-flag"), ("-fno-such-flag", "-fopenmp")])
def test_a_compiler_without_some_flags(flags, source, monkeypatch):
    monkeypatch.setattr(native, "OPTIONAL_FLAGS", flags)
    assert compiled(source).twice(3) == 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none", r"there is no C\+\+ compiler"),
        ("wrong code", "fails: .*error"),
        ("a folder that is not private", "for machine code is not used, because others may write to it"),
    ],
)
def test_problems_are_in_the_log(given, message, source, monkeypatch, caplog):
    if given == "none":
        no_compiler(monkeypatch)
    elif given == "wrong code":
        if not any(map(shutil.which, native.COMPILERS)):
            pytest.skip("no C++ compiler")
        source.write_text("int 1;")
    else:
        Path(os.environ["IK_E3NN_CACHE"]).mkdir(mode=0o777)
        Path(os.environ["IK_E3NN_CACHE"]).chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert compiled(source) is None
    (record,) = caplog.records
    assert record.getMessage().startswith("twice.cpp is not compiled, and slower code is used: ")
    assert re.search(message, record.getMessage())
