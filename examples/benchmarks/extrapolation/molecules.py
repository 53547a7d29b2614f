"""Molecules, frames of dynamics and rigid scans, all labeled by GFN2-xTB."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.optimize import BFGS
from potentials.sets import count_edges
from rdkit import Chem
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from ik_e3nn.data.generation.labeling import Labeler, make_calculator
from ik_e3nn.data.generation.langevin import LangevinSampler
from ik_e3nn.data.generation.sampling import Origin
from ik_e3nn.data.structures.molecules import molecule_from_smiles

TRAIN_KELVIN = 300
TEST_KELVIN = (300, 600, 1000)
TRAIN, VALID, TEST = 450, 50, 200
LARGEST_RISE = 3.0  # eV; points of a scan above it are collisions
ANGLES = np.arange(0.0, 360.0, 5.0)  # degrees from the minimum
LENGTHS = np.arange(0.85, 1.501, 0.025)  # in lengths of the minimum


@dataclass(frozen=True)
class Molecule:
    """A molecule and its scans.

    Args:
        title: Name in the report.
        smiles: Its SMILES string.
        dihedrals: SMARTS patterns of four atoms, whose first match is turned about the bond of the middle two.
        bonds: SMARTS patterns of two atoms, whose first match is stretched.
    """

    title: str
    smiles: str
    dihedrals: tuple[str, ...]
    bonds: tuple[str, ...]


MOLECULES = {
    "acac": Molecule("acetylacetone (enol)", "C/C(O)=C/C(C)=O", ("O=CC=C", "[#1]OC=C"), ("C-[CH3]", "O-[#1]")),
    "alkane": Molecule("hexane", "CCCCCC", ("CCCC", "[#1][CH2]CC"), ("[CH2][CH2]", "[CH3][#1]")),
    "biaryl": Molecule("biphenyl", "c1ccccc1-c1ccccc1", ("cc-cc",), ("c-c", "c[#1]")),
    "peptide": Molecule(
        "alanine dipeptide",
        "CC(=O)N[C@@H](C)C(=O)NC",
        ("O=CN[#1]", "NC[CX3]=O", "[CX3]N[CX4][CX3]"),
        ("[CX3]-N", "N[#1]"),
    ),
}


def make_frames(name: str, folder: Path) -> None:
    """Write the frames of Langevin dynamics at every temperature, unless they exist.

    Protons may move from one oxygen to the other. A chain whose molecule falls apart starts again from the minimum.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for kelvin in TEST_KELVIN:
        path = folder / f"{name}_{kelvin}.xyz"
        if path.exists():
            continue
        rng, sampler = (
            np.random.default_rng(kelvin),
            LangevinSampler(1.0, interval=20, equilibration=500, friction=0.01),
        )
        origin = Origin(minimum_of(name), Labeler(make_calculator("gfn2-xtb")), float(kelvin))
        previous, frames = None, list[Atoms]()
        number = TRAIN + VALID + TEST if kelvin == TRAIN_KELVIN else TEST
        with tqdm(total=number, desc=f"{name} {kelvin} K", unit="frame") as bar:
            while len(frames) < number:
                previous = sampler.frame(origin, previous, rng)
                atoms = Atoms(origin.start.numbers, previous.positions)
                if not _is_one_piece(atoms):
                    previous = None
                    continue
                atoms.info["REF_energy"], atoms.arrays["REF_forces"] = previous.labels.energy, previous.labels.forces
                frames.append(atoms)
                bar.update()
        partial = path.with_suffix(".partial")
        write(partial, frames, format="extxyz")
        partial.rename(path)


def minimum_of(name: str) -> Atoms:
    """A molecule relaxed by the reference method, from the first conformer of its SMILES string."""
    atoms = molecule_from_smiles(MOLECULES[name].smiles)
    atoms = Atoms(atoms.numbers, atoms.positions)
    atoms.calc = make_calculator("gfn2-xtb")
    BFGS(atoms, logfile=None).run(fmax=0.005, steps=2000)
    return atoms


def _is_one_piece(atoms: Atoms) -> bool:
    bonded = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.4))
    matrix = coo_matrix((np.ones(len(bonded[0])), bonded), shape=(len(atoms), len(atoms)))
    return connected_components(matrix)[0] == 1


def prepare(name: str, frames: Path, folder: Path) -> None:
    """Write train.xyz, valid.xyz, test.xyz and set.json of a molecule, unless they exist.

    The frames at 300 K are cut in the order of their time: the last of them test. Every frame of test.xyz has the name
    of its set, such as "600 K" or "turn O=CC=C", as its ``config_type``; the minimum is named so too.

    Args:
        name: Key of ``MOLECULES``.
        frames: Folder of ``make_frames``.
        folder: Where to write.
    """
    if (folder / "set.json").exists():
        return
    found = {kelvin: read(frames / f"{name}_{kelvin}.xyz", ":") for kelvin in TEST_KELVIN}
    known = found[TRAIN_KELVIN][: TRAIN + VALID]
    test = [_tagged(atoms, f"{kelvin} K") for kelvin in TEST_KELVIN for atoms in found[kelvin][-TEST:]]
    parts = {
        "train": [atoms for number, atoms in enumerate(known) if number % 10],
        "valid": known[::10],
        "test": test + list(_scans(name)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, chosen in parts.items():
        write(folder / f"{part}.xyz", chosen, format="extxyz")
    summary = {
        "E0s": fitted_energies(parts["train"]),
        "frames": {part: len(chosen) for part, chosen in parts.items()},
        "edges_per_frame": {part: float(np.mean([count_edges(a) for a in chosen])) for part, chosen in parts.items()},
    }
    (folder / "set.json").write_text(json.dumps(summary, indent=1))


def fitted_energies(frames: Sequence[Atoms]) -> dict[str, float]:
    """Energies of elements (eV) that fit the energies of frames best; of a single composition, the shortest."""
    symbols = sorted(set(frames[0].symbols))
    counts = np.array([[np.count_nonzero(atoms.symbols == symbol) for symbol in symbols] for atoms in frames])
    values = np.linalg.lstsq(counts, np.array([atoms.info["REF_energy"] for atoms in frames]), rcond=None)[0]
    return {symbol: float(value) for symbol, value in zip(symbols, values, strict=True)}


def _scans(name: str) -> Iterator[Atoms]:
    """Labeled points of all scans, and the minimum first."""
    molecule, minimum = MOLECULES[name], minimum_of(name)
    lowest = minimum.get_potential_energy()
    yield from _labeled(minimum, "minimum", lowest)
    graph = Chem.AddHs(Chem.MolFromSmiles(molecule.smiles))
    for pattern in molecule.dihedrals:
        i, j, k, l = _first_match(graph, pattern)
        turned = _beyond(graph, j, k)
        for angle in ANGLES:
            atoms = minimum.copy()
            atoms.rotate_dihedral(i, j, k, l, angle, indices=turned)
            yield from _labeled(atoms, f"turn {pattern}", lowest)
    for pattern in molecule.bonds:
        i, j = _first_match(graph, pattern)
        moved, vector = _beyond(graph, i, j), minimum.positions[j] - minimum.positions[i]
        for length in LENGTHS:
            atoms = minimum.copy()
            atoms.positions[moved] += (length - 1.0) * vector
            yield from _labeled(atoms, f"stretch {pattern}", lowest)


def _labeled(atoms: Atoms, name: str, lowest: float) -> Iterator[Atoms]:
    """The structure with labels, unless it lies too high."""
    atoms.calc = make_calculator("gfn2-xtb")
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    if energy - lowest < LARGEST_RISE:
        labeled = Atoms(atoms.numbers, atoms.positions)
        labeled.info["REF_energy"], labeled.arrays["REF_forces"] = float(energy), forces
        yield _tagged(labeled, name)


def _tagged(atoms: Atoms, name: str) -> Atoms:
    copy = Atoms(atoms.numbers, atoms.positions)
    copy.info = {"REF_energy": atoms.info["REF_energy"], "config_type": name}
    copy.arrays["REF_forces"] = atoms.arrays["REF_forces"]
    return copy


def _first_match(graph: Chem.Mol, pattern: str) -> tuple[int, ...]:
    """Atoms of the first match of a SMARTS pattern."""
    found: tuple[int, ...] = graph.GetSubstructMatch(Chem.MolFromSmarts(pattern))
    if not found:
        raise ValueError(f"the pattern {pattern!r} matches nothing")
    return found


def _beyond(graph: Chem.Mol, near: int, far: int) -> list[int]:
    """Atoms that are connected with ``far`` when the bond from ``near`` to ``far`` is cut."""
    found, rest = {far}, [far]
    while rest:
        atom = graph.GetAtomWithIdx(rest.pop())
        for neighbor in atom.GetNeighbors():
            index = neighbor.GetIdx()
            if index not in found and {atom.GetIdx(), index} != {near, far}:
                found.add(index)
                rest.append(index)
    if near in found:
        raise ValueError("the bond is in a ring")
    return sorted(found)
