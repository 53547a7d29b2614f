"""Shared by all tests: every test starts from the same random state, on one thread.

The systems are tiny, and pytest runs one process a core: threads that wait for each other on a busy machine made the
tests twenty times as slow.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes that tests start inherit it
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # "auto" is the CPU: numbers are compared bit for bit

import random
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch

SEED = 20231210
HERE = Path(__file__).parent
BLANK = b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
)  # a PNG file
LONG = HERE / "long.txt"  # tests that take more than about a quarter of a second, from `pytest --durations=0`


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long = set(LONG.read_text().split())
    for item in items:
        name = item.nodeid.partition("[")[0].removeprefix("tests/")
        if name in long or item.get_closest_marker("slow"):
            item.add_marker("long")


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - ASE and other libraries draw from the global state
    torch.manual_seed(SEED)


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(SEED)


@pytest.fixture
def treated_at_once(monkeypatch) -> list[tuple[int, int]]:
    """How many edges and receivers each computation of messages in this test has had, in order."""
    from ik_e3nn.blocks.interaction import Interaction

    compute, seen = Interaction.messages, []

    def watched(self, x, senders, receivers, scale, edges):
        seen.append((edges.senders.numel(), receivers.shape[0]))
        return compute(self, x, senders, receivers, scale, edges)

    monkeypatch.setattr(Interaction, "messages", watched)
    return seen


@pytest.fixture(scope="module")
def quick_compiler():
    """Let torch compile to machine code that is not optimized: that takes a third of the time."""
    import torch._inductor.config as settings

    unoptimized = {"aot_inductor.debug_compile": True, "aot_inductor.precompile_headers": False, "compile_threads": 1}
    with settings.patch({"cpp.vec_isa_ok": True, **unoptimized}):  # the processor's instructions are not tried out
        yield


@pytest.fixture(scope="module")
def quickest_compiler(quick_compiler):
    """As ``quick_compiler``, and without instructions for vectors of numbers: that takes two thirds of its time."""
    import torch._inductor.config as settings

    with settings.patch({"cpp.simdlen": 1}):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_machine_code(tmp_path_factory):
    """Runs begin with the eager model, whatever is in the user's cache: numbers are compared bit for bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IK_E3NN_CACHE", str(tmp_path_factory.mktemp("machine_code")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _draw():
    """Write blank pictures in tests that do not ask for ``drawn``; drawing takes a second for each training."""
    from ik_e3nn import pictures

    def write(figure, path):
        with pictures.written_at_once(path) as file:
            file.write(BLANK)

    draw = pictures.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "save", write)
        yield draw


@pytest.fixture
def drawn(monkeypatch, _draw):
    """Figures that are saved in this test, in order."""
    from matplotlib.figure import Figure

    kept, save = [], Figure.savefig

    def watched(figure, *arguments, **options):
        kept.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr("ik_e3nn.pictures.save", _draw)
    monkeypatch.setattr(Figure, "savefig", watched)
    return kept
