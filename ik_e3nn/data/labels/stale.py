"""Removal of labels from a structure whose atoms will move, because labels hold for one geometry only."""

import logging
import re

from ase import Atoms

from ik_e3nn.data.labels.own_labels import OUR_LABELS

_log = logging.getLogger(__name__)

_WORDS = {"energy", "energies", "force", "forces", "gradient", "gradients", "stress", "stresses", "virial", "virials"}


def without_labels(atoms: Atoms) -> Atoms:
    """A copy of a structure without labels, so that no frame of a run has the labels of the starting structure.

    Entries of ``info`` and arrays are labels if a word of their name is energy, forces, stress or similar. Entries with
    other names are kept, because they may hold for every geometry.

    Args:
        atoms: The structure; it is only read.

    Returns:
        The copy, without a calculator; the names of the labels that are left out are logged.

    Example:
        >>> without_labels(Atoms("H", info={"REF_energy": -13.6, "charge": 0})).info
        {'charge': 0}
    """
    copy = atoms.copy()
    lost = [key for key in (*copy.info, *copy.arrays) if {*re.findall(r"[a-z]+", str(key).lower())} & _WORDS]
    for key in (*lost, OUR_LABELS[0]):
        copy.info.pop(key, None)
        copy.arrays.pop(key, None)
    if lost:
        _log.info("labels of the starting structure do not hold during the run and are left out: %s", ", ".join(lost))
    return copy
