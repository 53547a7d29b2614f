"""Uncertainty of models: standard deviations of committees or last layers, calibrated on validation data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ik_e3nn.atomic import together
from ik_e3nn.data import LabeledSet, StructureDataset, read_properties, with_bonds
from ik_e3nn.data.files.writing import check_output
from ik_e3nn.data.graphs.dataset import warn_without_bonds
from ik_e3nn.data.labels.energy_reference import is_isolated
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import check_all_stated
from ik_e3nn.graph import fields as graph_fields
from ik_e3nn.graph.build import NUMBER_KEYS
from ik_e3nn.json_file import write_json
from ik_e3nn.models import (
    Committee,
    Ensemble,
    LastLayerEnsemble,
    StoredModel,
    load_model,
    model_files,
    save_uncertainty,
)
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.networks.domain import warn_of_structures
from ik_e3nn.models.uncertainty.ensemble import STD, uncertain_targets
from ik_e3nn.models.uncertainty.last_layer import LastLayerPosterior, directions_of
from ik_e3nn.targets import LabelLayout, mechanics_of
from ik_e3nn.training.config.calibrate import CalibrationSettings
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.batches import in_batches
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.sets.elements import check_species
from ik_e3nn.training.sets.reading import read_set
from ik_e3nn.training.uncertainty.plot import plot_calibration
from ik_e3nn.training.uncertainty.quality import (
    LEAST,
    FloatArray,
    factors_of,
    quality_of,
    uncertain_only,
    unseen,
    warn_of_doubts,
)
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)

OF_POTENTIALS = ("members", "energy_key", "forces_key", "energy_unit", "length_unit")
LEAST_NOISE = 1e-9  # of labels, in the units of the targets; a noise of zero has no likelihood


@dataclass(frozen=True)
class CalibrationResult:
    """The result of a calibration.

    Args:
        kind: ``committee`` or ``last_layer``.
        output: The file.
        factors: Factors of the raw standard deviations, by target.
        quality: Quality of the standard deviations on structures not used for calibration, by target; see
            ``quality_of``.
    """

    kind: str
    output: str
    factors: dict[str, float]
    quality: dict[str, dict[str, float]]

    def text(self) -> str:
        """A table with one row per target."""
        lines = [
            f"{self.kind}: {self.output}",
            f"{'target':<12} {'factor':>9} {'RMSE':>9} {'Spearman':>9} {'within':>7}",
        ]
        for name, factor in self.factors.items():
            one = self.quality[name]
            lines.append(f"{name:<12} {factor:9.4g} {one['rmse']:9.4g} {one['spearman']:9.2f} {one['within_std']:7.2f}")
        return "\n".join(lines)


def calibrate(settings: CalibrationSettings) -> CalibrationResult:
    """Find standard deviations of a model or a committee, and scale them to the errors on validation data.

    Writes the file for ``IKCalculator(model, uncertainty=file)`` or ``ik-e3nn predict --uncertainty file``,
    ``NAME_metrics.json`` and ``NAME_calibration.png``.

    Args:
        settings: Models and data.

    Returns:
        The factors, and the quality of the standard deviations on structures not used for calibration.

    Raises:
        ConfigError: A single model has no training data, or a setting has no effect on the models' targets.
        DataError: There are too few labeled structures, or the output exists already.
        UnknownSpeciesError: The data have elements that the models do not know.
    """
    output = user_path(settings.output)
    metrics_file, plot_file = (output.with_name(f"{output.stem}_{end}") for end in ("metrics.json", "calibration.png"))
    for path in (output, metrics_file, plot_file):
        check_output(path, overwrite=settings.overwrite, inputs=settings.inputs)
    device = resolve_device(settings.device)
    files = model_files(settings.model)
    models = [load_model(path, device).requires_grad_(False) for path in files]
    first = models[0]
    given = {one.name: one.default for one in fields(settings)}
    useless = [name for name in OF_POTENTIALS if getattr(settings, name) != given[name]]
    if useless and first.potential is None:
        raise ConfigError(f"{useless[0]} has no effect on the uncertainty of properties; leave it out.")
    committee = Committee(models) if len(models) > 1 else None
    if committee is None and settings.train is None:
        raise ConfigError(f"the uncertainty of a single model ({files[0]}) needs its training data; give --train FILE")
    data = read_labeled(settings.data, first, settings, require=[*mechanics_of(uncertain_targets(first))])
    check_species(data.structures, (committee or first).species, data.names)
    warn_of_structures(first.trained_on, data.structures)
    halves = [data.select(range(start, len(data), 2)) for start in (0, 1)]
    for name in data.values:
        count = min(half.counts()[name] for half in halves)
        if 2 * count < LEAST:
            raise DataError(
                f"half of the structures given as data calibrate and the other half tests, but one half has {count} "
                f"structures with the label {name}; at least {LEAST // 2} are needed in each. Give more structures "
                "with this label, or mix them with the others."
            )
    if committee is not None:
        warn_without_bonds([data], committee.inputs)
    ensemble = (committee or last_layers(first, settings, halves[0], data)).eval()
    fitted = errors_and_stds(ensemble, halves[0], settings.batch_size)
    factors = factors_of(fitted)
    ensemble.calibrate(factors)
    tested = errors_and_stds(ensemble, halves[1], settings.batch_size)
    quality = {name: quality_of(*pair) for name, pair in tested.items()}
    warn_of_doubts(fitted, quality)
    counts = [len(half) for half in halves]
    summary = {"factors": factors, "quality": quality, "calibrated_on": counts[0], "tested_on": counts[1]}
    output.parent.mkdir(parents=True, exist_ok=True)
    with together(output, metrics_file, plot_file):
        plot_calibration(tested, ensemble.uncertain, plot_file)
        save_uncertainty(ensemble, output, summary=summary, overwrite=settings.overwrite)
        write_json(metrics_file, {"kind": ensemble.kind, **summary})
    _log.info("the calibration plot is in %s", plot_file)
    return CalibrationResult(ensemble.kind, str(output), factors, quality)


def last_layers(
    model: StoredModel, settings: CalibrationSettings, valid: LabeledSet, held_out: LabeledSet
) -> LastLayerEnsemble:
    """The posteriors of a model's last layers, from its training data and its errors on other structures.

    Args:
        model: The model.
        settings: The training data, and how many of them to use.
        valid: Structures whose errors give the noise of the labels.
        held_out: Structures to be left out of the training data, including those of ``valid``.

    Returns:
        An ensemble, not calibrated yet.

    Raises:
        DataError: The training data have no labels.
    """
    train = read_labeled(settings.train or [], model, settings)
    if not any(train.counts().values()):
        asked = [getattr(settings, f"{target.name}_key", target.name) for target in train.targets]
        raise DataError(
            f"train has no labels: no structure, isolated atoms aside, has {' or '.join(asked)}; give the files that "
            "the model was trained on, with their labels."
        )
    warn_without_bonds([held_out, train], model.inputs)
    train = train.select(unseen(train.structures, held_out.structures))
    order = np.random.default_rng(settings.seed).permutation(len(train))[: settings.max_structures]
    chosen = train.select(np.sort(order))
    check_species(chosen.structures, model.species, chosen.names)
    limits = BatchLimits(settings.batch_size)
    errors = predict(model, _graphs(model, valid), limits=limits).errors
    rmse = {target.name: errors[target.error_name("rmse")] / target.shown_factor for target in train.targets}
    posterior = LastLayerPosterior(model, {name: max(value, LEAST_NOISE) for name, value in rmse.items()})
    with tqdm(total=len(chosen), desc="last layer", disable=not settings.progress) as bar:
        for batch, _ in in_batches(posterior.add, _graphs(model, chosen), limits, model.device):
            bar.update(len(batch["cell"]))
    roots = posterior.roots(len(train) / len(chosen))
    directions = None
    if "forces" in posterior.noises:
        directions = directions_of(roots["energy"], settings.members, seed=settings.seed)
    return LastLayerEnsemble(model, roots, directions).to(model.device)


def errors_and_stds(
    ensemble: Ensemble, data: LabeledSet, batch_size: int = 16
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Errors (prediction minus label) and standard deviations of all labels, component by component.

    Values that are zero by symmetry, such as some force components, are left out, because they have no uncertainty.

    Args:
        ensemble: A model with standard deviations.
        data: Structures with labels of its targets.
        batch_size: Most structures in a batch.

    Returns:
        Two arrays of equal length by target, in the unit of the target.

    Raises:
        DataError: No value of a target is left.
    """
    found: dict[str, tuple[list[FloatArray], list[FloatArray]]] = {t.name: ([], []) for t in ensemble.uncertain}
    graphs, layout = _graphs(ensemble, data), LabelLayout(data.targets)
    with torch.no_grad():
        for batch, outputs in in_batches(ensemble, graphs, BatchLimits(batch_size), ensemble.device):
            for name, (errors, stds) in found.items():
                error, known = layout.residual(outputs, batch, name)
                errors.append(error[known].double().cpu().numpy())
                stds.append(outputs[name + STD][known].double().cpu().numpy())
    return {name: uncertain_only(name, *map(np.concatenate, pair)) for name, pair in found.items()}


def read_labeled(
    paths: str | Sequence[str], model: StoredModel, settings: CalibrationSettings, *, require: Sequence[str] = ()
) -> LabeledSet:
    """Read structures with labels of a model's targets, and with bonds if the model's graph is made of them.

    If the model predicts energies, isolated atoms are left out, because their energies are constants of the model.

    Args:
        paths: The files.
        model: The model.
        settings: Names and units of the labels.
        require: Which of energy and forces must be present.
    """
    targets = uncertain_targets(model)
    if model.potential is None:
        data = read_properties(paths, targets, seed=settings.seed, progress=settings.progress, advice="")
    else:
        data = read_set(paths if isinstance(paths, str) else [*paths], settings.keys, require, targets=targets)
        data = data.select([index for index, atoms in enumerate(data.structures) if not is_isolated(atoms)])
    check_all_stated(data.structures, [key for name, key in NUMBER_KEYS.items() if name in model.inputs], data.names)
    if model.edges in (None, "radius"):
        return data
    data, report = with_bonds(data, "auto", "skip", progress=settings.progress)
    if report.failures:
        _log.warning("%d molecules are left out because their bonds cannot be found", len(report.failures))
    return data


def _graphs(model: StoredModel | Ensemble, data: LabeledSet) -> StructureDataset:
    options: dict[str, Any] = {"dtype": model.dtype, "inputs": model.inputs - {graph_fields.BOND_TYPES}}
    return StructureDataset(data, model.r_max, edges=model.edges, **options)
