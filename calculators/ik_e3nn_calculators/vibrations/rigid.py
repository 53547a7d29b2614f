"""Motions of a whole structure that cost no energy, and the shape of a molecule."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.graph import fields
from ik_e3nn.graph.build import surface_vectors
from ik_e3nn_calculators.calculator.frozen import moving_atoms

FloatArray = NDArray[np.float64]

TOLERANCE = 0.05  # A, from the axis of a linear molecule; positions after a symmetry operation differ by as much
_HELD = 1e-3  # A for a turn by one radian: less does not move a fixed atom


@dataclass(frozen=True)
class RigidMotions:
    """Translations and rotations of a structure that cost no energy.

    Args:
        vectors: Displacements of the n atoms that move, (R, n, 3), linearly independent; translations come first.
        translations: Number of translations among them.
        is_free: Whether nothing holds the structure, so that all its translations and rotations are among them.
    """

    vectors: FloatArray
    translations: int
    is_free: bool

    def __str__(self) -> str:
        numbers = {"translation": self.translations, "rotation": len(self.vectors) - self.translations}
        named = [f"{number} {name}{'s' if number > 1 else ''}" for name, number in numbers.items() if number]
        return " and ".join(named) or "none"


def rigid_motions(atoms: Atoms, model: Any = None) -> RigidMotions:
    r"""Find the translations t and rotations :math:`\omega` that cost no energy.

    .. math:: u_i = t + \omega \times (r_i - c)

    They keep periodic cell vectors a, :math:`\omega \times a = 0`, and atoms fixed by ``FixAtoms``, u = 0. Rotations
    belong to the group of the model; in surroundings they turn about the origin, and translations are along free
    directions. A rotation that moves no atom by more than ``TOLERANCE`` a radian, like that of a linear molecule about
    its axis, is no motion.

    Args:
        atoms: The structure.
        model: The potential or ensemble; by default all rotations and translations of the structure by itself are free.

    Example:
        >>> str(rigid_motions(Atoms("H2", [[0, 0, 0], [0, 0, 1]]))), str(rigid_motions(Atoms("H", cell=[3] * 3, pbc=1)))
        ('3 translations and 2 rotations', '3 translations')
    """
    moving = moving_atoms(atoms)
    # Rotations about the center of mass do not couple to translations, of which there are none if atoms are fixed.
    center = atoms.get_center_of_mass() if moving.all() else atoms.positions[~moving].mean(0)
    rows = [np.zeros((6, 6))]
    rows += [np.hstack([np.zeros((3, 3)), _turn(vector)]) for vector in atoms.cell.array[atoms.pbc]]
    rows += [np.hstack([np.eye(3), _turn(place - center)]) for place in atoms.positions[~moving]]
    for free, axes, origin in _symmetries(atoms, model):
        rows.append(np.hstack([np.zeros((3, 3)), np.eye(3) - axes]))
        rows.append((np.eye(3) - free) @ np.hstack([np.eye(3), _turn(origin - center)]))
    _, sizes, basis = np.linalg.svd(np.concatenate(rows), full_matrices=False)
    kept = basis[(sizes > _HELD).sum() :]
    mixed, lengths, _ = np.linalg.svd(kept[:, 3:])
    number = int((lengths > 1e-9).sum())
    kept = mixed.T @ kept
    kept[:number] /= lengths[:number, None]  # rotations by one radian about perpendicular axes
    arms = atoms.positions[moving] - center
    displaced = kept[:, None, :3] + np.cross(kept[:, None, 3:], arms)
    shifts, turns = displaced[number:], _principal(displaced[:number], atoms.get_masses()[moving])
    return RigidMotions(np.concatenate([shifts, turns]), len(shifts), len(kept) == 6)


def shape(atoms: Atoms) -> Literal["monatomic", "linear", "nonlinear"]:
    """The shape of a molecule, in the words of ASE; linear if no atom is ``TOLERANCE`` away from its principal axis.

    Example:
        >>> from ase.build import molecule
        >>> [shape(molecule(name)) for name in ("CO2", "H2O")]
        ['linear', 'nonlinear']
    """
    number = len(rigid_motions(Atoms(atoms.numbers, atoms.positions, masses=atoms.get_masses())).vectors)
    return "nonlinear" if number == 6 else "linear" if len(atoms) > 1 else "monatomic"


def _turn(arm: FloatArray) -> FloatArray:
    """The matrix that takes a rotation to the displacement at the end of an arm from its center, (3, 3)."""
    return np.cross(np.eye(3), arm).T


def _principal(turns: FloatArray, masses: FloatArray) -> FloatArray:
    """Rotations (r, n, 3) about axes such that they do not couple, without those that move no atom."""
    root = np.sqrt(np.repeat(masses, 3))
    mixed = np.linalg.svd(turns.reshape(len(turns), len(root)) * root, full_matrices=False)[0]
    own = np.einsum("ab,aid->bid", mixed, turns)
    return own[np.linalg.norm(own, axis=2).max(1, initial=0.0) > TOLERANCE]


def _symmetries(atoms: Atoms, model: Any) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """For each potential of a model: projectors on directions of translations and axes of rotations, and the origin."""
    for one in getattr(model, "members", [model]):
        group = getattr(one, "group", None)
        if group is None:
            continue
        axes, free, origin = group.turns.T @ group.turns, torch.eye(3, dtype=torch.float64), np.zeros(3)
        if one.surroundings is not None:
            device = one.surroundings.triad.device
            vectors = surface_vectors(atoms)
            graph = {name: torch.tensor(vector, device=device)[None] for name, vector in vectors.items()}
            where = torch.zeros(1, 3, dtype=torch.float64, device=device)
            frames = one.surroundings.frames({fields.POSITIONS: where, fields.CELL: where[None], **graph})
            free, frame = one.surroundings.free_directions(frames)[0].cpu(), frames[0].cpu()
            axes, origin = frame.T @ axes @ frame, vectors.get(fields.SURFACE_ORIGIN, origin)
        yield free.numpy(), axes.numpy(), origin
