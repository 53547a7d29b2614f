"""Labels of a structure that is going to move: they are those of the geometry that it had, and of no other."""

import logging
import re

from ase import Atoms

from ik_e3nn.data.labels.own_labels import OUR_LABELS

_log = logging.getLogger(__name__)

_WORDS = {"energy", "energies", "force", "forces", "gradient", "gradients", "stress", "stresses", "virial", "virials"}


def without_labels(atoms: Atoms) -> Atoms:
    """A copy of a structure without labels, so that no frame of a run carries those of its start.

    Entries of ``info`` and arrays are labels if a word of their name is energy, forces, stress or the like. Under
    another name they cannot be told from what holds for every geometry, and stay.

    Args:
        atoms: The structure; it is only read.

    Returns:
        The copy, without a calculator as all copies; what is left out is logged.

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
        _log.info("labels of the starting structure are not those of the run, and are left out: %s", ", ".join(lost))
    return copy
