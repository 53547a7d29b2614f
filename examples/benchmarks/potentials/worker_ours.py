"""Train and evaluate this library's potential with its public command and calculator."""

# ruff: noqa: D102 - the methods are documented in ``worker.Worker``

import json
import os
import time
from collections.abc import Sequence
from typing import Any

import torch
import yaml
from ase import Atoms
from worker import VALID_ROWS, Worker, main, peak_memory_MB

from ik_e3nn.cli import main as command
from ik_e3nn.graph import batch_graphs, build_graph
from ik_e3nn.models import compile_potential, load_model
from ik_e3nn_calculators import IKCalculator


class Ours(Worker):
    """This library."""

    def train(self) -> dict[str, Any]:
        run = self.folder / "run"
        sections: dict[str, dict[str, Any]] = {
            "data": {
                "train": str(self.data / "train.xyz"),
                "valid": str(self.data / "valid.xyz"),
                "E0s": self.job["set"]["E0s"],
            },
            "run": {
                "output": str(run),
                "overwrite": True,
                "max_minutes": self.job["minutes"],
                "clock": self.job["clock"],
                "max_epochs": 100_000,
                "num_threads": self.job["threads"],
                "device": "cpu",
                "progress": False,
                "batch_size": self.settings["batch_size"],
            },
        }
        for name, value in self.settings.items():
            if "." in name:
                section, key = name.split(".")
                sections.setdefault(section, {})[key] = value
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(sections))
        start = time.perf_counter()
        if command(["train", str(config)]):
            raise RuntimeError("the training command failed; see the log")
        wall = time.perf_counter() - start
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        self._write_curve(rows)
        seconds = rows[-1]["seconds"]
        return {
            "train_seconds": seconds,
            "train_steps": rows[-1]["step"],
            "train_edges_per_s": self._edges(rows) / seconds,
            "train_peak_memory_MB": peak_memory_MB(),
            "seconds_before_training": wall - seconds,
        }

    def _write_curve(self, rows: Sequence[dict[str, Any]]) -> None:
        names = ("force_rmse_meV_per_A", "energy_rmse_meV_per_atom")
        curve = [
            {"seconds": row["seconds"], "epoch": row["epoch"]} | {name: row[f"valid/{name}"] for name in names}
            for row in rows
        ]
        (self.folder / VALID_ROWS).write_text("".join(json.dumps(row) + "\n" for row in curve))

    def _edges(self, rows: Sequence[dict[str, Any]]) -> float:
        """Number of edges in all training steps, from their share of an epoch."""
        frames, mean = self.job["set"]["frames"]["train"], self.job["set"]["edges_per_frame"]["train"]
        per_epoch = rows[0]["step"] if len(rows) > 1 else -(-frames // self.settings["batch_size"])
        return float(rows[-1]["step"] / per_epoch * frames * mean)

    def compile(self) -> None:
        self.load(compiled=True)

    def load(self, compiled: bool) -> None:
        os.environ["IK_E3NN_CACHE"] = str(self.folder / "compiled")
        self.file = self.folder / "run" / "model.safetensors"
        self.model = load_model(self.file, "cpu")
        self.compiled = compiled
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        if compiled and not compile_potential(self.model):
            raise RuntimeError("the model could not be compiled; the log has the warning")

    def batch(self, structures: Sequence[Atoms]) -> Any:
        graphs = batch_graphs([build_graph(atoms, self.model.r_max) for atoms in structures])
        return {name: graphs[name] for name in graphs.keys()}

    def call(self, batch: Any, stress: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        out = self.model(batch, forces=True, stress=stress)
        return out["energy"], out["forces"], out.get("stress")

    def calculator(self) -> Any:
        return IKCalculator(self.file, device="cpu", compile=self.compiled)

    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def versions(self) -> list[str]:
        return ["ik-e3nn"]


if __name__ == "__main__":
    main(Ours)
