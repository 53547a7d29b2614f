"""How sure a model is: a committee's or a last layer's standard deviations, calibrated on validation data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from tqdm import tqdm

from ik_e3nn.atomic import together
from ik_e3nn.data import LabeledSet, StructureDataset
from ik_e3nn.data.files.writing import check_output
from ik_e3nn.data.labels.energy_reference import is_isolated
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.json_file import write_json
from ik_e3nn.models import (
    Committee,
    InteratomicPotential,
    LastLayerEnsemble,
    MolecularPropertyModel,
    UncertainPotential,
    load_model,
    model_files,
    save_uncertainty,
)
from ik_e3nn.models.files.device import resolve_device
from ik_e3nn.models.networks.domain import warn_of_structures
from ik_e3nn.models.uncertainty.last_layer import LastLayerPosterior, members_of
from ik_e3nn.targets import MECHANICS, LabelLayout
from ik_e3nn.training.config.calibrate import CalibrationSettings
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.batches import in_batches
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.sets.elements import check_species
from ik_e3nn.training.sets.reading import read_set
from ik_e3nn.training.uncertainty.plot import plot_calibration
from ik_e3nn.training.uncertainty.property_calibration import PropertyCalibrationResult, calibrate_properties
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


@dataclass(frozen=True)
class CalibrationResult:
    """What a calibration has found.

    Args:
        kind: ``Committee`` or ``LastLayerEnsemble``.
        output: The file.
        energy_factor: What raw standard deviations of energies are multiplied by.
        forces_factor: The same of forces.
        energy_spearman: Rank correlation of standard deviations and absolute errors of the tested energies.
        forces_spearman: The same of force components.
        energy_within_std: Share of tested energies whose error is below their standard deviation; 0.68 for a Gaussian.
        forces_within_std: The same of force components.
    """

    kind: str
    output: str
    energy_factor: float
    forces_factor: float
    energy_spearman: float
    forces_spearman: float
    energy_within_std: float
    forces_within_std: float


def calibrate(settings: CalibrationSettings) -> CalibrationResult | PropertyCalibrationResult:
    """Find how sure a model or a committee is, and scale that to the errors on validation data.

    Writes the file that ``IKCalculator(model, uncertainty=file)`` or ``ik-e3nn predict --uncertainty file`` takes,
    ``NAME_metrics.json`` and ``NAME_calibration.png``.

    Args:
        settings: Models and data.

    Returns:
        The factors, and how good the standard deviations are on structures that were not calibrated on.

    Raises:
        ConfigError: One model and no training data, or a setting that has no effect on properties.
        DataError: Too few labeled structures, or the output exists already.
        UnknownSpeciesError: The data have elements that the models do not know.
    """
    output = user_path(settings.output)
    metrics_file, plot_file = (output.with_name(f"{output.stem}_{end}") for end in ("metrics.json", "calibration.png"))
    for path in (output, metrics_file, plot_file):
        check_output(path, overwrite=settings.overwrite, inputs=settings.inputs)
    device = resolve_device(settings.device)
    files = model_files(settings.model)
    first = load_model(files[0], device)
    if isinstance(first, MolecularPropertyModel):
        return calibrate_properties(settings, files, output, metrics_file, plot_file)
    models = [load_model(path, device, kind=InteratomicPotential).requires_grad_(False) for path in files]
    data = _molecules(read_set(settings.data, settings.keys, require=("energy", "forces")))
    shared = [z for z in models[0].species if all(z in model.species for model in models)]
    check_species(data.structures, shared, data.names)
    warn_of_structures(models[0].trained_on, data.structures)
    if len(data.structures) < LEAST:
        raise DataError(
            f"data holds {len(data.structures)} structures that are no single atoms; calibrating and testing takes at "
            f"least {LEAST}."
        )
    halves = [data.select(range(start, len(data.structures), 2)) for start in (0, 1)]
    for half in halves:
        for label in ("energy", "forces"):
            if not half.counts()[label]:
                raise DataError(
                    f"every other structure of data calibrates and the rest tests, but one of these halves has no "
                    f"{label} labels; give more structures with {label}, or mix them with the others."
                )
    if len(models) > 1:
        potential: UncertainPotential = Committee(models)
    elif settings.train is None:
        raise ConfigError("train: the uncertainty of a single model comes from what it was trained on; give the files.")
    else:
        potential = last_layer_of(models[0], settings, halves[0], data.structures)
    fitted = errors_and_stds(potential, halves[0], settings.batch_size)
    factors = factors_of(fitted)
    potential.calibrate(**factors)
    tested = errors_and_stds(potential, halves[1], settings.batch_size)
    quality = {label: quality_of(*pair) for label, pair in tested.items()}
    warn_of_doubts(fitted, quality)
    counts = [len(half.structures) for half in halves]
    summary = {"factors": factors, "quality": quality, "calibrated_on": counts[0], "tested_on": counts[1]}
    output.parent.mkdir(parents=True, exist_ok=True)
    with together(output, metrics_file, plot_file):
        plot_calibration(tested, plot_file)
        save_uncertainty(potential, output, summary=summary, overwrite=settings.overwrite)
        write_json(metrics_file, {"kind": type(potential).__name__, **summary})
    figures = {f"{label}_{name}": quality[label][name] for label in quality for name in ("spearman", "within_std")}
    _log.info("the calibration plot is in %s", plot_file)
    return CalibrationResult(type(potential).__name__, str(output), factors["energy"], factors["forces"], **figures)


def last_layer_of(
    model: InteratomicPotential, settings: CalibrationSettings, valid: LabeledSet, held_out: Sequence[Atoms]
) -> LastLayerEnsemble:
    """The posterior of a model's last layer, from the structures that it was trained on and its errors on others.

    Args:
        model: The model.
        settings: Where the training data are, and how many to use.
        valid: Structures that tell the noise.
        held_out: Structures that count as not trained on, those of ``valid`` among them.

    Returns:
        An ensemble, not calibrated yet.

    Raises:
        DataError: The training data have no labels.
    """
    train = _molecules(read_set(settings.train or [], settings.keys))
    if not (train.counts()["energy"] or train.counts()["forces"]):
        raise DataError(
            f"train has no labels: nothing but single atoms has {settings.energy_key} or {settings.forces_key}; "
            "give the files that the model was trained on, with their labels."
        )
    train = train.select(unseen(train.structures, held_out))
    order = np.random.default_rng(settings.seed).permutation(len(train.structures))[: settings.max_structures]
    chosen = train.select(sorted(order.tolist()))
    check_species(chosen.structures, model.species, chosen.names)
    errors = predict(model, _graphs(model, valid), limits=BatchLimits(settings.batch_size)).errors
    posterior = LastLayerPosterior(
        model,
        energy_noise=max(errors["energy_rmse_meV_per_atom"] / 1000.0, 1e-6),
        forces_noise=max(errors["force_rmse_meV_per_A"] / 1000.0, 1e-6),
    )
    with tqdm(total=len(chosen.structures), desc="last layer", disable=not settings.progress) as bar:
        limits = BatchLimits(settings.batch_size)
        for batch, _ in in_batches(posterior.add, _graphs(model, chosen), limits, model.device):
            bar.update(len(batch["energy"]))
    root = posterior.root(len(train.structures) / len(chosen.structures))
    return LastLayerEnsemble(model, *members_of(root, settings.members, seed=settings.seed)).to(model.device).eval()


def errors_and_stds(
    potential: UncertainPotential, data: LabeledSet, batch_size: int = 16
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Errors (prediction less label) and standard deviations of all labeled energies and force components.

    Those that cannot differ from zero, like forces that symmetry forbids, are left out: they are no question of chance.

    Args:
        potential: A potential with standard deviations.
        data: Labeled structures.
        batch_size: Most structures in a batch.

    Returns:
        By label, "energy" (eV) and "forces" (eV/A): two arrays of one length.

    Raises:
        DataError: Nothing is left of a label.
    """
    found: dict[str, tuple[list[FloatArray], list[FloatArray]]] = {"energy": ([], []), "forces": ([], [])}
    graphs, limits, layout = _graphs(potential, data), BatchLimits(batch_size), LabelLayout(MECHANICS)
    for batch, outputs in in_batches(
        lambda one: potential(one, forces=True, std=True), graphs, limits, potential.device
    ):
        for label, (errors, stds) in found.items():
            error, known = layout.residual(outputs, batch, label)
            errors.append(error[known].double().cpu().numpy())
            stds.append(outputs[f"{label}_std"][known].double().cpu().numpy())
    return {label: uncertain_only(label, *map(np.concatenate, pair)) for label, pair in found.items()}


def _molecules(data: LabeledSet) -> LabeledSet:
    """Without isolated atoms, whose energies are constants of the model."""
    return data.select([index for index, atoms in enumerate(data.structures) if not is_isolated(atoms)])


def _graphs(model: InteratomicPotential | UncertainPotential, data: LabeledSet) -> StructureDataset:
    options: dict[str, Any] = {"dtype": model.dtype, "inputs": model.inputs}
    return StructureDataset(data, model.r_max, **options)
