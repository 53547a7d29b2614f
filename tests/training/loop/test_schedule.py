import math
import time

import pytest
import torch

from ik_e3nn.training.config.schema import OptimizerConfig
from ik_e3nn.training.loop.schedule import LearningRateSchedule
from ik_e3nn.training.run.clock import RunClock


def test_cosine_equals_torch() -> None:
    steps = 20
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=0.1 * 0.05)
    schedule = LearningRateSchedule(OptimizerConfig(lr=0.1, warmup_steps=0, min_lr_ratio=0.05))
    for step in range(steps):
        assert schedule.lr(step=step, progress=step / steps) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_plateau_equals_torch() -> None:
    losses = [5.0, 4.0, 4.5, 4.1, 4.2, 3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 2.0, 2.1, 2.2, 2.3, 2.4]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0, min_lr=0.2)
    config = OptimizerConfig(
        lr=1.0, warmup_steps=0, schedule="plateau", plateau_patience=2, plateau_factor=0.5, min_lr_ratio=0.2
    )
    schedule = LearningRateSchedule(config)
    seen = []
    for loss in losses:
        schedule.observe(loss)
        reference.step(loss)
        seen.append(schedule.lr(step=0, progress=0.3))
        assert seen[-1] == pytest.approx(optimizer.param_groups[0]["lr"])
    assert seen[-1] == pytest.approx(0.2)


def test_plateau_continues_from_its_state() -> None:
    config = OptimizerConfig(schedule="plateau", plateau_patience=1, warmup_steps=0)
    straight, first, second = (LearningRateSchedule(config) for _ in range(3))
    losses = [3.0, 3.1, 3.2, 3.0, 3.3, 3.4]
    for loss in losses:
        straight.observe(loss)
    for loss in losses[:2]:
        first.observe(loss)
    second.load_state_dict(first.state_dict())
    for loss in losses[2:]:
        second.observe(loss)
    assert second.lr(step=9, progress=0) == straight.lr(step=9, progress=0) < config.rate


def test_warm_up_is_linear_and_multiplies_the_schedule() -> None:
    schedule = LearningRateSchedule(OptimizerConfig(lr=2.0, warmup_steps=4, schedule="constant"))
    assert [schedule.lr(step=step, progress=0.0) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    cosine = LearningRateSchedule(OptimizerConfig(lr=2.0, warmup_steps=4, min_lr_ratio=0.0))
    assert cosine.lr(step=1, progress=0.25) == pytest.approx(2.0 * 0.5 * 0.5 * (1 + math.cos(math.pi / 4)))


def test_progress_beyond_the_end_keeps_the_lowest_rate() -> None:
    schedule = LearningRateSchedule(OptimizerConfig(lr=1.0, warmup_steps=0, min_lr_ratio=0.1))
    assert schedule.lr(step=0, progress=1.7) == pytest.approx(0.1)


def test_the_processor_clock_does_not_count_waiting() -> None:
    clocks = {kind: RunClock(kind=kind) for kind in ("wall", "cpu")}
    for clock in clocks.values():
        clock.start(earlier=5.0)
    time.sleep(0.2)
    assert clocks["wall"].seconds >= 5.2
    assert 5.0 <= clocks["cpu"].seconds < 5.1
    stop = time.process_time() + 0.05 * torch.get_num_threads()
    while time.process_time() < stop:
        pass
    assert clocks["cpu"].seconds >= 5.05
