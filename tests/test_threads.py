"""Blocks on one thread give back the number of threads there was, also when they overlap in several Python threads."""

import threading

import torch

from ik_e3nn.threads import one_thread


def test_overlapping_blocks_give_the_number_back(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    entered, leave = threading.Event(), threading.Event()

    def other():
        with one_thread():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            thread.start()
            entered.wait()
        leave.set()
        thread.join()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
