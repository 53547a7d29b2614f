"""The data sets: which frames train, validate and test, and the energies of isolated atoms."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols
from ase.io import read, write

from ik_e3nn.graph import neighbor_list

R_MAX = 5.0
FILES = ("train", "valid", "test")


@dataclass(frozen=True)
class DataSet:
    """One set of labeled frames.

    Args:
        title: Name in the report.
        split: How the frames are divided, in words.
        stress: Whether stress is trained on.
    """

    title: str
    split: str
    stress: bool = False


SETS = {
    "acac": DataSet("acetylacetone, 300 K", "train_300K: every 10th frame validates (450 + 50); test_MD_300K: 650"),
    "aspirin": DataSet("rMD17 aspirin", "published split 1: first 950 train, last 50 validate; its 1,000 test frames"),
    "silicon": DataSet(
        "silicon crystals, surfaces, vacancies",
        "Si_training: every 10th validates (193 + 21); Si_test: 25",
        stress=True,
    ),
    "ecemc": DataSet("EC/EMC liquid", "every 10th frame tests, every 10th (offset 5) validates (160 + 20 + 20)"),
}


def load(name: str, root: Path) -> tuple[dict[str, list[Atoms]], dict[str, float]]:
    """Frames of a set, divided, and energies of its isolated atoms if available.

    Args:
        name: Key of ``SETS``.
        root: Folder of the data.

    Returns:
        Frames by "train", "valid" and "test", with labels in a calculator; E0 (eV) by symbol, or empty.
    """
    if name == "acac":
        folder = root / "acac_3bpa_ethanol" / "dataset_acac"
        rest, test = read(folder / "train_300K.xyz.gz", ":"), read(folder / "test_MD_300K.xyz.gz", ":")
        return _every_tenth(rest) | {"test": test}, _isolated(read(folder / "isolated_atoms.xyz.gz", ":"))
    if name == "aspirin":
        with np.load(root / "rmd17" / "rmd17_aspirin.npz") as data:
            train, test = (rmd17(data, data[key]) for key in ("train_1", "test_1"))
        return {"train": train[:950], "valid": train[950:], "test": test}, {}
    if name == "silicon":
        rest, test = (read(root / "crystals" / f"Si_{part}.extxyz.gz", ":") for part in ("training", "test"))
        return _every_tenth(rest) | {"test": test}, {}
    frames = read(root / "liquids" / "ECEMC.xyz.gz", ":")
    boxes = [atoms for atoms in frames if len(atoms) > 1]
    return _every_tenth(boxes, test=True), _isolated([atoms for atoms in frames if len(atoms) == 1])


def prepare(name: str, root: Path, folder: Path, energies: str) -> None:
    """Write train.xyz, valid.xyz, test.xyz and set.json of a set, unless they exist.

    Args:
        name: Key of ``SETS``.
        root: Folder of the data.
        folder: Where to write.
        energies: "isolated": E0 of isolated atoms where the set has them; "fit": always least squares.
    """
    if (folder / "set.json").exists():
        return
    parts, isolated = load(name, root)
    folder.mkdir(parents=True, exist_ok=True)
    for part in FILES:
        write(folder / f"{part}.xyz", [labeled(atoms, SETS[name].stress) for atoms in parts[part]], format="extxyz")
    use_isolated = bool(isolated) and energies == "isolated"
    summary = {
        "E0s": isolated if use_isolated else _fitted(parts["train"]),
        "E0s_from": "isolated atoms" if use_isolated else "least squares over the training frames",
        "frames": {part: len(parts[part]) for part in FILES},
        "edges_per_frame": {part: float(np.mean([count_edges(atoms) for atoms in parts[part]])) for part in FILES},
    }
    (folder / "set.json").write_text(json.dumps(summary, indent=1))


def count_edges(atoms: Atoms) -> int:
    """Directed edges within the cutoff that all models share."""
    return int(neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, R_MAX)[0].shape[1])


def _every_tenth(frames: Sequence[Atoms], test: bool = False) -> dict[str, list[Atoms]]:
    """Frames divided by their position in the file, so that every part has all temperatures and kinds."""
    parts: dict[str, list[Atoms]] = {"train": [], "valid": [], "test": []}
    for number, atoms in enumerate(frames):
        part = {0: "test" if test else "train", 5: "valid"}.get(number % 10, "train")
        parts[part].append(atoms)
    return parts


def rmd17(data: Mapping[str, np.ndarray], indices: np.ndarray) -> list[Atoms]:
    """Frames of a file of rMD17, which is in kcal/mol and A, with labels in a calculator, in eV and A."""
    from ase.calculators.singlepoint import SinglePointCalculator

    unit = units.kcal / units.mol
    frames = []
    for i in indices:
        atoms = Atoms(numbers=data["Z"], positions=data["R"][i])
        atoms.calc = SinglePointCalculator(atoms, energy=data["E"][i] * unit, forces=data["F"][i] * unit)
        frames.append(atoms)
    return frames


def labeled(atoms: Atoms, stress: bool) -> Atoms:
    """A copy with only the structure and labels, under the names that all packages use."""
    copy = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.info["REF_energy"] = float(atoms.get_potential_energy())
    copy.arrays["REF_forces"] = atoms.get_forces(apply_constraint=False)
    if stress:
        copy.info["REF_stress"] = atoms.get_stress(voigt=False)
    return copy


def _isolated(frames: Sequence[Atoms]) -> dict[str, float]:
    return {str(atoms.symbols[0]): float(atoms.get_potential_energy()) for atoms in frames}


def _fitted(frames: Sequence[Atoms]) -> dict[str, float]:
    numbers = sorted({int(z) for atoms in frames for z in atoms.numbers})
    counts = np.array([[np.count_nonzero(atoms.numbers == z) for z in numbers] for atoms in frames])
    values = np.linalg.lstsq(counts, np.array([atoms.get_potential_energy() for atoms in frames]), rcond=None)[0]
    return {chemical_symbols[z]: float(value) for z, value in zip(numbers, values, strict=True)}
