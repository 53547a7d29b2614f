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
    tensors = [torch.zeros(size) for size in range(10_000, 2_000_000, 50_000)]  # 160 MB, 40,000 pages
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
print(sum([page_faults() for _ in range(6)][1:]))
"""


def test_later_steps_find_the_memory_of_the_first_one():
    if not keep_freed_memory():
        pytest.skip("this C library has no such switch")
    keep, give_back = (
        int(subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "give back")
    )
    # about 0.03 with pages of 4 KiB, up to 0.1 where the system joins them into huge ones; 1 without the switch
    assert keep < 0.3 * give_back
