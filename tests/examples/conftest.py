"""Where tests of benchmarks find the modules beside them."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """Let the modules of benchmarks be imported, as a script beside them does."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
