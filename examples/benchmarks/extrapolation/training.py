"""Trainings of all packages with several seeds, one core each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from potentials import runs
from potentials.recipes import MACE, MODELS, NEQUIP, OURS, Settings
from potentials.runs import Bench

from extrapolation.errors import errors_by_set

BATCH = 5  # structures in a step


def seeded(settings: Settings, package: str, seed: int) -> Settings:
    """Settings of a package with another seed."""
    if package == "ours":
        return settings | {"run.seed": OURS["run.seed"] + seed}
    if package == "mace":
        return settings | {"seed": MACE["seed"] + seed}
    return settings | {"model": settings["model"] | {"seed": NEQUIP["model"]["seed"] + seed}}


@dataclass(frozen=True)
class Trainings(Bench):
    """Trainings on the frames of molecules, with a seed; see ``Bench``.

    Args:
        seed: Number of the seed, from 0.
    """

    seed: int = 0

    def settings(self, data_set: str, model: str) -> Settings:
        """Settings of a model."""
        chosen = MODELS[model]
        settings = seeded(chosen.settings, chosen.package, self.seed)
        batches = {"batch_size": BATCH} if chosen.package == "ours" else {"batch_size": BATCH, "valid_batch_size": 10}
        return settings | batches

    def folder(self, data_set: str, model: str) -> Path:
        """Folder of a training."""
        return self.work / data_set / f"{model}_seed{self.seed}"

    def has_stress(self, data_set: str) -> bool:
        """Whether stress is trained on."""
        return False

    def compiler_cache(self, job: Path) -> Path:
        """Folder of the compiler's results, which all trainings share, because compilation is not counted."""
        return self.work / "inductor"

    def row(self, molecule: str, model: str) -> dict[str, Any]:
        """Train and test a model, unless it is done."""
        folder = self.folder(molecule, model)
        runs.train(self, molecule, model)
        if not self.done(molecule, model, "predict"):
            result = self.run(molecule, model, "predict")
            with np.load(folder / "predictions.npz") as found:
                errors = errors_by_set(self.data(molecule) / "test.xyz", found["energy"], found["forces"])
            self.finish(molecule, model, "predict", result | {"errors": errors})
        trained, predicted = (runs.read_json(folder / f"{task}.json") for task in ("train", "predict"))
        return {
            "molecule": molecule,
            "model": model,
            "seed": self.seed,
            "minutes": self.minutes,
            "train_steps": trained["train_steps"],
            "train_seconds": trained["train_seconds"],
            "parameters": predicted["parameters"],
            "machine": trained["machine"],
            "commit": trained["commit"],
            "errors": predicted["errors"],
        }
