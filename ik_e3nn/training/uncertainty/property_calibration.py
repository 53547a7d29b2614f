"""How sure models of properties are, calibrated on molecules that they were not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from tqdm import tqdm

from ik_e3nn.atomic import together
from ik_e3nn.data import LabeledSet, StructureDataset, read_properties, with_bonds
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import check_all_stated
from ik_e3nn.graph.build import NUMBER_KEYS
from ik_e3nn.json_file import write_json
from ik_e3nn.models import (
    LastLayerProperties,
    MolecularPropertyModel,
    PropertyCommittee,
    UncertainProperties,
    load_model,
    save_uncertainty,
)
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.networks.domain import warn_of_structures
from ik_e3nn.models.uncertainty.properties import STD, LastLayersPosterior
from ik_e3nn.targets import LabelLayout
from ik_e3nn.training.config.calibrate import CalibrationSettings
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.batches import in_batches
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.sets.elements import check_species
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

_log = logging.getLogger(__name__)

WITHOUT_EFFECT = ("members", "energy_key", "forces_key", "energy_unit", "length_unit")


@dataclass(frozen=True)
class PropertyCalibrationResult:
    """What a calibration of properties has found.

    Args:
        kind: ``PropertyCommittee`` or ``LastLayerProperties``.
        output: The file.
        factors: What raw standard deviations are multiplied by, by target.
        quality: How good they are on molecules that were not calibrated on, by target; see ``quality_of``.
    """

    kind: str
    output: str
    factors: dict[str, float]
    quality: dict[str, dict[str, float]]

    def text(self) -> str:
        """A table, one target a row."""
        lines = [
            f"{self.kind}: {self.output}",
            f"{'target':<12} {'factor':>9} {'RMSE':>9} {'Spearman':>9} {'within':>7}",
        ]
        for name, factor in self.factors.items():
            one = self.quality[name]
            lines.append(f"{name:<12} {factor:9.4g} {one['rmse']:9.4g} {one['spearman']:9.2f} {one['within_std']:7.2f}")
        return "\n".join(lines)


def calibrate_properties(
    settings: CalibrationSettings, files: Sequence[Path], output: Path, metrics_file: Path, plot_file: Path
) -> PropertyCalibrationResult:
    """Find how sure models of properties are, and scale that to the errors on half of the data; see ``calibrate``.

    Args:
        settings: What is asked for.
        files: Model files.
        output: Where the uncertainty goes.
        metrics_file: Where the numbers go.
        plot_file: Where the picture goes.

    Raises:
        ConfigError: A setting has no effect, or there is one model and no training data.
        DataError: Too few molecules with values.
    """
    given = {one.name: one.default for one in fields(settings)}
    useless = [name for name in WITHOUT_EFFECT if getattr(settings, name) != given[name]]
    if useless:
        raise ConfigError(f"{useless[0]} has no effect on the uncertainty of properties; leave it out.")
    device = resolve_device(settings.device)
    models = [load_model(path, device, kind=MolecularPropertyModel).requires_grad_(False) for path in files]
    if len(models) == 1 and settings.train is None:
        raise ConfigError("train: the uncertainty of a single model comes from what it was trained on; give the files.")
    committee = PropertyCommittee(models) if len(models) > 1 else None
    data = _read(settings.data, models[0], settings)
    check_species(data.structures, models[0].species if committee is None else committee.species, data.names)
    warn_of_structures(models[0].trained_on, data.structures, "molecules")
    halves = [data.select(range(start, len(data), 2)) for start in (0, 1)]
    for name, count in {name: min(half.counts()[name] for half in halves) for name in data.values}.items():
        if 2 * count < LEAST:
            raise DataError(
                f"every other molecule of data calibrates and the rest tests, but one half has {count} values of "
                f"{name}; at least {LEAST // 2} are needed in each."
            )
    model = _last_layers(models[0], settings, halves[0], data.structures) if committee is None else committee.eval()
    fitted = property_errors_and_stds(model, halves[0], settings.batch_size)
    factors = factors_of(fitted)
    model.calibrate(factors)
    tested = property_errors_and_stds(model, halves[1], settings.batch_size)
    quality = {name: quality_of(*pair) for name, pair in tested.items()}
    warn_of_doubts(fitted, quality)
    summary: dict[str, Any] = {
        "factors": factors, "quality": quality, "calibrated_on": len(halves[0]), "tested_on": len(halves[1]),
    }  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    with together(output, metrics_file, plot_file):
        plot_calibration(tested, plot_file, {target.name: (target.name, 1.0, target.unit) for target in model.targets})
        save_uncertainty(model, output, summary=summary, overwrite=settings.overwrite)
        write_json(metrics_file, {"kind": type(model).__name__, **summary})
    _log.info("the calibration plot is in %s", plot_file)
    return PropertyCalibrationResult(type(model).__name__, str(output), factors, quality)


def property_errors_and_stds(
    model: UncertainProperties, data: LabeledSet, batch_size: int = 64
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Errors (prediction less label) and standard deviations of all known values, by target.

    Args:
        model: A model with standard deviations.
        data: Molecules with values.
        batch_size: Most molecules in a batch.

    Returns:
        By the targets' names, two arrays of one length, in the target's unit; components count one by one.

    Raises:
        DataError: No standard deviation of a target is above zero.
    """
    found: dict[str, tuple[list[FloatArray], list[FloatArray]]] = {t.name: ([], []) for t in model.targets}
    layout = LabelLayout(model.targets)
    with torch.no_grad():
        for batch, outputs in in_batches(model, _graphs(model, data), BatchLimits(batch_size), model.device):
            for name, (errors, stds) in found.items():
                error, known = layout.residual(outputs, batch, name)
                errors.append(error[known].cpu().numpy())
                stds.append(outputs[name + STD][known].cpu().numpy())
    return {name: uncertain_only(name, *map(np.concatenate, pair)) for name, pair in found.items()}


def _last_layers(
    model: MolecularPropertyModel, settings: CalibrationSettings, valid: LabeledSet, held_out: Sequence[Atoms]
) -> LastLayerProperties:
    """The posterior of the heads' last weights, from the training set and the errors on other molecules."""
    train = _read(settings.train or [], model, settings)
    check_species(train.structures, model.species, train.names)
    train = train.select(unseen(train.structures, held_out))
    order = np.random.default_rng(settings.seed).permutation(len(train))[: settings.max_structures]
    chosen = train.select(np.sort(order))
    limits = BatchLimits(settings.batch_size)
    errors = predict(model, _graphs(model, valid), limits=limits).errors
    rmse = {target.name: errors[target.error_name("rmse")] for target in model.targets}
    posterior = LastLayersPosterior(model, {name: max(value, 1e-9) for name, value in rmse.items()})
    with tqdm(total=len(chosen), desc="last layers", disable=not settings.progress) as bar:
        for batch, _ in in_batches(posterior.add, _graphs(model, chosen), limits, model.device):
            bar.update(len(batch["cell"]))
    return LastLayerProperties(model, posterior.roots(len(train) / len(chosen))).to(model.device).eval()


def _read(paths: str | Sequence[str], model: MolecularPropertyModel, settings: CalibrationSettings) -> LabeledSet:
    """Molecules with values, and bonds if the model's graph is made of them."""
    molecules = read_properties(paths, model.targets, seed=settings.seed, progress=settings.progress, advice="")
    keys = [key for name, key in NUMBER_KEYS.items() if name in model.inputs]
    check_all_stated(molecules.structures, keys, molecules.names)
    if model.edges == "radius":
        return molecules
    molecules, report = with_bonds(molecules, "auto", "skip", progress=settings.progress)
    if report.failures:
        _log.warning("%d molecules are left out: their bonds are not found", len(report.failures))
    return molecules


def _graphs(model: MolecularPropertyModel | UncertainProperties, data: LabeledSet) -> StructureDataset:
    return StructureDataset(data, model.r_max, edges=model.edges, dtype=model.dtype)
