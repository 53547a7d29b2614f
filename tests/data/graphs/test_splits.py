import hashlib

import numpy as np
import pytest

from ik_e3nn.data import paper_split, random_split
from ik_e3nn.data.graphs.splits import Split
from ik_e3nn.errors import DataError


def test_the_papers_split_is_numpys_legacy_permutation_with_seed_zero() -> None:
    split = paper_split(130_831)
    np.random.seed(0)  # noqa: NPY002 - what the published split was made with
    order = np.random.permutation(130_831)  # noqa: NPY002
    assert np.array_equal(split.train, order[:100_000])
    assert np.array_equal(split.test, order[-13_083:])
    assert sorted(np.concatenate(list(vars(split).values()))) == list(range(130_831))


def test_smaller_training_sets_are_beginnings_of_larger_ones_and_leave_the_rest_alone() -> None:
    whole, small = paper_split(1000), paper_split(1000, 50, valid=20, test=30)
    assert np.array_equal(small.train, whole.train[:50])
    assert np.array_equal(small.test, whole.test[:30])
    assert not set(small.train) & set(whole.test)
    with pytest.raises(DataError, match="the test part of 1000 molecules has 100; got a size of 101"):
        paper_split(1000, test=101)


def test_the_hash_follows_the_molecules_and_not_their_order() -> None:
    ids = [str(100 + k) for k in range(6)]
    split = Split(np.array([0, 1]), np.array([2]), np.array([3, 4]))
    assert split.hash(ids) == Split(np.array([1, 0]), np.array([2]), np.array([4, 3])).hash(ids)
    assert split.hash(ids) != Split(np.array([2, 1]), np.array([0]), np.array([3, 4])).hash(ids)
    assert split.hash(ids) == hashlib.sha256(b"train:100,101;valid:102;test:103,104;").hexdigest()[:16]


@pytest.mark.parametrize(("valid", "test", "sizes"), [(0.1, 0, (18, 2, 0)), (3, 0.25, (12, 3, 5))])
def test_random_parts_are_disjoint_and_whole(valid, test, sizes) -> None:
    split = random_split(20, valid, test, seed=3)
    assert tuple(map(len, vars(split).values())) == sizes
    assert sorted(np.concatenate(list(vars(split).values()))) == list(range(20))
    with pytest.raises(DataError, match="there are only 20 in all"):
        random_split(20, 15, 5)
    with pytest.raises(DataError, match="there are only 20 in all"):
        random_split(20, 0)
