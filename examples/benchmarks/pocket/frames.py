"""Frames of a ligand in a rigid pocket, from a cheap stand-in or from a model, and their labels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers, rdPartialCharges
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from ik_e3nn.data import atoms_from_mol
from ik_e3nn.data.generation.info_calculator import InfoCalculator
from ik_e3nn.data.generation.labeling import Labeler
from ik_e3nn.data.generation.steele import UFF
from pocket.cut import Pocket

COULOMB = 14.399645  # eV A, of two elementary charges
POLAR = (1.2, 0.0157)  # minimum (A) and well (kcal/mol) of hydrogens at nitrogen or oxygen, as in AMBER
NEAREST = 0.65  # minima; nearer atoms repel with a constant force, so that poses can start with contacts
TEMPERATURE, TIMESTEP, INTERVAL = 300.0, 1.0, 20  # K, fs, steps
SHIFT = 1.5  # A, of the center of random poses
CONTACT = 1.2  # A; random poses do not begin closer than this to the pocket
LAST = 8  # steps, with the model of the ligand alone
LONGEST = 100  # steps down from contacts; poses that still have some are not used
WAY = (8, 12, 20)  # steps of relaxations between frames
FAR = 40.0  # A
ROOM = 0.2  # A, longest step of a descent
Floats = NDArray[np.float64]


class StandIn(InfoCalculator):
    """A potential of the ligand alone, and van der Waals forces and charges between ligand and pocket.

    Radii and wells are those of the universal force field, charges those of Gasteiger.

    Args:
        pocket: The pocket.
        alone: The calculator of the ligand alone.
    """

    def __init__(self, pocket: Pocket, alone: BaseCalculator) -> None:
        super().__init__()
        self.alone, self.places = alone, pocket.host.positions
        (x, d, q), (y, e, p) = parameters(pocket.ligand), parameters(pocket.molecule)
        self.minimum, self.well = np.sqrt(np.outer(x, y)), np.sqrt(np.outer(d, e)) * units.kcal / units.mol
        self.charges = COULOMB * np.outer(q, p)

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy and forces."""
        vectors = atoms.positions[:, None] - self.places
        r = np.linalg.norm(vectors, axis=2)
        near = np.maximum(r, NEAREST * self.minimum)
        s = (self.minimum / near) ** 6
        slope = (12 * self.well * (s - s**2) - self.charges / near) / near
        energy = self.well * (s**2 - 2 * s) + self.charges / near + slope * (r - near)
        forces = -((slope / r)[:, :, None] * vectors).sum(axis=1)
        return {
            "energy": float(energy.sum()) + self.alone.get_property("energy", atoms),
            "forces": forces + self.alone.get_property("forces", atoms),
        }

    def touches(self, atoms: Atoms) -> bool:
        """Whether an atom is so near to the pocket that it repels with a constant force."""
        return bool((cdist(atoms.positions, self.places) < NEAREST * self.minimum).any())


class ForceField(InfoCalculator):
    """MMFF94 of a molecule.

    Args:
        molecule: The molecule.
    """

    def __init__(self, molecule: Chem.Mol) -> None:
        super().__init__()
        molecule = Chem.Mol(molecule)
        self.field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
            molecule, rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule)
        )

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy and forces."""
        unit, places = units.kcal / units.mol, atoms.positions.ravel().tolist()
        return {
            "energy": self.field.CalcEnergy(places) * unit,
            "forces": -np.array(self.field.CalcGrad(places)).reshape(-1, 3) * unit,
        }


def parameters(molecule: Chem.Mol) -> tuple[Floats, Floats, Floats]:
    """Distances (A) and wells (kcal/mol) of the universal force field, and charges (e), of all atoms, (n,) each."""
    rdPartialCharges.ComputeGasteigerCharges(molecule)
    rows = []
    for atom in molecule.GetAtoms():
        polar = atom.GetSymbol() == "H" and atom.GetNeighbors()[0].GetSymbol() in ("N", "O")
        rows.append((*(POLAR if polar else UFF[atom.GetSymbol()]), atom.GetDoubleProp("_GasteigerCharge")))
    x, d, q = np.array(rows).T
    return x, d, q


def dynamics(start: Atoms, calculator: BaseCalculator, count: int, seed: int) -> list[Atoms]:
    """Frames of Langevin dynamics in the pocket, from a start that is cooled down first."""
    rng = np.random.default_rng(seed)
    atoms = descended(start, calculator, 100)
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=rng)
    steps = Langevin(
        atoms, TIMESTEP * units.fs, temperature_K=TEMPERATURE, friction=0.02 / units.fs, fixcm=False, rng=rng
    )
    frames = []
    for _ in tqdm(range(count), desc="dynamics", unit="frame"):
        steps.run(INTERVAL)
        frames.append(bare(atoms))
    return frames


def descents(pocket: Pocket, alone: BaseCalculator, count: int, seed: int) -> list[Atoms]:
    """Random poses in the pocket: steps down until there are no contacts, then a random number of further steps.

    Most steps are with MMFF94 for the ligand alone, the last ones with a given calculator for it.
    """
    rng = np.random.default_rng(seed)
    calculator, last = StandIn(pocket, ForceField(pocket.ligand)), StandIn(pocket, alone)
    frames: list[Atoms] = []
    with tqdm(total=count, desc="random poses", unit="pose") as bar:
        while len(frames) < count:
            pose = random_pose(pocket, rng)
            for _ in range(LONGEST // 10):
                if calculator.touches(pose):
                    pose = descended(pose, calculator, 10)
            if not calculator.touches(pose):
                pose = descended(pose, calculator, int(rng.integers(LONGEST // 2)))
                frames.append(descended(pose, last, LAST))
                bar.update()
    return frames


def random_pose(pocket: Pocket, rng: np.random.Generator) -> Atoms:
    """The ligand turned at random, its center shifted, without the closest contacts."""
    ligand = atoms_from_mol(pocket.ligand)
    while True:
        pose = ligand.copy()
        pose.positions = Rotation.random(rng=rng).apply(ligand.positions - ligand.positions.mean(axis=0))
        direction = rng.normal(size=3)
        pose.positions += SHIFT * rng.random() ** (1 / 3) * direction / np.linalg.norm(direction)
        if cdist(pose.positions, pocket.host.positions).min() > CONTACT:
            return bare(pose)


def descended(start: Atoms, calculator: BaseCalculator, steps: int) -> Atoms:
    """The structure after steps downhill, none longer than 0.2 A."""
    atoms, step = bare(start), 0.01
    atoms.calc = calculator
    for _ in range(steps):
        forces = atoms.get_forces()
        atoms.positions += forces * min(step, ROOM / np.linalg.norm(forces, axis=1).max())
    return bare(atoms)


def bare(atoms: Atoms) -> Atoms:
    """Elements and positions only."""
    return Atoms(atoms.numbers, atoms.positions)


def far(frames: Sequence[Atoms]) -> list[Atoms]:
    """The frames, moved to where nothing of the pocket is felt."""
    return [Atoms(atoms.numbers, atoms.positions + np.array([FAR, 0.0, 0.0])) for atoms in frames]


class Labels:
    """Labels of frames in a file, in which those of a run that was killed are found again.

    Energies are those of pocket and ligand without that of the pocket. ``interaction`` (eV) and ``pull`` (eV/A) are
    energy and forces without those of the ligand alone.

    Args:
        host: The rigid pocket.
        make: Makes the reference; that of the ligand alone is another one, because each begins from its last result.
    """

    def __init__(self, host: Atoms, make: Callable[[], BaseCalculator]) -> None:
        self.host, self.reference, self.reference_alone = host, Labeler(make()), Labeler(make())
        self.of_host: float | None = None

    def __call__(self, frames: Sequence[Atoms], path: Path) -> list[Atoms]:
        """The labeled frames, also written to a file."""
        partial = path.with_suffix(".partial.xyz")
        known = list(ase.io.read(partial, ":")) if partial.exists() else []
        for atoms in tqdm(frames[len(known) :], desc=path.stem, unit="label"):
            known.append(self.label(atoms))
            ase.io.write(partial, known[-1], append=True, format="extxyz")
        partial.replace(path)
        return known

    def label(self, atoms: Atoms) -> Atoms:
        """One frame with labels."""
        if self.of_host is None:
            self.of_host = self.reference.label(bare(self.host)).energy
        alone = self.reference_alone.label(bare(atoms))
        both = self.reference.label(bare(self.host) + bare(atoms))
        forces = both.forces[len(self.host) :]
        labeled = bare(atoms)
        labeled.info["REF_energy"] = both.energy - self.of_host
        labeled.info["interaction"] = labeled.info["REF_energy"] - alone.energy
        labeled.arrays["REF_forces"] = forces
        labeled.arrays["pull"] = forces - alone.forces
        return labeled


def relaxations(pocket: Pocket, calculator: BaseCalculator, count: int, seed: int) -> list[Atoms]:
    """What a model passes through on its way down from random poses without contacts: three frames of each way."""
    rng = np.random.default_rng(seed)
    loose = StandIn(pocket, ForceField(pocket.ligand))
    frames: list[Atoms] = []
    with tqdm(total=count, desc="relaxations", unit="frame") as bar:
        while len(frames) < count:
            pose = random_pose(pocket, rng)
            for _ in range(LONGEST // 10):
                if loose.touches(pose):
                    pose = descended(pose, loose, 10)
            if loose.touches(pose):
                continue
            for steps in WAY:
                pose = descended(pose, calculator, steps)
                frames.append(pose)
            bar.update(len(WAY))
    return frames[:count]
