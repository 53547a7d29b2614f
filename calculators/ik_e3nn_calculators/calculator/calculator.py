"""The ASE calculator: energies, forces and stresses of a learned potential."""

import copy
import difflib
import threading
from collections.abc import Sequence
from os import PathLike
from typing import Any, ClassVar, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from torch import nn

from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.graph import fields
from ik_e3nn.memory import keep_freed_memory
from ik_e3nn.models import Potential, hessian
from ik_e3nn.models.files.pretrained import BASE_METHOD
from ik_e3nn_calculators.calculator.choice import Compile, check_compile
from ik_e3nn_calculators.calculator.code import Code, Shared
from ik_e3nn_calculators.calculator.evaluator import Evaluator, Predict, SharingEvaluator
from ik_e3nn_calculators.calculator.frozen import FrozenEvaluator, moving_atoms
from ik_e3nn_calculators.calculator.inputs import Snapshot, check_finite, has_volume, input_snapshot, same_inputs
from ik_e3nn_calculators.calculator.model import ModelLike, check_arguments, prepare_both
from ik_e3nn_calculators.calculator.properties import JointProperties

# What every model reads from a structure; no model reads ASE's initial charges and magnetic moments.
_READ = ("positions", "numbers", "cell", "pbc")
_ASE_ARGUMENTS = {"restart", "ignore_bad_restart_file", "label", "atoms", "directory"}
_ARGUMENTS = ("model", "device", "dtype", "compile", "max_edges", "skin", "skip_fixed", "uncertainty")
_NO_MODEL = (
    "IKCalculator got no model; expected a model file, a potential, a list of them for a committee, or 'base'. "
    f"IKCalculator('base') uses the base model that comes with the package, for small molecules at {BASE_METHOD} level"
)


class IKCalculator(Calculator):
    """ASE calculator for an ``InteratomicPotential``; needs no compile step and never writes to the caller's atoms.

    On Linux the process keeps up to 1 GiB of freed memory, see ``ik_e3nn.memory.keep_freed_memory``.

    Properties are ``energy`` and ``free_energy`` (eV; equal), ``energies`` (N,), site energies that sum to ``energy``,
    ``forces`` (N, 3) in eV/A, ``stress`` (6,) in eV/A^3 with ASE's sign (tension positive) and Voigt order xx, yy, zz,
    yz, xz, xy, and ``stresses`` (N, 6), which sum to ``stress``. A stress is defined if some direction is periodic and
    the three cell vectors are independent; the cell is used as given, vacuum included.

    A committee (several models) or a model with an uncertainty file also has ``energy_std`` in eV, the standard
    deviation of the total energy, and ``forces_std`` (N, 3) in eV/A, the standard deviations of all force components,
    both calibrated if the file is given: ``atoms.calc.get_property("energy_std", atoms)``.

    A joint model (energies and properties of one body) gives energies, forces and stresses of its potential. Its
    properties are computed on request, under their own names and in their own units
    (``atoms.calc.get_property("gap", atoms)``); a dipole is also ASE's ``dipole`` in e A, about the center of nuclear
    charge. Properties with a name of ASE's are offered only in ASE's unit.

    Results are recomputed when positions, numbers, cell or pbc change, and when an input of the model changes:
    ``atoms.info["charge"]``, ``["spin"]``, ``["bonds"]``, and, for a model that knows a surface,
    ``["surface_normal"]``, ``["surface_origin"]``, ``["surface_x"]``, ``["surface_cell"]``. Stresses of such a model
    have components along the surface only (the others are zero); over a crystal face they are for strains of the
    structure together with the lattice of the face, so that a cell that changes alone is refused. After the first
    request for a stress, later evaluations include it, because barostats and cell relaxation request forces and stress
    at every step.

    Args:
        model: A model file, ``"base"`` for the base model that comes with the package (see ``ik-e3nn info base``), or a
            potential or joint model, which is copied, so that the caller's model stays unchanged. A list of files or
            models makes a committee, whose mean is used. It must be given.
        device: ``"cpu"``, ``"cuda"``, ... or ``"auto"``: a GPU if available.
        dtype: ``"float32"`` or ``"float64"``; None keeps the model's. Never touches torch's default dtype.
        compile: Compile the model at the first calculation, see ``ik_e3nn.models.compile_potential``; if that fails,
            the model runs without, with a warning. ``"auto"`` compiles in another process, beside the calculations, if
            they go on for long, and then uses the machine code; results change by rounding there.
        max_edges: Number of edges to process at once. With None, the memory is limited on a CPU, where as many are
            processed as the cache holds, but not on a GPU.
        skin: Extra radius of the neighbor list in A; the list is rebuilt when an atom has moved half of it.
        skip_fixed: Leave out atoms fixed by ``FixAtoms`` that are too far from the moving ones to matter; forces on
            fixed atoms are then zero.
        uncertainty: A file of ``ik-e3nn calibrate``, made for this model or committee.
        **kwargs: Passed on to ``ase.calculators.calculator.Calculator``.

    Raises:
        TypeError: No model is given, or an argument is unknown to both this calculator and ASE's.
        ModelFileError: The model file is missing, broken or newer than this library, or the uncertainty file belongs to
            another model.
        DataError: The models of a committee do not fit together, or a model has no energies.

    Evaluating raises ``UnknownSpeciesError``, ``MissingInputError``, ``DataError`` (no atoms, NaN positions) and, for a
    stress without a volume, ASE's ``PropertyNotImplementedError``.
    """

    name = "ik_e3nn"
    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "stresses",
    ]

    def __init__(
        self,
        model: ModelLike | None = None,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype | None = None,
        compile: Compile = False,  # noqa: A002  (torch's word for it)
        max_edges: int | None = None,
        skin: float = 0.5,
        skip_fixed: bool = False,
        uncertainty: str | PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - _ASE_ARGUMENTS)
        if unknown:
            near = difflib.get_close_matches(unknown[0], _ARGUMENTS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"arguments are {', '.join(_ARGUMENTS)}"
            raise TypeError(f"IKCalculator has no argument {unknown[0]!r}; {hint}")
        if model is None:
            raise TypeError(_NO_MODEL)
        check_arguments(skin=skin, max_edges=max_edges, skip_fixed=skip_fixed)
        check_compile(compile)
        if uncertainty is not None and not isinstance(uncertainty, str | PathLike):
            raise ConfigError(f"uncertainty must be a file of `ik-e3nn calibrate`, got {uncertainty!r}")
        super().__init__(**kwargs)
        self._lock = threading.RLock()
        keep_freed_memory()
        ready, joint = prepare_both(model, device=device, dtype=dtype, uncertainty=uncertainty)
        whole = Evaluator(ready, skin=skin, compile=compile)
        self.evaluator: Evaluator | FrozenEvaluator = whole
        self._whole, self._joint = whole, None if joint is None else JointProperties(joint)
        more = [*(fields.STDS if whole.has_std else ()), *(self._joint.offered if self._joint is not None else ())]
        if more:
            self.implemented_properties = [*type(self).implemented_properties, *more]  # type: ignore[misc]
        self._declared = whole.inputs if joint is None else whole.inputs | joint.inputs
        self._skin = skin
        if skip_fixed:
            part = Evaluator(ready, skin=skin)
            part.code = whole.code
            self.evaluator = FrozenEvaluator(whole, part, skin=skin)
        if max_edges is not None:
            whole.max_edges = max_edges
        self._inputs: Snapshot = {}
        self._with_stress = False

    @property
    def model(self) -> Potential:
        """The calculator's own, frozen copy of the potential."""
        return self.evaluator.model

    @property
    def feels_surroundings(self) -> bool:
        """Whether the model has surroundings, so that momentum is not conserved."""
        return getattr(self.model, "surroundings", None) is not None

    @property
    def r_max(self) -> float:
        """Cutoff radius of the potential in A."""
        return self.evaluator.r_max

    @property
    def neighbor_rebuilds(self) -> int:
        """How often the neighbor list has been built."""
        return self.evaluator.rebuilds

    @property
    def whole(self) -> Evaluator:
        """The evaluator of whole structures, which calls the model."""
        return self._whole

    @property
    def code(self) -> Code:
        """The code that evaluates the model: eager or compiled."""
        return self._whole.code

    @property
    def compiled(self) -> bool:
        """Whether machine code computed the last results."""
        return self.code.is_compiled

    def sharing(self, predict: Predict) -> "IKCalculator":
        """A calculator for another structure with the same model and settings; a function evaluates the model.

        Args:
            predict: Called in place of the model, from the thread that asks for results.

        Returns:
            The calculator. It has its own results and neighbor lists, and warns on its own.
        """
        made = copy.copy(self)
        made.reset()
        model, skin = self.model, self._skin
        made.evaluator = made._whole = SharingEvaluator(model, skin=skin, predict=predict)
        if isinstance(self.evaluator, FrozenEvaluator):
            part = SharingEvaluator(model, skin=skin, predict=predict)
            made.evaluator = FrozenEvaluator(made._whole, part, skin=skin)
        made._whole.code, made._with_stress = Shared(self.code), False  # it is not called there, but can be asked
        return made

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """List what has changed since the last calculation, including the declared inputs of the model.

        The comparison is exact and covers only what a model reads: it runs several times in every step of dynamics, for
        which ASE's general comparison would cost more than everything else in a calculator.

        Args:
            atoms: The structure to compare with the last one.
            tol: Part of ASE's signature; not used.

        Returns:
            Names of the changes; ``info`` stands for charge, spin and bonds.
        """
        self.evaluator.warn_unused(atoms)  # an unused charge is no change, but is worth a warning
        last = self.atoms
        if last is None:
            return [*_READ, "info"]
        pairs = zip(_READ, _arrays(last), _arrays(atoms), strict=True)
        changes = [name for name, old, new in pairs if not np.array_equal(old, new)]
        if self._declared and not same_inputs(self._inputs, input_snapshot(atoms, self._declared)):
            changes.append("info")
        if isinstance(self.evaluator, FrozenEvaluator) and not np.array_equal(moving_atoms(last), moving_atoms(atoms)):
            changes.append("constraints")
        return changes

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Compute or return one property of a structure; threads that share the calculator take turns.

        Args:
            name: One of ``implemented_properties``.
            atoms: The structure, or None for the last one.
            allow_calculation: If false, return None instead of calculating.
        """
        with self._lock:
            return super().get_property(name, atoms, allow_calculation)

    def get_hessian(self, atoms: Atoms | None = None, indices: Sequence[int] | None = None) -> NDArray[np.float64]:
        """Second derivatives of the energy by positions, computed analytically.

        Constraints of the structure are not applied. See ``ik_e3nn.models.hessian_products`` for products with vectors
        without the whole Hessian.

        Args:
            atoms: The structure, or None for the last one.
            indices: n of the atoms, for the part of the Hessian of these with the others held; all by default.

        Returns:
            (3n, 3n), in eV/A^2; rows are x, y and z of the first atom, then those of the second, ...

        Raises:
            DataError: There is no structure, an index is not that of an atom or occurs twice, or the model is no
                potential of this package.
            IKError: As for the energy.

        Example:
            >>> from ase.build import molecule
            >>> IKCalculator("base").get_hessian(molecule("H2O")).shape
            (9, 9)
        """
        structure = self.atoms if atoms is None else atoms
        if structure is None:
            raise DataError("there is no structure for the Hessian; give one, get_hessian(atoms)")
        with self._lock:
            graph = self._whole.graph(structure, input_snapshot(structure, self._whole.inputs))
            bound = self._whole.max_edges
            return hessian(cast(nn.Module, self.model), graph, atoms=indices, max_edges=bound).cpu().numpy()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the model: energies and forces always, stresses and properties on request.

        Args:
            atoms: The structure, or None for the last one.
            properties: Some of ``implemented_properties``.
            system_changes: What has changed since the last call; if nothing has, earlier results are kept.

        Raises:
            PropertyNotImplementedError: A stress is requested, but the structure has no volume.
        """
        wanted = {"energy"} if properties is None else set(properties)
        super().calculate(atoms, sorted(wanted), system_changes)
        structure = self.atoms
        volume = has_volume(structure)
        if not volume and wanted & {"stress", "stresses"}:
            check_finite(structure)
            raise PropertyNotImplementedError(_no_volume(structure))
        self._with_stress = self._with_stress or "stress" in wanted or "stresses" in wanted
        self._inputs = input_snapshot(structure, self._declared)
        outputs = self.evaluator.evaluate(
            structure,
            input_snapshot(structure, self.evaluator.inputs),
            stress=volume and self._with_stress,
            atomic_stress="stresses" in wanted,
            **({"std": True} if wanted.intersection(fields.STDS) else {}),
        )
        fresh = _to_ase(outputs, structure)
        if self._joint is not None and (asked := wanted & self._joint.offered.keys()):
            fresh |= self._joint.results(self._whole.graph(structure, self._inputs), asked)
        # A request for one more property must not change results that were returned before, not even in the last bit.
        self.results: dict[str, Any] = fresh if system_changes else {**fresh, **self.results}

    def reset(self) -> None:
        """Forget the last structure and its results."""
        super().reset()
        self._inputs = {}


def _arrays(atoms: Atoms) -> tuple[NDArray[Any], ...]:
    """The arrays named by ``_READ``."""
    return atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc


def _to_ase(outputs: dict[str, NDArray[np.float64]], atoms: Atoms) -> dict[str, float | NDArray[np.float64]]:
    """Model outputs under ASE's names, in ASE's shapes."""
    energy = float(outputs[fields.ENERGY].item())
    results: dict[str, float | NDArray[np.float64]] = {
        "energy": energy,
        "free_energy": energy,
        "energies": outputs[fields.ENERGIES],
        "forces": outputs[fields.FORCES],
    }
    if fields.ENERGY_STD in outputs:
        results["energy_std"] = float(outputs[fields.ENERGY_STD].item())
        results["forces_std"] = outputs[fields.FORCES_STD]
    if fields.STRESS in outputs:
        results["stress"] = full_3x3_to_voigt_6_stress(outputs[fields.STRESS].reshape(3, 3))
    if fields.ATOMIC_VIRIALS in outputs:
        results["stresses"] = full_3x3_to_voigt_6_stress(outputs[fields.ATOMIC_VIRIALS] / atoms.get_volume())
    return results


def _no_volume(atoms: Atoms) -> str:
    """Why a structure has no stress."""
    return (
        f"a stress needs a volume: pbc is {atoms.pbc.tolist()} and the cell has {atoms.cell.rank} independent vectors; "
        "set three cell vectors and make at least one direction periodic"
    )
