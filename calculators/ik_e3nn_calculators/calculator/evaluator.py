"""From a structure to arrays: the part of a calculator that is independent of simulation engines."""

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from ik_e3nn.errors import ExplosionError
from ik_e3nn.graph import (
    SURROUNDINGS,
    Pairs,
    SkinList,
    check_occupancy,
    check_stated,
    closest_pair,
    edge_bond_types,
    fields,
    fitting_bonds,
    has_bonds,
    surface_vectors,
)
from ik_e3nn.graph.bonds.charges import USUAL, check_possible, structure_number, unlikely_charge
from ik_e3nn.graph.bonds.fit import broken_bond
from ik_e3nn.graph.bonds.record import RECORD
from ik_e3nn.graph.bonds.stored import BOND_KEY, KEPT_BY
from ik_e3nn.graph.build import NUMBER_KEYS
from ik_e3nn.models import Potential
from ik_e3nn.models.networks.domain import domain_of_model
from ik_e3nn.models.networks.interface import as_potential
from ik_e3nn.threads import one_thread
from ik_e3nn_calculators.calculator.choice import Compile, code_for
from ik_e3nn_calculators.calculator.domain import Watch
from ik_e3nn_calculators.calculator.inputs import (
    INFO_KEYS,
    Snapshot,
    check_finite,
    check_structure,
    same_inputs,
    scalar_inputs,
)
from ik_e3nn_calculators.calculator.model import check_arguments

_log = logging.getLogger(__name__)

BOND_INPUTS = (fields.BOND_TYPES, RECORD)
_ABSENT = (
    "the model uses bonds, but this molecule has none in atoms.info['bonds']; all its edges count as non-bonded. "
    f"{KEPT_BY}"
)
_BROKEN = "%s: it is broken, or the bonds belong to other positions; the model treats it as a bond"
Arrays = dict[str, NDArray[np.float64]]
"""Predictions for one structure or a batch, by the names of ``fields.OUTPUTS``; see ``Evaluator.evaluate``."""

SMALL = 500  # edges; fewer run as fast on one thread, and other work on the machine does not slow them down


class Evaluator:
    """Evaluates one potential on a sequence of similar structures, as dynamics produces them.

    Tensors that rarely change (atomic numbers, edges, bond types) are kept between calls, and the neighbor list has a
    skin. The structure is not changed.

    Args:
        model: A frozen potential, see ``prepare_model``.
        skin: Extra radius of the neighbor list in A.
        compile: Compile the model at the first structure, or ("auto") beside the evaluations if there are many; for
            small structures, the code uses one thread, and for large ones, which are evaluated in tiles, it is another
            package.
        quiet: Do not warn about structures, because another evaluator warns about the like.

    Raises:
        DataError: The model is not a potential, or cannot be compiled.

    Attributes:
        code: The code that evaluates the model.
    """

    def __init__(
        self,
        model: Potential,
        *,
        skin: float = 0.5,
        compile: Compile = False,  # noqa: A002  (torch's word for it)
        quiet: bool = False,
    ) -> None:
        check_arguments(skin=skin)
        self._quiet = quiet
        self.model = as_potential(model)
        self.species = tuple(int(number) for number in model.species)
        self.inputs = frozenset(model.inputs)
        self.r_max, self.dtype, self.device = float(model.r_max), model.dtype, model.device
        self.has_std = set(fields.STDS) <= set(model.outputs)
        self.code = code_for(model, compile)
        self._skin = SkinList(self.r_max, skin)
        self._atoms: dict[str, Tensor] = {}
        self._numbers: NDArray[np.int64] | None = None
        self._pairs: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
        self._bonds: Snapshot = {}
        self._rows: NDArray[np.int64] = np.zeros((0, 3), dtype=np.int64)
        self._said: set[str] = set()  # warnings that hold for the present bonds
        self._stated: dict[str, float] = {}
        self._unused: tuple[str, Any] = ("", None)
        self.watch = Watch(None if quiet else domain_of_model(model))
        self._pbc: list[bool] | None = None
        self._edges: dict[str, Tensor] = {}

    @property
    def rebuilds(self) -> int:
        """How often the neighbor list has been built."""
        return self._skin.num_rebuilds

    @property
    def max_edges(self) -> int | None:
        """Number of edges that the model processes at once; None for all."""
        bound: int | None = getattr(self.model, "max_edges", None)
        return bound

    @max_edges.setter
    def max_edges(self, bound: int | None) -> None:
        self.model.max_edges = bound  # type: ignore[attr-defined]

    def evaluate(
        self, atoms: Atoms, inputs: Snapshot, *, stress: bool, atomic_stress: bool, std: bool = False
    ) -> Arrays:
        """Compute energy and forces, and on request stresses and standard deviations.

        Args:
            atoms: The structure.
            inputs: Its declared inputs, see ``input_snapshot``.
            stress: Also the stress of the cell.
            atomic_stress: Also the virial of every atom.
            std: Also standard deviations, if the model has them.

        Returns:
            Float64 arrays by the names of ``fields.OUTPUTS``: ``energy`` (1,) and ``energies`` (N,) in eV, ``forces``
            (N, 3) in eV/A, ``stress`` (1, 3, 3) in eV/A^3, ``atomic_virials`` (N, 3, 3) in eV, ``energy_std`` (1,) in
            eV and ``forces_std`` (N, 3) in eV/A.

        Raises:
            UnknownSpeciesError: The model does not know an element.
            MissingInputError: A declared input is absent.
            DataError: There are no atoms, positions are NaN, or bonds do not fit.
            ExplosionError: Energy or forces of the model are not finite; the message names the closest atoms.
        """
        graph = self.graph(atoms, inputs)
        arrays = self.predict(graph, stress=stress, atomic_stress=atomic_stress, std=std)
        check_explosion(arrays, graph, atoms)
        return arrays

    def predict(
        self, graph: dict[str, Tensor], *, stress: bool, atomic_stress: bool = False, std: bool = False
    ) -> Arrays:
        """Evaluate the model on a graph, or on several that are joined; see ``evaluate``."""
        with one_thread() if graph[fields.EDGE_INDEX].shape[1] < SMALL else nullcontext():
            tiled = any(one.is_in_tiles(graph) for one in self.code.models if hasattr(one, "is_in_tiles"))
            self.code.prepare(tiled=tiled)
            start = time.perf_counter()
            options = {"std": std} if self.has_std else {}
            outputs = self.model(graph, forces=True, stress=stress, atomic_stress=atomic_stress, **options)
        wanted = [fields.ENERGY, fields.ENERGIES, fields.FORCES]
        wanted += [fields.STRESS] * stress + [fields.ATOMIC_VIRIALS] * atomic_stress
        wanted += [*fields.STDS] * (std and self.has_std)
        arrays = {name: outputs[name].detach().to("cpu", torch.float64).numpy() for name in wanted}
        self.code.took(time.perf_counter() - start)
        return arrays

    def graph(self, atoms: Atoms, inputs: Snapshot) -> dict[str, Tensor]:
        """Build the graph of a structure, as a plain dict of tensors.

        Args:
            atoms: The structure.
            inputs: Its declared inputs.

        Returns:
            Tensors under the names of ``ik_e3nn.graph.fields``.

        Raises:
            IKError: As for ``evaluate``.
        """
        self._update_atoms(atoms)
        self._update_edges(atoms, {name: inputs[name] for name in BOND_INPUTS if name in inputs})
        numbers = scalar_inputs(inputs)
        if numbers != self._stated:
            for name in numbers:
                check_stated(atoms, INFO_KEYS[name])
            self._stated = numbers
            doubt = unlikely_charge(atoms) if "total_charge" in numbers and not self._quiet else ""
            if doubt:
                _log.warning("%s", doubt)
        scalars = {name: self._float([value]) for name, value in numbers.items()}
        # float64: the model rounds edge vectors to its precision, but not the positions that they come from.
        vectors = surface_vectors(atoms) if self.inputs.intersection(SURROUNDINGS) else {}
        surface = {name: self._float64(vector[None]) for name, vector in vectors.items()}
        moving = {fields.POSITIONS: self._float64(atoms.positions), fields.CELL: self._float64(atoms.cell.array[None])}
        return {**self._atoms, **self._edges, **moving, **scalars, **surface}

    def _update_atoms(self, atoms: Atoms) -> None:
        """Check the structure, and update the tensors of the atoms if the atoms have changed."""
        check_occupancy(atoms)
        pbc = atoms.pbc.tolist()
        if self._numbers is not None and np.array_equal(self._numbers, atoms.numbers) and pbc == self._pbc:
            check_finite(atoms)
        else:
            check_structure(atoms, self.species)
            self._numbers, self._pbc, self._stated = atoms.numbers.copy(), pbc, {}
            self._atoms = {
                fields.ATOMIC_NUMBERS: torch.tensor(atoms.numbers, dtype=torch.int64, device=self.device),
                fields.BATCH: torch.zeros(len(atoms), dtype=torch.int64, device=self.device),
            }
        self.warn_unused(atoms)
        self._atoms[fields.PBC] = torch.tensor(atoms.pbc[None], dtype=torch.bool, device=self.device)

    def _update_edges(self, atoms: Atoms, bonds: Snapshot) -> None:
        """Update the edges and their bond types if they differ from those of the last call."""
        pairs, rows = self._skin.update(atoms), self._rows
        self.watch(atoms, rebuilt=pairs.rebuilt)
        if pairs.rebuilt or not same_inputs(self._bonds, bonds):
            rows = self._renewed_bonds(atoms, bonds)
        # With images, the positions decide which image is bonded; without images, equal lists have equal types.
        if not (len(rows) and pairs.shifts.any()) and _same(self._rows, rows) and self._has_pairs(pairs):
            return
        self._pairs, self._rows = (pairs.edge_index, pairs.shifts), rows
        types = np.zeros(pairs.edge_index.shape[1], dtype=np.int64)
        if len(rows):
            sender, receiver = pairs.edge_index
            vectors = atoms.positions[receiver] - atoms.positions[sender] + pairs.shifts @ atoms.cell.array
            types = edge_bond_types(rows, pairs.edge_index, pairs.shifts, vectors, len(atoms))
        self._edges = {
            fields.EDGE_INDEX: torch.from_numpy(np.ascontiguousarray(pairs.edge_index)).to(self.device),
            fields.EDGE_SHIFTS: self._float64(pairs.shifts),
            fields.BOND_TYPES: torch.from_numpy(types).to(self.device),
        }

    def _has_pairs(self, pairs: Pairs) -> bool:
        """Whether these edges equal the kept ones."""
        kept = self._pairs
        return kept is not None and _same(kept[0], pairs.edge_index) and _same(kept[1], pairs.shifts)

    def _renewed_bonds(self, atoms: Atoms, bonds: Snapshot) -> NDArray[np.int64]:
        """The bonds of a structure that has changed; unchanged for a model that does not use bonds.

        Bonds may be absent (a crystal has none), but for a molecule they were probably forgotten, hence the warning.
        """
        if not bonds:
            return self._rows
        rows, self._bonds = fitting_bonds(atoms), bonds
        absent = not has_bonds(atoms) and len(atoms) > 1 and not atoms.pbc.any()
        self._say(_ABSENT, now=absent)
        bond = broken_bond(atoms, rows)
        self._say(_BROKEN, bond, now=bool(bond))
        return rows

    def _say(self, warning: str, *values: str, now: bool) -> None:
        """Warn if a warning holds for the present bonds and did not hold before."""
        if now and warning not in self._said and not self._quiet:
            _log.warning(warning, *values)
        self._said = (self._said | {warning}) if now else (self._said - {warning})

    def warn_unused(self, atoms: Atoms) -> None:
        """Warn once about a charge or spin that has no effect, because it is not an input of the model.

        Raises:
            DataError: The charge, spin or bonds are impossible, whether or not the model uses them.
        """
        found, bonds = f"{atoms.info.get('charge')} {atoms.info.get('spin')}", atoms.info.get(BOND_KEY)
        if found == self._unused[0] and bonds is self._unused[1]:
            return
        check_possible(atoms)
        before, self._unused = self._unused[0], (found, bonds)
        if found == before or self._quiet:
            return
        for name, key in NUMBER_KEYS.items():
            if name not in self.inputs and structure_number(atoms, key) not in (USUAL[key], None):
                _log.warning(
                    "atoms.info[%r] is %s, but the model does not use it (its inputs lack %s)",
                    *(key, atoms.info[key], name),
                )

    def _float(self, values: Any) -> Tensor:
        """Numbers in the model's precision, on its device."""
        return torch.tensor(np.asarray(values), dtype=self.dtype, device=self.device)

    def _float64(self, values: Any) -> Tensor:
        """Numbers in double precision, on the model's device."""
        return torch.tensor(values, dtype=torch.float64, device=self.device)


class Predict(Protocol):
    """A function that evaluates a model on a graph, as ``Evaluator.predict`` does."""

    def __call__(
        self, graph: dict[str, Tensor], *, stress: bool, atomic_stress: bool = False, std: bool = False
    ) -> Arrays:
        """Evaluate the model."""


class SharingEvaluator(Evaluator):
    """An evaluator of one structure that does not call its model itself, for example to share calls with others.

    Args:
        model: The potential, whose inputs and elements are checked.
        skin: Extra radius of the neighbor list in A.
        predict: Evaluates the model.
    """

    def __init__(self, model: Potential, *, skin: float, predict: Predict) -> None:
        super().__init__(model, skin=skin)
        self._predict = predict

    def predict(
        self, graph: dict[str, Tensor], *, stress: bool, atomic_stress: bool = False, std: bool = False
    ) -> Arrays:
        """See ``Evaluator.predict``."""
        return self._predict(graph, stress=stress, atomic_stress=atomic_stress, std=std)


def check_explosion(arrays: Mapping[str, NDArray[np.float64]], graph: Mapping[str, Tensor], atoms: Atoms) -> None:
    """Raise an error if the predicted energy or forces of a structure are not finite.

    Raises:
        ExplosionError: The message names the closest atoms.
    """
    if not (np.isfinite(arrays[fields.ENERGY]).all() and np.isfinite(arrays[fields.FORCES]).all()):
        raise ExplosionError(
            f"the model's energy or forces are NaN or infinite: {closest_pair(graph)}, in {atoms.symbols}; check "
            "the structure, or the model if such distances are in its training data"
        )


def _same(first: NDArray[Any] | None, second: NDArray[Any] | None) -> bool:
    """Equality of two optional arrays."""
    if first is None or second is None:
        return first is second
    return first.shape == second.shape and bool((first == second).all())
