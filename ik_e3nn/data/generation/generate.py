"""Generate labeled structures: from SMILES or starting structures to an extxyz file, through any ASE calculator."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms
from tqdm import tqdm

from ik_e3nn.data.files.reading import read_structure
from ik_e3nn.data.files.writing import check_output, write_structures
from ik_e3nn.data.generation.labeling import make_calculator
from ik_e3nn.data.generation.over_surface import warn_of_images
from ik_e3nn.data.generation.plan import Chain, fingerprint, make_sampler, plan_chains, starting_structures
from ik_e3nn.data.generation.run import ChainRunner, face_info, isolated_atom_frames
from ik_e3nn.data.generation.settings import GenerateSettings
from ik_e3nn.data.generation.work_file import WorkFile
from ik_e3nn.errors import DataError
from ik_e3nn.locking import locked_file
from ik_e3nn.threads import one_thread

__all__ = ["GenerateReport", "GenerateSettings", "generate"]

logger = logging.getLogger(__name__)

SMALL = 100  # atoms


@dataclass(frozen=True)
class GenerateReport:
    """The result of a generation.

    Args:
        path: Output file.
        num_frames: Number of frames in the file.
        num_reused: Number of results reused from an interrupted run.
        failures: Number of failures by reason; these frames were skipped.
        seconds: Duration in s.
        face: The plane group of a periodic substrate, with the section ``model`` for it.

    Example:
        >>> GenerateReport(Path("a.xyz"), 10, 0, {"SCF not converged": 2}, 5.0).text()
        'wrote 10 frames to a.xyz in 5.0 s; 2 frames failed and were skipped: SCF not converged (2)'
    """

    path: Path
    num_frames: int
    num_reused: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    face: str = ""

    def text(self) -> str:
        """The report in one line.

        Returns:
            What was written and what failed.
        """
        parts = [f"wrote {self.num_frames} frames to {self.path} in {self.seconds:.1f} s"]
        if self.num_reused:
            parts.append(f"{self.num_reused} results were reused from an interrupted run")
        if self.failures:
            listing = ", ".join(f"{reason} ({count})" for reason, count in self.failures.items())
            parts.append(f"{sum(self.failures.values())} frames failed and were skipped: {listing}")
        return "; ".join([*parts, *([self.face] if self.face else [])])


def generate(settings: GenerateSettings) -> GenerateReport:
    """Generate and label structures, and write them to a file.

    Every frame is stored in ``<output>.partial`` as soon as it is labeled. A killed run continues from there with the
    same command: finished frames are not computed again, and the final file is the same as without the kill. Labels
    are ``REF_energy``, ``REF_forces`` and ``REF_stress``; bonds, charge and spin are in ``info``.

    Args:
        settings: What to generate.

    Returns:
        A report of the generation.

    Raises:
        DataError: The output exists or another process is writing it, the work file belongs to other settings, a
            starting structure cannot be used, or every frame failed.
        MissingDependencyError: The calculator's package is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     water = GenerateSettings(
        ...         output=f"{folder}/a.xyz", smiles=["O"], calculator="emt", num_frames=4, method="rattle"
        ...     )
        ...     generate(water).num_frames
        4
    """
    with locked_file(settings.output) as output:
        return _generate(settings, output)


def _generate(settings: GenerateSettings, output: Path) -> GenerateReport:
    """Generate while the output is locked."""
    began = time.perf_counter()
    check_output(output, overwrite=settings.overwrite, inputs=settings.structures)
    # A missing package or an unreadable surface must be reported at once, not after the search for conformers.
    make_calculator(settings.calculator, options=settings.calculator_options)
    _, face = face_info(settings)
    starts = starting_structures(settings)
    if settings.substrate is not None:
        warn_of_images(read_structure(settings.substrate), [atoms for group in starts for atoms in group])
        if face and settings.heights and not settings.lateral:
            logger.warning(
                "all frames are over one place of the substrate: give lateral, half a lattice vector or more"
            )
    chains = plan_chains(settings, starts)
    work_path = output.with_name(output.name + ".partial")
    with WorkFile(work_path, fingerprint(settings, starts), resume=settings.resume) as work:
        reused = len(work)
        try:
            small = max(len(atoms) for group in starts for atoms in group) < SMALL
            with one_thread() if small else nullcontext():
                frames, failures = _run(settings, starts, chains, work)
        except KeyboardInterrupt:
            logger.warning("interrupted; the same command continues from %s (%d results)", work_path, len(work))
            raise
        if all(frame.info["config_type"] == "IsolatedAtom" for frame in frames):
            work.remove()
            reasons = "; ".join(f"{reason} ({count})" for reason, count in failures.items())
            raise DataError(f"every frame failed: {reasons}")
        write_structures(output, frames, overwrite=settings.overwrite)
        work.remove()
    report = GenerateReport(output, len(frames), reused, dict(failures), time.perf_counter() - began, face)
    logger.log(logging.WARNING if failures else logging.INFO, "%s", report.text())
    return report


def _run(
    settings: GenerateSettings, starts: Sequence[Sequence[Atoms]], chains: Sequence[Chain], work: WorkFile
) -> tuple[list[Atoms], Counter[str]]:
    """All frames of all chains, in order, and the failures."""
    frames: list[Atoms] = []
    failures: Counter[str] = Counter()
    if settings.isolated_atoms:
        frames.extend(isolated_atom_frames(settings, starts, work, failures))
    runner = ChainRunner(settings, make_sampler(settings), work, failures)
    with tqdm(total=sum(chain.num_frames for chain in chains), desc="labeling", unit="frame", disable=None) as bar:
        for chain in chains:
            for frame in runner.frames(chain):
                bar.update()
                if frame is not None:
                    frames.append(frame)
                bar.set_postfix(failed=failures.total())
    return frames, failures
