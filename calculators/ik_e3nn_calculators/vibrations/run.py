"""The vibrations of a structure, from its relaxation to the picture."""

import csv
import io
import logging
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms

from ik_e3nn.atomic import written_at_once
from ik_e3nn.errors import DataError
from ik_e3nn.json_file import write_json
from ik_e3nn.locking import locked_folder
from ik_e3nn.pictures import picture
from ik_e3nn_calculators.calculator.calculator import IKCalculator
from ik_e3nn_calculators.calculator.frozen import moving_atoms
from ik_e3nn_calculators.output.folder import check_free, check_inputs, clear_folder
from ik_e3nn_calculators.output.frames import snapshot, write_final
from ik_e3nn_calculators.relax.run import RelaxSettings, run_relax
from ik_e3nn_calculators.run_settings import RunSettings
from ik_e3nn_calculators.runs import engine_for, starting_structure
from ik_e3nn_calculators.systems.structures import load_structure
from ik_e3nn_calculators.vibrations.modes import Modes, normal_modes, rigid_motions
from ik_e3nn_calculators.vibrations.settings import VibrationSettings, VibrationSummary
from ik_e3nn_calculators.vibrations.thermo import Thermo, thermochemistry, zero_point_energy

_log = logging.getLogger(__name__)

TABLE, PLOT, SUMMARY, MODES, RELAXATION = "frequencies.csv", "spectrum.png", "summary.json", "modes.npz", "relax"
_FILES = (TABLE, PLOT, SUMMARY, MODES, "final.extxyz", "final.traj")


def run_vibrations(
    settings: VibrationSettings, *, atoms: Atoms | None = None, calculator: IKCalculator | None = None
) -> VibrationSummary:
    """Relax a structure, and find its frequencies from the analytic Hessian.

    Translations and rotations of free molecules are left out exactly. Atoms fixed by ``FixAtoms`` do not move.
    The folder receives ``frequencies.csv``, ``modes.npz`` (frequencies, displacements and the Hessian),
    ``spectrum.png``, ``final.extxyz``, ``summary.json`` and the relaxation.

    Args:
        settings: The settings.
        atoms: A structure to use instead of ``settings.structure``; it is copied.
        calculator: A calculator to use instead of one for ``settings.model``.

    Returns:
        The summary; look at ``converged`` and ``imaginary``.

    Raises:
        DataError: The folder already holds vibrations, or the structure has constraints other than ``FixAtoms``.
    """
    with locked_folder(settings.output) as folder:
        engine = engine_for(settings, calculator)
        check_free(folder, _FILES, overwrite=settings.overwrite)
        check_inputs(folder, _FILES, [settings.structure if atoms is None else None, settings.model])
        structure = starting_structure(settings, atoms)
        _check_constraints(structure)
        clear_folder(folder, _FILES)
        converged = True
        if settings.relax:
            structure, converged = _relaxed(settings, structure, engine.calculator, folder / RELAXATION)
        structure.calc = engine.calculator
        return _vibrations(settings, structure, folder, converged=converged)


def _vibrations(settings: VibrationSettings, atoms: Atoms, folder: Path, *, converged: bool) -> VibrationSummary:
    energy = float(atoms.get_potential_energy())
    moving = np.flatnonzero(moving_atoms(atoms))
    if not len(moving):
        raise DataError("all atoms are fixed, so that nothing vibrates; release some")
    hessian = atoms.calc.get_hessian(atoms, moving.tolist())
    is_held = len(moving) < len(atoms) or atoms.calc.feels_surroundings
    is_gas = not is_held and not atoms.pbc.any()
    rigid = np.zeros((0, len(moving), 3)) if is_held else rigid_motions(atoms, rotations=is_gas)
    modes = normal_modes(hessian, rigid, atoms.get_masses()[moving])
    thermo = thermochemistry(atoms, modes, energy, settings, is_gas=is_gas)
    message = _message(atoms, modes, moving, converged=converged, is_gas=is_gas)
    if message:
        _log.warning("%s", message)
    _write_table(folder / TABLE, atoms, modes, moving)
    with written_at_once(folder / MODES) as file:
        np.savez(file, frequencies=modes.frequencies, vectors=modes.vectors, atoms=moving, hessian=hessian)
    write_final(folder, snapshot(atoms))
    if settings.plots and len(modes.frequencies):
        _draw(folder / PLOT, atoms, modes, moving)
    summary = _summary(settings, modes, thermo, energy, converged=converged, output=str(folder), message=message)
    write_json(folder / SUMMARY, asdict(summary))
    return summary


def _relaxed(settings: VibrationSettings, atoms: Atoms, calculator: Calculator, folder: Path) -> tuple[Atoms, bool]:
    """The relaxed structure, and whether it converged."""
    shared = {one.name: getattr(settings, one.name) for one in fields(RunSettings) if one.init}
    options = shared | {"output": str(folder), "overwrite": True, "steps": settings.steps, "fmax": settings.fmax}
    summary = run_relax(RelaxSettings(**options, optimizer="bfgs"), atoms=atoms, calculator=calculator)
    return load_structure(summary.structure), summary.converged


def _check_constraints(atoms: Atoms) -> None:
    others = sorted({type(one).__name__ for one in atoms.constraints if not isinstance(one, FixAtoms)})
    if others:
        raise DataError(f"vibrations with {', '.join(others)} are not possible; only FixAtoms holds atoms here")


def _message(atoms: Atoms, modes: Modes, moving: np.ndarray, *, converged: bool, is_gas: bool) -> str:
    """What a reader must know: structures that are not relaxed, and imaginary frequencies with the atoms that move."""
    parts = [] if converged else ["the structure is not relaxed, so that its frequencies are not those of a minimum"]
    names = [
        f"{-frequency:.0f}i/cm ({', '.join(_most(atoms, share, moving))})"
        for frequency, share in zip(modes.frequencies, modes.shares(), strict=True)
        if frequency < 0
    ]
    if names:
        parts.append(
            f"{len(names)} imaginary: {'; '.join(names)}: the structure is no minimum, and thermochemistry leaves "
            "these out"
        )
    if not is_gas and atoms.pbc.any():
        parts.append(
            "the structure is periodic: these are the vibrations that are equal in all cells (the point Gamma)"
        )
    return ". ".join(parts)


def _most(atoms: Atoms, share: np.ndarray, moving: np.ndarray) -> list[str]:
    """The atoms that move most in a mode: at most three with at least a tenth of the kinetic energy."""
    order = np.argsort(-share)[:3]
    return [f"{atoms.symbols[moving[i]]}{moving[i]}" for i in order if share[i] >= 0.1 or i == order[0]]


def _write_table(path: Path, atoms: Atoms, modes: Modes, moving: np.ndarray) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["mode", "frequency_per_cm", "imaginary", "atoms"])
    for number, (frequency, share) in enumerate(zip(modes.frequencies, modes.shares(), strict=True)):
        who = " ".join(_most(atoms, share, moving))
        writer.writerow([number, f"{abs(frequency):.3f}", "yes" if frequency < 0 else "no", who])
    with written_at_once(path) as file:
        file.write(text.getvalue().encode())


def _draw(path: Path, atoms: Atoms, modes: Modes, moving: np.ndarray) -> None:
    """A bar for every frequency, divided by the shares of the elements in the motion."""
    symbols = np.array(atoms.get_chemical_symbols())[moving]
    width = max(0.008 * np.ptp(modes.frequencies), 1.0)
    with picture(path, height=3.0) as (figure, [[axes]]):
        bottom = np.zeros(len(modes.frequencies))
        for symbol in sorted(set(symbols)):
            height = modes.shares()[:, symbols == symbol].sum(1)
            axes.bar(modes.frequencies, height, width, bottom, label=symbol)
            bottom += height
        if modes.frequencies[0] < 0:
            axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set(xlabel="frequency (1/cm); imaginary ones are negative", ylabel="share in the motion", ylim=(0, 1.05))
        axes.set_title(f"{atoms.get_chemical_formula()}: normal modes")
        figure.legend(loc="outside right upper")


def _summary(
    settings: VibrationSettings,
    modes: Modes,
    thermo: Thermo,
    energy: float,
    *,
    converged: bool,
    output: str,
    message: str,
) -> VibrationSummary:
    some = len(modes.frequencies) > 0
    return VibrationSummary(
        converged=converged,
        energy_eV=energy,
        lowest_per_cm=float(modes.frequencies[0]) if some else None,
        highest_per_cm=float(modes.frequencies[-1]) if some else None,
        imaginary=int((modes.frequencies < 0).sum()),
        zero_point_eV=zero_point_energy(modes),
        treated_as=thermo.treated_as,
        symmetry_number=thermo.symmetry_number,
        temperature_K=settings.temperature,
        enthalpy_eV=thermo.enthalpy,
        entropy_eV_per_K=thermo.entropy,
        free_energy_eV=thermo.free_energy,
        output=output,
        message=message,
    )
