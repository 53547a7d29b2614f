"""A pose search from settings to files."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

import numpy as np
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ik_e3nn.blocks.face import Face
from ik_e3nn.data import joined
from ik_e3nn.data.generation.labeling import StateCalculator
from ik_e3nn.data.structures.ranges import VOXEL
from ik_e3nn.errors import DataError
from ik_e3nn.json_file import write_json
from ik_e3nn.locking import locked_folder
from ik_e3nn.models import InteratomicPotential, compile_potential
from ik_e3nn.models.files.pretrained import BASE
from ik_e3nn.user_path import user_path
from ik_e3nn_calculators.calculator.domain import warn_outside
from ik_e3nn_calculators.calculator.model import prepare_model
from ik_e3nn_calculators.dock.poses.outside import known_ranges, reasons_outside
from ik_e3nn_calculators.dock.poses.ranking import Search, leaders, ranked
from ik_e3nn_calculators.dock.poses.results import Pose, plot_best, plot_energies, write_extxyz, write_sdf, write_table
from ik_e3nn_calculators.dock.search.alone import energies_alone
from ik_e3nn_calculators.dock.search.energies import CalculatorEnergies, ModelEnergies, PoseEnergies
from ik_e3nn_calculators.dock.search.relax import RelaxState, relax
from ik_e3nn_calculators.dock.search.state import STATE, StateFile
from ik_e3nn_calculators.dock.settings import DockSettings
from ik_e3nn_calculators.dock.system.checks import check_cell, check_host, check_slab, warn_of_images
from ik_e3nn_calculators.dock.system.complete import check_elements, check_host_hydrogens
from ik_e3nn_calculators.dock.system.host import FACE, SITE, Host, pocket_of, read_host
from ik_e3nn_calculators.dock.system.ligand import Ligand, read_ligand
from ik_e3nn_calculators.dock.system.region import Region, check_reach, make_region, starting_poses
from ik_e3nn_calculators.output.folder import check_free, check_inputs, clear_folder
from ik_e3nn_calculators.runs import introduction

_log = logging.getLogger(__name__)

FILES = ("poses.csv", "poses.sdf", "poses.extxyz", "best.extxyz", "energies.png", "best.png", "summary.json", STATE)
FELT = 8.0  # A; the range of a host that is assumed for a calculator, which does not state it
SAVE_INTERVAL = 10  # steps of all poses


@dataclass(frozen=True)
class DockSummary:
    """Summary of a pose search.

    Attributes:
        poses: Number of poses.
        converged: Number of poses whose relaxation converged.
        failed: Number of poses whose energy or forces became infinite.
        distinct: Number of distinct poses.
        outside: Number of poses without a rank, because they are outside of the model's domain.
        best_binding_eV: Binding energy of the best ranked pose; None if there is none.
        evaluations: Number of evaluations of energy and forces.
        output: The folder.
    """

    poses: int
    converged: int
    failed: int
    distinct: int
    outside: int
    best_binding_eV: float | None  # noqa: N815
    evaluations: int
    output: str


def run_dock(settings: DockSettings, *, calculator: Calculator | None = None) -> DockSummary:
    """Search for poses: place at random, relax with the host fixed, cluster, rank by binding energy.

    The folder receives ``poses.csv`` (all poses), ``poses.sdf`` and ``poses.extxyz`` (the distinct ones, with the host
    in the latter), ``best.extxyz``, ``energies.png``, ``best.png`` and ``summary.json``; a search that was killed
    continues from ``state.npz`` there.

    Args:
        settings: The settings.
        calculator: Any ASE calculator to use instead of the one in the settings.

    Returns:
        The summary.

    Raises:
        DataError: The ligand or host cannot be used, the cell or the region has no room, the model does not know such a
            host, or the folder holds another search or one of the input files, or is in use by another process.
        UnknownSpeciesError: The model does not know an element.
    """
    with locked_folder(settings.output) as folder:
        model = settings.model if calculator or settings.calculator else settings.model or BASE
        return _search(replace(settings, output=str(folder), model=model), calculator)


def _search(settings: DockSettings, calculator: Calculator | None) -> DockSummary:
    """Search in the locked folder."""
    source = _source(settings, calculator)
    check_inputs(settings.output, FILES, [settings.ligand, settings.host, settings.region.around, settings.model])
    state_file = StateFile(user_path(settings.output), settings.identity())
    known = None if settings.overwrite else state_file.read()
    if known is None:
        check_free(settings.output, FILES, overwrite=settings.overwrite)
    ligand, host = read_ligand(settings.ligand, settings.conformers, settings.seed), _host(settings, source)
    check_slab(host)
    region = make_region(settings.region, host)
    check_cell(host, ligand, region)
    host = _in_reach(settings, source, ligand, host, region)
    energies = _energies(settings, source, ligand, host, region)
    alone = energies_alone(ligand, energies, fmax=settings.fmax, steps=settings.steps)
    if known is None:
        positions, kinds = starting_poses(ligand, host, region, settings.poses, np.random.default_rng(settings.seed))
        check_reach(positions, ligand.conformers[0].numbers, host, settings.pocket or FELT)
        state = RelaxState.start(positions)
        clear_folder(user_path(settings.output), FILES)
    else:
        state, kinds = known
        energies.calls += int(state.evaluations.sum())  # calls before the search was killed
    _relax(settings, state, kinds, energies, state_file)
    return _finish(Search(settings, ligand, host, energies, alone, state, kinds))


def _source(settings: DockSettings, calculator: Calculator | None) -> Calculator | InteratomicPotential:
    """The calculator or model that computes energies."""
    if calculator is not None:
        return calculator
    if settings.calculator is not None:
        return StateCalculator(settings.calculator)
    name = settings.model or BASE
    model = cast(InteratomicPotential, prepare_model(name, device=settings.device))
    _log.info("%s", introduction(name, model))
    return model


def _host(settings: DockSettings, source: Calculator | InteratomicPotential) -> Host:
    """The host; a face or a site without atoms is that of the model."""
    host, model = read_host(settings.host), _potential(source)
    if host.name == SITE and model is not None:
        ranges = known_ranges(settings.model)
        known = {} if ranges is None else ranges.places
        images = model.group.components.numpy()  # of a site, whose group is finite
        places = {
            symbol: VOXEL * np.array(voxels).reshape(-1, 3) @ images.transpose(0, 2, 1)
            for symbol, voxels in known.items()
        }
        return replace(host, places={symbol: one.reshape(-1, 3) for symbol, one in places.items()})
    if host.name != FACE:
        return host
    face = None if model is None else model.surroundings
    if not isinstance(face, Face):
        raise DataError(
            'the host "face" is the crystal face that a model knows, and this '
            f"{'calculator' if model is None else 'model'} knows none: give a model with inputs: [face], or a slab"
        )
    return replace(host, plane=face.plane)


def _potential(source: Calculator | InteratomicPotential) -> InteratomicPotential | None:
    """The model that computes energies, if it is not a calculator."""
    return source if isinstance(source, InteratomicPotential) else None


def _in_reach(
    settings: DockSettings, source: Calculator | InteratomicPotential, ligand: Ligand, host: Host, region: Region
) -> Host:
    """The part of the host within reach, which must be complete."""
    extent = max(np.linalg.norm(c.positions - c.positions.mean(axis=0), axis=1).max() for c in ligand.conformers)
    model = _potential(source)
    reach = FELT if model is None else 2.0 * len(model.interactions) * model.r_max
    pocket = reach if settings.pocket is None else settings.pocket
    part = pocket_of(host, region.distances(host.atoms.positions), pocket + float(extent))
    if len(part.left_out):
        _log.info("%d of %d atoms of %s are within reach", len(part.atoms), len(host.atoms), host.name)
        if pocket < reach and model is not None:
            _log.warning(
                "energies of the model can depend on atoms within %.0f A of the ligand, but atoms beyond %.0f A are "
                "left out (pocket), so binding energies are approximate",
                reach, pocket,
            )  # fmt: skip
    check_host_hydrogens(part)
    return part


def _energies(
    settings: DockSettings, source: Calculator | InteratomicPotential, ligand: Ligand, host: Host, region: Region
) -> PoseEnergies:
    """The energies of poses, after checking that model or calculator can compute them."""
    molecule, model = ligand.conformers[0], _potential(source)
    if model is None:
        return CalculatorEnergies(molecule, host, calculator=cast(Calculator, source))
    check_elements(model.species, molecule.numbers, host, region.distances(host.atoms.positions))
    check_host(model, host)
    warn_of_images(host, ligand, model.r_max)
    apart = molecule.copy()  # at its place in the file it may overlap the host and seem to be bonded to it
    if len(host.atoms):
        apart.positions += host.atoms.positions.max(axis=0) - molecule.positions.min(axis=0) + 10.0
    domain = model.trained_on
    if domain is not None and len(host.left_out):
        domain = replace(domain, unpaired=True)  # bonds were cut
    warn_outside(domain, joined(host.atoms, apart), set())
    if settings.compile:
        compile_potential(model)
    return ModelEnergies(molecule, host, model=model, batch_atoms=settings.batch_atoms)


def _relax(
    settings: DockSettings, state: RelaxState, kinds: NDArray[np.int64], energies: PoseEnergies, file: StateFile
) -> None:
    """Relax all poses, with progress and with the state on disk."""
    file.write(state, kinds)
    rounds = 0
    with tqdm(total=len(kinds), unit="pose", desc="relax", miniters=0, disable=not settings.progress) as bar:

        def after_step(state: RelaxState) -> None:
            nonlocal rounds
            rounds += 1
            best = np.min(state.energies, initial=np.inf, where=np.isfinite(state.energies))
            bar.set_postfix_str(f"step {rounds}, best {best:.3f} eV", refresh=False)
            bar.update(int((~(state.fmax > settings.fmax)).sum()) - bar.n)
            if rounds % SAVE_INTERVAL == 0:
                file.write(state, kinds)

        try:
            relax(state, energies, fmax=settings.fmax, steps=settings.steps, after_step=after_step)
        except KeyboardInterrupt:
            _log.warning("stopped; the same command continues from %s", file.folder / STATE)
            raise
    file.write(state, kinds)


def _finish(search: Search) -> DockSummary:
    """Rank the poses, and write files and summary."""
    settings, state, model = search.settings, search.state, search.energies.model
    outside = [""] * len(search.kinds)
    if model is not None:
        ranges = known_ranges(settings.model)
        outside = reasons_outside(state.positions, search.ligand, search.host, model, ranges)
    poses = ranked(search, outside)
    distinct = leaders(poses)
    _write(search, poses, distinct[: settings.keep])
    converged = int((state.fmax <= settings.fmax).sum())
    if converged < len(poses):
        _log.warning(
            "%d of %d poses have not converged after %d steps", len(poses) - converged, len(poses), settings.steps
        )
    marked = [pose for pose in poses if pose.cluster >= 0 and pose.outside]
    if marked:
        _log.warning(
            "%d of %d poses are outside of the model's domain and have no rank; the first: %s",
            len(marked), len(poses), marked[0].outside,
        )  # fmt: skip
    summary = DockSummary(
        poses=len(poses),
        converged=converged,
        failed=sum(pose.cluster < 0 for pose in poses),
        distinct=len(distinct),
        outside=len(marked),
        best_binding_eV=None if poses[0].outside else poses[0].binding_eV,
        evaluations=search.energies.calls,
        output=settings.output,
    )
    write_json(user_path(settings.output) / "summary.json", {**asdict(summary), "settings": asdict(settings)})
    return summary


def _write(search: Search, poses: Sequence[Pose], kept: Sequence[Pose]) -> None:
    """Write tables, structures and pictures."""
    folder = user_path(search.settings.output)
    places = search.state.positions[[pose.pose for pose in kept]]
    structures = [search.energies.structure(place) for place in places]
    write_table(folder / "poses.csv", poses)
    write_sdf(folder / "poses.sdf", search.ligand, kept, places)
    write_extxyz(folder / "poses.extxyz", kept, structures)
    write_extxyz(folder / "best.extxyz", kept[:1], structures[:1])
    if search.settings.plots:
        plot_energies(folder / "energies.png", poses)
        plot_best(folder / "best.png", kept, structures, search.host)
