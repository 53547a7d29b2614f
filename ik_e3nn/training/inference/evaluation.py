"""Predictions of a model file on a data file."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from tqdm import tqdm

from ik_e3nn.atomic import together
from ik_e3nn.data import LabeledSet, LabelKeys, StructureDataset, read_properties, with_bonds, write_structures
from ik_e3nn.data.files.extxyz import require_extxyz
from ik_e3nn.data.files.writing import check_output
from ik_e3nn.data.labels.finding import LABELS, missing_labels
from ik_e3nn.data.labels.own_labels import has_stress
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import fields
from ik_e3nn.json_file import write_json
from ik_e3nn.models import StoredModel, load_model
from ik_e3nn.models.networks.domain import warn_of_structures
from ik_e3nn.settings import Count, Seed, check_settings
from ik_e3nn.targets import Target, mechanics_of
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.prediction import Predictions, plot_predictions, predict
from ik_e3nn.training.sets.checks import warn_unseen
from ik_e3nn.training.sets.elements import check_species
from ik_e3nn.training.sets.reading import read_set
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalSettings:
    """Settings of an evaluation.

    Args:
        model: Model file of a potential, of a model of properties, or of both in one.
        data: Structures: a file, glob, folder or list of these. Values of properties are read as in a training: from
            info and arrays under their names, and for models without energies also from SDF files and from CSV files
            with SMILES.
        output: File for the structures with predictions, extxyz. Beside ``NAME.xyz``, the errors are written to
            ``NAME_metrics.json``, and plots to ``parity_NAME_energy.png`` and so on.
        prefix: Start of the names of predictions: ``<prefix>_energy``, ``<prefix>_forces``, and ``<prefix>_`` with the
            name of the target for others.
        energy_key: Name of the energy label.
        forces_key: Name of the forces label.
        stress_key: Name of the stress label.
        virial_key: Name of a virial label, used for structures without a stress label.
        energy_unit: Unit of energy in the labels, also in forces and stress; predictions are in eV and A.
        length_unit: Unit of length in labels of forces and stress; positions are always in A.
        bonds: Source of the bonds of molecules, if the model's graphs are made of them: the file ("given"), the SMILES,
            the geometry ("perceived"), or the first of these that is available ("auto").
        on_failure: If a molecule cannot be read or its bonds cannot be found, stop with an error, skip the molecule, or
            use single bonds only.
        seed: Seed of the geometries of molecules that are given as SMILES.
        batch_size: Most structures in a batch.
        max_atoms: Most atoms in a batch.
        max_edges: Most edges (neighbors of all atoms) in a batch. Batches that are too large for the memory are divided
            in any case.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, or one of several GPUs, such as ``cuda:1``.
        dtype: Precision; null keeps the model's.
        overwrite: Replace an existing output.
        plots: Plot predictions against labels.
        progress: Show a progress bar.
    """

    model: str
    data: str | list[str]
    output: str
    prefix: str = "IK"
    energy_key: str = "REF_energy"
    forces_key: str = "REF_forces"
    stress_key: str = "REF_stress"
    virial_key: str | None = None
    energy_unit: Literal["eV", "Ha", "kcal/mol", "kJ/mol"] = "eV"
    length_unit: Literal["ang", "bohr"] = "ang"
    bonds: Literal["auto", "given", "smiles", "perceived"] = "auto"
    on_failure: Literal["error", "skip", "single"] = "error"
    seed: Seed = 0
    batch_size: Count = 16
    max_atoms: Count | None = None
    max_edges: Count | None = None
    device: str = "auto"
    dtype: Literal["float32", "float64"] | None = None
    overwrite: bool = False
    plots: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self)
        taken = {key for key in (self.energy_key, self.forces_key, self.stress_key, self.virial_key) if key}
        if {f"{self.prefix}_{label}" for label in LABELS} & taken:
            raise ConfigError(f"prefix {self.prefix!r} would overwrite the labels {', '.join(sorted(taken))}.")
        if not re.fullmatch(r"\w+", self.prefix):
            raise ConfigError(f"prefix is {self.prefix!r}, but it must be letters, digits and underscores.")
        require_extxyz(self.output)

    @property
    def keys(self) -> LabelKeys:
        """Names and units of the labels of energies, forces and stress."""
        return LabelKeys.of(self, "command line")


def evaluate(settings: EvalSettings) -> dict[str, Any]:
    """Predict all targets of a model, and compare the predictions with the labels in the data.

    Args:
        settings: Model, data and output.

    Returns:
        The contents of the metrics file: errors and label counts.

    Raises:
        DataError: The data cannot be read, or the output exists already.
        ModelFileError: The model file is broken.
        UnknownSpeciesError: The data has elements that the model does not know.
    """
    output = user_path(settings.output)
    stem = output.name.removesuffix(".gz").rpartition(".")[0] or output.name
    metrics_file = output.with_name(f"{stem}_metrics.json")
    data = [settings.data] if isinstance(settings.data, str) else settings.data
    for path in (output, metrics_file):
        check_output(path, overwrite=settings.overwrite, inputs=[settings.model, *data])
    dtype = None if settings.dtype is None else getattr(torch, settings.dtype)
    model = load_model(settings.model, settings.device, dtype)
    labeled = read_labeled(model, settings)
    graphs = StructureDataset(labeled, model.r_max, edges=model.edges, dtype=model.dtype, inputs=model.inputs)
    limits = BatchLimits(settings.batch_size, settings.max_atoms, settings.max_edges)
    with tqdm(total=len(labeled), desc="eval", disable=not settings.progress) as bar:
        result = predict(model, graphs, limits=limits, on_batch=bar.update)
    metrics = {"structures": len(labeled), "labels": labeled.counts(), "errors": result.errors}
    with together(output, metrics_file):
        write_structures(output, with_predictions(labeled, result, settings.prefix), overwrite=settings.overwrite)
        write_json(metrics_file, metrics)
        if settings.plots:
            plot_predictions(result, labeled, output.parent, stem)
    _log.info("%s", report(metrics, output))
    return metrics


def read_labeled(model: StoredModel, settings: EvalSettings) -> LabeledSet:
    """Read structures with labels of the model's targets, and with bonds if its graphs need them.

    Raises:
        DataError: The data cannot be read, or already use the name of a prediction.
        UnknownSpeciesError: The data have elements that the model does not know.
    """
    if mechanics_of(model.targets):
        data = read_set(settings.data, settings.keys, targets=model.targets)
    else:
        data = read_properties(
            settings.data,
            model.targets,
            seed=settings.seed,
            skip=settings.on_failure == "skip",
            absent="keep",
            progress=settings.progress,
            advice="or set on_failure to skip",
        )
    _check_names(data, model.targets, settings.prefix)
    check_species(data.structures, model.species, data.names)
    warn_unseen(data.structures, model.inputs, data.names)
    warn_of_structures(model.trained_on, data.structures)
    if model.edges in ("bonds", "both"):
        data, _ = with_bonds(data, settings.bonds, settings.on_failure, progress=settings.progress)
    _warn_of_absent(data, settings)
    return data


def _warn_of_absent(data: LabeledSet, settings: EvalSettings) -> None:
    """Warn of labels that are missing, so that predictions cannot be compared with them."""
    counts = data.counts()
    if not any(counts.values()):
        has_energy = "energy" in counts
        without = missing_labels(data.structures, settings.keys) if has_energy else "no structure has a value of "
        _log.warning("no errors are computed: %s", without + ", ".join(counts) * (not has_energy))
    for label in LABELS:
        key = getattr(settings, f"{label}_key")
        if not counts.get(label) and key != getattr(EvalSettings, f"{label}_key"):
            _log.warning("no structure has the %s label %r that was asked for", label, key)


def _check_names(data: LabeledSet, targets: Sequence[Target], prefix: str) -> None:
    """Raise if predictions would replace values in the file."""
    names = [f"{prefix}_{target.name}" for target in targets]
    for place, atoms in zip(data.names, data.structures, strict=True):
        taken = [name for name in names if name in atoms.info or name in atoms.arrays]
        if taken:
            raise DataError(
                f"{place} has {', '.join(taken)} already, perhaps from an earlier evaluation; choose another "
                "prefix (--prefix), so that nothing is replaced."
            )


def with_predictions(data: LabeledSet, predictions: Predictions, prefix: str) -> list[Atoms]:
    """Copies of the structures with labels, and with predictions in info and arrays, except those that are NaN."""
    properties = [target.name for target in data.targets if target.field is None]
    result = data.only(properties).labeled()
    for copy, atoms in zip(result, data.structures, strict=True):
        copy.calc = atoms.calc  # results in the file are written again
    for target in data.targets:
        values = predictions.values[target.name]
        rows = predictions.of_atoms(target.name) if target.per_atom else list(values)
        for copy, value in zip(result, rows, strict=True):
            if np.isfinite(value).all() and (target.field != fields.STRESS or has_stress(copy)):
                place = copy.arrays if target.per_atom else copy.info
                place[f"{prefix}_{target.name}"] = value if value.ndim else float(value)
    return result


def report(metrics: dict[str, Any], output: Path) -> str:
    """The errors as a short text.

    >>> print(report({"structures": 2, "errors": {"force_mae_meV_per_A": 12.3456}}, Path("out.xyz")))
    2 structures, predictions in out.xyz
      force_mae_meV_per_A       12.35
    """
    lines = [f"{metrics['structures']} structures, predictions in {output}"]
    lines += [f"  {name:<25} {value:.4g}" for name, value in metrics["errors"].items()]
    return "\n".join(lines)
