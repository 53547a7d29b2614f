"""The vibrations of a structure, from its relaxation to the picture."""

import csv
import io
import logging
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
from ase import Atoms
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
from ik_e3nn_calculators.relax.first import largest_force, relaxed_first
from ik_e3nn_calculators.runs import running, starting_structure
from ik_e3nn_calculators.vibrations.modes import NEAR_ZERO, Modes, normal_modes
from ik_e3nn_calculators.vibrations.multiplicity import multiplicity
from ik_e3nn_calculators.vibrations.rigid import RigidMotions, rigid_motions
from ik_e3nn_calculators.vibrations.settings import VibrationSettings, VibrationSummary
from ik_e3nn_calculators.vibrations.thermo import Thermo, thermochemistry, zero_point_energy

_log = logging.getLogger(__name__)

TABLE, PLOT, SUMMARY, MODES, RELAXATION = "frequencies.csv", "spectrum.png", "summary.json", "modes.npz", "relax"
_FILES = (TABLE, PLOT, SUMMARY, MODES, "final.extxyz", "final.traj")


def run_vibrations(
    settings: VibrationSettings, *, atoms: Atoms | None = None, calculator: IKCalculator | None = None
) -> VibrationSummary:
    """Relax a structure, and find its frequencies from the analytic Hessian.

    Translations and rotations that cost no energy are left out exactly: all of a free molecule, all translations of
    a crystal, and those that fixed atoms, periodic directions and the surroundings of the model leave. Atoms fixed by
    ``FixAtoms`` do not move.
    The folder receives ``frequencies.csv``, ``modes.npz`` (frequencies, displacements and the Hessian),
    ``spectrum.png``, ``final.extxyz``, ``summary.json`` and the relaxation.

    Args:
        settings: The settings.
        atoms: A structure to use instead of ``settings.structure``; it is copied.
        calculator: A calculator to use instead of one for ``settings.model``.

    Returns:
        The summary; look at ``converged`` and ``imaginary``.

    Raises:
        DataError: The folder already holds vibrations, or the structure has constraints other than ``FixAtoms``,
            only fixed atoms, or an impossible spin.
    """
    with locked_folder(settings.output) as folder, running(settings, calculator) as engine:
        check_free(folder, _FILES, overwrite=settings.overwrite)
        check_inputs(folder, _FILES, [settings.structure if atoms is None else None, settings.model])
        structure = starting_structure(settings, atoms)
        _check(structure, cast(IKCalculator, engine.calculator))
        clear_folder(folder, _FILES)
        if settings.relax:
            where = folder / RELAXATION
            structure = relaxed_first(
                settings, structure, engine.calculator, where, steps=settings.steps, fmax=settings.fmax
            )
        structure.calc = engine.calculator
        return _vibrations(settings, structure, folder)


def _vibrations(settings: VibrationSettings, atoms: Atoms, folder: Path) -> VibrationSummary:
    energy, fmax = float(atoms.get_potential_energy()), largest_force(atoms)
    moving = np.flatnonzero(moving_atoms(atoms))
    hessian = atoms.calc.get_hessian(atoms, moving.tolist())
    rigid = rigid_motions(atoms, atoms.calc.model)
    modes = normal_modes(hessian, rigid.vectors, atoms.get_masses()[moving])
    thermo = thermochemistry(atoms, modes, energy, settings, is_gas=rigid.is_free)
    message = _message(atoms, modes, moving, rigid, fmax if fmax > settings.fmax else None)
    if message:
        _log.warning("%s", message)
    _write_table(folder / TABLE, atoms, modes, moving)
    with written_at_once(folder / MODES) as file:
        np.savez(file, frequencies=modes.frequencies, vectors=modes.vectors, atoms=moving, hessian=hessian)
    write_final(folder, snapshot(atoms))
    if settings.plots and len(modes.frequencies):
        _draw(folder / PLOT, atoms, modes, moving)
    summary = _summary(
        settings, modes, rigid, thermo, energy, converged=fmax <= settings.fmax, output=str(folder), message=message
    )
    write_json(folder / SUMMARY, asdict(summary))
    return summary


def _check(atoms: Atoms, calculator: IKCalculator) -> None:
    """Refuse what cannot vibrate, and what has no thermochemistry."""
    others = sorted({type(one).__name__ for one in atoms.constraints if not isinstance(one, FixAtoms)})
    if others:
        raise DataError(f"vibrations with {', '.join(others)} are not possible; only FixAtoms holds atoms here")
    if not moving_atoms(atoms).any():
        raise DataError("all atoms are fixed, so that nothing vibrates; release some")
    if rigid_motions(atoms, calculator.model).is_free:
        multiplicity(atoms)


def _message(atoms: Atoms, modes: Modes, moving: np.ndarray, rigid: RigidMotions, fmax: float | None) -> str:
    """What a reader must know: structures that are not relaxed, and modes that are no vibrations, with their atoms."""
    parts = []
    if fmax is not None:
        parts.append(
            f"the structure is not relaxed (the largest force is {fmax:.2g} eV/A), so that its frequencies are not "
            "those of a minimum"
        )
    if modes.imaginary.any():
        parts.append(
            f"{modes.imaginary.sum()} imaginary: {_named(atoms, modes, moving, modes.imaginary)}: the structure is no "
            "minimum, and thermochemistry leaves these out"
        )
    if modes.near_zero.any():
        advice = "; for a molecule in a large box, set pbc to False" if atoms.pbc.any() else ""
        parts.append(
            f"{modes.near_zero.sum()} near zero: {_named(atoms, modes, moving, modes.near_zero)}: below "
            f"{NEAR_ZERO:.0f}/cm, thermochemistry leaves these out{advice}"
        )
    if rigid.is_free:
        parts.append(multiplicity(atoms)[1])
    elif len(rigid.vectors):
        parts.append(
            f"{rigid} of the whole structure cost no energy and are left out, also of the entropy and the free energy"
        )
    if atoms.pbc.any():
        parts.append(
            "the structure is periodic: these are the vibrations that are equal in all cells (the point Gamma)"
        )
    return ". ".join(part for part in parts if part)


def _named(atoms: Atoms, modes: Modes, moving: np.ndarray, chosen: np.ndarray) -> str:
    """Frequencies of some modes, with the atoms that move most."""
    pairs = zip(modes.frequencies[chosen], modes.shares()[chosen], strict=True)
    return "; ".join(
        f"{abs(frequency):.0f}{'i' if frequency < 0 else ''}/cm ({', '.join(_most(atoms, share, moving))})"
        for frequency, share in pairs
    )


def _most(atoms: Atoms, share: np.ndarray, moving: np.ndarray) -> list[str]:
    """The atoms that move most in a mode: at most three with at least a tenth of the kinetic energy."""
    order = np.argsort(-share)[:3]
    return [f"{atoms.symbols[moving[i]]}{moving[i]}" for i in order if share[i] >= 0.1 or i == order[0]]


def _write_table(path: Path, atoms: Atoms, modes: Modes, moving: np.ndarray) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["mode", "frequency_per_cm", "imaginary", "atoms"])
    rows = zip(modes.frequencies, modes.imaginary, modes.shares(), strict=True)
    for number, (frequency, imaginary, share) in enumerate(rows):
        who = " ".join(_most(atoms, share, moving))
        writer.writerow([number, f"{abs(frequency):.3f}", "yes" if imaginary else "no", who])
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
    rigid: RigidMotions,
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
        imaginary=int(modes.imaginary.sum()),
        near_zero=int(modes.near_zero.sum()),
        left_out=str(rigid),
        zero_point_eV=zero_point_energy(modes),
        treated_as=thermo.treated_as,
        symmetry_number=thermo.symmetry_number,
        multiplicity=thermo.multiplicity,
        temperature_K=settings.temperature,
        enthalpy_eV=thermo.enthalpy,
        entropy_eV_per_K=thermo.entropy,
        free_energy_eV=thermo.free_energy,
        output=output,
        message=message,
    )
