r"""Analytic energies of molecules beside walls that are less symmetric than a smooth wall.

A fourfold wall turns pairs of atoms, a chiral wall turns triples of atoms:

.. math:: E_4 = a_4 \sum_{i<j} w_i w_j \, \mathrm{Re}\big[(x_{ij} + \mathrm{i} y_{ij})^4\big] \, g_1(r_{ij}), \qquad
          E_\chi = a_\chi \sum_i w_i \sum_{jk} g_{0.8}(r_{ij}) \, g_{1.2}(r_{ik}) \;
                   \hat z \cdot (r_{ij} \times r_{ik})

with :math:`w_i = \exp(-z_i/2)` and Gaussians :math:`g_\sigma(r) = \exp(-r^2/2\sigma^2)`; lengths are in A. The
first has the symmetry C4v, the second SO(2): every mirror changes its sign.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

FOURFOLD, CHIRAL = 4.0, 12.0  # eV/A^4 and eV/A^2: forces of about 0.1 eV/A in the frames of the benchmark
Forces = Callable[[Sequence[Atoms]], Sequence[np.ndarray]]


def fourfold(positions: Tensor) -> Tensor:
    """The fourfold energy in eV of atoms at positions (N, 3) in A, z being the height over the wall."""
    i, j = torch.triu_indices(len(positions), len(positions), 1)
    x, y, _ = vectors = (positions[j] - positions[i]).T
    w = torch.exp(-positions[:, 2] / 2)
    terms = w[i] * w[j] * (x**4 - 6 * x**2 * y**2 + y**4) * gaussian(vectors.T, 1.0)
    return FOURFOLD * terms.sum()


def chiral(positions: Tensor) -> Tensor:
    """The chiral energy in eV of atoms at positions (N, 3) in A, z being the height over the wall."""
    vectors = positions - positions[:, None]
    inner, outer = (torch.einsum("ij,ijk->ik", gaussian(vectors, s), vectors) for s in (0.8, 1.2))
    terms = torch.exp(-positions[:, 2] / 2) * torch.linalg.cross(inner, outer)[:, 2]
    return CHIRAL * terms.sum()


def gaussian(vectors: Tensor, sigma: float) -> Tensor:
    """A Gaussian of the lengths of vectors (..., 3)."""
    return torch.exp(vectors.square().sum(-1) / (-2 * sigma**2))


TERMS: Mapping[str, Callable[[Tensor], Tensor]] = {"fourfold": fourfold, "chiral": chiral}


def with_term(atoms: Atoms, name: str) -> Atoms:
    """A copy of a labeled structure, with a term added to its energy and forces."""
    positions = torch.tensor(atoms.positions, requires_grad=True)
    energy = TERMS[name](positions)
    (gradient,) = torch.autograd.grad(energy, positions)
    atoms = atoms.copy()
    atoms.info["REF_energy"] += energy.item()
    atoms.arrays["REF_forces"] = atoms.arrays["REF_forces"] - gradient.numpy()
    return atoms


def images(name: str) -> list[tuple[float, np.ndarray]]:
    r"""Signs s and elements h that select the part of forces that changes like a term.

    .. math:: F_\mathrm{term}(x) = \frac 1n \sum_h s_h \, h^{-1} F(h x)

    The rest of the energy is the same for all of these images, and drops out. For the fourfold term they are turns by
    45 degrees, for the chiral one a mirror.
    """
    if name == "chiral":
        return [(1.0, np.eye(3)), (-1.0, np.diag([1.0, -1.0, 1.0]))]
    angles = np.arange(8) * np.pi / 4
    c, s, o = np.cos(angles), np.sin(angles), np.zeros(8)
    turns = np.stack([[c, -s, o], [s, c, o], [o, o, o + 1]]).transpose(2, 0, 1)
    return [((-1.0) ** k, turn) for k, turn in enumerate(turns)]


def term_forces(atoms: Atoms, name: str, forces: Forces) -> np.ndarray:
    """The part (N, 3) of the forces on a structure that changes like a term, see ``images``.

    Args:
        atoms: The structure.
        name: The term.
        forces: Forces of several structures.
    """
    signs, elements = zip(*images(name), strict=True)
    turned = [atoms.copy() for _ in elements]
    for image, h in zip(turned, elements, strict=True):
        image.positions = atoms.positions @ h.T
    parts = zip(signs, elements, forces(turned), strict=True)
    part: np.ndarray = np.mean([sign * own @ h for sign, h, own in parts], 0)
    return part
