"""Trains and evaluates MACE with ``mace_run_train`` and ``MACECalculator``."""

# ruff: noqa: D102 - the methods are documented in ``worker.Worker``

import json
from collections.abc import Iterator, Sequence
from typing import Any

import mace.tools
import torch
from ase import Atoms
from ase.data import atomic_numbers
from mace import data as mace_data
from mace.calculators import MACECalculator
from mace.cli.run_train import run
from mace.tools import torch_geometric
from worker import Clock, Worker, main, peak_memory_MB

STAGE_TWO_FROM = 0.75  # the package's default: the last quarter of the epochs
NEVER = 10**9


class _TimeOverError(Exception):
    """The time is over; the weights are in checkpoints."""


class _TimedTraining:
    """Limit ``mace.tools.train`` by time instead of epochs, and start stage two by time.

    The package counts epochs and has no time limit. Its loop is not changed: batches end when the time is over, the
    epoch is validated and saved as always, and the loop is left before the next one.

    Args:
        clock: The limit.
    """

    def __init__(self, clock: Clock) -> None:
        import sys

        self.clock = clock
        self._module = sys.modules["mace.tools.train"]  # the package's attribute of this name is the function in it
        self._train, self._epoch, self._log = mace.tools.train, self._module.train_one_epoch, self._module.valid_err_log
        self._swa: Any = None
        self._checkpoints: Any = None
        self.stage_two_seconds: float | None = None
        self.peak_memory = 0.0

    def install(self) -> None:
        """Replace the three functions of the package."""
        mace.tools.train = self.train
        self._module.train_one_epoch = self.epoch
        self._module.valid_err_log = self.log

    def train(self, *, swa: Any, checkpoint_handler: Any, **kwargs: Any) -> None:
        """``mace.tools.train`` that stops in time."""
        self._swa, self._checkpoints = swa, checkpoint_handler.io
        swa.start = self._checkpoints.swa_start = NEVER
        try:
            self._train(swa=swa, checkpoint_handler=checkpoint_handler, **kwargs)
        except _TimeOverError:
            self.peak_memory = peak_memory_MB()

    def epoch(self, *, data_loader: Any, epoch: int, **kwargs: Any) -> None:
        """``train_one_epoch`` on as many batches as the time allows."""
        self.clock.start()
        if self.clock.share >= 1.0:
            raise _TimeOverError
        if epoch == self._swa.start:
            self.stage_two_seconds = self.clock.seconds
        self._epoch(data_loader=self._batches(data_loader), epoch=epoch, **kwargs)
        self.clock.pass_ended()
        if self._swa.start == NEVER and self.clock.share >= STAGE_TWO_FROM:
            self._swa.start = self._checkpoints.swa_start = epoch + 1

    def log(self, valid_loss: float, eval_metrics: dict[str, Any], logger: Any, log_errors: str, *args: Any) -> None:
        """``valid_err_log`` that also adds to the learning curve."""
        self._log(valid_loss, eval_metrics, logger, log_errors, *args)
        if args and args[0] is not None:
            forces, energy = float(eval_metrics["rmse_f"]), float(eval_metrics["rmse_e_per_atom"])
            errors = {"force_rmse_meV_per_A": 1e3 * forces, "energy_rmse_meV_per_atom": 1e3 * energy}
            self.clock.validated(args[0], errors)

    def _batches(self, loader: Any) -> Iterator[Any]:
        for batch in loader:
            if self.clock.share >= 1.0:
                return
            yield batch
            self.clock.stepped(batch.edge_index.shape[1])


class Mace(Worker):
    """MACE 0.3."""

    def train(self) -> dict[str, Any]:
        clock = Clock(self.job["minutes"], self.folder, self.job["clock"])
        energies = {atomic_numbers[symbol]: value for symbol, value in self.job["set"]["E0s"].items()}
        settings = self.settings | {
            "name": "model",
            "train_file": self.data / "train.xyz",
            "valid_file": self.data / "valid.xyz",
            "E0s": str(energies),
            "energy_key": "REF_energy",
            "forces_key": "REF_forces",
            "stress_key": "REF_stress",
            "work_dir": self.folder,
            "max_num_epochs": NEVER,
            "start_stage_two": NEVER - 1,
            "error_table": "PerAtomRMSE",
            "device": "cpu",
            "plot": False,
            "pin_memory": False,
            "skip_evaluate_heads": "Default",
        }
        words = [f"--{name}={value}" for name, value in settings.items() if value is not True or name in _WITH_VALUE]
        words += [f"--{name}" for name, value in settings.items() if value is True and name not in _WITH_VALUE]
        (self.folder / "config.json").write_text(json.dumps(words, indent=1))
        training = _TimedTraining(clock)
        training.install()
        try:
            run(mace.tools.build_default_arg_parser().parse_args(words))
        except UnboundLocalError:  # how the package fails without a checkpoint of stage two, after saving stage one
            if training.stage_two_seconds is not None:
                raise
        return clock.result() | {
            "train_peak_memory_MB": training.peak_memory,
            "stage_two_from_seconds": training.stage_two_seconds,
        }

    def load(self, compiled: bool) -> None:
        names = ("model_stagetwo.model", "model.model")
        self.file = next(self.folder / name for name in names if (self.folder / name).exists())
        mode: dict[str, Any] = {"compile_mode": "default", "fullgraph": False} if compiled else {}
        self.calc = MACECalculator(model_paths=str(self.file), device="cpu", default_dtype="float32", **mode)
        self.model = self.calc.models[0]

    def batch(self, structures: Sequence[Atoms]) -> Any:
        if self.calc.use_compile and len(structures) == 1:
            return self.calc._atoms_to_batch(structures[0])  # padded, so that shapes do not change from call to call
        keys = mace_data.KeySpecification(info_keys={}, arrays_keys={})
        with mace.tools.torch_tools.default_dtype("float32"):
            graphs = [
                mace_data.AtomicData.from_config(
                    mace_data.config_from_atoms(atoms, key_specification=keys),
                    z_table=self.calc.z_table,
                    cutoff=self.calc.r_max,
                    heads=self.calc.available_heads,
                )
                for atoms in structures
            ]
        return torch_geometric.Batch.from_data_list(graphs)

    def call(self, batch: Any, stress: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        out = self.model(self.calc._clone_batch(batch).to_dict(), compute_stress=stress, training=self.calc.use_compile)
        return out["energy"].detach(), out["forces"].detach(), out["stress"]

    def calculator(self) -> Any:
        return self.calc

    def parameters(self) -> int:
        model = torch.load(self.file, map_location="cpu")
        return sum(parameter.numel() for parameter in model.parameters())

    def versions(self) -> list[str]:
        return ["mace-torch"]


# arguments that are given as True; the others are switches
_WITH_VALUE = ("compute_stress",)


if __name__ == "__main__":
    main(Mace)
