"""Memory that is freed stays with the process."""

import subprocess
import sys

import pytest

from ik_e3nn.memory import keep_freed_memory

SCRIPT = """
import resource, sys
import torch
from ik_e3nn.memory import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.zeros(1_000_000) for _ in range(20)]
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
page_faults()
print(page_faults())
"""


def test_the_next_step_finds_the_memory_of_the_last_one():
    if not keep_freed_memory():
        pytest.skip("this C library has no such switch")
    faults = {
        how: int(subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "return")
    }
    assert faults["keep"] < 100  # 20 tensors of 4 MB are 20,000 pages
    assert faults["return"] > 10_000
