"""Checks of the base model on molecules that it was not trained on."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.data import chemical_symbols
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from base_model.frames import labeled, relaxation
from ik_e3nn.data import StructureDataset, conformers
from ik_e3nn.data.generation.labeling import Labeler, LabelError, make_calculator
from ik_e3nn.graph import build_graph, get_bonds
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.sets.loader import collate
from ik_e3nn.training.sets.prepare import LabeledSet
from ik_e3nn_calculators import IKCalculator


def errors_by_kind(model: InteratomicPotential, data: LabeledSet) -> dict[str, dict[str, float]]:
    """Errors for each kind of frame."""
    kinds = [str(atoms.info["config_type"]) for atoms in data.structures]
    result = {}
    for kind in sorted(set(kinds)):
        part = data.select([index for index, name in enumerate(kinds) if name == kind])
        graphs = StructureDataset(part, model.r_max, dtype=model.dtype)
        result[kind] = {"frames": len(part.structures), **predict(model, graphs).errors}
    return result


def single_atoms(model: InteratomicPotential) -> dict[str, float]:
    """The model's energies of isolated atoms minus their E0s, in eV, by symbol."""
    known = zip(model.species, model.atomic_energy.reference.tolist(), strict=True)
    return {
        chemical_symbols[z]: Atoms([z], calculator=IKCalculator(model)).get_potential_energy() - reference
        for z, reference in known
    }


def survival(
    model: InteratomicPotential, smiles: Sequence[str], *, temperature: float, picoseconds: float, timestep: float = 0.5
) -> dict[str, Any]:
    """Langevin dynamics of all molecules in one batch, from force-field geometries.

    A molecule survives if all its bonds always stay between 0.5 and 1.6 times their length at the start. All pairs of
    atoms of a molecule are edges: pairs beyond the cutoff add exact zeros, so that no list has to be rebuilt.
    """
    starts = [conformers(name, 1, seed=1)[0] for name in smiles]
    graph = collate([_all_pairs(atoms, model) for atoms in starts])
    sizes = np.array([len(atoms) for atoms in starts])
    first = np.cumsum(sizes) - sizes
    bonds = np.concatenate([get_bonds(atoms)[:, :2] + offset for atoms, offset in zip(starts, first, strict=True)])
    owner = np.repeat(np.arange(len(starts)), sizes)[bonds[:, 0]]
    masses = np.concatenate([atoms.get_masses() for atoms in starts])[:, None]
    rng, dt, friction = np.random.default_rng(0), timestep * units.fs, 0.01 / units.fs
    x = graph["positions"].double().numpy().copy()
    reference = _lengths(x, bonds)
    p = np.sqrt(masses * units.kB * temperature) * rng.normal(size=x.shape)
    decay, alive = np.exp(-friction * dt), np.ones(len(starts), dtype=bool)
    noise = np.sqrt((1 - decay**2) * masses * units.kB * temperature)
    forces, begin = _forces(model, graph, x), time.perf_counter()
    for step in tqdm(range(round(1000 * picoseconds / timestep)), desc="dynamics"):
        p = p + 0.5 * dt * forces
        x = x + 0.5 * dt * p / masses
        p = decay * p + noise * rng.normal(size=p.shape)
        x = x + 0.5 * dt * p / masses
        forces = np.nan_to_num(_forces(model, graph, x))
        p = p + 0.5 * dt * forces
        if step % 20 == 0:
            ratio = _lengths(x, bonds) / reference
            alive[np.unique(owner[~((ratio > 0.5) & (ratio < 1.6))])] = False
    return {
        "molecules": len(starts), "survived": int(alive.sum()), "temperature_K": temperature, "time_ps": picoseconds,
        "lost": [name for name, fine in zip(smiles, alive, strict=True) if not fine],
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def relaxations(model: InteratomicPotential, smiles: Sequence[str], calculator: str) -> dict[str, Any]:
    """Distances between the minima that model and reference method reach from the same force-field geometry."""
    rows = []
    for name in tqdm(smiles, desc="relaxations"):
        start = conformers(name, 1, seed=1)[0]
        try:
            reference = relaxation(start, Labeler(make_calculator(calculator, 0, 1)), fmax=0.01, steps=400)[-1]
        except LabelError:
            continue
        atoms = start.copy()
        atoms.calc = IKCalculator(model, device="cpu")
        BFGS(atoms, logfile=None).run(fmax=0.01, steps=400)
        rows.append({"smiles": name, "rmsd_A": rmsd(atoms.positions, reference.positions)})
    values = [row["rmsd_A"] for row in rows]
    within = sum(value <= 0.1 for value in values)
    return {"molecules": len(rows), "within_0.1_A": within, "median_A": float(np.median(values)), "rows": rows}


def rmsd(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square distance (A) of all atoms after the best rotation and translation."""
    a, b = first - first.mean(0), second - second.mean(0)
    return float(Rotation.align_vectors(a, b)[1] / np.sqrt(len(a)))


def reference_frames(smiles: Sequence[str], calculator: str) -> list[Atoms]:
    """Force-field geometries with labels, for a quick check."""
    labeler = Labeler(make_calculator(calculator, 0, 1))
    frames = [labeled(conformers(name, 1)[0], labeler, "force field", name) for name in smiles]
    return [frame for frame in frames if frame is not None]


def _all_pairs(atoms: Atoms, model: InteratomicPotential) -> dict[str, torch.Tensor]:
    index = np.array([(i, j) for j in range(len(atoms)) for i in range(len(atoms)) if i != j]).T.reshape(2, -1)
    graph = build_graph(
        Atoms(atoms.numbers, atoms.positions), model.r_max, dtype=model.dtype, bonds=[],
        pairs=(index, np.zeros((index.shape[1], 3))),
    )  # fmt: skip
    keys = ("positions", "atomic_numbers", "edge_index", "edge_shifts", "cell", "pbc")
    return {key: graph[key] for key in keys}


def _forces(model: InteratomicPotential, graph: dict[str, torch.Tensor], x: np.ndarray) -> np.ndarray:
    return model({**graph, "positions": torch.from_numpy(x)}, forces=True)["forces"].double().numpy()


def _lengths(x: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[bonds[:, 0]] - x[bonds[:, 1]], axis=1)
