"""Properties of molecules that seem to be placeholders for missing values."""

import numpy as np
from numpy.typing import NDArray

from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.placeholders import find_placeholders, largest_components, placeholder_sentences

FloatArray = NDArray[np.float64]


def property_placeholders(molecules: LabeledSet) -> list[str]:
    """Sentences about properties of molecules.

    Args:
        molecules: The molecules.

    Returns:
        Sentences.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> from ase import Atoms
        >>> gaps = {"gap": np.r_[np.linspace(4.0, 6.0, 11), -999.0]}
        >>> one = LabeledSet([Atoms("H2")] * 12, (Intensive("gap", "eV"),), gaps, list("abcdefghijkl"))
        >>> property_placeholders(one)[0][:49]
        '1 of 12 structures (the first is molecule l) has '
    """
    sentences = []
    for target in molecules.targets:
        numbers = largest_components(molecules.values[target.name])
        name = f"largest component of {target.name}" if target.shape else target.name
        sentences += placeholder_sentences(name, numbers, molecules.structures, molecules.names)
    return sentences


def known_properties(molecules: LabeledSet) -> dict[str, FloatArray]:
    """Properties with NaN for what seems to stand for a missing value, so that other values can be judged.

    Args:
        molecules: The molecules.

    Returns:
        New arrays by name, (M, *shape).
    """
    result = {}
    for name, values in molecules.values.items():
        result[name] = values.copy()
        for one in find_placeholders(largest_components(values), molecules.structures):
            result[name][one.members] = np.nan
    return result
