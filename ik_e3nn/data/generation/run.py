"""Run the chains of a generation, and store each result."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, ground_state_magnetic_moments
from ase.optimize import BFGS

from ik_e3nn.data.files.reading import read_structure
from ik_e3nn.data.generation.labeling import Labeler, LabelError, StateCalculator, make_calculator
from ik_e3nn.data.generation.over_surface import OverSubstrate, face_of
from ik_e3nn.data.generation.plan import Chain
from ik_e3nn.data.generation.sampling import Frame, Origin, Sampler
from ik_e3nn.data.generation.settings import GenerateSettings
from ik_e3nn.data.generation.work_file import WorkFile
from ik_e3nn.errors import DataError
from ik_e3nn.graph import get_bonds

logger = logging.getLogger(__name__)

# A bond longer than its initial length by this factor is broken, and the stored bonds are no longer valid.
_BROKEN_BOND = 1.6
# After this many failures in a row, a chain is given up.
_FAILURES_IN_A_ROW = 10
# Height in A at which an isolated atom does not interact with a surface.
_FAR = 1000.0
_RELAX_FMAX, _RELAX_STEPS = 0.03, 300


def face_info(settings: GenerateSettings) -> tuple[dict[str, Any], str]:
    """What ``info`` of all frames says of a surface, and the section of a model for a lattice in words; or nothing.

    Without a lattice it is the origin of the surface alone, from which readers know that a single atom is over it.

    Raises:
        DataError: The substrate is periodic, but no slab with the normal z, or has another lattice than the one given.
    """
    origin = {"surface_origin": [0.0] * 3}
    if settings.substrate is None:
        return origin if settings.heights else {}, ""
    face = face_of(read_structure(settings.substrate))
    if face is None:
        cell = {"surface_cell": np.reshape(settings.surface_cell, (2, 3)).tolist()} if settings.surface_cell else {}
        return cell | origin, ""
    if settings.surface_cell:
        raise DataError("surface_cell is for substrates that are not periodic, and this one is; leave it out")
    section = json.dumps({"group": face.group.to_config(), "inputs": ["face"]})
    return face.info, f"the substrate has the plane group {face.group.name}; train with model: {section}"


class ChainRunner:
    """Make the frames of chains, or take them from the work file if they are done.

    Args:
        settings: What to generate.
        sampler: Makes the frames.
        work: Stores the results.
        failures: Number of failures by reason; new ones are added.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ik_e3nn.data.generation.sampling import RattleSampler
        >>> settings = GenerateSettings(output="a.xyz", smiles=["[He]"], calculator="lj")
        >>> with tempfile.TemporaryDirectory() as folder, WorkFile(Path(folder) / "w", "", resume=False) as work:
        ...     runner = ChainRunner(settings, RattleSampler(0.1, 0.0), work, Counter())
        ...     [frame.info["config_type"] for frame in runner.frames(Chain(Atoms("He"), 0, 0, 0.0, 2))]
        ['rattle', 'rattle']
    """

    def __init__(self, settings: GenerateSettings, sampler: Sampler, work: WorkFile, failures: Counter[str]) -> None:
        self.settings = settings
        self.sampler = sampler
        self.work = work
        self.failures = failures
        self.info, _ = face_info(settings)

    def frames(self, chain: Chain) -> Iterator[Atoms | None]:
        """The frames of a chain, in order.

        Args:
            chain: The chain.

        Yields:
            A labeled structure, or None for a frame that failed.
        """
        labeler = Labeler(_calculator_for(self.settings, chain.start))
        origin = self._origin(chain, labeler)
        previous: Frame | None = None
        in_a_row = 0
        for number in range(chain.num_frames):
            key = f"{chain.key}/{chain.temperature:g}/{number}"
            if origin is None or in_a_row >= _FAILURES_IN_A_ROW:
                reason = "the start failed" if origin is None else "the chain was given up after failures in a row"
                self.failures[reason] += 1
                yield None
                continue
            make = partial(self._new_frame, chain, origin, previous, number)
            result = self.work.result(key, make, f"frame {key}")
            if "failed" in result:
                in_a_row += 1
                self.failures[result["failed"]] += 1
                yield None
            else:
                in_a_row, previous = 0, Frame.from_json(result)
                yield self._labeled(chain, previous)

    def _origin(self, chain: Chain, labeler: Labeler) -> Origin | None:
        """The relaxed start of a chain with the data that the sampler needs, or None if it failed."""

        def make() -> dict[str, Any]:
            atoms = self._relaxed(chain.start, labeler)
            return {"positions": atoms.positions.tolist(), "prepared": self.sampler.prepare(atoms, labeler)}

        result = self.work.result(chain.key, make, f"start {chain.key} ({chain.start.get_chemical_formula()})")
        if "failed" in result:
            return None
        atoms = chain.start.copy()
        atoms.positions = np.array(result["positions"], dtype=np.float64)
        return Origin(atoms, labeler, chain.temperature, result["prepared"])

    def _relaxed(self, start: Atoms, labeler: Labeler) -> Atoms:
        """A copy of the start, relaxed with the reference method if the sampler needs a minimum."""
        atoms = start.copy()
        if not (self.settings.relax and self.sampler.needs_minimum):
            return atoms
        labeler.forget()
        labeler.forces(atoms)
        atoms.calc = labeler.calculator
        try:
            with BFGS(atoms, logfile=None) as optimizer:
                if not optimizer.run(fmax=_RELAX_FMAX, steps=_RELAX_STEPS):
                    logger.warning("%s is not relaxed after %d steps", atoms.get_chemical_formula(), _RELAX_STEPS)
        except Exception as error:
            raise LabelError(f"relaxation: {type(error).__name__}: {' '.join(str(error).split())}") from error
        if not np.isfinite(atoms.positions).all():
            raise LabelError("relaxation: the positions are not finite")
        return atoms

    def _new_frame(self, chain: Chain, origin: Origin, previous: Frame | None, number: int) -> dict[str, Any]:
        """Make one frame, and return it for the work file."""
        # Each frame has its own seed, so that a continued run draws the same random numbers.
        seeds = [self.settings.seed, chain.source, chain.conformer, round(1000 * chain.temperature), number]
        frame = self.sampler.frame(origin, previous, np.random.default_rng(seeds))
        _check_bonds(origin.start, frame)
        return frame.to_json()

    def _labeled(self, chain: Chain, frame: Frame) -> Atoms:
        """A frame as a structure for the output file."""
        atoms = chain.start.copy()
        atoms.set_constraint()
        atoms.set_cell(frame.cell)
        atoms.positions = frame.positions
        atoms.info["config_type"] = self.sampler.name
        if self.sampler.uses_temperature:
            atoms.info["temperature"] = chain.temperature
        atoms.info["conformer"] = chain.conformer
        atoms.info |= self.info
        _set_labels(atoms, frame)
        return atoms


def isolated_atom_frames(
    settings: GenerateSettings, starts: Sequence[Sequence[Atoms]], work: WorkFile, failures: Counter[str]
) -> list[Atoms]:
    """Each species of the starting structures as a neutral isolated atom in its ground state, labeled.

    Args:
        settings: What to generate.
        starts: Conformers of each molecule or structure.
        work: Stores the results.
        failures: Number of failures by reason; new ones are added.

    Returns:
        Structures with ``config_type=IsolatedAtom``; failed ones are left out.
    """
    frames = []
    info, _ = face_info(settings)
    for symbol in sorted({symbol for group in starts for atoms in group for symbol in atoms.symbols}):
        spin = round(ground_state_magnetic_moments[atomic_numbers[symbol]]) + 1
        height = _FAR if settings.heights or settings.substrate else 0.0
        atoms = Atoms(symbol, [[0.0, 0.0, height]], info={"charge": 0, "spin": spin})
        labeler = Labeler(_calculator_for(settings, atoms))
        result = work.result(f"atom {symbol}", partial(_of_atom, atoms, labeler), f"isolated {symbol}")
        if "failed" in result:
            failures[f"isolated {symbol}: {result['failed']}"] += 1
            continue
        atoms.info["config_type"] = "IsolatedAtom"
        atoms.info |= info
        _set_labels(atoms, Frame.from_json(result))
        frames.append(atoms)
    return frames


def _of_atom(atoms: Atoms, labeler: Labeler) -> dict[str, Any]:
    """The result of an isolated atom for the work file."""
    return Frame(atoms.positions, atoms.cell.array, labeler.label(atoms)).to_json()


def _calculator_for(settings: GenerateSettings, atoms: Atoms) -> Any:
    """A new calculator for a structure's charge and spin."""
    if settings.substrate is not None:
        calculator = StateCalculator(settings.calculator, settings.calculator_options)
        return OverSubstrate(calculator, read_structure(settings.substrate))
    charge, spin = atoms.info.get("charge", 0), atoms.info.get("spin")
    return make_calculator(settings.calculator, charge, spin, settings.calculator_options)


def _check_bonds(start: Atoms, frame: Frame) -> None:
    """Raise if a stored bond of a non-periodic structure is broken in a frame."""
    bonds = get_bonds(start)
    if start.pbc.any() or not len(bonds):
        return
    before, after = (
        np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=1)
        for positions in (start.positions, frame.positions)
    )
    if (after > _BROKEN_BOND * before).any():
        raise LabelError("a bond is broken")


def _set_labels(atoms: Atoms, frame: Frame) -> None:
    """Write a frame's labels under their usual names."""
    atoms.info["REF_energy"] = frame.labels.energy
    atoms.arrays["REF_forces"] = frame.labels.forces
    if frame.labels.stress is not None:
        atoms.info["REF_stress"] = frame.labels.stress
