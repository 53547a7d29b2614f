"""``fix external``: LAMMPS asks Python for forces, on one or more processes, without a C++ compiler."""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.errors import DataError, ExplosionError, UnknownSpeciesError
from ik_e3nn.graph import SkinList, fields
from ik_e3nn.models import InteratomicPotential, predict_owned
from ik_e3nn_calculators.calculator.model import ModelLike, prepare_model
from ik_e3nn_calculators.lammps.inputs import constants

SKIN = 1.0  # A, of LAMMPS's neighbor lists, which also say when ghosts are made anew


def attach(
    lmp: Any,
    model: ModelLike,
    elements: Sequence[str],
    *,
    fix: str = "ik_e3nn",
    comm: Any = None,
    dtype: str | None = None,
    info: Mapping[str, Any] | None = None,
    max_edges: int | None = None,
) -> "ExternalForces":
    """Add a ``fix external`` with the energy, the forces and the virial of a potential.

    Each process computes what its ghosts need as well (a halo), which costs more than the exchange of the pair style.
    The fix acts on all atoms in every step. LAMMPS's skin is set to 1 A, and the distance up to which there are ghosts
    as the halo needs it; do not change these afterwards. Before, the input must have, with R_MAX the cutoff of the
    model::

        pair_style zero R_MAX nocoeff
        pair_coeff * *

    Args:
        lmp: The ``lammps.lammps`` object, with units metal.
        model: Model file, "base", or a potential.
        elements: Element of each atom type.
        fix: Name of the fix.
        comm: The communicator of mpi4py, if there are several processes.
        dtype: "float32" or "float64"; by default that of the model.
        info: Declared inputs of the model, as in ``atoms.info``.
        max_edges: Number of edges to process at once, which limits the memory.

    Returns:
        The callback; it must be kept while the simulation runs.

    Raises:
        DataError: The model is a committee, or it has inputs that LAMMPS cannot give it; units are not metal; the
            number of elements is not that of atom types; or there are several processes and no communicator.
        UnknownSpeciesError: The model does not know an element.
    """
    types, processes = lmp.extract_global("ntypes"), lmp.extract_setting("world_size")
    if len(elements) != types:
        raise DataError(
            f"expected an element for each of the {types} atom types, got {len(elements)}: {list(elements)}"
        )
    if (1 if comm is None else comm.size) != processes:
        raise DataError(
            f"LAMMPS has {processes} processes, but the communicator {1 if comm is None else comm.size}: give "
            "comm=MPI.COMM_WORLD of mpi4py"
        )
    if lmp.extract_global("units") != "metal":
        raise DataError(f"fix external needs units metal, got units {lmp.extract_global('units')}")
    potential = prepare_model(model, device="cpu", dtype=dtype)
    if not isinstance(potential, InteratomicPotential):
        raise DataError(f"LAMMPS takes a single potential, got {type(potential).__name__}")
    if max_edges is not None:
        potential.max_edges = max_edges
    callback = ExternalForces(lmp, fix, potential, elements, comm, info or {})
    lmp.command(f"fix {fix} all external pf/callback 1 1")
    lmp.command(f"fix_modify {fix} energy yes virial yes")
    lmp.command(f"neighbor {SKIN} bin")  # with fewer ghosts, forces would be wrong without a message
    lmp.command(f"comm_modify cutoff {len(potential.interactions) * potential.r_max + SKIN}")
    lmp.set_fix_external_callback(fix, callback, lmp)
    return callback


class ExternalForces:
    """The callback of ``fix external``; see :func:`attach`."""

    def __init__(
        self,
        lmp: Any,
        fix: str,
        model: InteratomicPotential,
        elements: Sequence[str],
        comm: Any,
        info: Mapping[str, Any],
    ) -> None:
        self.lmp, self.fix, self.model, self.comm = lmp, fix, model, comm
        unknown = [name for name in elements if atomic_numbers.get(name) not in model.species]
        if unknown:
            raise UnknownSpeciesError(f"the model does not know {', '.join(unknown)}, named for an atom type")
        self.numbers = np.array([0, *(atomic_numbers[name] for name in elements)])
        self.constants = constants(model, info)
        self.skin = SkinList(model.r_max, 0.5)
        self.owners: _Owners | None = None

    def __call__(
        self, caller: Any, step: int, num_owned: int, tag: IntArray, positions: FloatArray, forces: FloatArray
    ) -> None:
        """Write the forces on owned atoms; energy and virial are given to LAMMPS.

        An error ends all processes: LAMMPS cannot pass it on, and would go on with the forces of the last step.
        """
        try:
            self._predict(num_owned, positions, forces)
        except BaseException as error:  # noqa: BLE001  (an interruption would be lost too)
            reason = "".join(traceback.format_exception(error))
            sys.stderr.write(f"ik_e3nn: the forces of step {step} cannot be computed, so this run is ended\n{reason}")
            sys.stderr.flush()
            if self.comm is not None:
                self.comm.Abort(1)
            os._exit(1)

    def _predict(self, num_owned: int, positions: FloatArray, forces: FloatArray) -> None:
        lmp = self.lmp
        number = num_owned + lmp.extract_setting("nghost")
        every = np.array(lmp.numpy.extract_atom("x", nelem=number, dim=3)).reshape(number, 3)
        types = np.array(lmp.numpy.extract_atom("type", nelem=number)).ravel()
        tags = np.array(lmp.numpy.extract_atom("id", nelem=number)).ravel()
        pairs = self.skin.update(Atoms(self.numbers[types], every))
        graph = {
            **self.constants,
            fields.ATOMIC_NUMBERS: torch.from_numpy(self.numbers[types]),
            fields.POSITIONS: torch.from_numpy(every),
            fields.BATCH: torch.zeros(number, dtype=torch.long),
            fields.EDGE_INDEX: torch.from_numpy(np.ascontiguousarray(pairs.edge_index)),
            fields.EDGE_SHIFTS: torch.from_numpy(np.ascontiguousarray(pairs.shifts)).double(),
        }
        out = predict_owned(self.model, graph, num_owned)
        owners = self.owners
        if self._any(owners is None or not owners.hold(num_owned, tags)) or owners is None:
            owners = self.owners = _Owners(self.comm, num_owned, tags)
        energy = float(self._sum(out[fields.ENERGIES].sum().numpy()))
        total = owners.added(out[fields.FORCES].double().numpy())
        if not (np.isfinite(energy) and np.isfinite(total).all()):
            raise ExplosionError(
                "the energy or a force is NaN or infinite: atoms are too near to each other, or the time step is too "
                "long"
            )
        forces[:num_owned] = total
        virial = self._sum(-out[fields.ATOMIC_VIRIALS].double().sum(0).numpy())
        lmp.fix_external_set_energy_global(self.fix, energy)
        lmp.fix_external_set_virial_global(self.fix, [float(virial[a, b]) for a, b in _VOIGT])

    def _sum(self, values: FloatArray) -> FloatArray:
        """The sum over all processes."""
        return values if self.comm is None else self.comm.allreduce(values)

    def _any(self, flag: bool) -> bool:
        """Whether a flag is set on any process."""
        return flag if self.comm is None else bool(self.comm.allreduce(int(flag)))


_VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # LAMMPS's order


class _Owners:
    """The processes and atoms that ghosts belong to, found by one exchange of atom IDs.

    Args:
        comm: Communicator of mpi4py, or None for one process.
        num_owned: Number of owned atoms.
        tags: IDs of owned atoms and ghosts.
    """

    def __init__(self, comm: Any, num_owned: int, tags: IntArray) -> None:
        self.comm, self.num_owned, self.tags = comm, num_owned, tags
        mine, ghosts = tags[:num_owned], tags[num_owned:]
        every = [mine] if comm is None else comm.allgather(mine)
        size = 1 + max(int(part.max()) for part in every if len(part))
        process, place = np.full(size, -1), np.full(size, -1)
        for rank, part in enumerate(every):
            process[part] = rank
        place[mine] = np.arange(num_owned)
        self.order = np.argsort(process[ghosts], kind="stable")
        self.cuts = np.bincount(process[ghosts], minlength=len(every)).cumsum()[:-1]
        wanted = np.split(ghosts[self.order], self.cuts)
        self.into = [place[ids] for ids in (wanted if comm is None else comm.alltoall(wanted))]

    def hold(self, num_owned: int, tags: IntArray) -> bool:
        """Whether owned atoms and ghosts are the same as before."""
        return num_owned == self.num_owned and np.array_equal(tags, self.tags)

    def added(self, forces: FloatArray) -> FloatArray:
        """Forces on owned atoms, (num_owned, 3), with those on their ghosts on all processes, from forces (N, 3)."""
        total = forces[: self.num_owned].copy()
        sent = np.split(forces[self.num_owned :][self.order], self.cuts)
        for into, received in zip(self.into, sent if self.comm is None else self.comm.alltoall(sent), strict=True):
            np.add.at(total, into, received)
        return total
