"""Predictions for the molecules in a file, as a table."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from ik_e3nn.atomic import written_at_once
from ik_e3nn.data import StructureDataset
from ik_e3nn.data.files.writing import check_output
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import fields
from ik_e3nn.models import Committee, Ensemble, StoredModel, load_model, model_files, with_uncertainty
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.uncertainty.ensemble import STD
from ik_e3nn.settings import Count, Seed, check_settings
from ik_e3nn.targets import Intensive, Target
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.prediction import FloatArray
from ik_e3nn.training.inference.prediction import predict as predict_all
from ik_e3nn.training.inference.table_checks import checked
from ik_e3nn.training.inference.table_input import PROBLEM, Asked, column_names, read_asked
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictSettings:
    """Settings of predictions for a file of molecules: the energies and properties that the model predicts.

    Args:
        model: Model file of a potential, of a model of properties or of both in one, or "base" or "base-properties"; a
            glob or list of several files makes a committee, which predicts the mean.
        data: CSV file with a column ``smiles``, file of SMILES (``.smi``), SDF, or any format that ASE reads.
        output: CSV file to write: the columns of the input, then a column ``NAME_UNIT`` for each predicted number.
            Forces and other values of atoms, and stresses, do not fit into it; use ``ik-e3nn eval`` for them.
        uncertainty: File of ``ik-e3nn calibrate`` for this model or committee; standard deviations are then written
            too, in columns ``NAME_std_UNIT``. Without this file, those of a committee are not calibrated.
        conformers: Number of conformers of each SMILES to average over, lowest force-field energies first; not for
            vectors and tensors, because the orientation of each conformer is arbitrary.
        seed: Seed of the conformers.
        bonds: Source of the bonds of structures, if the model needs them: the file ("given"), the SMILES, the geometry
            ("perceived"), or the first of these that is available ("auto").
        batch_size: Most molecules in a batch.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, or one of several GPUs, such as ``cuda:1``.
        overwrite: Replace an existing output.
        progress: Show a progress bar.
    """

    model: str | list[str]
    data: str
    output: str
    uncertainty: str | None = None
    conformers: Count = 1
    seed: Seed = 0
    bonds: Literal["auto", "given", "smiles", "perceived"] = "auto"
    batch_size: Count = 128
    device: str = "auto"
    overwrite: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.output.lower().endswith(".csv"):
            raise DataError(f"output must be a csv file, ending in .csv; got {self.output!r}")


def predict(settings: PredictSettings) -> str:
    """Predict, and write the table.

    A molecule that cannot be predicted keeps its row, without values and with the reason in the column ``problem``: an
    unreadable SMILES or SDF record, an element that the model does not know, missing hydrogens, atoms on top of each
    other, bonds that do not fit the geometry, or a crystal if the model only knows molecules. This column also names
    doubts about predictions: a charge or unpaired electrons that the model ignores, a geometry without bonds that does
    not look like a whole molecule, and what is unlike the molecules that the model was trained on.

    Args:
        settings: Model, molecules and output.

    Returns:
        A sentence with the number of predicted molecules and the name of the output.

    Raises:
        ConfigError: Vectors or tensors would be averaged over conformers, or the model predicts nothing that fits into
            a table.
        DataError: The input cannot be read, one of its columns has the name of a prediction, or the output exists.
        ModelFileError: The model file is broken, or the uncertainty belongs to other models.
    """
    output = user_path(settings.output)
    models = [settings.model] if isinstance(settings.model, str) else settings.model
    check_output(output, overwrite=settings.overwrite, inputs=[settings.data, *models])
    model = _load(settings)
    results = results_of(model)
    turning = [target.name for target in model.targets if target in results and target.turns]
    if settings.conformers > 1 and turning:
        raise ConfigError(
            f"conformers is {settings.conformers}, but the model predicts {', '.join(turning)}, which turn with the "
            "molecule, so that an average over conformers in different orientations has no meaning; set conformers "
            "to 1."
        )
    asked = read_asked(
        settings.data, results, count=settings.conformers, seed=settings.seed, progress=settings.progress
    )
    molecules, owners = checked(asked, model, bonds=settings.bonds, progress=settings.progress)
    sums = {t.name: np.zeros((len(asked.rows), *t.shape)) for t in results}
    counts = np.zeros(len(asked.rows))
    if len(molecules):
        graphs = StructureDataset(molecules, model.r_max, edges=model.edges, dtype=model.dtype, inputs=model.inputs)
        limits, names = BatchLimits(settings.batch_size), [target.name for target in results]
        with tqdm(total=len(molecules), desc="predict", disable=not settings.progress) as bar:
            found = predict_all(model, graphs, limits=limits, names=names, on_batch=bar.update)
        np.add.at(counts, owners, 1)
        for name in names:
            np.add.at(sums[name], owners, found.values[name])
    _write(output, asked, results, sums, counts)
    done = int((counts > 0).sum())
    if done < len(asked.rows):
        _log.warning("%d molecules have no prediction; column %r has the reasons", len(asked.rows) - done, PROBLEM)
    return f"{done} of {len(asked.rows)} molecules predicted: {output}"


def _load(settings: PredictSettings) -> StoredModel | Ensemble:
    """The model, or the committee."""
    device = resolve_device(settings.device)
    models = [load_model(path, device) for path in model_files(settings.model)]
    if settings.uncertainty is not None:
        return with_uncertainty(models, settings.uncertainty)
    if len(models) == 1:
        return models[0]
    _log.warning("standard deviations of a committee are not calibrated; see `ik-e3nn calibrate`")
    return Committee(models).eval()


def results_of(model: StoredModel | Ensemble) -> list[Target]:
    """The targets with one value per molecule, and their standard deviations if the model predicts these.

    Other targets are left out, with a warning.

    Raises:
        ConfigError: No target has one value per molecule.
    """
    kept = [one for one in model.targets if not one.per_atom and one.field in (None, fields.ENERGY)]
    left_out = [one.name for one in model.targets if one not in kept]
    if left_out:
        words = f"values of {', '.join(left_out)} do not fit into a table of molecules; `ik-e3nn eval` writes them"
        if not kept:
            raise ConfigError(words)
        _log.warning("%s", words)
    uncertain = getattr(model, "uncertain", ())
    found = [(t, _deviation_of(t)) if t in uncertain else (t,) for t in kept]
    return [one for pair in found for one in pair]


def _deviation_of(target: Target) -> Target:
    """The standard deviation of a target as a column of its own; an energy's is a number like any other."""
    name = target.name + STD
    return replace(target, name=name) if target.field is None else Intensive(name, target.unit)


def _write(
    path: Path, asked: Asked, targets: Sequence[Target], sums: dict[str, FloatArray], counts: np.ndarray
) -> None:
    """Write the table: columns of the input, predictions, problems."""
    rows = []
    for number, row in enumerate(asked.rows):
        predicted: dict[str, Any] = {}
        problems = [asked.problems[number]] if number in asked.problems else []
        for target in targets:
            mean = np.ravel(sums[target.name][number]) / max(counts[number], 1)
            known = bool(counts[number]) and bool(np.isfinite(mean).all())
            if counts[number] and not known:
                problems.append(
                    f"the prediction of {target.name} is not finite: the model has no reference for an element, or "
                    "atoms are too close"
                )
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
