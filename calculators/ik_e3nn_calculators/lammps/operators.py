"""The exchange of features between processes, as two operators that compiled models call.

Each is the derivative of the other. In a simulation the pair style defines them with the communication of LAMMPS. In
Python they stand for a process whose ghosts are copies of its owned atoms in turn, so that an exported model can be
compared with the eager one.
"""

from typing import Any

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("ik_e3nn_lammps", "DEF")
_LIBRARY.define("forward(Tensor x, Tensor atoms) -> Tensor")
_LIBRARY.define("reverse(Tensor gradient, Tensor owned) -> Tensor")


def exchanged(x: Tensor, species: Tensor) -> Tensor:
    """Features of all atoms (N, dim) from those of owned atoms (R, dim); N is the size of species (N,)."""
    result: Tensor = torch.ops.ik_e3nn_lammps.forward(x, species)
    return result


def copied(num_owned: int, num_atoms: int) -> Tensor:
    """The owned atom that each atom is a copy of, in Python: (N,)."""
    return torch.arange(num_atoms) % num_owned


def _forward(x: Tensor, atoms: Tensor) -> Tensor:
    return x[copied(x.shape[0], atoms.shape[0])]


def _reverse(gradient: Tensor, owned: Tensor) -> Tensor:
    index = copied(owned.shape[0], gradient.shape[0])
    return torch.zeros_like(owned).index_add(0, index, gradient)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs)


_LIBRARY.impl("forward", _forward, "CPU")
_LIBRARY.impl("reverse", _reverse, "CPU")
torch.library.register_fake(
    "ik_e3nn_lammps::forward", lambda x, atoms: x.new_empty(atoms.shape[0], x.shape[1]), lib=_LIBRARY
)
torch.library.register_fake(
    "ik_e3nn_lammps::reverse", lambda gradient, owned: gradient.new_empty(owned.shape), lib=_LIBRARY
)
torch.library.register_autograd(
    "ik_e3nn_lammps::forward",
    lambda ctx, gradient: (torch.ops.ik_e3nn_lammps.reverse(gradient, ctx.saved_tensors[0]), None),
    setup_context=_save,
    lib=_LIBRARY,
)
