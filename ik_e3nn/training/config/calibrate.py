"""The settings of ``ik-e3nn calibrate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ik_e3nn.data import LabelKeys
from ik_e3nn.settings import Count, Seed, check_settings


@dataclass(frozen=True)
class CalibrationSettings:
    """Settings of a calibration of uncertainties.

    Args:
        model: Model file of a potential or of a model of properties; a glob or list of several files makes a committee.
            "base" is the model of the package.
        data: Labeled structures that none of the models was trained on, given as for ``ik-e3nn train``: file, glob,
            folder or list; for models of properties also CSV with SMILES, and SDF. A training writes the structures
            that it sets aside to set_aside/valid.xyz in its folder; a fine-tuning to properties writes what is left of
            its replay data, with targets that only old data have, to set_aside/old_domain.xyz. Every other structure is
            used to calibrate, the rest to test the result.
        train: Training data of the model, needed for a single model. Structures that are also in ``data`` are left out.
        output: File to write; ``NAME_metrics.json`` and ``NAME_calibration.png`` are written beside it.
        members: Number of directions in which the forces of a single potential are varied; more are slower and more
            accurate.
        max_structures: Most training structures to use, chosen at random.
        energy_key: Name of the energy label.
        forces_key: Name of the forces label.
        energy_unit: Unit of energy in the labels, also in forces.
        length_unit: Unit of length in the forces; positions are always in A.
        batch_size: Most structures in a batch.
        seed: Random seed.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, or one of several GPUs, such as ``cuda:1``.
        overwrite: Replace an existing output.
        progress: Show a progress bar.
    """

    model: str | list[str]
    data: str | list[str]
    train: str | list[str] | None = None
    output: str = "uncertainty.safetensors"
    members: Count = 8
    max_structures: Count = 300
    energy_key: str = "REF_energy"
    forces_key: str = "REF_forces"
    energy_unit: Literal["eV", "Ha", "kcal/mol", "kJ/mol"] = "eV"
    length_unit: Literal["ang", "bohr"] = "ang"
    batch_size: Count = 16
    seed: Seed = 0
    device: str = "auto"
    overwrite: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def inputs(self) -> list[str]:
        """All files that are read."""
        given = (self.model, self.data, self.train or [])
        return [path for one in given for path in ([one] if isinstance(one, str) else one)]

    @property
    def keys(self) -> LabelKeys:
        """Names and units of the labels."""
        return LabelKeys(
            energy=self.energy_key,
            forces=self.forces_key,
            energy_unit=self.energy_unit,
            length_unit=self.length_unit,
            wanted=("energy", "forces"),
            given_in="command line",
        )
