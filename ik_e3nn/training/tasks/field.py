"""The external field of surroundings before the training: the one that fits what a model leaves."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ik_e3nn.arrays import FloatArray, IntArray
from ik_e3nn.blocks.surroundings import PlaceEmbedding, Surroundings
from ik_e3nn.data import LabeledSet, StructureDataset
from ik_e3nn.listing import listed
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.sets.places import places_of

_log = logging.getLogger(__name__)

MOST = 2000  # structures, evenly chosen from larger sets
FLOOR = 1e-8  # (eV/A)^2 or eV^2, least variance of a kind: labels are no more precise
ROUNDING = 1e-12  # least variance of the weights that data tell nothing of, relative to those known best
CONSTANTS = 1e-4  # eV^2, first variance of the constants: where data leave it open, energy is that of the field
BLUR = 1e-6  # (eV/A)^2 or eV^2, least variance of a kind for the question what the data leave open
UNSURE, HIDDEN = 0.1, 3.0  # eV, standard deviation of a constant, and ratio to that without a field
ROUNDS, SETTLED = 15, 1e-2  # of the fit, and the relative change of its variances after which it ends


def fit_field(model: InteratomicPotential, train: LabeledSet) -> None:
    r"""Set the external field of a model, in place, to the best one for the energies and forces that it leaves.

    .. math:: \min_{w, b} \sum_g \frac{|r_g(w, b)|^2}{\sigma_g^2} + \frac{|w|^2}{\tau^2} + \frac{|b|^2}{\beta^2}

    The field U is linear in its weights w, and so are three kinds g of residuals r: energies per atom, up to a constant
    b for every composition, which is an error of the model for molecules alone; forces along rigid motions of a
    structure, which are its net force and torque; and all other forces. The last contain all errors of the model inside
    molecules, and the second none, because these errors turn and move with a molecule. The variances of the kinds, of
    the weights and of the constants maximize the evidence (D. J. C. MacKay, Neural Comput. 4, 415 (1992)), so that
    noise makes no field, and a model that knows nothing of molecules yet gets its field from net forces and torques.

    If the training finds the field, at the same time as the effect of positions on interactions, the one makes up for
    errors of the other, but not for other molecules: over graphite, wall energies of furan and toluene were off by 70
    to 120 meV after two minutes, and by 12 and 15 after one minute from a fitted field.

    Args:
        model: A model that feels no surroundings yet.
        train: Structures with energies or forces.
    """
    data = train.with_mechanics()
    known = np.flatnonzero([bool(np.isfinite(f).all() or np.isfinite(e)) for f, e in _labels(data)])
    if not len(known):
        return
    data = data.select(known[np.linspace(0, len(known) - 1, min(len(known), MOST)).astype(int)])
    graphs = StructureDataset(data, model.r_max, edges=model.edges, dtype=model.dtype, inputs=model.inputs)
    left = predict(model, graphs).values
    field = copy.deepcopy(cast(PlaceEmbedding, model.field)).double()
    parts = [_Part(field, number) for number in sorted(model.species_table[data.species].tolist())]
    scale, start = float(model.atomic_energy.scale), 0
    kinds = sorted({atoms.get_chemical_formula() for atoms in data.structures})
    sums = [_Sums(sum(len(part.weights) for part in parts) + len(kinds)) for _ in range(3)]
    for atoms, (forces, energy), predicted in zip(data.structures, _labels(data), left["energy"], strict=True):
        n, kind = len(atoms), np.eye(len(kinds))[kinds.index(atoms.get_chemical_formula())]
        species = model.species_table.cpu()[torch.from_numpy(atoms.numbers)].numpy()
        of_energy, of_forces = _rows(field, cast(Surroundings, model.surroundings), atoms, species, parts)
        of_energy, of_forces = scale * of_energy, scale * of_forces
        if np.isfinite(energy):
            sums[0].add(np.concatenate([of_energy, kind])[None] / n, np.array([energy - predicted]) / n, 1)
        if np.isfinite(forces).all():
            rows = np.pad(of_forces, ((0, 0), (0, len(kinds))))
            values, rigid = (forces - left["forces"][start : start + n]).ravel(), rigid_motions(atoms)
            sums[1].add(rigid.T @ rows, rigid.T @ values, rigid.shape[1])
            sums[2].add(rows - rigid @ (rigid.T @ rows), values - rigid @ (rigid.T @ values), 3 * n - rigid.shape[1])
        start += n
    weights, stds, unsure = _fitted(sums, free=len(kinds))
    with torch.no_grad():
        kept = cast(PlaceEmbedding, model.field).linear.weight
        kept[torch.cat([part.weights for part in parts])] = torch.from_numpy(weights).to(kept)
    _log.info(
        "external field fitted to %d structures; it leaves standard deviations of %s eV/atom in energies, %s eV/A in "
        "net forces and torques, and %s eV/A in other forces", len(data),
        *(f"{std:.2g}" if one.count else "-" for std, one in zip(stds, sums, strict=True)),
    )  # fmt: skip
    if unsure.any():
        _log.warning(
            "energies do not tell how strongly the surroundings bind %s, as there are none of structures far away; add "
            "such structures, with energies", listed([kinds[k] for k in np.flatnonzero(unsure)]),
        )  # fmt: skip


def rigid_motions(atoms: Atoms) -> FloatArray:
    """Displacements (3n, k) of the atoms in rigid motions of a structure, orthonormal.

    There are three translations and, unless the structure is periodic, up to three rotations.

    >>> [rigid_motions(Atoms(symbols, np.eye(3)[: len(symbols)])).shape[1] for symbols in (["H"], ["H"] * 2, ["H"] * 3)]
    [3, 5, 6]
    """
    n = len(atoms)
    moves = [np.tile(axis, n) for axis in np.eye(3)]
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.positions.mean(axis=0)
        moves += [np.cross(axis, arms).ravel() for axis in np.eye(3)]
    vectors, sizes, _ = np.linalg.svd(np.array(moves).T, full_matrices=False)
    kept: FloatArray = vectors[:, sizes > 1e-3]
    return kept


def _labels(data: LabeledSet) -> list[tuple[FloatArray, float]]:
    """Forces and energy of each structure, NaN where missing."""
    return list(zip(data.by_structure("forces"), data.values["energy"].tolist(), strict=True))


class _Part:
    """What the weights of the field make of the functions of positions for one species.

    Attributes:
        species: Number of the species.
        weights: Indices of the weights that act on it, (W,).
        matrix: Coefficients of the functions by each of them, (K, W).
    """

    def __init__(self, field: PlaceEmbedding, species: int) -> None:
        functions = torch.eye(field.basis.irreps_out.dim, dtype=torch.float64)
        found = field.of_functions(functions, torch.full((len(functions),), species)).squeeze(1)
        (columns,) = torch.autograd.grad(found, field.linear.weight, functions, is_grads_batched=True)
        self.species, self.weights = species, columns.abs().sum(0).nonzero().flatten()
        self.matrix = columns[:, self.weights].numpy()


def _rows(
    field: PlaceEmbedding, surroundings: Surroundings, atoms: Atoms, species: IntArray, parts: Sequence[_Part]
) -> tuple[FloatArray, FloatArray]:
    """The energy, (W,), and the forces, (3n, W), of each weight's part of the field on the atoms of a structure.

    Args:
        field: The field, in float64.
        surroundings: The surroundings.
        atoms: The structure.
        species: Number of the species of every atom, (n,).
        parts: The weights of all species in the data.
    """
    u, derivative = places_of(atoms, surroundings)
    places, moves = torch.from_numpy(u), torch.from_numpy(derivative).T  # of the places with an atom, by direction
    slopes = [torch.func.jvp(field.basis, (places,), (move.expand_as(places).contiguous(),))[1] for move in moves]
    functions, forces = field.basis(places).numpy(), -torch.stack(slopes, 1).numpy()  # f = -(du/dr)^T dU/du
    of_energy, of_forces = [], []
    for part in parts:
        mine = (species == part.species)[:, None]
        of_energy.append((functions * mine).sum(0) @ part.matrix)
        of_forces.append(((forces * mine[..., None]) @ part.matrix).reshape(3 * len(atoms), -1))
    return np.concatenate(of_energy), np.concatenate(of_forces, 1)


class _Sums:
    """Sums over residuals y - X w of one kind: X^T X, X^T y, y^T y and their number."""

    def __init__(self, size: int) -> None:
        self.matrix, self.vector, self.square, self.count = np.zeros((size, size)), np.zeros(size), 0.0, 0

    def add(self, rows: FloatArray, values: FloatArray, count: int) -> None:
        """Add rows of X, (m, size), and y, (m,), with a number of independent ones."""
        self.matrix += rows.T @ rows
        self.vector += rows.T @ values
        self.square += float(values @ values)
        self.count += count

    def of(self, chosen: IntArray) -> _Sums:
        """The same for some weights alone."""
        part = _Sums(0)
        part.matrix, part.vector = self.matrix[np.ix_(chosen, chosen)], self.vector[chosen]
        part.square, part.count = self.square, self.count
        return part

    def left(self, w: FloatArray) -> float:
        """Sum of squared residuals."""
        return float(self.square - 2 * w @ self.vector + w @ self.matrix @ w)


def _fitted(sums: list[_Sums], free: int) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """The weights, the standard deviation of every kind of residuals, and which of the constants are unsure.

    The unknowns are the weights and, after them, the constants. A constant is unsure if the data tell nothing of it, or
    much less than they would if there were no field.
    """
    size = len(sums[0].vector)
    seen = np.flatnonzero(np.sum([one.matrix.diagonal() for one in sums], axis=0))
    sums = [one.of(seen) for one in sums]
    groups = [seen < size - free, seen >= size - free]
    variances = np.array([max(one.square / max(one.count, 1), FLOOR) for one in sums])
    priors, w = np.array([1.0, CONSTANTS]), np.zeros(len(seen))
    for _ in range(ROUNDS):
        before = np.array([*variances, *priors])
        known = np.sum([one.matrix / v for one, v in zip(sums, variances, strict=True)], axis=0)
        priors[0] = min(priors[0], 1 / (ROUNDING * known.trace() + 1e-300))
        inverse = np.linalg.inv(known + np.diag(np.where(groups[0], *(1 / priors))))
        w = inverse @ np.sum([one.vector / v for one, v in zip(sums, variances, strict=True)], axis=0)
        for k, one in enumerate(sums):
            used = float((inverse * one.matrix).sum()) / variances[k]  # parameters that this kind determines
            variances[k] = max(one.left(w) / max(one.count - used, 1.0), FLOOR)
        for k, group in enumerate(groups):
            determined = group.sum() - inverse.diagonal()[group].sum() / priors[k]
            priors[k] = max(float(w[group] @ w[group]) / max(determined, 1e-3), FLOOR)
        if np.abs(np.array([*variances, *priors]) / before - 1).max() < SETTLED:
            break
    wide = np.where(groups[0], 1 / priors[0], 1.0)  # a prior of 1 eV of the constants
    blurred = np.sum([one.matrix / max(v, BLUR) for one, v in zip(sums, variances, strict=True)], axis=0)
    beside = np.linalg.inv(blurred + np.diag(wide)).diagonal().clip(min=0) ** 0.5
    alone = (blurred.diagonal() + wide) ** -0.5
    unknowns, unsure = np.zeros(size), np.full(size, True)
    unknowns[seen], unsure[seen] = w, beside > np.maximum(UNSURE, HIDDEN * alone)
    return unknowns[: size - free], variances**0.5, unsure[size - free :]
