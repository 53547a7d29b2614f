"""An ``ik_e3nn`` potential as a model of TorchSim."""

import logging
from os import PathLike
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from ik_e3nn.elements import symbols_of, unknown_symbols
from ik_e3nn.errors import DataError, ExplosionError, UnknownSpeciesError
from ik_e3nn.graph import fields
from ik_e3nn.models.networks.domain import domain_of_model
from ik_e3nn_calculators.calculator.domain import warn_outside
from ik_e3nn_calculators.calculator.model import ModelLike, prepare_model
from ik_e3nn_calculators.torchsim.graph import NeighborList, graph_of_state, name_systems, warn_unused
from ik_e3nn_calculators.torchsim.installed import ModelInterface, torchsim_nl

_log = logging.getLogger(__name__)


class IKModel(ModelInterface):
    r"""A potential for TorchSim: energies, forces and stresses of many structures in one call.

    Outputs are ``energy`` (B,) in eV, ``forces`` (N, 3) in eV/A and, on request, ``stress`` (B, 3, 3) in eV/A^3 with
    tension positive, all detached. They have the dtype of the state. ``model.dtype``, the dtype of the states that
    TorchSim makes, is float64 whatever the precision of the network, as in ASE: total energies have too many digits for
    float32, and the integrator takes no time beside the network.

    The total charge and the spin multiplicity 2S+1 are read from the extras ``charge`` (or ``total_charge``) and
    ``spin`` of the state; the surface, wire or site of a model with surroundings from ``surface_normal``,
    ``surface_origin`` and ``surface_x``, (B, 3). The stress of a structure that has no volume, or is not periodic, is
    NaN; a warning reports this once.

    Memory grows with the number of edges (``memory_scales_with``).

    Args:
        model: A model file, "base", a potential, or a list of them for a committee; see ``IKCalculator``.
        device: "cpu", "cuda", ... or "auto": a GPU if available.
        dtype: Precision of the network, "float32" or "float64"; None keeps the model's.
        compute_forces: Compute forces; can be changed later.
        compute_stress: Compute stresses; can be changed later. Barostats and relaxations of cells need them.
        uncertainty: A file of ``ik-e3nn calibrate``. With it, or with a committee, further outputs are ``energy_std``
            (B,) and ``forces_std`` (N, 3), which TorchSim keeps among the extras of its states.
        neighbor_list: A neighbor list of ``torch_sim.neighbors``.

    Raises:
        MissingDependencyError: TorchSim 0.6 or newer is not installed; it needs Python 3.12.
        ModelFileError: The model file is missing, broken or newer than this library.
        DataError: The model uses bond types or a face, which states do not have, or predicts no energies.

    Evaluating raises ``UnknownSpeciesError``, ``MissingInputError``, ``DataError`` (positions that are NaN, atoms in
    the same place) and ``ExplosionError``.

    Example:
        >>> import torch_sim as ts
        >>> from ase.build import molecule
        >>> model = IKModel("base", device="cpu")
        >>> state = ts.initialize_state([molecule("H2O"), molecule("CH4")], model.device, model.dtype)
        >>> model(state)["energy"].shape
        torch.Size([2])
    """

    def __init__(
        self,
        model: ModelLike,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype | None = None,
        compute_forces: bool = True,
        compute_stress: bool = False,
        uncertainty: str | PathLike[str] | None = None,
        neighbor_list: NeighborList = torchsim_nl,
    ) -> None:
        super().__init__()
        self.potential = prepare_model(model, device=device, dtype=dtype, uncertainty=uncertainty)
        if fields.BOND_TYPES in self.potential.inputs:
            raise DataError(
                "the model uses bond types, and TorchSim cannot give it any: its states have no bonds. Use the ASE "
                "calculator, or a model without bond_types"
            )
        if "face" in self.potential.inputs:
            raise DataError(
                "the model knows a crystal face, whose lattice the states of TorchSim do not keep: use the ASE "
                "calculator or i-PI, or a model without a face"
            )
        self.neighbor_list = neighbor_list
        self._device, self._dtype = torch.empty(0, device=self.potential.device).device, torch.float64
        self._compute_forces, self._compute_stress = compute_forces, compute_stress
        self._memory_scales_with = "n_edges"
        self._options = {"std": True} if set(fields.STDS) <= set(self.potential.outputs) else {}
        self._domain = domain_of_model(self.potential)
        # Structures of the last call, and the atomic numbers of all structures that have been checked.
        self._last, self._known = torch.zeros(2, 0, dtype=torch.long, device=self._device), set[bytes]()
        self._said: set[str] = set()

    @ModelInterface.compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        """Whether forces are computed."""
        self._compute_forces = value

    @ModelInterface.compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        """Whether stresses are computed."""
        self._compute_stress = value

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Predict.

        Args:
            state: A ``torch_sim.SimState`` on the device of the model; it is not changed.

        Returns:
            ``energy``, and as requested ``forces``, ``stress`` and standard deviations; see the class.

        Raises:
            IKError: See the class.
        """
        if state.device != self.device:
            raise DataError(
                f"the state is on {state.device}, and the model on {self.device}: make the state with "
                "torch_sim.initialize_state(structures, model.device, model.dtype)"
            )
        graph = graph_of_state(
            state, r_max=self.potential.r_max, inputs=self.potential.inputs, neighbor_list=self.neighbor_list
        )
        self._check_structures(state, graph)
        out = self.potential(graph, forces=self.compute_forces, stress=self.compute_stress, **self._options)
        wanted = [fields.ENERGY] + [fields.FORCES] * self.compute_forces + [*fields.STDS] * bool(self._options)
        found = {name: out[name].detach() for name in wanted if name in out}
        _check_energies(found, graph[fields.BATCH])
        if self.compute_stress:
            found[fields.STRESS] = self._stress(out[fields.STRESS].detach(), graph)
        return {name: value.to(state.dtype) for name, value in found.items()}

    def _check_structures(self, state: Any, graph: dict[str, Tensor]) -> None:
        """Check structures with other atoms than before: their elements, the model's domain, and unused extras."""
        rows = torch.stack([graph[fields.BATCH], graph[fields.ATOMIC_NUMBERS]])
        if torch.equal(self._last, rows):
            return
        numbers = rows[1].cpu()
        parts = [part.numpy().tobytes() for part in numbers.split(rows[0].bincount().tolist())]
        new = {part: system for system, part in enumerate(parts) if part not in self._known}
        species = tuple(int(number) for number in self.potential.species)
        unknown = unknown_symbols(numbers.tolist(), species)
        if unknown:
            raise UnknownSpeciesError(
                f"the structures hold {unknown}, but the model knows only {symbols_of(species)}; train or fine-tune a "
                "model on these elements"
            )
        if new:
            warn_unused(state, self.potential.inputs)
        for system in new.values():
            warn_outside(self._domain, _structure(graph, system), self._said)
        self._known.update(new)
        self._last = rows

    def _stress(self, stress: Tensor, graph: dict[str, Tensor]) -> Tensor:
        """Stresses (B, 3, 3); NaN, with one warning, for structures that are not periodic or have no volume."""
        periodic = graph[fields.PBC].any(1)
        stress = torch.where(periodic[:, None, None], stress, torch.nan)
        undefined = stress.isnan().flatten(1).any(1)
        if bool(undefined.any()) and "stress" not in self._said:
            self._said.add("stress")
            _log.warning(
                "a stress needs a volume: it is NaN for %s, without three independent cell vectors and a periodic "
                "direction", name_systems(undefined.nonzero().flatten().tolist()),
            )  # fmt: skip
        return stress


def _check_energies(outputs: dict[str, Tensor], batch: Tensor) -> None:
    """Raise an error unless energies and forces are finite."""
    finite = torch.isfinite(outputs[fields.ENERGY])
    if fields.FORCES in outputs:
        bad = ~torch.isfinite(outputs[fields.FORCES]).all(1)
        finite = finite.index_fill(0, batch[bad], False)
    if not bool(finite.all()):
        bad_systems = (~finite).nonzero().flatten().tolist()
        raise ExplosionError(
            f"the model's energy or forces are NaN or infinite for {name_systems(bad_systems)}: check the structures, "
            "the time step, and whether such distances are in the training data of the model"
        )


def _structure(graph: dict[str, Tensor], system: int) -> Atoms:
    """One structure of a graph."""
    atoms = graph[fields.BATCH] == system
    numbers, positions = (graph[name][atoms].cpu().numpy() for name in (fields.ATOMIC_NUMBERS, fields.POSITIONS))
    cell, pbc = (graph[name][system].cpu().numpy() for name in (fields.CELL, fields.PBC))
    charge = graph.get(fields.TOTAL_CHARGE)
    info = {} if charge is None else {"charge": float(charge[system])}
    return Atoms(numbers, positions, cell=cell, pbc=pbc, info=info)
