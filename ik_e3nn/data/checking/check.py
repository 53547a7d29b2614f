"""Check a data set before training on it: ``ik-e3nn data check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ik_e3nn.atomic import together
from ik_e3nn.data.checking.examine import examine
from ik_e3nn.data.checking.plot import plot_check
from ik_e3nn.data.checking.report import CheckReport
from ik_e3nn.data.files.reading import expand_path, read_located
from ik_e3nn.data.files.sdf import is_sdf
from ik_e3nn.data.files.smiles_table import is_table
from ik_e3nn.data.files.writing import check_output, whole_file
from ik_e3nn.data.labels.finding import read_labels
from ik_e3nn.data.labels.keys import EnergyUnit, LabelKeys, LengthUnit
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.properties.qm9 import TARGETS
from ik_e3nn.data.properties.reading import Absent, is_qm9, numeric_names, read_properties
from ik_e3nn.errors import DataError
from ik_e3nn.json_file import write_json
from ik_e3nn.settings import check_settings
from ik_e3nn.targets import Intensive, Target
from ik_e3nn.user_path import user_path

__all__ = ["CheckReport", "CheckSettings", "check"]


@dataclass(frozen=True)
class CheckSettings:
    """Settings of a check.

    Args:
        data: File, glob, folder or list of them.
        output: Prefix of files for the report, ``<output>.json`` and ``<output>.png``; without it nothing is written.
        energy_key: Name of the energy label.
        forces_key: Name of the forces label.
        stress_key: Name of the stress label.
        virial_key: Name of a virial label, used for structures without stress.
        energy_unit: Unit of the energies, also within forces and stress.
        length_unit: Unit of length within forces and stress; positions are in A.
        overwrite: Whether files of an earlier check may be replaced.
        targets: Names of properties of molecules to check. By default, all columns of numbers are checked in csv, SDF
            with data fields and QM9, and energies, forces and stress in other files.

    Example:
        >>> CheckSettings(data="train.xyz", output="found/train").files
        [PosixPath('found/train.json'), PosixPath('found/train.png')]
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
    def files(self) -> list[Path]:
        """The files to write.

        Raises:
            DataError: ``output`` is a folder, or not a file.
        """
        if self.output is None:
            return []
        given = user_path(self.output)
        prefix = given.with_suffix("") if given.suffix in (".json", ".png") else given
        if prefix.exists() and not prefix.is_file():
            what = "a folder" if prefix.is_dir() else "not a file"
            raise DataError(
                f"output is the beginning of two names, <output>.json and <output>.png, and {self.output!r} is {what}; "
                "give a prefix like found/check"
            )
        return [prefix.with_name(prefix.name + suffix) for suffix in (".json", ".png")]

    @property
    def keys(self) -> LabelKeys:
        """Names and units of the labels."""
        return LabelKeys.of(self, "command line")


def check(settings: CheckSettings) -> CheckReport:
    """Look for problems that would spoil a training, and write them as JSON and as a picture if an output is given.

    The exit status of the command is 1 if structures or values cannot be used. Outliers, duplicates and doubts do not
    change it.

    Args:
        settings: What to check.

    Returns:
        The report; ``text()`` prints it, and ``is_usable`` is the exit status.

    Raises:
        DataError: The data cannot be read, a label has the wrong shape, or the output files exist.

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
    files = settings.files
    inputs = [settings.data] if isinstance(settings.data, str) else settings.data
    for file in files:
        check_output(file, overwrite=settings.overwrite, inputs=inputs)
    data, faults = _read(settings)
    report = examine(data, settings.keys, faults, [str(file) for file in files])
    if not files:
        return report
    with together(*files):
        with whole_file(files[0], overwrite=settings.overwrite) as path:
            write_json(path, report.to_json())
        with whole_file(files[1], overwrite=settings.overwrite) as path:
            plot_check(report, path)
    return report


def _read(settings: CheckSettings) -> tuple[LabeledSet, list[str]]:
    """The data, and the problems of molecules and values that cannot be used."""
    faults: list[str] = []
    if settings.targets or is_property_data(settings.data):
        targets = targets_of(settings.data, settings.targets)
        absent: Absent = "error" if settings.targets else "drop"
        return read_properties(settings.data, targets, progress=True, absent=absent, faults=faults), faults
    structures, places = read_located(settings.data)
    return read_labels(structures, settings.keys, require=(), places=places), faults


def is_property_data(data: str | Sequence[str]) -> bool:
    """Whether data are tables of properties: csv, QM9, or SDF with numbers in its data fields."""
    given = [data] if isinstance(data, str) else list(data)
    places = [user_path(one) for one in given]
    if any(is_qm9(place) or is_table(place) for place in places):
        return True
    files = [file for place in places for file in expand_path(place)]
    return any(is_table(file) for file in files) or (
        all(is_sdf(file) for file in files) and bool(numeric_names(files[0]))
    )


def targets_of(data: str | Sequence[str], names: Sequence[str] | None) -> list[Target]:
    """The properties to check: the named ones, or those of QM9, or all columns of numbers in all files."""
    places = [user_path(one) for one in ([data] if isinstance(data, str) else data)]
    if all(is_qm9(place) for place in places):
        unknown = [name for name in names or () if name not in TARGETS]
        if unknown:
            raise DataError(f"QM9 has no {unknown[0]!r}; its targets are {', '.join(TARGETS)}")
        return [TARGETS[name] for name in names or TARGETS]
    if not names:
        files = [file for place in places if not is_qm9(place) for file in expand_path(place)]
        names = list(dict.fromkeys(name for file in files for name in numeric_names(file)))
    if not names:
        raise DataError(
            f"no column of {', '.join(map(str, places))} has numbers; name the columns to check with --targets"
        )
    return [Intensive(name) for name in names]
