"""Look at a data set before training on it: ``ik-e3nn data check``."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.atomic import together
from ik_e3nn.data.checking.plot import plot_check
from ik_e3nn.data.checking.properties import check_properties, is_property_data
from ik_e3nn.data.checking.property_report import PropertyCheckReport
from ik_e3nn.data.checking.report import CheckReport
from ik_e3nn.data.files.reading import read_located
from ik_e3nn.data.files.writing import check_output, whole_file
from ik_e3nn.data.graphs.dataset import force_rms
from ik_e3nn.data.labels.energy_reference import EnergyReference, fit_energy_reference, is_isolated
from ik_e3nn.data.labels.finding import missing_labels, read_labels
from ik_e3nn.data.labels.keys import EnergyUnit, LabelKeys, LengthUnit
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.outliers import (
    energy_outliers,
    force_outliers,
    incomplete_forces,
    largest_forces,
    oddities,
    stress_outliers,
)
from ik_e3nn.data.labels.placeholders import without_placeholders
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.data.structures.geometry import closest_contacts, find_duplicates
from ik_e3nn.data.suspicions.units import suspicious_units
from ik_e3nn.errors import DataError
from ik_e3nn.json_file import write_json
from ik_e3nn.settings import check_settings
from ik_e3nn.user_path import user_path

__all__ = ["CheckReport", "CheckSettings", "PropertyCheckReport", "check"]

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CheckSettings:
    """Settings of a check.

    Args:
        data: File, glob, folder or list of them.
        output: Prefix of the files to write, ``<output>.json`` and ``<output>.png``; by default the name of the (first)
            data file with ``_check``, in the working folder.
        energy_key: Name of the energy label.
        forces_key: Name of the forces label.
        stress_key: Name of the stress label.
        virial_key: Name of a virial label, used where a structure has no stress.
        energy_unit: Unit of the energies, also within forces and stress.
        length_unit: Unit of length within forces and stress; positions are in A.
        overwrite: Whether files of an earlier check may be replaced.
        targets: Names of properties of molecules to look at. csv, SDF with data fields and QM9 are such data without
            it (all columns of numbers are looked at), other files are structures with energies and forces without it.

    Example:
        >>> CheckSettings(data="sets/train.xyz.gz").prefix
        PosixPath('train_check')
    """

    data: str | list[str]
    output: str | None = None
    energy_key: str = "REF_energy"
    forces_key: str = "REF_forces"
    stress_key: str = "REF_stress"
    virial_key: str | None = None
    energy_unit: EnergyUnit = "eV"
    length_unit: LengthUnit = "ang"
    overwrite: bool = False
    targets: list[str] | None = None

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def prefix(self) -> Path:
        """Path of the files to write, without suffix."""
        if self.output is not None:
            given = user_path(self.output)
            return given.with_suffix("") if given.suffix in (".json", ".png") else given
        first = Path(self.data if isinstance(self.data, str) else self.data[0]).name
        plain = "".join(letter for letter in first if letter not in "*?[]")
        return Path(f"{plain.split('.')[0] or 'data'}_check")

    @property
    def keys(self) -> LabelKeys:
        """Names and units of the labels."""
        return LabelKeys(
            self.energy_key, self.forces_key, self.stress_key, self.virial_key, self.energy_unit, self.length_unit,
            given_in="command line",
        )  # fmt: skip


def check(settings: CheckSettings) -> CheckReport | PropertyCheckReport:
    """Look for what spoils a training, and write what was found as JSON and as a picture.

    Args:
        settings: What to check.

    Returns:
        The report; its ``text()`` is for people.

    Raises:
        DataError: The data cannot be read, a label has the wrong shape, or the files to write exist.

    Example:
        >>> import tempfile
        >>> from ase import Atoms
        >>> from ik_e3nn.data.files.writing import write_structures
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info={"REF_energy": -31.0})
        ...     write_structures(f"{folder}/a.xyz", [atoms, atoms])
        ...     report = check(CheckSettings(data=f"{folder}/a.xyz", output=f"{folder}/found"))
        >>> report.data.counts()["energy"], report.duplicates, report.is_clean
        (2, [[0, 1]], False)
    """
    prefix = settings.prefix
    if prefix.exists() and not prefix.is_file():
        what = "a folder" if prefix.is_dir() else "no file"
        raise DataError(
            f"output is the beginning of two names, <output>.json and <output>.png, and {settings.output!r} is {what}; "
            "give something like found/check"
        )
    files = [prefix.with_name(prefix.name + suffix) for suffix in (".json", ".png")]
    inputs = [settings.data] if isinstance(settings.data, str) else settings.data
    for file in files:
        check_output(file, overwrite=settings.overwrite, inputs=inputs)
    names = [str(file) for file in files]
    if settings.targets or is_property_data(settings.data):
        found = check_properties(settings.data, settings.targets, names)
        _write(found.to_json(), found.plot, files, settings.overwrite)
        return found
    return _check_structures(settings, files)


def _check_structures(settings: CheckSettings, files: Sequence[Path]) -> CheckReport:
    """The check of structures with energies and forces."""
    structures, places = read_located(settings.data)
    data = read_labels(structures, settings.keys, require=(), places=places)
    data = without_placeholders(data)  # named by its doubts
    report = _examine(data, [str(file) for file in files])
    report.doubts.extend([*data.doubts, *suspicious_units(data, settings.keys)])
    counts = data.counts()
    absent = "" if counts["energy"] or counts["forces"] else missing_labels(structures, settings.keys)
    if absent:
        report.notes.append(f"{absent}; properties of molecules are looked at where --targets names them")
    plot = partial(plot_check, report.residuals, data.values["forces"], report.contacts, data.sizes.tolist())
    _write(report.to_json(), plot, files, settings.overwrite)
    return report


def _write(content: dict[str, Any], plot: Callable[[Path], None], files: Sequence[Path], overwrite: bool) -> None:
    """The two files, both of them or none."""
    with together(*files):
        with whole_file(files[0], overwrite=overwrite) as path:
            write_json(path, content)
        with whole_file(files[1], overwrite=overwrite) as path:
            plot(path)


def _examine(data: LabeledSet, files: list[str]) -> CheckReport:
    """Everything that is found out, in one report."""
    structures = data.structures
    contacts, broken = closest_contacts(structures)
    reference, residuals = _relative_energies(data, broken)
    species = Counter(symbol for atoms in structures for symbol in atoms.symbols)
    duplicates = find_duplicates(structures)
    return CheckReport(
        data=data,
        species=dict(species.most_common()),
        periodicity=dict(Counter("".join("FT"[int(flag)] for flag in atoms.pbc) for atoms in structures)),
        config_types=dict(Counter(str(atoms.info.get("config_type", "none")) for atoms in structures)),
        reference=reference,
        residuals=residuals,
        force_rms=force_rms(data.values["forces"]),
        largest_forces=largest_forces(data),
        outliers=[
            *energy_outliers(structures, residuals),
            *force_outliers(data),
            *incomplete_forces(data),
            *stress_outliers(data),
        ],
        duplicates=duplicates,
        contacts=contacts,
        broken=broken,
        notes=[*oddities(data), *_contradictions(duplicates, data.values["energy"])],
        files=files,
    )


def _relative_energies(data: LabeledSet, broken: Collection[int]) -> tuple[EnergyReference | None, FloatArray]:
    """E0 and energies relative to it per atom; NaN where missing and for isolated atoms."""
    energies, residuals = data.values["energy"], np.full(len(data), np.nan)
    known = np.isfinite(energies) & ~np.isin(np.arange(len(data)), list(broken))
    if not known.any():
        return None, residuals
    labeled = data.select(np.flatnonzero(known))
    reference = fit_energy_reference(labeled.structures, labeled.values["energy"])
    own = composition(labeled.structures, list(reference.values)) @ np.array(list(reference.values.values()))
    bound = ~np.array([is_isolated(atoms) for atoms in labeled.structures])
    residuals[known] = np.where(bound, (labeled.values["energy"] - own) / labeled.sizes, np.nan)
    return reference, residuals


def _contradictions(duplicates: Sequence[Sequence[int]], energies: FloatArray) -> list[str]:
    """A sentence about equal structures with different energies."""
    wrong = [group for group in duplicates if np.ptp(energies[list(group)]) > 1e-3]
    if not wrong:
        return []
    return [f"{len(wrong)} groups of equal structures have different energies, first {'='.join(map(str, wrong[0]))}"]
