import itertools
import json
import math

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from ik_e3nn.errors import TrainingError
from ik_e3nn.memory import keep_freed_memory
from ik_e3nn.training.config.schema import LossConfig, OptimizerConfig, RunConfig
from ik_e3nn.training.loop import engine
from ik_e3nn.training.loop.clipping import GradientClipping
from ik_e3nn.training.loop.engine import run_training, useful_threads
from ik_e3nn.training.objective.loss import Loss
from ik_e3nn.training.sets.loader import sizes_of
from tests.training.helpers import graphs, make_module, structures

RUN = {"max_epochs": 4, "batch_size": 4, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def data():
    everything = graphs(structures(14))
    return everything[:10], everything[10:]


def train(module, data, folder, *, resume=False, callbacks=(), **run):
    folder.mkdir(exist_ok=True)
    config = RunConfig(**(RUN | run))
    return run_training(module, *data, config=config, folder=folder, resume=resume, callbacks=callbacks)


class Watch(Callback):
    """Calls a function after every step."""

    def __init__(self, function):
        self.function = function

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.function(trainer, pl_module)


class Kill(Callback):
    """Stops the run as a signal would, in the middle of an epoch."""

    def __init__(self, epoch, error=KeyboardInterrupt):
        self.epoch, self.error = epoch, error

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            raise self.error


def same_state(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


def test_loss_decreases_and_files_are_written(data, tmp_path) -> None:
    keep_freed_memory.cache_clear()
    rows, best = train(make_module(), data, tmp_path, max_epochs=15)
    assert keep_freed_memory.cache_info().currsize == 1  # it was asked for: steps find the memory of earlier ones
    assert rows[-1]["train/loss"] < 0.8 * rows[0]["train/loss"]
    assert rows[-1]["valid/loss"] < 0.8 * rows[0]["valid/loss"]
    assert best.best_loss == min(row["valid/loss"] for row in rows)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == rows
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 16
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_the_validated_and_kept_model_is_the_average(data, tmp_path) -> None:
    module = make_module(optimizer=OptimizerConfig(lr=0.02, warmup_steps=2, ema_decay=0.8))
    expected = [p.detach().clone() for p in module.model.parameters()]

    def follow(trainer, module):
        step = trainer.global_step
        decay = min(0.8, (1 + step) / (10 + step))
        for value, p in zip(expected, module.model.parameters(), strict=True):
            value.copy_(decay * value + (1 - decay) * p.detach())

    rows, best = train(module, data, tmp_path, callbacks=[Watch(follow)])
    assert best.best_epoch == 4
    for value, kept, raw in zip(expected, module.best_model.parameters(), module.model.parameters(), strict=True):
        torch.testing.assert_close(kept, value)
        assert not torch.allclose(kept, raw)
    batches = list(module.trainer.val_dataloaders)
    total = count = 0.0
    for batch in batches:
        error = module.best_model.eval()(batch)["forces"].double() - batch["forces"]
        total, count = total + error.abs().sum(), count + error.numel()
    assert rows[-1]["valid/force_mae_meV_per_A"] == pytest.approx(float(1000 * total / count), rel=1e-5)


def test_learning_rate_of_each_step(data, tmp_path) -> None:
    seen = []
    module = make_module(optimizer=OptimizerConfig(lr=0.1, warmup_steps=3, min_lr_ratio=0.0))
    train(module, data, tmp_path, callbacks=[Watch(lambda t, m: seen.append(t.optimizers[0].param_groups[0]["lr"]))])
    expected = [0.05 * min(1, (step + 1) / 3) * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    assert seen == pytest.approx(expected)


def test_a_warm_up_longer_than_the_run_is_said(data, tmp_path, caplog) -> None:
    train(make_module(optimizer=OptimizerConfig(warmup_steps=3)), data, tmp_path / "a", max_epochs=1)
    assert "at most 3 steps (1 epochs of 3): the learning rate never reaches optimizer.lr" in caplog.text
    caplog.clear()
    train(make_module(optimizer=OptimizerConfig(warmup_steps=3)), data, tmp_path / "b", max_epochs=2)
    assert "warm-up" not in caplog.text


def norm_of_gradient(module):
    return float(torch.stack([p.grad.norm() for p in module.model.parameters()]).norm())


class Outlier(Callback):
    """One gradient that is much longer than it should be; ``norms`` are those before it is cut."""

    def __init__(self, step, factor):
        self.step, self.factor, self.norms = step, factor, []

    def on_after_backward(self, trainer, pl_module):
        self.norms.append(norm_of_gradient(pl_module))
        if trainer.global_step == self.step:
            for p in pl_module.model.parameters():
                p.grad *= self.factor


def test_gradients_are_cut_to_what_is_usual(data, tmp_path) -> None:
    seen, outlier = [], Outlier(2, 1e3)
    watch = Watch(lambda trainer, module: seen.append(norm_of_gradient(module)))
    module = make_module(optimizer=OptimizerConfig(clip_grad=1.5))
    train(module, data, tmp_path, max_epochs=1, callbacks=[outlier, watch])
    first, second = outlier.norms[0], min(outlier.norms[1], 1.5 * outlier.norms[0])
    counted = min(outlier.norms[1], 1.5 * second)
    usual = ((0.99 * first**2 + counted**2) / 1.99) ** 0.5
    assert seen == pytest.approx([first, second, 1.5 * usual], rel=1e-4)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_batches_without_labels_do_not_make_the_others_outliers(share) -> None:
    rng, clipping = np.random.default_rng(0), GradientClipping(3.0)
    norms = np.where(rng.uniform(size=5000) < share, rng.lognormal(0, 0.3, 5000), 0.0)
    cut = np.array([clipping.limit(norm) for norm in norms])
    assert (cut == norms).mean() > 0.999
    assert clipping.limit(float("nan")) != clipping.limit(1.0) == 1.0


def test_what_comes_often_is_no_outlier() -> None:
    rng, clipping = np.random.default_rng(0), GradientClipping(3.0)
    norms = np.where(rng.uniform(size=5000) < 0.05, 1.0, 1e-3)
    cut = np.array([clipping.limit(norm) for norm in norms])
    assert cut[1000:][norms[1000:] == 1.0].min() > 0.3


@pytest.mark.parametrize(("clip", "spoiled"), [(3.0, False), (None, True)])
def test_one_outlier_spoils_no_training(data, tmp_path, clip, spoiled) -> None:
    optimizer = OptimizerConfig(lr=0.02, warmup_steps=2, clip_grad=clip, ema_decay=0.0)
    rows, _ = train(make_module(optimizer=optimizer), data, tmp_path / "a", max_epochs=20)
    hit, _ = train(make_module(optimizer=optimizer), data, tmp_path / "b", max_epochs=20, callbacks=[Outlier(30, 1e4)])
    assert (hit[-1]["train/loss"] > 1.5 * rows[-1]["train/loss"]) == spoiled


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_two_and_two_epochs_equal_four_bit_for_bit(data, tmp_path, schedule) -> None:
    patience = {"plateau_patience": 1} if schedule == "plateau" else {}
    optimizer = OptimizerConfig(lr=0.02, warmup_steps=5, schedule=schedule, **patience)
    loss = LossConfig(forces_weight=10.0, energy_growth=1.0)  # growth, like a cosine, follows max_epochs
    options = {"optimizer": optimizer, "loss": loss, "noise": 0.1}
    straight = make_module(**options)
    rows, best = train(straight, data, tmp_path / "straight")
    for epochs in (2, 4):
        split = make_module(**options, seed=epochs)  # weights come from the checkpoint
        if epochs == 2:
            split = make_module(**options)
        split_rows, split_best = train(split, data, tmp_path / "split", max_epochs=epochs, resume=epochs == 4)
    assert same_state(straight.state_dict(), split.state_dict())
    last = [torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("straight", "split")]
    assert same_state(last[0]["state_dict"], last[1]["state_dict"])
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in last]
    assert all(same_state(moments[0][key], moments[1][key]) for key in moments[0])
    assert torch.equal(last[0]["ik_e3nn"]["random"]["torch"], last[1]["ik_e3nn"]["random"]["torch"])
    assert last[0]["ik_e3nn"]["clipping"] == last[1]["ik_e3nn"]["clipping"]
    assert best.state_dict() == split_best.state_dict()
    without_time = [[{**row, "seconds": 0} for row in part] for part in (rows, split_rows)]
    assert without_time[0] == without_time[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])  # Lightning exits after SIGTERM
def test_a_killed_run_loses_less_than_an_epoch(data, tmp_path, error) -> None:
    limits = {"max_atoms": 9, "patience": 50}  # the number of batches differs between epochs
    straight = make_module(noise=0.1)
    rows, _ = train(straight, data, tmp_path / "straight", max_epochs=6, **limits)
    with pytest.raises(KeyboardInterrupt if error is SystemExit else error):
        train(make_module(noise=0.1), data, tmp_path / "killed", max_epochs=6, callbacks=[Kill(3, error)], **limits)
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "killed/metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3]
    moved = (tmp_path / "killed").rename(tmp_path / "moved")
    again = make_module(noise=0.1)
    resumed_rows, _ = train(again, data, moved, max_epochs=6, resume=True, **limits)
    assert same_state(straight.state_dict(), again.state_dict())
    assert [row["valid/loss"] for row in resumed_rows] == [row["valid/loss"] for row in rows]
    assert len({row["step"] - before["step"] for before, row in itertools.pairwise(rows)}) > 1


def test_resuming_a_finished_run_changes_nothing(data, tmp_path) -> None:
    module = make_module()
    train(module, data, tmp_path)
    again = make_module(seed=1)
    train(again, data, tmp_path, resume=True)
    assert same_state(module.state_dict(), again.state_dict())


def test_early_stopping_stops(data, tmp_path) -> None:
    module = make_module(optimizer=OptimizerConfig(lr=1e-12, warmup_steps=0, ema_decay=0.0, schedule="constant"))
    rows, best = train(module, data, tmp_path, max_epochs=50, patience=3)
    assert len(rows) < 10
    assert len(rows) == 4 or best.best_epoch > 1


def test_time_limit_ends_the_run_and_the_schedule(data, tmp_path) -> None:
    rates = []
    module = make_module(limit=0.4, optimizer=OptimizerConfig(lr=0.01, warmup_steps=0, min_lr_ratio=0.0))
    watch = Watch(lambda t, m: rates.append(t.optimizers[0].param_groups[0]["lr"]))
    rows, _ = train(module, data, tmp_path, max_epochs=10**6, callbacks=[watch])
    assert 0.3 < rows[-1]["seconds"] < 0.8
    assert rates[-1] < 0.01 * 0.1 < rates[0]
    longer = make_module(limit=0.8, optimizer=OptimizerConfig(lr=0.01, warmup_steps=0, min_lr_ratio=0.0))
    more, _ = train(longer, data, tmp_path, max_epochs=10**6, resume=True)
    assert more[: len(rows)] == rows
    assert [row["epoch"] for row in more] == list(range(1, len(more) + 1))
    assert more[-1]["step"] > rows[-1]["step"]


def test_a_diverged_run_is_an_error_and_keeps_the_last_good_epoch(data, tmp_path) -> None:
    def spoil(trainer, module):
        if trainer.current_epoch == 2:
            with torch.no_grad():
                next(module.model.parameters()).fill_(math.nan)

    with pytest.raises(TrainingError, match=r"The loss became .* in epoch 3\. Try a lower optimizer\.lr"):
        train(make_module(), data, tmp_path, callbacks=[Watch(spoil)])
    state = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values())


def test_a_truncated_checkpoint_is_a_clear_error(data, tmp_path) -> None:
    train(make_module(), data, tmp_path, max_epochs=1)
    last = tmp_path / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"last\.ckpt cannot be read as a checkpoint"):
        train(make_module(), data, tmp_path, resume=True)


def test_weights_of_another_version_are_a_clear_error(data, tmp_path) -> None:
    train(make_module(), data, tmp_path, max_epochs=1)
    other = make_module()
    other.model.new = torch.nn.Linear(2, 2)
    with pytest.raises(
        TrainingError, match=r"last.ckpt has other weights than this model \(\d+ differ, .*another version"
    ):
        train(other, data, tmp_path, resume=True)


def test_ambient_dtype_changes_nothing(data, tmp_path) -> None:
    plain = make_module(loss=LossConfig(stress_weight=1.0))
    train(plain, data, tmp_path / "plain", max_epochs=2)
    torch.set_default_dtype(torch.float64)
    try:
        hostile = make_module(loss=LossConfig(stress_weight=1.0))
        train(hostile, data, tmp_path / "hostile", max_epochs=2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same_state(plain.state_dict(), hostile.state_dict())
    assert next(hostile.model.parameters()).dtype == torch.float32


def test_training_steps_weigh_energies_by_the_progress_of_the_run(data, tmp_path, monkeypatch) -> None:
    combine, seen = Loss.combine, []

    def watched(self, terms, **progress):
        seen.extend(progress.values())
        return combine(self, terms, **progress)

    monkeypatch.setattr(Loss, "combine", watched)
    module = make_module()
    train(module, data, tmp_path, max_epochs=2)
    steps = module.trainer.global_step
    assert seen == pytest.approx([step / steps for step in range(steps)])


@pytest.mark.parametrize(
    ("given", "edges_per_thread", "expected"), [(None, 10_000, 1), (None, "half a step", 2), (2, 10_000, 2)]
)
def test_threads_of_a_step(data, tmp_path, monkeypatch, given, edges_per_thread, expected) -> None:
    if edges_per_thread == "half a step":
        batches = -(-len(data[0]) // RUN["batch_size"])
        edges_per_thread = sum(graph["edge_index"].shape[1] for graph in data[0]) / batches / 2
    monkeypatch.setattr(engine, "EDGES_PER_THREAD", edges_per_thread)
    used, before = [], torch.get_num_threads()
    watch = Watch(lambda *_: used.append(torch.get_num_threads()))
    torch.set_num_threads(4)
    try:
        train(make_module(), data, tmp_path, max_epochs=1, num_threads=given, callbacks=[watch])
    finally:
        torch.set_num_threads(before)
    assert set(used) == {expected}


@pytest.mark.parametrize(
    ("edges", "processes", "threads"),
    [(0.0, 1, 1), (700.0, 1, 1), (900.0, 1, 2), (1e6, 1, 5), (1e6, 2, 2), (1e6, 9, 1)],
)
def test_threads_grow_with_the_edges_of_a_step(monkeypatch, edges, processes, threads) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        assert useful_threads(edges, processes=processes) == threads
    finally:
        torch.set_num_threads(before)


def test_the_callers_random_state_and_threads_are_left_alone(data, tmp_path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train(make_module(noise=0.1), data, tmp_path, max_epochs=1, num_threads=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_batches_are_bounded_by_edges(data, tmp_path) -> None:
    sizes = [size.edges for size in sizes_of(data[0])]
    most, seen = 2 * min(sizes) + 1, []

    class Sizes(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append((len(batch["cell"]), batch["edge_index"].shape[1]))

        on_validation_batch_start = on_train_batch_start

    train(make_module(), data, tmp_path, max_epochs=1, callbacks=[Sizes()], max_edges=most)
    assert sum(edges for _, edges in seen) == sum(sizes) + sum(size.edges for size in sizes_of(data[1]))
    assert all(edges <= most or structures == 1 for structures, edges in seen)
    assert any(structures == 2 for structures, _ in seen)
    assert max(sizes) > most  # some structures are batches of their own


def test_a_lack_of_memory_names_the_bounds_of_batches(data, tmp_path) -> None:
    """Most of a step's memory is needed in the backward pass, so that is where it runs out here."""

    class Full(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if pl_module.global_step == 3:
                torch.empty(1 << 46)

    with pytest.raises(
        TrainingError,
        match=r"memory of the device \(cpu\) does not suffice .*4 structures, \d+ atoms and \d+ edges.*run.max_edges",
    ):
        train(make_module(), data, tmp_path, callbacks=[Full()])
    rows, _ = train(make_module(), data, tmp_path, resume=True, max_edges=60)  # as the message says
    assert rows[-1]["epoch"] == RUN["max_epochs"]
