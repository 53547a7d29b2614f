"""A full disk ends a training with the name of the file that did not fit; /dev/full is always full."""

import logging
from pathlib import Path

import pytest

from ik_e3nn.training.loop.callbacks import MetricsLog
from ik_e3nn.training.run.run_folder import logged_to

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")


def test_the_log() -> None:
    with logged_to(FULL) as let_go:
        let_go()
        with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
            logging.getLogger("ik_e3nn.some").info("a message")


def test_the_metrics(tmp_path) -> None:
    log = MetricsLog(tmp_path)
    log._csv = FULL
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        log._append_csv({"epoch": 1})
