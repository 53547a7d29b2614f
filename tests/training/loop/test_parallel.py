import pytest
import torch

from ik_e3nn.errors import DataError, TrainingError
from ik_e3nn.training.loop.parallel import run_in_parallel
from tests.training.workers import fail, train_unevenly


def load(folder, name):
    return torch.load(folder / name, weights_only=True)


@pytest.mark.slow
def test_two_processes_train_like_one_and_stop_together(tmp_path) -> None:
    """A whole run from a configuration is in ``test_fit.py``."""
    train_unevenly(tmp_path / "one", 1)
    run_in_parallel(train_unevenly, 2, tmp_path / "two", 2)
    gradients, state, rows, best = load(tmp_path / "one", "result0.pt")
    for rank in (0, 1):
        other_gradients, other_state, other_rows, other_best = load(tmp_path / "two", f"result{rank}.pt")
        for one, other in zip(gradients, other_gradients, strict=True):
            for name in one:
                assert one[name].abs().max() > 1e-3
                torch.testing.assert_close(other[name], one[name], rtol=1e-4, atol=1e-6)
        for name in state:
            torch.testing.assert_close(other_state[name], state[name], rtol=1e-4, atol=1e-5)
        assert best == other_best
        for row, other_row in zip(rows, other_rows, strict=True):
            assert row["step"] == other_row["step"]
            assert other_row["valid/loss"] == pytest.approx(row["valid/loss"], rel=1e-4)
            assert other_row["valid/force_mae_meV_per_A"] == pytest.approx(row["valid/force_mae_meV_per_A"], rel=1e-4)
        assert load(tmp_path / "two", f"epochs{rank}.pt") == load(tmp_path / "one", "epochs0.pt") < 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "processes", "error", "message"),
    [("error", 2, DataError, "^no labels at all$"), ("exit", 2, TrainingError, "A training process died")],
)
def test_errors_of_a_process_are_reported(kind, processes, error, message) -> None:
    with pytest.raises(error, match=message):
        run_in_parallel(fail, processes, kind)
