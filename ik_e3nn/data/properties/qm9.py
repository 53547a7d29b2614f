"""QM9 in its common file formats; nothing is downloaded."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from ik_e3nn.arrays import FloatArray
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.properties.qm9_files import NAMES, read_arrays, read_sdf_table, read_xyz
from ik_e3nn.data.structures.composition import composition
from ik_e3nn.data.structures.pyg import from_pyg
from ik_e3nn.errors import DataError
from ik_e3nn.targets import DipoleNorm, Extensive, Intensive, SpatialExtent
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)

HARTREE = ("homo", "lumo", "gap", "zpve", "U0", "U", "H", "G")
"""Targets that are published in hartree."""
ATOMIZED = ("U0", "U", "H", "G")
"""Total energies that are also given as energies of atomization, under ``U0_atom`` and so on."""
TARGETS = {
    "mu": DipoleNorm("mu", "D"),
    "alpha": Extensive("alpha", "a0^3"),
    "homo": Intensive("homo", "eV"),
    "lumo": Intensive("lumo", "eV"),
    "gap": Intensive("gap", "eV"),
    "r2": SpatialExtent("r2", "a0^2"),
    "zpve": Extensive("zpve", "eV"),
    **{name: Extensive(name, "eV") for name in ATOMIZED},
    "Cv": Extensive("Cv", "cal/mol/K"),
    **{f"{name}_atom": Extensive(f"{name}_atom", "eV") for name in ATOMIZED},
}
"""The twelve targets, in eV, A, D, a0 and cal/mol/K, and four energies of atomization."""
ATOM_ENERGIES = {  # hartree, of H, C, N, O, F, by B3LYP/6-31G(2df,p); from the published atomref.txt
    "U0": (-0.500273, -37.846772, -54.583861, -75.064579, -99.718730),
    "U": (-0.498857, -37.845355, -54.582445, -75.063163, -99.717314),
    "H": (-0.497912, -37.844411, -54.581501, -75.062219, -99.716370),
    "G": (-0.510927, -37.861317, -54.598897, -75.079532, -99.733544),
}
ELEMENTS = (1, 6, 7, 8, 9)
UNCHARACTERIZED = ("uncharacterized.txt", "3195404")


def read_qm9(path: str | Path, *, uncharacterized: str | Path | None = None) -> LabeledSet:
    """Read QM9 from files of any of its common formats.

    - ``*.npz``: arrays ``Z``, ``R``, ``offsets``, ``index``, ``targets``, ``target_names``, ``target_units``,
      ``smiles``;
    - ``gdb9.sdf``, its folder, or the root folder of PyG's ``QM9``: with ``gdb9.sdf.csv`` beside it; bonds of the SDF;
    - ``dsgdb9nsd_*.xyz``, the published files: one of them, or a folder, glob or ``*.tar.bz2`` of them.

    Args:
        path: File, folder or glob.
        uncharacterized: The published list of the molecules that failed its consistency check; also found beside the
            other files as ``uncharacterized.txt`` or ``3195404``. Without it, a warning says that they are included.

    Returns:
        All molecules with the 16 targets of ``TARGETS``; ids are the numbers of dsgdb9nsd, from 1.

    Raises:
        DataError: No files of these formats are found, or they are damaged.
    """
    place = user_path(path)
    if not place.exists() and place.suffix != ".xyz":  # that may be a glob
        raise DataError(f"{place} does not exist; QM9 is not downloaded: give the path of its files")
    sdf = sdf_of(place)
    if sdf is not None:
        place = sdf
    if place.suffix == ".npz":
        raw = read_arrays(place)
    elif place.suffix == ".sdf":
        raw = read_sdf_table(place)
    else:
        raw = read_xyz(place)
    for number, atoms in zip(raw.numbers, raw.structures, strict=True):
        if not np.isfinite(atoms.positions).all():
            raise DataError(f"molecule {number} of {place}: positions must be finite, but some are NaN or infinite")
    values = {name: raw.values[:, k] * (units.Hartree if name in HARTREE else 1.0) for k, name in enumerate(NAMES)}
    listed = _uncharacterized_beside(place) if uncharacterized is None else Path(uncharacterized)
    molecules = with_atomization(raw.structures, values, [str(n) for n in raw.numbers], raw.smiles)
    if listed is None:
        if len(molecules) > 130_831:
            _log.warning("no list of uncharacterized molecules is given: the 3,054 molecules on it are not left out")
        return molecules
    return without(molecules, read_uncharacterized(listed))


def sdf_of(folder: Path) -> Path | None:
    """The SDF file of QM9 in a folder, or in ``raw`` there, where PyG keeps its downloads."""
    places = (folder / "gdb9.sdf", folder / "raw" / "gdb9.sdf")
    return next((place for place in places if place.exists()), None)


def qm9_from_pyg(dataset: Iterable[Any]) -> LabeledSet:
    """QM9 from ``torch_geometric.datasets.QM9``, or from similar objects; bonds are those of PyG.

    Args:
        dataset: The data set, already on the disk. PyG gives energies in eV and leaves out uncharacterized molecules.

    Returns:
        All molecules with the 16 targets of ``TARGETS``; ids are the numbers of dsgdb9nsd, from 1.

    Raises:
        DataError: An object lacks ``y`` with at least 12 columns.
    """
    structures, rows, ids, smiles = [], [], [], []
    for number, data in enumerate(dataset):
        y = data.get("y")
        if y is None or y.numel() < len(NAMES):
            raise DataError(f"object {number} has no `y` with the {len(NAMES)} targets of QM9 ({', '.join(NAMES)})")
        structures.append(from_pyg(data))
        rows.append(y.double().reshape(-1)[: len(NAMES)].numpy())
        # PyG names molecules gdb_1, gdb_2, ... and numbers them, in ``idx``, from 0
        name = str(data.get("name") or "")
        ids.append(name.removeprefix("gdb_") if name else str(int(data.get("idx", number)) + 1))
        smiles.append(str(data.get("smiles") or ""))
    table = np.array(rows)
    values = {name: table[:, k] for k, name in enumerate(NAMES)}
    return with_atomization(structures, values, ids, smiles if all(smiles) else None)


def with_atomization(
    structures: list[Atoms], values: dict[str, FloatArray], ids: list[str], smiles: list[str] | None
) -> LabeledSet:
    r"""Molecules with the twelve targets and the energies of atomization.

    .. math:: U_0^{atom} = U_0 - \sum_i U_0(Z_i)

    They are negative for bound molecules, as in PyG. (Tables of QM9 report errors of total energies; the errors of
    energies of atomization are the same, because the two energies differ by a sum over atoms.)
    """
    whole = dict(values)
    for name, energies in ATOM_ENERGIES.items():
        whole[f"{name}_atom"] = values[name] - composition(structures, ELEMENTS) @ np.array(energies) * units.Hartree
    return LabeledSet(structures, tuple(TARGETS.values()), {name: whole[name] for name in TARGETS}, ids, smiles)


def read_uncharacterized(path: str | Path) -> list[int]:
    r"""Numbers in dsgdb9nsd, **from 1**, of the molecules in the published list of uncharacterized molecules.

    Args:
        path: The file: lines of text, then one line a molecule that begins with its number, then the total.

    Returns:
        The numbers.

    Raises:
        DataError: The file cannot be read, or holds no numbers.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "uncharacterized.txt"
        ...     _ = file.write_text("some text\n===\n    21 C#N  C#N 0.1\n    58 CC C 0.2\n2 compounds\n")
        ...     read_uncharacterized(file)
        [21, 58]
    """
    try:
        lines = [line.split() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list of uncharacterized molecules, {path}, cannot be read: {error}") from error
    rows = [words for words in lines if words and words[0].isdigit()]
    if rows and len(rows[-1]) > 1 and rows[-1][1].startswith("compound"):
        rows = rows[:-1]
    if not rows:
        raise DataError(f"{path} holds no numbers of molecules")
    return [int(words[0]) for words in rows]


def without(molecules: LabeledSet, numbers: Sequence[int]) -> LabeledSet:
    """The molecules without those of the given numbers in dsgdb9nsd."""
    left_out = {str(number) for number in numbers}
    kept = [index for index, name in enumerate(molecules.ids) if name not in left_out]
    _log.info("%d of %d molecules are uncharacterized and left out", len(molecules) - len(kept), len(molecules))
    return molecules.select(kept)


def _uncharacterized_beside(place: Path) -> Path | None:
    folder = place if place.is_dir() else place.parent
    return next((folder / name for name in UNCHARACTERIZED if (folder / name).exists()), None)
