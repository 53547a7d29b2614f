"""Properties of the molecules in a file, as a table."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from tqdm import tqdm

from ik_e3nn.atomic import written_at_once
from ik_e3nn.data import PropertyDataset, PropertySet, conformers, read_structures, with_bonds
from ik_e3nn.data.check_geometry import check_contacts
from ik_e3nn.data.completeness import check_hydrogens, geometry_problem
from ik_e3nn.data.reading import expand_path
from ik_e3nn.data.sdf import SDFRecord, Unreadable, is_sdf, scan_sdf
from ik_e3nn.data.smiles_table import given_smiles, is_table, read_table
from ik_e3nn.data.writing import check_output
from ik_e3nn.errors import ConfigError, DataError, UnknownSpeciesError
from ik_e3nn.graph import Target, check_stated, fields, has_bonds
from ik_e3nn.graph.build import NUMBER_KEYS
from ik_e3nn.models import (
    MolecularPropertyModel,
    PropertyCommittee,
    UncertainProperties,
    load_property_model,
    model_files,
    with_property_uncertainty,
)
from ik_e3nn.models.device import resolve_device
from ik_e3nn.models.uncertain_properties import STD
from ik_e3nn.settings import check_settings
from ik_e3nn.training.elements import check_species
from ik_e3nn.training.property_prediction import Values, predict_properties
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)

PROBLEM = "problem"


@dataclass(frozen=True)
class PredictSettings:
    """Predictions of properties for a file of molecules.

    Args:
        model: Model file, of `ik-e3nn train` with targets, or "base-properties"; a glob or list of several makes a
            committee, whose mean is predicted.
        data: csv file with a column `smiles`, file of SMILES (`.smi`), SDF, or anything that ASE reads.
        output: csv file to write: the columns of the input, then one a property, `NAME_UNIT`.
        uncertainty: File of `ik-e3nn calibrate` for this model or committee: standard deviations are written too,
            `NAME_std_UNIT`. A committee without it has raw ones, which are not calibrated.
        conformers: Conformers of each SMILES to average over, lowest force-field energies first; not for vectors and
            tensors, whose conformers all have orientations of their own.
        seed: Seed of the conformers.
        bonds: Where the bonds of structures come from, if the model needs them.
        batch_size: Most molecules in a batch.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, or one of several GPUs, as `cuda:1`.
        overwrite: Replace an existing output.
        progress: Show a progress bar.
    """

    model: str | list[str]
    data: str
    output: str
    uncertainty: str | None = None
    conformers: int = 1
    seed: int = 0
    bonds: Literal["auto", "given", "smiles", "perceived"] = "auto"
    batch_size: int = 128
    device: str = "auto"
    overwrite: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("conformers", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but it must be at least 1.")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, but it must not be negative.")
        if not self.output.lower().endswith(".csv"):
            raise DataError(f"output must be a csv file, ending in .csv; got {self.output!r}")


@dataclass
class _Asked:
    """What is to be predicted: rows of the table, and geometries with the row that each belongs to.

    Args:
        rows: Columns of the input.
        structures: Geometries.
        smiles: Their SMILES, where the input gives them.
        owners: Rows of the geometries.
        problems: Reasons why a row has no prediction.
    """

    rows: list[dict[str, Any]]
    structures: list[Atoms] = field(default_factory=list)
    smiles: list[str] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)


def predict_file(settings: PredictSettings) -> str:
    """Predict, and write the table.

    A molecule that cannot be predicted (a SMILES or a record of an SDF file that cannot be read, an element that the
    model does not know, hydrogens that a file does not have, atoms on top of each other) keeps its row, without values
    and with the reason in the column `problem`; there it is also said if a charge or unpaired electrons are not seen,
    and if a geometry without bonds does not look like a whole molecule.

    Args:
        settings: Model, molecules and output.

    Returns:
        How many molecules have a prediction, and where it is.

    Raises:
        ConfigError: An average over conformers of a model that predicts vectors or tensors.
        DataError: The input cannot be read, it has a column of a prediction's name, or the output exists already.
        ModelFileError: The model file is broken, or that of a potential; or the uncertainty is that of other models.
    """
    output = user_path(settings.output)
    models = [settings.model] if isinstance(settings.model, str) else settings.model
    check_output(output, overwrite=settings.overwrite, inputs=[settings.data, *models])
    model = _load(settings)
    results = results_of(model)
    turning = [target.name for target in model.targets if target.shape]
    if settings.conformers > 1 and turning:
        raise ConfigError(
            f"conformers is {settings.conformers}, but the model predicts {', '.join(turning)}, which turn with the "
            "molecule: an average over conformers in different orientations means nothing. Set conformers to 1."
        )
    asked = _read(settings, results)
    molecules, owners = _checked(asked, model, settings)
    sums = {t.name: np.zeros((len(asked.rows), *t.shape)) for t in results}
    counts = np.zeros(len(asked.rows))
    if len(molecules):
        graphs = PropertyDataset(molecules, model.edges, model.r_max, dtype=model.dtype)
        with tqdm(total=len(molecules), desc="predict", disable=not settings.progress) as bar:
            values, _ = predict_properties(model, graphs, batch_size=settings.batch_size, on_batch=bar.update)
        np.add.at(counts, owners, 1)
        for name, array in values.items():
            np.add.at(sums[name], owners, array)
    _write(output, asked, results, sums, counts)
    done = int((counts > 0).sum())
    if done < len(asked.rows):
        _log.warning("%d molecules have no prediction; column %r says why", len(asked.rows) - done, PROBLEM)
    return f"{done} of {len(asked.rows)} molecules predicted: {output}"


def _load(settings: PredictSettings) -> MolecularPropertyModel | UncertainProperties:
    """The model, or the committee."""
    device = resolve_device(settings.device)
    models = [load_property_model(path, device=device) for path in model_files(settings.model)]
    if settings.uncertainty is not None:
        return with_property_uncertainty(models, settings.uncertainty)
    if len(models) == 1:
        return models[0]
    _log.warning("standard deviations of a committee are not calibrated; see `ik-e3nn calibrate`")
    return PropertyCommittee(models).eval()


def results_of(model: MolecularPropertyModel | UncertainProperties) -> list[Target]:
    """What a model predicts: its targets, and their standard deviations if it has them."""
    if isinstance(model, MolecularPropertyModel):
        return list(model.targets)
    return [one for target in model.targets for one in (target, replace(target, name=target.name + STD))]


def _read(settings: PredictSettings, targets: Sequence[Target]) -> _Asked:
    """Rows and geometries of the input, whose columns must not be those of predictions."""
    paths = expand_path(settings.data)
    tables = [path for path in paths if is_table(path)]
    if tables and len(paths) > 1:
        raise DataError(
            f"data is {len(paths)} files, {tables[0]} among them; one table of SMILES is predicted at a time: give "
            "one file, or join them."
        )
    if not tables:
        asked = _read_structures(paths)
        _check_names(asked.rows, targets)
        return asked
    smiles, table = read_table(paths[0])
    _check_names(table, targets)
    asked = _Asked([dict(row) for row in table])
    for number, text in enumerate(tqdm(smiles, desc="conformers", disable=not settings.progress)):
        try:
            found = conformers(text, settings.conformers, settings.seed)
        except DataError as error:
            asked.problems[number] = str(error)
            continue
        asked.structures += found
        asked.smiles += [text] * len(found)
        asked.owners += [number] * len(found)
    return asked


def _read_structures(paths: Sequence[Path]) -> _Asked:
    """A row for every structure, and for every record of an SDF file, with its data, whether it can be read or not."""
    asked = _Asked([])
    for path in paths:
        found: Iterable[SDFRecord | Unreadable] = (
            scan_sdf(path)
            if is_sdf(path)
            else (SDFRecord(number, atoms, {}) for number, atoms in enumerate(read_structures(path)))
        )
        for one in found:
            row = len(asked.rows)
            if isinstance(one, Unreadable):
                asked.rows.append({"molecule": str(row)})
                asked.problems[row] = one.problem
                continue
            asked.rows.append({"molecule": str(one.atoms.info.get("name", row)), **one.fields})
            asked.structures.append(one.atoms)
            asked.owners.append(row)
    rows = (asked.rows[owner] for owner in asked.owners)
    sources = [{**atoms.info, **row} for atoms, row in zip(asked.structures, rows, strict=True)]
    asked.smiles = given_smiles(sources) or []
    return asked


def _check_names(rows: Sequence[Mapping[str, Any]], targets: Sequence[Target]) -> None:
    """Refuse to put predictions in the place of what the input says."""
    columns = {name for row in rows for name in row}
    taken = columns & {PROBLEM, *(name for target in targets for name in column_names(target))}
    if taken:
        raise DataError(
            f"the input has a column {', '.join(sorted(taken))}, which is the name of a column of predictions; rename "
            "it, say to measured_..., so that nothing is replaced."
        )


def _checked(
    asked: _Asked, model: MolecularPropertyModel | UncertainProperties, settings: PredictSettings
) -> tuple[PropertySet, list[int]]:
    """The molecules that can be predicted, with bonds if the model's graph is made of them; and their rows."""
    inputs = (model.first if isinstance(model, UncertainProperties) else model).body.inputs
    odd = set()
    for owner, atoms in zip(asked.owners, asked.structures, strict=True):
        values = ((fields.TOTAL_CHARGE, "charge", 0), (fields.SPIN, "spin", 1))
        unseen = [key for name, key, usual in values if name not in inputs and (atoms.info.get(key) or usual) != usual]
        if unseen:
            odd.add(owner)
            asked.problems[owner] = f"the model does not see its {' and '.join(unseen)}"
        elif len(atoms) and not (asked.smiles and has_bonds(atoms)):
            doubt = geometry_problem(atoms)
            if doubt:
                asked.problems[owner] = doubt
    if odd:
        _log.warning("%d molecules are charged or have unpaired electrons, which the model does not see", len(odd))
    good = []
    for index, atoms in enumerate(asked.structures):
        try:
            if not len(atoms):
                raise DataError("it has no atoms")
            check_species([atoms], model.species)
            check_hydrogens(atoms)
            check_contacts(atoms)
            for name in inputs & NUMBER_KEYS.keys():
                check_stated(atoms, NUMBER_KEYS[name])
            good.append(index)
        except (DataError, UnknownSpeciesError) as error:
            asked.problems[asked.owners[index]] = str(error).removeprefix("structure 0 has ")
    ids = [str(index) for index in good]
    smiles = [asked.smiles[index] for index in good] if asked.smiles else None
    molecules = PropertySet([asked.structures[index] for index in good], (), {}, ids, smiles)
    if model.edges != "radius" and good:
        every, failures = molecules, {}
        try:
            molecules, report = with_bonds(every, settings.bonds, "skip", progress=settings.progress)
            failures = report.failures
        except DataError as error:  # for none of them
            molecules, failures = every.select([]), dict.fromkeys(ids, str(error))
        for name, reason in failures.items():
            asked.problems[asked.owners[int(name)]] = reason
    return molecules, [asked.owners[int(name)] for name in molecules.ids]


def _write(path: Path, asked: _Asked, targets: Sequence[Target], sums: Values, counts: np.ndarray) -> None:
    """The table: columns of the input, predictions, problems."""
    rows = []
    for number, row in enumerate(asked.rows):
        predicted: dict[str, Any] = {}
        problems = [asked.problems[number]] if number in asked.problems else []
        for target in targets:
            mean = np.ravel(sums[target.name][number]) / max(counts[number], 1)
            known = bool(counts[number]) and bool(np.isfinite(mean).all())
            if counts[number] and not known:
                problems.append(f"it has an element for which the model has no reference of {target.name}")
            names = column_names(target)
            predicted |= dict(zip(names, [f"{x:.8g}" if known else "" for x in mean], strict=True))
        rows.append({**row, **predicted, PROBLEM: "; ".join(problems)})
    text = StringIO()
    given = [name for row in asked.rows for name in row]
    columns = dict.fromkeys([*given, *(name for target in targets for name in column_names(target)), PROBLEM])
    writer = csv.DictWriter(text, fieldnames=list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_at_once(path) as file:
        file.write(text.getvalue().encode())


def column_names(target: Target) -> list[str]:
    """Columns of one property.

    >>> column_names(Target("gap", "intensive", "eV")), column_names(Target("mu", "dipole", "D"))
    (['gap_eV'], ['mu_x_D', 'mu_y_D', 'mu_z_D'])
    """
    unit = f"_{target.unit}" if target.unit else ""
    axes = {(): [""], (3,): ["_x", "_y", "_z"]}.get(target.shape)
    if axes is None:
        axes = [f"_{a}{b}" for a in "xyz" for b in "xyz"]
    return [f"{target.name}{axis}{unit}" for axis in axes]
