"""The common beginning of dynamics and relaxations: the calculator and the starting structure."""

import copy
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols

from ik_e3nn.data.labels.stale import without_labels
from ik_e3nn.graph import settle_bonds
from ik_e3nn.models import Potential, model_path
from ik_e3nn.models.files.pretrained import BASE, BASE_METHOD
from ik_e3nn.models.networks.domain import domain_of_model
from ik_e3nn_calculators.calculator.calculator import IKCalculator
from ik_e3nn_calculators.calculator.code import Code
from ik_e3nn_calculators.calculator.evaluator import Predict
from ik_e3nn_calculators.run_settings import RunSettings
from ik_e3nn_calculators.systems.constraints import check_constraints
from ik_e3nn_calculators.systems.heights import HeightWatch
from ik_e3nn_calculators.systems.structures import load_structure

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """The calculator of a run, and what is known of its model.

    Args:
        calculator: The calculator.
        heights: Watches heights over a surface that the model knows; does nothing if the caller gave the calculator.
        identity: The digest of the model file, which must stay the same when the run is continued; empty if the caller
            gave the calculator.
    """

    calculator: Calculator
    heights: HeightWatch
    identity: dict[str, str]

    @property
    def code(self) -> Code:
        """The code that evaluates the model."""
        code = getattr(self.calculator, "code", None)
        return code if isinstance(code, Code) else Code([])

    def sharing(self, predict: Predict) -> "Engine":
        """The engine of another run with the same model, whose calls a function makes; see ``IKCalculator.sharing``."""
        return Engine(self.calculator.sharing(predict), copy.copy(self.heights), self.identity)


@contextmanager
def running(settings: RunSettings, calculator: Calculator | Engine | None) -> Iterator[Engine]:
    """The engine of a run, see ``engine_for``; if it is made here, a compilation beside the run ends with the run."""
    engine = engine_for(settings, calculator)
    try:
        yield engine
    finally:
        if calculator is None:
            engine.code.stop()


def engine_for(settings: RunSettings, calculator: Calculator | Engine | None) -> Engine:
    """The caller's calculator if given, otherwise one for the model in the settings, which is described in the log.

    Args:
        settings: The settings of the run.
        calculator: A calculator to use instead of the model in the settings, or an engine, which is returned.

    Raises:
        ModelFileError: The model file is missing or broken.
    """
    if isinstance(calculator, Engine):
        return calculator
    if calculator is not None:
        return Engine(calculator, HeightWatch({}), {})
    made = IKCalculator(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        compile=settings.compile,
        max_edges=settings.max_edges,
        skip_fixed=settings.skip_fixed,
    )
    _log.info("%s", introduction(settings.model, made.model))
    identity = {"model_sha256": file_digest(model_path(settings.model))}
    return Engine(made, HeightWatch.of(made, settings.model), identity)


def starting_structure(settings: RunSettings, atoms: Atoms | None) -> Atoms:
    """The structure that a run begins with, without labels of earlier calculations and with settled bonds.

    Args:
        settings: The settings of the run.
        atoms: A structure to use instead of the one in the settings; it is copied.

    Raises:
        DataError: The structure cannot be read or built, or its constraints cannot be kept.
    """
    if atoms is None:
        atoms = load_structure(settings.structure, seed=settings.seed, frame=settings.frame)
    check_constraints(atoms)
    structure = without_labels(atoms)
    settle_bonds(structure)
    return structure


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def introduction(name: str, model: Potential) -> str:
    """Describe a model in one line: its name, its elements, and the structures it is for, if its file names them.

    Args:
        name: The model as the user named it: a file, or "base".
        model: The model.

    Example:
        >>> from ik_e3nn.models import InteratomicPotential
        >>> introduction("water.safetensors", InteratomicPotential(["H", "O"], num_channels=2))
        'model water.safetensors: H, O; its file does not name the structures it is for'
    """
    elements = ", ".join(chemical_symbols[number] for number in model.species)
    method = f" at {BASE_METHOD} level" if name == BASE else ""
    domain = domain_of_model(model)
    purpose = "its file does not name the structures it is for" if domain is None else f"it is for {domain}"
    return f"model {name}: {elements}{method}; {purpose}"
