"""Memory that is freed stays with the process."""

import subprocess
import sys

import pytest

from ik_e3nn.memory import keep_freed_memory

SCRIPT = """
import resource
import torch
from ik_e3nn.memory import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.zeros(size) for size in range(10_000, 2_000_000, 50_000)]  # 160 MB, 40,000 pages
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(sum([page_faults() for _ in range(6)][1:]))
keep_freed_memory()
print(sum([page_faults() for _ in range(6)][1:]))
"""


def test_later_steps_find_the_memory_of_the_first_one():
    if not keep_freed_memory():
        pytest.skip("this C library has no such switch")
    printed = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout
    give_back, keep = map(int, printed.split())
    # about 0.03 with pages of 4 KiB, up to 0.1 where the system joins them into huge ones; 1 without the switch
    assert keep < 0.3 * give_back
