"""The phonons of a crystal, from its relaxation to the bands."""

import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms, units
from ase.cell import Cell
from numpy.typing import NDArray
from torch import nn

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields as names
from ik_e3nn.json_file import write_json
from ik_e3nn.locking import locked_folder
from ik_e3nn.models import hessian_products
from ik_e3nn.optional import needed
from ik_e3nn.pictures import picture
from ik_e3nn_calculators.calculator.calculator import IKCalculator
from ik_e3nn_calculators.output.folder import check_free, check_inputs, clear_folder
from ik_e3nn_calculators.output.frames import snapshot, write_final
from ik_e3nn_calculators.phonons.settings import PhononSettings, PhononSummary
from ik_e3nn_calculators.relax.first import largest_force, relaxed_first
from ik_e3nn_calculators.runs import running, starting_structure

_log = logging.getLogger(__name__)

BANDS, PLOT, SUMMARY, CONSTANTS, RELAXATION = "bands.npz", "bands.png", "summary.json", "phonopy.yaml", "relax"
_FILES = (BANDS, PLOT, SUMMARY, CONSTANTS, "final.extxyz", "final.traj")
PER_CM = 1e12 / (100 * units._c)  # of THz
IMAGINARY = -1.0  # 1/cm; acoustic frequencies at zero wave vector are zero to rounding only
_MOLE = units.kJ / units.mol
_POINTS = 200


def run_phonons(
    settings: PhononSettings, *, atoms: Atoms | None = None, calculator: IKCalculator | None = None
) -> PhononSummary:
    """Relax a crystal, and find its phonons from the analytic second derivatives of the energy of a supercell.

    The folder receives ``bands.png``, ``bands.npz``, ``phonopy.yaml`` (with the force constants, for phonopy itself),
    ``final.extxyz``, ``summary.json`` and the relaxation.

    Args:
        settings: The settings.
        atoms: A structure to use instead of ``settings.structure``; it is copied.
        calculator: A calculator to use instead of one for ``settings.model``.

    Returns:
        The summary; look at ``converged`` and ``lowest_per_cm``.

    Raises:
        DataError: The structure is not periodic in three directions, or has constraints, a charge or a spin; or the
            model uses bonds or surroundings.
        MissingDependencyError: phonopy is not installed.
    """
    needed("phonopy")
    with locked_folder(settings.output) as folder, running(settings, calculator) as engine:
        check_free(folder, _FILES, overwrite=settings.overwrite)
        check_inputs(folder, _FILES, [settings.structure if atoms is None else None, settings.model])
        crystal = starting_structure(settings, atoms)
        model = cast(IKCalculator, engine.calculator).model
        _check(crystal, model.inputs)
        clear_folder(folder, _FILES)
        if settings.relax:
            own = {name: getattr(settings, name) for name in ("steps", "fmax", "cell")}
            crystal = relaxed_first(settings, crystal, engine.calculator, folder / RELAXATION, **own)
        phonon = phonons(crystal, cast(nn.Module, model), settings.supercell, max_edges=settings.max_edges)
        crystal.calc = engine.calculator
        converged = largest_force(crystal) <= settings.fmax
        write_final(folder, snapshot(crystal))
        narrow = width_warning(crystal, model, settings.supercell)
        return _finish(phonon, settings, folder, narrow, converged=converged)


def phonons(crystal: Atoms, model: nn.Module, supercell: list[int], *, max_edges: int | None = None) -> Any:
    """A ``phonopy.Phonopy`` with the analytic force constants of a model.

    Args:
        crystal: The crystal.
        model: The potential.
        supercell: Repetitions along the cell vectors.
        max_edges: See ``ik_e3nn.models.hessian_products``.

    Raises:
        MissingDependencyError: phonopy is not installed.
    """
    phonopy, structure = needed("phonopy"), needed("phonopy.structure.atoms")
    unit = structure.PhonopyAtoms(
        numbers=crystal.numbers, cell=crystal.cell.array, positions=crystal.positions, masses=crystal.get_masses()
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="primitive_matrix")  # it warns that this was not the default once
        phonon = phonopy.Phonopy(unit, np.diag(supercell), primitive_matrix="auto")
    large = phonon.supercell
    info = {key: crystal.info[key] for key in ("charge", "spin") if key in crystal.info}
    atoms = Atoms(numbers=large.numbers, positions=large.positions, cell=large.cell, pbc=True, info=info)
    rows = [3 * index + axis for index in phonon.primitive.p2s_map for axis in range(3)]
    vectors = torch.eye(3 * len(atoms), dtype=torch.float64)[rows].view(-1, len(atoms), 3)
    products = hessian_products(model, atoms, vectors, max_edges=max_edges).cpu().numpy()
    constants = products.reshape(-1, 3, len(atoms), 3).transpose(0, 2, 1, 3)
    phonon.force_constants = np.ascontiguousarray(constants)
    return phonon


def _check(crystal: Atoms, inputs: Any) -> None:
    """Refuse what a supercell cannot have."""
    if not crystal.pbc.all():
        raise DataError(
            f"phonons need a structure that is periodic in three directions, but pbc is {crystal.pbc.tolist()}; use "
            "ik-e3nn vibrations"
        )
    if crystal.constraints:
        raise DataError("phonons with constraints are not possible; remove them")
    if names.BOND_TYPES in inputs:
        raise DataError("the model uses bonds, which are not carried over to supercells; use a model without them")
    if outside := set(names.SURROUNDINGS).intersection(inputs):
        raise DataError(
            f"the model knows a {', '.join(outside)} beside the structure, which a crystal does not have; use a model "
            "without surroundings, or ik-e3nn vibrations"
        )
    for key, usual in (("charge", 0), ("spin", 1)):
        if crystal.info.get(key, usual) != usual:
            raise DataError(f"the crystal has the {key} {crystal.info[key]}, whose value in a supercell is not known")


def width_warning(crystal: Atoms, model: Any, supercell: list[int]) -> str:
    """A warning if a supercell is narrower than twice the reach of a model, layers times cutoff; otherwise "".

    Then a displaced atom and its images act on the same atom, which changes the force constants.

    Args:
        crystal: The crystal.
        model: The potential or ensemble.
        supercell: Repetitions along the cell vectors.
    """
    reach = max(len(one.interactions) * one.r_max for one in getattr(model, "members", [model]))
    widths = np.array(supercell) / np.linalg.norm(crystal.cell.reciprocal(), axis=1)
    if widths.min() >= 2 * reach:
        return ""
    larger = " ".join(str(number + int(width < 2 * reach)) for number, width in zip(supercell, widths, strict=True))
    return (
        f"the supercell is {widths.min():.1f} A wide, less than twice the reach of the model, 2 x {reach:g} A: compare "
        f"with a larger one, such as --supercell {larger}, until the frequencies stay the same"
    )


def _finish(phonon: Any, settings: PhononSettings, folder: Path, narrow: str, *, converged: bool) -> PhononSummary:
    """Bands, densities, thermodynamic functions, and their files."""
    path = Cell(phonon.primitive.cell).bandpath(npoints=_POINTS)
    phonon.run_qpoints(path.kpts)
    bands = np.array(phonon.qpoints.frequencies) * PER_CM
    phonon.run_mesh(settings.mesh, is_gamma_center=True)
    mesh = np.array(phonon.mesh.frequencies) * PER_CM
    # Acoustic modes at zero wave vector are translations: their rounded frequencies would count as vibrations.
    phonon.run_thermal_properties(temperatures=[0.0, settings.temperature], exclude_gamma_acoustic=True)
    thermal = phonon.thermal_properties
    lowest = float(min(bands.min(), mesh.min()))
    parts = [*([] if converged else ["the structure is not relaxed"]), *([narrow] if narrow else [])]
    if lowest < IMAGINARY:
        parts.append(
            f"there are imaginary frequencies, up to {-lowest:.0f}i/cm: the crystal is unstable, not relaxed, or the "
            "supercell is too small; thermodynamic functions leave them out"
        )
    message = "; ".join(parts)
    if message:
        _log.warning("%s", message)
    axis, ticks, labels = path.get_linear_kpoint_axis()
    with written_at_once(folder / BANDS) as file:
        np.savez(file, points=path.kpts, frequencies=bands, axis=axis)
    phonon.save(folder / CONSTANTS, settings={"force_constants": True})
    if settings.plots:
        phonon.run_total_dos()
        _draw(folder / PLOT, phonon, bands, (axis, ticks, labels))
    summary = PhononSummary(
        converged=converged,
        supercell_atoms=len(phonon.supercell),
        lowest_per_cm=lowest,
        highest_per_cm=float(max(bands.max(), mesh.max())),
        primitive_atoms=len(phonon.primitive),
        zero_point_eV=float(thermal.free_energy[0]) * _MOLE,
        temperature_K=settings.temperature,
        free_energy_eV=float(thermal.free_energy[1]) * _MOLE,
        heat_capacity_eV_per_K=float(thermal.heat_capacity[1]) * units.J / units.mol,
        output=str(folder),
        message=message,
    )
    write_json(folder / SUMMARY, asdict(summary))
    return summary


def _draw(path: Path, phonon: Any, bands: NDArray[np.float64], axis: tuple[Any, Any, list[str]]) -> None:
    """Bands beside the density of states."""
    dos = phonon.total_dos
    x, ticks, labels = axis
    places: dict[float, str] = {}
    for tick, label in zip(ticks, labels, strict=True):  # where the path jumps, two points share a place
        shown = label.replace("G", "Γ")
        places[tick] = f"{places[tick]}|{shown}" if tick in places else shown
    with picture(path, columns=2, height=3.6, sharey=True, width_ratios=[4, 1]) as (_, [[left, right]]):
        left.plot(x, bands, color="C0", linewidth=0.9)
        for tick in places:
            left.axvline(tick, color="0.8", linewidth=0.8, zorder=0)
        left.axhline(0, color="0.4", linewidth=0.8)
        left.set_xticks(list(places), list(places.values()))
        left.set(xlim=(x[0], x[-1]), ylabel="frequency (1/cm); imaginary ones are negative")
        right.plot(dos.dos, dos.frequency_points * PER_CM, linewidth=0.9)
        right.set(xlabel="states (1/THz)", xlim=(0, None))
