"""Find forces and stress that are exactly zero without reason: labels that were filled in."""

import numpy as np
from ase import Atoms

from ik_e3nn.data.labels.counted import Counted
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.values import StructureLabels
from ik_e3nn.data.suspicions.unit_evidence import pairs_within

_REACH, _DECAY, _ASYMMETRY = 4.0, 2.0, 0.005  # A, 1/A


def zero_labels(data: LabeledSet, counted: Counted) -> list[str]:
    """Warnings about forces and stress of exactly zero that symmetry does not explain.

    Args:
        data: Structures with labels.
        counted: Counts and names the structures.

    Returns:
        Warnings.

    Example:
        >>> bent = Atoms("H3", [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
        >>> nothing = StructureLabels(0.0, np.zeros((3, 3)), np.full((3, 3), np.nan))
        >>> zero_labels(LabeledSet.of_labels([bent], [nothing]), Counted(["structure 0"], 1))[0][:69]
        'the forces of 1 of 1 structures (the first is structure 0) are exactl'
    """
    found = [_zeros(atoms, one) for atoms, one in zip(data.structures, data.labels, strict=True)]
    flags = np.array(found, dtype=bool).reshape(-1, 2)
    return [
        f"the {what} of {counted(flags[:, column])} {verb} exactly zero, and symmetry is not the reason: they seem to "
        "be filled in; leave unknown labels out"
        for column, (what, verb) in enumerate((("forces", "are"), ("stress", "is")))
        if flags[:, column].any()
    ]


def _zeros(atoms: Atoms, labels: StructureLabels) -> tuple[bool, bool]:
    """Whether forces and stress are zero and should not be."""
    forces, stress = not labels.forces.any(), not labels.stress.any()
    if (len(atoms) < 2 and not stress) or not (forces or stress):
        return False, False
    pairs = pairs_within(atoms, _REACH)
    if not len(pairs.distances):
        return False, False
    lengths = np.maximum(pairs.distances, 1e-3)
    weights = np.exp(-_DECAY * lengths)
    pull = np.zeros((len(atoms), 3))
    np.add.at(pull, pairs.receiver, (weights / lengths)[:, None] * pairs.vectors)
    total = np.maximum(np.bincount(pairs.receiver, weights=weights, minlength=len(atoms)), np.exp(-_DECAY * _REACH))
    return forces and bool((np.linalg.norm(pull, axis=1) > _ASYMMETRY * total).any()), stress
