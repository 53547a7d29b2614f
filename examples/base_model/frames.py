"""Labeled frames of one molecule: relaxations, dynamics, rattled, strained and dissociated."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers, ground_state_magnetic_moments
from ase.optimize import BFGS
from rdkit.Chem import rdForceFieldHelpers

from ik_e3nn.data import conformers
from ik_e3nn.data.generation.labeling import Labeler, LabelError, make_calculator
from ik_e3nn.data.generation.langevin import LangevinSampler
from ik_e3nn.data.generation.sampling import Origin
from ik_e3nn.data.structures.molecules import mol_from_atoms
from ik_e3nn.errors import DataError
from ik_e3nn.graph import get_bonds

ELEMENTS = ("H", "C", "N", "O", "F", "S", "Cl")
LARGEST_FORCE = 25.0  # eV/A; larger forces do not occur in simulations

log = logging.getLogger("base_model")


@dataclass(frozen=True)
class Plan:
    """The number of frames of each kind, and the method that moves the atoms between them.

    Single points are cheap, but good geometries are not: for training on many molecules, dynamics use a force field and
    relaxations are cut short; for testing on few, both use the reference method, and relaxations run to their end.

    Args:
        calculator: Reference method, see ``ik_e3nn.data.generation.labeling.make_calculator``.
        dynamics: What moves the atoms at each temperature: "force field" or "reference".
        relaxation: Largest number of steps towards the minimum of the reference method.
        on_the_way: Steps of the relaxation that become frames, besides the last.
        temperatures: Temperatures of the dynamics in K.
        md: Frames at each temperature.
        interval: Steps of 1 fs between frames.
        equilibration: Steps before the first frame.
        rattled: Frames with random displacements.
        stretched: Frames with one bond shortened, stretched or broken.
        scaled: Frames that are compressed or expanded.
    """

    calculator: str = "gfn2-xtb"
    dynamics: Literal["force field", "reference"] = "force field"
    relaxation: int = 25
    on_the_way: tuple[int, ...] = (3, 10)
    temperatures: tuple[float, ...] = (300.0, 600.0, 1000.0)
    md: int = 1
    interval: int = 20
    equilibration: int = 60
    rattled: int = 1
    stretched: int = 1
    scaled: int = 1

    def for_tests(self) -> "Plan":
        """The plan for test frames: minima and dynamics of the reference method."""
        return replace(self, dynamics="reference", relaxation=200, on_the_way=(), md=2, rattled=2, stretched=2)


class ForceField(Calculator):
    """MMFF94 by RDKit, or UFF if MMFF94 lacks parameters: used for geometries, never for labels.

    Args:
        molecule: The molecule, with its bonds.
    """

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, molecule: Atoms) -> None:
        super().__init__()
        self.molecule = mol_from_atoms(molecule, get_bonds(molecule))
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(self.molecule)
        self.field = (
            rdForceFieldHelpers.UFFGetMoleculeForceField(self.molecule)
            if properties is None
            else rdForceFieldHelpers.MMFFGetMoleculeForceField(self.molecule, properties)
        )

    def calculate(self, atoms: Atoms | None = None, properties: Any = (), system_changes: Any = all_changes) -> None:
        """Energy in eV and forces in eV/A; see ``ase.calculators.calculator.Calculator``."""
        super().calculate(atoms, properties, system_changes)
        x, unit = self.atoms.positions.ravel().tolist(), units.kcal / units.mol
        energy = self.field.CalcEnergy(x)  # must be first: RDKit's gradient uses the distances of the last energy
        gradient = np.array(self.field.CalcGrad(x)).reshape(-1, 3)
        self.results = {"energy": energy * unit, "forces": -gradient * unit}


def frames_of(smiles: str, plan: Plan) -> list[Atoms]:
    """All frames of a molecule; frames that cannot be labeled are left out."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(smiles.encode()).digest()[:4], "big"))
    try:
        start, *others = conformers(smiles, 2, seed=0)
        labeler = Labeler(make_calculator(plan.calculator, 0, 1))
        path = relaxation(start, labeler, steps=plan.relaxation)
        mover = labeler if plan.dynamics == "reference" else Labeler(ForceField(start))
    except (DataError, LabelError) as error:
        log.warning("%s is left out: %s", smiles, error)
        return []
    minimum = path[-1]
    chosen = [*_dynamics(minimum if plan.dynamics == "reference" else [start, *others][-1], mover, plan, rng)]
    chosen += [("minimum" if len(path) <= plan.relaxation else "on the way", minimum)]  # converged, or out of steps
    chosen += [("force field", atoms) for atoms in [start, *others]]
    chosen += [("on the way", path[step]) for step in plan.on_the_way if step < len(path) - 1]
    chosen += [("rattled", _rattled(minimum, amplitude, rng)) for amplitude in rng.uniform(0.03, 0.15, plan.rattled)]
    chosen += [("stretched", atoms) for _ in range(plan.stretched) if (atoms := _stretched(minimum, rng)) is not None]
    chosen += [("scaled", _rattled(_scaled(minimum, rng), 0.03, rng)) for _ in range(plan.scaled)]
    return [frame for kind, atoms in chosen if (frame := labeled(atoms, labeler, kind, smiles)) is not None]


def isolated_atoms(calculator: str) -> list[Atoms]:
    """An isolated atom of every element, in its ground state."""
    frames = []
    for symbol in ELEMENTS:
        spin = round(ground_state_magnetic_moments[atomic_numbers[symbol]]) + 1
        labels = Labeler(make_calculator(calculator, 0, spin)).label(Atoms(symbol))
        frames.append(Atoms(symbol, info={"REF_energy": labels.energy, "config_type": "IsolatedAtom"}))
        frames[-1].arrays["REF_forces"] = labels.forces
    return frames


def atoms_apart(alone: list[Atoms], copies: int) -> list[Atoms]:
    """Pairs of atoms too far apart to interact: zero forces, and the sum of both energies."""
    rng, frames = np.random.default_rng(0), []
    for first, second in copies * [*combinations_with_replacement(alone, 2)]:
        pair = first + second
        pair.positions = [[0.0, 0.0, 0.0], [0.0, 0.0, rng.uniform(6.0, 12.0)]]
        pair.info = {
            "config_type": "atoms", "smiles": "atoms",
            "REF_energy": first.info["REF_energy"] + second.info["REF_energy"],
        }  # fmt: skip
        pair.arrays["REF_forces"] = np.zeros((2, 3))
        frames.append(pair)
    return frames


def relaxation(start: Atoms, labeler: Labeler, *, fmax: float = 0.03, steps: int = 200) -> list[Atoms]:
    """The structures from the start to the nearest minimum of the reference method."""
    atoms, path = start.copy(), []
    labeler.forget()
    labeler.forces(atoms)  # a failure here has a clear message
    atoms.calc = labeler.calculator
    try:
        for _ in BFGS(atoms, logfile=None).irun(fmax=fmax, steps=steps):
            path.append(start.copy())
            path[-1].positions = atoms.positions
    except Exception as error:
        raise LabelError(f"relaxation: {error}") from error
    return path


def labeled(atoms: Atoms, labeler: Labeler, kind: str, smiles: str) -> Atoms | None:
    """A frame with labels, or None if the method fails or forces are too large."""
    labeler.forget()
    try:
        labels = labeler.label(atoms)
    except LabelError:
        return None
    if np.abs(labels.forces).max() > LARGEST_FORCE:
        return None
    frame = Atoms(atoms.numbers, atoms.positions)
    frame.info |= {"config_type": kind, "smiles": smiles, "REF_energy": labels.energy}
    frame.arrays["REF_forces"] = labels.forces
    return frame


def _dynamics(start: Atoms, labeler: Labeler, plan: Plan, rng: np.random.Generator) -> Iterator[tuple[str, Atoms]]:
    sampler = LangevinSampler(1.0, plan.interval, plan.equilibration, 0.02)
    for temperature in plan.temperatures:
        previous = None
        for _ in range(plan.md):
            try:
                previous = sampler.frame(Origin(start, labeler, temperature), previous, rng)
            except LabelError:
                break
            atoms = start.copy()
            atoms.positions = previous.positions
            yield f"md {temperature:.0f} K", atoms


def _rattled(atoms: Atoms, amplitude: float, rng: np.random.Generator) -> Atoms:
    moved = atoms.copy()
    moved.positions += amplitude * rng.normal(size=moved.positions.shape)
    return moved


def _scaled(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    scaled = atoms.copy()
    scaled.positions *= rng.uniform(0.9, 1.15)
    return scaled


def _stretched(minimum: Atoms, rng: np.random.Generator) -> Atoms | None:
    """Set one bond that is not in a ring to 0.75 to 3 times its length; None if there is no such bond."""
    bonds = get_bonds(minimum)[:, :2]
    splits = [(i, j, side) for i, j in bonds.tolist() if (side := _side(bonds, i, j, len(minimum))) is not None]
    if not splits:
        return None
    i, j, side = splits[rng.integers(len(splits))]
    atoms = minimum.copy()
    bond = atoms.positions[j] - atoms.positions[i]
    atoms.positions[side] += (np.exp(rng.uniform(np.log(0.75), np.log(3.0))) - 1.0) * bond
    return _rattled(atoms, 0.03, rng)


def _side(bonds: np.ndarray, i: int, j: int, count: int) -> np.ndarray | None:
    """Atoms that stay connected to j if its bond to i is cut; None if the bond is in a ring."""
    reached, border = {j}, [j]
    while border:
        atom = border.pop()
        for a, b in bonds.tolist():
            if atom in (a, b) and {a, b} != {i, j}:
                other = b if atom == a else a
                if other not in reached:
                    reached.add(other)
                    border.append(other)
    return None if i in reached else np.isin(np.arange(count), list(reached))
