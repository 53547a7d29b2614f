"""Problems of fine-tuning: new labels, and how a method is trained and tested on some of them.

A new problem needs nothing but a class with the attributes and the ``run`` of ``Problem``, added to
``PROBLEMS``.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ase import Atoms
from ase.io import read, write

from ik_e3nn.cli import main as command
from ik_e3nn.models import read_model_info

Row = dict[str, Any]

FROM_POTENTIAL = "full, from the potential"
# Settings of ``ik-e3nn finetune`` by method; "scratch" is ``ik-e3nn train`` with the base's architecture.
METHODS: dict[str, dict[str, Any] | None] = {
    "scratch": None,
    "full": {},
    "lora": {"finetune.method": "lora"},
    "head": {"finetune.method": "head", "optimizer.lr": 0.02},
    "frozen 1": {"finetune.frozen_blocks": 1},
    "falling rates": {"finetune.lr_decay": 0.5},
    "replay": {"finetune.replay_ratio": 1.0},
    FROM_POTENTIAL: {},
}


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        method: Key of ``METHODS``.
        train_size: Structures to train on.
        seed: Seed of the choice of structures and of the training.
        base: Model file of a potential.
        properties: Model file of properties.
        old: Labeled data of the old domain, or None.
        minutes: Time for the training.
        options: Further settings of both commands.
    """

    method: str
    train_size: int
    seed: int
    base: Path
    properties: Path
    old: Path | None
    minutes: float
    options: tuple[str, ...] = ()


class Problem(Protocol):
    """New labels to learn.

    Attributes:
        title: For plots and tables.
        sizes: Numbers of structures to train on.
        bar: Fraction by which fine-tuning must lower the error from scratch, at equal time; the same for every target.
        methods: The applicable ``METHODS``.
        lora_lr_factor: Factor of the learning rate of low-rank updates, chosen on validation sets.
    """

    title: str
    sizes: tuple[int, ...]
    bar: float
    methods: tuple[str, ...]
    lora_lr_factor: float

    def run(self, job: Job, root: Path, folder: Path) -> Row | list[Row]:
        """Train and test; files go into the folder, data come from the root.

        Returns:
            One row, or one a target, with its name as ``target`` and its unit as ``unit``.
        """


class AcetylacetoneForces:
    """DFT forces of acetylacetone: another level of theory than the base's."""

    title, target, unit = "acetylacetone, DFT (300 K)", "forces", "meV/A"
    sizes, bar, methods = (50, 200), 0.4, tuple(name for name in METHODS if name != FROM_POTENTIAL)
    lora_lr_factor = 10.0

    def run(self, job: Job, root: Path, folder: Path) -> Row:
        """See ``Problem``."""
        data = folder / "data"
        self.prepare(job, root, data)
        settings: dict[str, Any] = {
            "data.train": data / "train.xyz", "data.valid": data / "valid.xyz", "data.test": data / "test.xyz",
            "run.output": folder / "run", "run.max_minutes": job.minutes, "run.clock": "cpu", "run.max_epochs": 100_000,
            "run.batch_size": 5, "run.seed": job.seed,
        }  # fmt: skip
        words = ["train"]
        chosen = METHODS[job.method]
        if chosen is None:
            settings |= architecture(job.base)
        else:
            words = ["finetune", str(job.base)]
            settings |= settings_of(chosen, self.lora_lr_factor)
            if job.old is not None:
                settings["finetune.replay" if job.method == "replay" else "finetune.old_domain"] = job.old
        config = folder / "config.yaml"
        config.write_text("{}\n")
        words += [str(config), *(f"--{key}={value}" for key, value in settings.items()), *job.options]
        if command([*words, "--resume"]):
            raise RuntimeError(f"training of {job.method!r} with {job.train_size} structures failed")
        return self.row(job, folder / "run")

    def row(self, job: Job, run: Path) -> Row:
        """The numbers of a finished run."""
        metrics = json.loads((run / "metrics.json").read_text())
        report = run / "finetune.json"
        tuned = json.loads(report.read_text()) if report.exists() else {}
        total = count_weights(run / "model.safetensors")
        old = tuned.get("errors", {}).get("old domain")
        return {
            "method": job.method, "target": self.target, "train_size": job.train_size, "seed": job.seed,
            "mae": metrics["test"]["force_mae_meV_per_A"], "unit": self.unit,
            "energy_mae_meV_per_atom": metrics["test"]["energy_mae_meV_per_atom"],
            "train_seconds": metrics["seconds"], "epochs": metrics["epochs"],
            "parameters": tuned.get("trained_parameters", total), "all_parameters": total,
            "before": tuned.get("errors", {}).get("test", {}).get("before", {}).get("force_mae_meV_per_A"),
            "old_before": old and old["before"]["force_mae_meV_per_A"],
            "old_after": old and old["after"]["force_mae_meV_per_A"],
        }  # fmt: skip

    def prepare(self, job: Job, root: Path, data: Path) -> None:
        """Write train, valid and test; frames are spread evenly over the published training set.

        Isolated atoms are left out, because a model from scratch would have to learn 4 eV/atom of binding first.
        """
        if (data / "test.xyz").exists():
            return
        data.mkdir(parents=True, exist_ok=True)
        source = root / "acac_3bpa_ethanol" / "dataset_acac"
        frames, test = read(source / "train_300K.xyz.gz", ":"), read(source / "test_MD_300K.xyz.gz", ":")
        valid = frames[job.seed :: 10]
        rest = [atoms for number, atoms in enumerate(frames) if number % 10 != job.seed % 10]
        train = [rest[round((number + 0.5) * len(rest) / job.train_size)] for number in range(job.train_size)]
        for name, part in (("train", train), ("valid", valid), ("test", test)):
            write(data / f"{name}.xyz", [labeled(atoms) for atoms in part], format="extxyz")


class QM9Properties:
    """Three properties of QM9 by DFT, learned together, from the base model of properties (GFN2-xTB) or the potential.

    The test molecules are those of the paper's split, whatever the size of the training set; molecules whose bonds are
    not found are left out where the graph has bonds.
    """

    title, targets = "QM9", {"U0_atom": "eV", "homo": "eV", "mu": "D"}
    sizes, bar, methods = (500, 2000), 0.3, tuple(name for name in METHODS if name != "replay")
    lora_lr_factor = 5.0

    def run(self, job: Job, root: Path, folder: Path) -> list[Row]:
        """See ``Problem``."""
        settings: dict[str, Any] = {
            "data.train": root / "qm9" / "qm9_dev.npz", "data.targets": json.dumps(list(self.targets)),
            "data.split": "paper", "data.train_size": job.train_size, "data.valid": 1000, "data.test": 2000,
            "data.on_failure": "skip",
            "run.output": folder / "run", "run.max_minutes": job.minutes, "run.clock": "cpu", "run.max_epochs": 100_000,
            "run.batch_size": 16, "run.seed": job.seed,
        }  # fmt: skip
        chosen = METHODS[job.method]
        base = job.base if job.method == FROM_POTENTIAL else job.properties
        words = ["train"] if chosen is None else ["finetune", str(base)]
        settings |= body(job.base) if chosen is None else settings_of(chosen, self.lora_lr_factor)
        words += [f"--{key}={value}" for key, value in settings.items()]
        if command([*words, *job.options, "--resume"]):
            raise RuntimeError(f"training of {job.method!r} with {job.train_size} molecules failed")
        return self.rows(job, folder / "run")

    def rows(self, job: Job, run: Path) -> list[Row]:
        """The numbers of a finished run, in thousandths of the targets' units."""
        metrics = json.loads((run / "metrics.json").read_text())
        report = run / "finetune.json"
        tuned = json.loads(report.read_text()) if report.exists() else {}
        before = tuned.get("errors", {}).get("test", {}).get("before", {})
        total = metrics["parameters"]
        return [
            {
                "method": job.method, "target": name, "train_size": job.train_size, "seed": job.seed,
                "mae": 1000 * metrics["test"][f"{name}_mae_{unit}"], "unit": f"m{unit}",
                "train_seconds": metrics["seconds"], "epochs": metrics["epochs"],
                "parameters": tuned.get("trained_parameters", total), "all_parameters": total,
                "head_parameters": tuned.get("head_parameters"),
                "before": 1000 * before[f"{name}_mae_{unit}"] if before else None,
            }
            for name, unit in self.targets.items()
        ]  # fmt: skip


PROBLEMS: dict[str, Problem] = {"acac": AcetylacetoneForces(), "qm9": QM9Properties()}


def settings_of(method: dict[str, Any], lora_lr_factor: float) -> dict[str, Any]:
    """Settings of a method of fine-tuning, with the factor of the learning rate for low-rank updates."""
    return method | ({"finetune.lora_lr_factor": lora_lr_factor} if method.get("finetune.method") == "lora" else {})


def architecture(base: Path) -> dict[str, Any]:
    """Settings of a new model like the base, except for its elements."""
    config = read_model_info(base)["config"]
    names = ("r_max", "num_channels", "num_layers", "l_max", "l_features", "correlation")
    return {f"model.{name}": config[name] for name in names}


def body(base: Path) -> dict[str, Any]:
    """Settings of a new model of properties whose body is like the base."""
    config = read_model_info(base)["config"]
    edges = "both" if "bond_types" in config["inputs"] else "radius"
    potential = {name: value for name, value in config.items() if name not in ("species", "r_max")}
    return {"model.edges": edges, "model.r_max": config["r_max"], "model.potential": json.dumps(potential)}


def count_weights(path: Path) -> int:
    """Number of weights of the model in a file."""
    from ik_e3nn.models import load_model

    return sum(parameter.numel() for parameter in load_model(path).parameters())


def labeled(atoms: Atoms) -> Atoms:
    """A copy with only the structure and labels under the usual names."""
    copy = Atoms(atoms.numbers, atoms.positions)
    copy.info["REF_energy"] = float(atoms.get_potential_energy())
    copy.arrays["REF_forces"] = atoms.get_forces(apply_constraint=False)
    return copy
