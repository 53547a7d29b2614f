"""ASE's constraints in runs: which can be stored and kept, and how many degrees of freedom they leave."""

import logging

import numpy as np
from ase import Atoms
from ase.constraints import (
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixCom,
    FixedLine,
    FixedPlane,
    FixLinearTriatomic,
    FixScaled,
    Hookean,
    dict2constraint,
)
from ase.io.jsonio import decode, encode
from numpy.typing import NDArray

from ik_e3nn.data.generation.sampling import constrained_momenta
from ik_e3nn.errors import DataError

FloatArray = NDArray[np.float64]

_log = logging.getLogger(__name__)

# Constraints that act on each atom separately; all others couple the motions of several atoms.
_SINGLE = (FixAtoms, FixCartesian, FixScaled, FixedLine, FixedPlane)
# Constraints that count their removed degrees of freedom correctly; FixInternals and FixedMode do not.
_COUNTED = (FixBondLengths, FixCom, FixLinearTriatomic, Hookean)
_IN_EXTXYZ = (FixAtoms, FixCartesian)
_SAME = 1e-6
_SMALL = 300  # atoms


def check_constraints(atoms: Atoms) -> None:
    """Refuse constraints that a copy or a file would lose.

    Args:
        atoms: The structure.

    Raises:
        DataError: A constraint cannot be stored; the message names it.

    Example:
        >>> check_constraints(Atoms("H2", constraint=FixAtoms([0])))
    """
    for constraint in atoms.constraints:
        name = type(constraint).__name__
        try:
            dict2constraint(decode(encode(constraint.todict())))
        except Exception as error:  # a class from outside of ASE may raise anything
            raise DataError(
                f"the constraint {name} cannot be stored by ASE ({type(error).__name__}: {error}), so a run "
                "with it could not be continued; use a constraint from ase.constraints"
            ) from error
        wanted = getattr(constraint, "bondlengths", None) if isinstance(constraint, FixBondLengths) else None
        if wanted is not None:
            now = [atoms.get_distance(first, second, mic=True) for first, second in constraint.pairs]
            if np.abs(np.asarray(wanted) - now).max(initial=0.0) > _SAME:
                raise DataError(
                    "FixBondLengths sets bond lengths that differ from those of the structure, and ASE drops them in "
                    "every copy; set the distances first, and give no bondlengths"
                )


def renew_constraints(atoms: Atoms) -> None:
    """Reset the values that constraints hold (bond lengths, angles) to the present geometry.

    A run and its restart both do this at the same positions, so that they hold the same values to the last bit.

    Args:
        atoms: The structure; its positions stay as they are.
    """
    atoms.set_constraint([constraint.copy() for constraint in atoms.constraints])
    unused = atoms.get_positions()
    for constraint in atoms.constraints:
        constraint.adjust_positions(atoms, unused)


def lost_in_extxyz(atoms: Atoms) -> str:
    """Names of the constraints that extended XYZ cannot hold, for a message; empty if there are none.

    Example:
        >>> lost_in_extxyz(Atoms("H2", constraint=[FixAtoms([0]), FixedPlane(1, (0, 0, 1))]))
        'FixedPlane'
    """
    lost = (type(constraint).__name__ for constraint in atoms.constraints if not isinstance(constraint, _IN_EXTXYZ))
    return ", ".join(sorted(set(lost)))


def warn_of_lost(atoms: Atoms, trajectory: str) -> None:
    """Warn about constraints that the frames of a run will lack.

    Args:
        atoms: The structure.
        trajectory: Format of its trajectory.
    """
    lost = lost_in_extxyz(atoms)
    if lost and trajectory == "extxyz":
        _log.warning(
            "extended XYZ cannot hold these constraints: %s; the frames lack them, final.traj has them, and "
            "--trajectory traj keeps them in all frames",
            lost,
        )


def check_dynamics(atoms: Atoms) -> None:
    """Refuse constraints that ASE cannot keep in dynamics.

    Raises:
        DataError: Constraints conflict (a bond of fixed length at a fixed atom), add to momenta as they do to forces,
            or treat positions and momenta differently (``FixScaled`` on some axes of a cell without right angles), so
            that energy or temperature would be wrong.
    """
    if not atoms.constraints:
        return
    momenta = np.random.default_rng(0).normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses())[:, None]
    once = constrained_momenta(atoms, momenta)
    if not np.allclose(constrained_momenta(atoms, once), once, atol=_SAME):
        names = ", ".join(dict.fromkeys(type(constraint).__name__ for constraint in atoms.constraints))
        raise DataError(
            f"ASE cannot keep these constraints in dynamics ({names}): applying them again changes the "
            "momenta again, as happens if constraints on the same atom conflict; remove some of them"
        )
    if not np.allclose(_moves(atoms), _maps(atoms), atol=_SAME):
        raise DataError(
            "FixScaled fixes some axes of a cell without right angles, for which ASE treats positions and momenta "
            "differently, so that energy is lost; use FixCartesian, FixedLine or FixedPlane"
        )


def free_motions(atoms: Atoms) -> int:
    """Number of degrees of freedom that the constraints leave: 3N minus those that they remove.

    A direction that several constraints on an atom remove is counted once.

    Args:
        atoms: The structure.

    Returns:
        At least 0.

    Raises:
        DataError: The degrees of freedom cannot be counted.

    Example:
        >>> free_motions(Atoms("H2", positions=[[0, 0, 0], [0, 0, 1]], constraint=[FixAtoms([0]), FixAtoms([0])]))
        3
    """
    if not all(isinstance(constraint, (*_SINGLE, *_COUNTED)) for constraint in atoms.constraints):
        return _rank(atoms)
    held = _held(atoms)
    free = 3 * len(atoms) - int(held.sum())
    for constraint in atoms.constraints:
        if isinstance(constraint, FixBondLengths):
            free -= int((held[constraint.pairs] < 3).any(axis=1).sum())  # fixed pairs remove nothing
        elif not isinstance(constraint, _SINGLE):
            free -= int(constraint.get_removed_dof(atoms))
    return max(free, 0)


def unhindered(atoms: Atoms, motions: FloatArray) -> FloatArray:
    """The motions, or combinations of them, that the constraints allow.

    Args:
        atoms: The structure.
        motions: Orthonormal motions in mass-weighted coordinates, (K, N, 3).

    Returns:
        Orthonormal motions, (L, N, 3) with L <= K.
    """
    if not atoms.constraints or not len(motions):
        return motions
    roots = np.sqrt(atoms.get_masses())[:, None]
    changes = np.stack([constrained_momenta(atoms, motion * roots) / roots - motion for motion in motions])
    flat = changes.reshape(len(motions), -1)
    squares, mixes = np.linalg.eigh(flat @ flat.T)
    kept: FloatArray = np.einsum("kl,kai->lai", mixes[:, squares < 1e-10], motions)
    return kept


def has_external_restraint(atoms: Atoms) -> bool:
    """Whether a constraint pulls on the structure from outside: a spring to a point or a plane, an external force."""
    pulling = [constraint for constraint in atoms.constraints if hasattr(constraint, "adjust_potential_energy")]
    return any(not isinstance(one, Hookean) or np.size(one.get_indices()) != 2 for one in pulling)


def _rank(atoms: Atoms) -> int:
    """Number of independent momenta that the constraints allow, found by trying all."""
    if len(atoms) > _SMALL:
        names = ", ".join(dict.fromkeys(type(constraint).__name__ for constraint in atoms.constraints))
        raise DataError(
            f"the degrees of freedom under these constraints ({names}) can be counted for at most {_SMALL} atoms, but "
            f"the structure has {len(atoms)}; use constraints such as FixAtoms, FixCartesian or FixBondLengths"
        )
    units = np.eye(3 * len(atoms)).reshape(-1, len(atoms), 3)
    passed = np.stack([constrained_momenta(atoms, unit).ravel() for unit in units])
    return int(np.linalg.matrix_rank(passed, tol=_SAME))


def _held(atoms: Atoms) -> NDArray[np.int64]:
    """Number of directions in which single-atom constraints fix each atom, (N,)."""
    if not any(isinstance(constraint, _SINGLE) for constraint in atoms.constraints):
        return np.zeros(len(atoms), dtype=np.int64)
    lost = np.linalg.svd(_maps(atoms) - np.eye(3), compute_uv=False)
    held: NDArray[np.int64] = (lost > _SAME).sum(axis=1)
    return held


def _maps(atoms: Atoms) -> FloatArray:
    """The momenta to which single-atom constraints reduce unit momenta along x, y and z, (N, 3, 3)."""
    maps = np.empty((len(atoms), 3, 3))
    for axis in range(3):
        momenta = np.zeros((len(atoms), 3))
        momenta[:, axis] = 1.0
        for constraint in atoms.constraints:
            if isinstance(constraint, _SINGLE):
                constraint.adjust_momenta(atoms, momenta)
        maps[:, :, axis] = momenta
    return maps


def _moves(atoms: Atoms) -> FloatArray:
    """The displacements to which single-atom constraints reduce steps of 1 A along x, y and z, (N, 3, 3)."""
    moves = np.empty((len(atoms), 3, 3))
    for axis in range(3):
        positions = atoms.get_positions()
        positions[:, axis] += 1.0
        for constraint in atoms.constraints:
            if isinstance(constraint, _SINGLE):
                constraint.adjust_positions(atoms, positions)
        moves[:, :, axis] = positions - atoms.positions
    return moves
