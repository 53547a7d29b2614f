"""Trains and evaluates NequIP with ``nequip-train``, ``nequip-compile`` and ``NequIPCalculator``."""

# ruff: noqa: D102 - the methods are documented in ``worker.Worker``

import math
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from ase import Atoms
from nequip.data import AtomicDataDict
from nequip.integrations.ase import NequIPCalculator
from worker import Clock, Worker, main, peak_memory_MB

MONITOR = "val0_epoch/weighted_sum"


class TimeLimit(lightning.Callback):
    """Stop a run when its time is over, including validation, and record the learning curve.

    Args:
        minutes: The limit.
        clock: Kind of the clock.
        folder: Folder of the curve.
        cosine: Lower the learning rate with time, to 1 %, instead of a scheduler.
    """

    last: "TimeLimit"

    def __init__(self, minutes: float, clock: str, folder: str, cosine: bool) -> None:
        self.clock = Clock(minutes, Path(folder), clock)
        self.cosine = cosine
        self.peak_memory = 0.0
        self.seconds_before: float | None = None
        self._created = time.perf_counter()
        TimeLimit.last = self

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock with the first batch; set the learning rate."""
        if self.seconds_before is None:  # the sanity check has compiled the model
            self.seconds_before = time.perf_counter() - self._created
        self.clock.start()
        if self.cosine:
            for group in trainer.optimizers[0].param_groups:
                base = group.setdefault("initial_lr", group["lr"])
                group["lr"] = base * (0.01 + 0.99 * (1 + math.cos(math.pi * min(self.clock.share, 1.0))) / 2)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the edges; stop when the remaining time is needed for the validation."""
        self.clock.stepped(batch[AtomicDataDict.EDGE_INDEX_KEY].shape[1])
        if self.clock.share >= 1.0:
            trainer.should_stop = True

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        """Note the time."""
        self.clock.pass_ended()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Add a row to the curve."""
        if trainer.sanity_checking:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        errors = {
            "force_rmse_meV_per_A": 1e3 * metrics["val0_epoch/forces_rmse"],
            "energy_rmse_meV_per_atom": 1e3 * metrics["val0_epoch/per_atom_energy_rmse"],
        }
        self.clock.validated(trainer.current_epoch, errors)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Note the memory."""
        self.peak_memory = peak_memory_MB()


class Nequip(Worker):
    """NequIP 0.19."""

    def train(self) -> dict[str, Any]:
        from nequip.scripts.train import main as nequip_train

        (self.folder / "config.yaml").write_text(yaml.safe_dump(self._config(), sort_keys=False))
        sys.argv = ["nequip-train", "-cp", str(self.folder), "-cn", "config", f"hydra.run.dir={self.folder}/run"]
        nequip_train()
        limit = TimeLimit.last
        return limit.clock.result() | {
            "train_peak_memory_MB": limit.peak_memory,
            "seconds_before_training": limit.seconds_before,
        }

    def _config(self) -> dict[str, Any]:
        s, energies = self.settings, self.job["set"]["E0s"]
        types = sorted(energies)
        cosine = isinstance(s["scheduler"], str)
        checkpoint = {
            "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
            "monitor": MONITOR,
            "dirpath": str(self.folder),
            "filename": "best",
            "enable_version_counter": False,
        }
        limit = {
            "_target_": "worker_nequip.TimeLimit",
            "minutes": self.job["minutes"],
            "clock": self.job["clock"],
            "folder": str(self.folder),
            "cosine": cosine,
        }
        module = {
            "_target_": "nequip.train.EMALightningModule",
            "ema_decay": s["ema_decay"],
            "loss": s["loss"],
            "val_metrics": s["val_metrics"],
            "optimizer": s["optimizer"],
            "model": s["model"] | {"type_names": types, "per_type_energy_shifts": energies},
        }
        if not cosine:
            module["lr_scheduler"] = {
                "scheduler": s["scheduler"],
                "monitor": MONITOR,
                "interval": "epoch",
                "frequency": 1,
            }
        trainer = {
            "_target_": "lightning.Trainer",
            "accelerator": "cpu",
            "max_epochs": 10**9,
            "logger": False,
            "enable_progress_bar": False,
            "callbacks": [checkpoint, limit],
        }
        return {"run": ["train"], "data": self._data(types), "trainer": trainer, "training_module": module}

    def _data(self, types: list[str]) -> dict[str, Any]:
        loader = {"_target_": "torch.utils.data.DataLoader", "num_workers": 5, "persistent_workers": True}
        return {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": 456,
            "train_file_path": str(self.data / "train.xyz"),
            "val_file_path": str(self.data / "valid.xyz"),
            "key_mapping": {"REF_energy": "total_energy", "REF_forces": "forces", "REF_stress": "stress"},
            "transforms": [
                {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": types},
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": self.settings["model"]["r_max"]},
            ],
            "train_dataloader": loader | {"batch_size": self.settings["batch_size"], "shuffle": True},
            "val_dataloader": loader | {"batch_size": self.settings["valid_batch_size"]},
            "stats_manager": {
                "_target_": "nequip.data.CommonDataStatisticsManager",
                "dataloader_kwargs": {"batch_size": 10},
                "type_names": types,
            },
        }

    def compile(self) -> None:
        from nequip.scripts.compile import main as nequip_compile

        for target in ("ase", "batch"):
            words = ["--mode", "aotinductor", "--device", "cpu", "--target", target]
            with suppress(AssertionError):  # its own check fails for NaN stresses without a cell
                nequip_compile([str(self.folder / "best.ckpt"), str(self._package(target)), *words])
            if not self._package(target).exists():
                raise RuntimeError(f"nequip-compile wrote no package for the target {target}")

    def load(self, compiled: bool) -> None:
        if compiled:
            self.calc = NequIPCalculator.from_compiled_model(
                self._package("ase"), device="cpu", chemical_species_to_atom_type_map=True
            )
        else:
            self.calc = NequIPCalculator._from_saved_model(
                self.folder / "best.ckpt", device="cpu", chemical_species_to_atom_type_map=True
            )
        self.calc.model.requires_grad_(False)
        self.for_batches = _compiled_for_batches(self._package("batch")) if compiled else self.calc.model

    def _package(self, target: str) -> Path:
        return self.folder / f"{target}_{self.job['threads']}.nequip.pt2"

    def batch(self, structures: Sequence[Atoms]) -> Any:
        graphs = [self.calc.atoms_to_data(atoms) for atoms in structures]
        return graphs[0] if len(graphs) == 1 else AtomicDataDict.batched_from_list(graphs)

    def call(self, batch: Any, stress: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        model = self.for_batches if AtomicDataDict.BATCH_KEY in batch else self.calc.model
        out = model(dict(batch))
        return out[AtomicDataDict.TOTAL_ENERGY_KEY], out[AtomicDataDict.FORCE_KEY], out.get(AtomicDataDict.STRESS_KEY)

    def calculator(self) -> Any:
        return self.calc

    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.calc.model.parameters())  # all of them are trained

    def versions(self) -> list[str]:
        return ["nequip", "lightning"]


def _compiled_for_batches(package: Path) -> Any:
    from nequip.model.inference_models import load_compiled_model
    from nequip.scripts._compile_utils import COMPILE_TARGET_DICT

    target = COMPILE_TARGET_DICT["batch"]
    keys = list(target["input"]), list(target["output"])
    return load_compiled_model(str(package), "cpu", *keys)[0]


if __name__ == "__main__":
    sys.modules["worker_nequip"] = sys.modules["__main__"]  # so that the configuration finds TimeLimit
    main(Nequip)
