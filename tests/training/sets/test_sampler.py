import pytest

from ik_e3nn.errors import ConfigError
from ik_e3nn.training.sets.sampler import EpochSampler, pack

SIZES = [3, 8, 1, 5, 21, 2, 9, 9, 4, 1, 6]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_structure_comes_once_an_epoch(processes) -> None:
    samplers = [
        EpochSampler(SIZES, batch_size=4, max_atoms=10, seed=1, rank=rank, processes=processes)
        for rank in range(processes)
    ]
    assert len({len(sampler) for sampler in samplers}) == 1
    assert all(batch for sampler in samplers for batch in sampler)
    assert sorted(i for sampler in samplers for batch in sampler for i in batch) == list(range(len(SIZES)))


def test_batches_are_bounded_by_structures_and_atoms() -> None:
    batches = pack(range(len(SIZES)), SIZES, batch_size=3, max_atoms=12)
    assert all(len(batch) <= 3 for batch in batches)
    assert all(sum(SIZES[i] for i in batch) <= 12 or len(batch) == 1 for batch in batches)
    assert [4] in batches  # larger than the bound: alone


def test_order_depends_on_seed_and_epoch_only() -> None:
    one, two, other = (EpochSampler([1] * 50, batch_size=5, seed=seed) for seed in (3, 3, 4))
    assert list(one) == list(two) != list(other)
    two.set_epoch(1)
    assert list(one) != list(two)
    assert list(two) == list(other)  # seed + epoch
    two.set_epoch(0)
    assert list(one) == list(two)


def test_processes_share_the_batches_of_one_process() -> None:
    whole = list(EpochSampler(SIZES, batch_size=4, seed=5))
    parts = [EpochSampler(SIZES, batch_size=4, seed=5, rank=rank, processes=2) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


def test_without_a_seed_the_order_is_kept() -> None:
    assert [i for batch in EpochSampler(SIZES, batch_size=3) for i in batch] == list(range(len(SIZES)))


def test_more_processes_than_structures_is_an_error() -> None:
    with pytest.raises(ConfigError, match="2 structures cannot be shared by 3 processes"):
        pack([0, 1], [1, 1], batch_size=4, processes=3)
