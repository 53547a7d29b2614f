"""Predictions of a model file on a data file."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from ase import Atoms
from tqdm import tqdm

from ik_e3nn.atomic import together
from ik_e3nn.data import LabelKeys, StructureDataset, read_labels, write_structures
from ik_e3nn.data.files.extxyz import require_extxyz
from ik_e3nn.data.files.reading import read_located
from ik_e3nn.data.files.writing import check_output
from ik_e3nn.data.labels.finding import LABELS, missing_labels
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.json_file import write_json
from ik_e3nn.models import InteratomicPotential, load_model
from ik_e3nn.models.networks.domain import warn_of_structures
from ik_e3nn.settings import check_settings
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.prediction import Predictions, plot_predictions, predict
from ik_e3nn.training.sets.checks import warn_unseen
from ik_e3nn.training.sets.elements import check_species
from ik_e3nn.user_path import user_path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalSettings:
    """An evaluation.

    Args:
        model: Model file.
        data: File, glob, folder or list of them.
        output: File for the structures with predictions, extxyz; beside ``NAME.xyz`` go the errors,
            ``NAME_metrics.json``, and plots, ``parity_NAME_energy.png`` and so on.
        prefix: Predictions are called ``<prefix>_energy``, ``<prefix>_forces`` and ``<prefix>_stress``.
        energy_key: Name of the energy label.
        forces_key: Name of the forces label.
        stress_key: Name of the stress label.
        virial_key: Name of a virial label, used where a structure has no stress.
        energy_unit: Unit of the labels' energies, also within forces and stress; predictions are in eV and A.
        length_unit: Unit of length within the labels' forces and stress; positions are in A.
        batch_size: Most structures in a batch.
        max_atoms: Most atoms in a batch.
        max_edges: Most edges (neighbors of all atoms) in a batch. Batches that are too large for the memory are divided
            in any case.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, or one of several GPUs, as ``cuda:1``.
        dtype: Precision; null keeps the model's.
        overwrite: Replace an existing output.
        plots: Draw predicted against reference values.
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
    batch_size: int = 16
    max_atoms: int | None = None
    max_edges: int | None = None
    device: str = "auto"
    dtype: Literal["float32", "float64"] | None = None
    overwrite: bool = False
    plots: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("batch_size", "max_atoms", "max_edges"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}, but it must be at least 1.")
        taken = {key for key in (self.energy_key, self.forces_key, self.stress_key, self.virial_key) if key}
        if {*self.names.values()} & taken:
            raise ConfigError(f"prefix {self.prefix!r} would overwrite the labels {', '.join(sorted(taken))}.")
        if not re.fullmatch(r"\w+", self.prefix):
            raise ConfigError(f"prefix is {self.prefix!r}, but it must be letters, digits and underscores.")
        require_extxyz(self.output)

    @property
    def names(self) -> dict[str, str]:
        """What the predictions are called."""
        return {label: f"{self.prefix}_{label}" for label in LABELS}


def evaluate(settings: EvalSettings) -> dict[str, Any]:
    """Predict energies, forces and stress, and compare them with the labels there are.

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
    model = load_model(settings.model, settings.device, dtype, kind=InteratomicPotential)
    structures, places = read_located(settings.data)
    _check_names(structures, places, settings)
    check_species(structures, model.species, places)
    warn_unseen(structures, model.inputs)
    warn_of_structures(model.trained_on, structures)
    keys = LabelKeys(
        settings.energy_key,
        settings.forces_key,
        settings.stress_key,
        settings.virial_key,
        settings.energy_unit,
        settings.length_unit,
        given_in="command line",
    )
    labeled = read_labels(structures, keys, require=(), places=places)
    found = labeled.counts()
    if not (found["energy"] or found["forces"]):
        _log.warning("no errors are computed: %s", missing_labels(structures, keys))
    graphs = StructureDataset(labeled, model.r_max, dtype=model.dtype, inputs=model.inputs)
    with tqdm(total=len(structures), desc="eval", disable=not settings.progress) as bar:
        result = predict(
            model,
            graphs,
            limits=BatchLimits(settings.batch_size, settings.max_atoms, settings.max_edges),
            on_batch=bar.update,
        )
    for label, number in found.items():
        key = getattr(settings, f"{label}_key")
        if not number and key != getattr(EvalSettings, f"{label}_key"):
            _log.warning("no structure has the %s label %r that was asked for", label, key)
    metrics = {"structures": len(structures), "labels": found, "errors": result.errors}
    with together(output, metrics_file):
        write_structures(output, with_predictions(structures, result, settings.prefix), overwrite=settings.overwrite)
        write_json(metrics_file, metrics)
        if settings.plots:
            plot_predictions(result, labeled, output.parent, stem)
    _log.info("%s", report(metrics, output))
    return metrics


def _check_names(structures: Sequence[Atoms], places: Sequence[str], settings: EvalSettings) -> None:
    """Refuse to put predictions in the place of what the file says."""
    for place, atoms in zip(places, structures, strict=True):
        taken = [name for name in settings.names.values() if name in atoms.info or name in atoms.arrays]
        if taken:
            raise DataError(
                f"{place} has {', '.join(taken)} already, perhaps of an earlier evaluation; choose another "
                "prefix (--prefix), so that nothing is replaced."
            )


def with_predictions(structures: Sequence[Atoms], predictions: Predictions, prefix: str) -> list[Atoms]:
    """Copies of the structures, labels included, with the predictions in info and arrays."""
    result, forces = [], predictions.of_atoms("forces")
    for number, atoms in enumerate(structures):
        copy = atoms.copy()
        copy.calc = atoms.calc  # results that came with the file are written again
        copy.info[f"{prefix}_energy"] = float(predictions.values["energy"][number])
        copy.arrays[f"{prefix}_forces"] = forces[number]
        if atoms.pbc.any() and atoms.cell.rank == 3:
            copy.info[f"{prefix}_stress"] = predictions.values["stress"][number]
        result.append(copy)
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
