"""Splits of molecules into training, validation and test sets, with fingerprints to store with the results."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ik_e3nn.arrays import IntArray
from ik_e3nn.errors import DataError
from ik_e3nn.graph import get_bonds, structure_number
from ik_e3nn.graph.build import NUMBER_KEYS, SURFACE_FIELDS, surface_vectors

PAPER_TRAIN = 100_000
TEST_FRACTION = 0.1


@dataclass(frozen=True)
class Split:
    """Indices of the three parts of a data set.

    Args:
        train: Indices to train on.
        valid: Indices to validate on.
        test: Indices to test on.
    """

    train: IntArray
    valid: IntArray
    test: IntArray

    def hash(self, ids: Sequence[str]) -> str:
        """Fingerprint of the split, which depends on the molecules of each part but not on their order.

        Args:
            ids: Id of each molecule in the data.

        Returns:
            16 hexadecimal digits.

        Example:
            >>> one, two = Split(*np.split(np.arange(6), [3, 4])), Split(*np.split(np.arange(6), [2, 4]))
            >>> one.hash("abcdef") == two.hash("abcdef")
            False
        """
        return fingerprint({name: [ids[i] for i in getattr(self, name)] for name in ("train", "valid", "test")})


def fingerprint(parts: Mapping[str, Sequence[str]]) -> str:
    """Fingerprint of named parts of a data set, from the ids of their molecules in any order: 16 hexadecimal digits.

    >>> fingerprint({"train": ["a", "b"]}) == fingerprint({"train": ["b", "a"]})
    True
    """
    digest = hashlib.sha256()
    for name, ids in parts.items():
        digest.update(f"{name}:{','.join(sorted(map(str, ids)))};".encode())
    return digest.hexdigest()[:16]


def content_digest(structures: Iterable[Atoms], values: Iterable[ArrayLike]) -> str:
    """Digest of elements, positions, cells and labels, rounded to the sixth decimal: 16 hexadecimal digits.

    >>> water, label = Atoms("H2O", np.eye(3)), np.array([-1.0])
    >>> content_digest([water], [label]) == content_digest([water], [label + 1e-9])
    True
    >>> content_digest([water], [label]) == content_digest([water], [label + 1e-3])
    False
    """
    digest = hashlib.sha256()
    parts = (part for atoms in structures for part in (atoms.numbers, atoms.pbc, atoms.positions, atoms.cell.array))
    for part in chain(parts, values):
        digest.update((np.round(np.asarray(part, dtype=float), 6) + 0.0).tobytes())  # -0.0 becomes 0.0
    return digest.hexdigest()[:16]


def inputs_digest(structures: Iterable[Atoms], *, bonds: bool = True) -> str:
    """Digest of charges, spins, vectors of surfaces and, for models that use them, bonds: 16 hexadecimal digits.

    >>> salt = Atoms("Na", info={"charge": 1})
    >>> inputs_digest([salt]) == inputs_digest([Atoms("Na")])
    False

    Raises:
        DataError: One of these values of a structure is invalid.
    """
    digest = hashlib.sha256()
    for atoms in structures:
        numbers = [structure_number(atoms, key) for key in NUMBER_KEYS.values()]
        vectors = surface_vectors(atoms)
        rows = get_bonds(atoms) if bonds else np.zeros((0, 3), dtype=np.int64)
        for part in (*numbers, *(vectors.get(name) for name in SURFACE_FIELDS)):
            digest.update((np.round(np.asarray(part, dtype=float), 6) + 0.0).tobytes() if part is not None else b"none")
        digest.update(np.array([len(rows)]).tobytes() + rows[np.lexsort(rows.T[::-1])].tobytes())
    return digest.hexdigest()[:16]


def paper_split(
    count: int, train: int | None = None, *, valid: int | None = None, test: int | None = None, seed: int = 0
) -> Split:
    """The split of the paper's QM9 table: a permutation by numpy's legacy generator, cut into three parts.

    With all 130,831 characterized molecules and no sizes given, 100,000 are for training, a tenth for testing, and the
    rest for validation. For fewer molecules the training part shrinks in proportion. A given size takes the first
    molecules of its part, so a smaller training set is the beginning of a larger one, and the test set stays the same.

    Args:
        count: Number of molecules.
        train: Number of molecules to train on; by default all of that part.
        valid: Number of molecules to validate on; by default all of that part.
        test: Number of molecules to test on; by default all of that part.
        seed: Seed of the permutation.

    Returns:
        The split.

    Raises:
        DataError: A size is not positive, or larger than its part.

    Reference:
        Zhdanov et al., NeurIPS 2023, section 5.4; permutation of Anderson et al., Cormorant, 2019.

    Example:
        >>> [len(part) for part in vars(paper_split(130_831)).values()]
        [100000, 17748, 13083]
    """
    order = np.random.RandomState(seed).permutation(count)
    num_test = int(TEST_FRACTION * count)
    num_train = min(PAPER_TRAIN, round(count * PAPER_TRAIN / 130_831))
    parts = np.split(order, [num_train, count - num_test])
    chosen = []
    for name, part, wanted in zip(("train", "valid", "test"), parts, (train, valid, test), strict=True):
        if wanted is not None and not 0 < wanted <= len(part):
            raise DataError(f"the {name} part of {count} molecules has {len(part)}; got a size of {wanted}")
        chosen.append(part[:wanted].astype(np.int64))
    return Split(*chosen)


def random_split(count: int, valid: int | float, test: int | float = 0, *, seed: int = 0) -> Split:
    """A random split.

    Args:
        count: Number of molecules.
        valid: Number, or fraction below 1, to validate on; may be 0 if ``test`` is not.
        test: Number, or fraction below 1, to test on; may be 0.
        seed: Seed of the permutation.

    Returns:
        The split.

    Raises:
        DataError: Nothing would be set aside, or nothing would be left to train on.

    Example:
        >>> [len(part) for part in vars(random_split(20, 0.1, 5)).values()]
        [13, 2, 5]
    """
    sizes = [max(round(size * count), 1) if isinstance(size, float) and size else int(size) for size in (valid, test)]
    if sum(sizes) < 1 or min(sizes) < 0 or sum(sizes) >= count:
        raise DataError(
            f"{sizes[0]} structures to validate on and {sizes[1]} to test on are requested, but there are only "
            f"{count} in all; request fewer, or give a file"
        )
    order = np.random.default_rng(seed).permutation(count)
    test_part, valid_part, train_part = np.split(order, [sizes[1], sum(sizes)])
    return Split(np.sort(train_part), np.sort(valid_part), np.sort(test_part))
