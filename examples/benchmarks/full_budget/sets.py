"""The sets: frames, settings that differ from the defaults, and published errors."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from potentials import sets as compared

ROOM = "acac_3bpa_ethanol"


@dataclass(frozen=True)
class Published:
    """Errors from the literature, in meV for a whole molecule and meV/A.

    Args:
        model: Name and size.
        energy: Error of energies.
        force: Error of force components.
    """

    model: str
    energy: float
    force: float


@dataclass(frozen=True)
class FullSet:
    """A set of labeled frames.

    Args:
        title: Name in the report.
        split: How the frames are divided, in words.
        atoms: Atoms of the molecule; None for a set of different structures.
        kind: Which errors are published: "rmse" or "mae".
        published: Published errors with the same training frames.
        loss: Settings of the loss that differ from the defaults.
        batch_size: Structures in a step.
    """

    title: str
    split: str
    atoms: int | None
    kind: str = "mae"
    published: tuple[Published, ...] = ()
    loss: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 5


SETS = {
    "acac": FullSet(
        "acetylacetone, 300 K",
        "train_300K: every 10th frame validates (450 + 50); test_MD_300K: 650",
        15,
        "rmse",
        (Published("MACE", 0.9, 5.1), Published("NequIP", 0.81, 5.9), Published("BOTNet", 0.89, 6.3)),
    ),
    "aspirin": FullSet(
        "aspirin, rMD17",
        "published split 1: first 950 train, last 50 validate; its 1,000 test frames",
        21,
        "mae",
        (Published("MACE", 2.2, 6.6), Published("NequIP", 2.3, 8.2)),
    ),
    "ethanol": FullSet(
        "ethanol, rMD17",
        "published split 1: first 950 train, last 50 validate; its 1,000 test frames",
        9,
        "mae",
        (Published("MACE", 0.4, 2.1), Published("NequIP", 0.4, 2.8)),
    ),
    "ethanol_dft": FullSet(
        "ethanol with PBE/def2-SVP from Orca", "train.xyz: every 20th frame validates (950 + 50); test_MD: 1,000", 9
    ),
    "silicon": FullSet(
        "silicon crystals, surfaces, vacancies",
        "Si_training: every 10th validates (193 + 21); Si_test: 25",
        None,
        loss={"forces_weight": 10.0, "stress_weight": 100.0},
        batch_size=2,
    ),
}


def load(name: str, root: Path) -> dict[str, list[Atoms]]:
    """Labeled frames of a set by "train", "valid" and "test", with ``REF_energy`` (eV) and ``REF_forces`` (eV/A).

    Args:
        name: Key of ``SETS``.
        root: Folder of the data.
    """
    if name == "ethanol":
        with np.load(root / "rmd17" / "rmd17_ethanol.npz") as data:
            train, test = (compared.rmd17(data, data[key]) for key in ("train_1", "test_1"))
        parts = {"train": train[:950], "valid": train[950:], "test": test}
    elif name == "ethanol_dft":
        train, test = (read(root / ROOM / "dataset_ethanol" / f"{part}.xyz.gz", ":") for part in ("train", "test_MD"))
        parts = {"train": [a for i, a in enumerate(train) if i % 20], "valid": train[::20], "test": test}
    else:
        parts, _ = compared.load(name, root)
    stress = "stress_weight" in SETS[name].loss
    return {part: [compared.labeled(atoms, stress) for atoms in frames] for part, frames in parts.items()}
