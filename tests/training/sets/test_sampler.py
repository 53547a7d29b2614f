import pytest

from ik_e3nn.errors import ConfigError
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.sets.loader import sizes_of
from ik_e3nn.training.sets.sampler import EpochSampler, Size, pack
from tests.training.helpers import graphs, structures

SIZES = [Size(n, n * (n - 1)) for n in (3, 8, 1, 5, 21, 2, 9, 9, 4, 1, 6)]
ONES = [Size(1, 0)] * 50


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_structure_comes_once_an_epoch(processes) -> None:
    samplers = [
        EpochSampler(SIZES, BatchLimits(4, max_atoms=10, max_edges=60), seed=1, rank=rank, processes=processes)
        for rank in range(processes)
    ]
    assert len({len(sampler) for sampler in samplers}) == 1
    assert all(batch for sampler in samplers for batch in sampler)
    assert sorted(i for sampler in samplers for batch in sampler for i in batch) == list(range(len(SIZES)))


@pytest.mark.parametrize("bound", ["atoms", "edges"])
def test_batches_are_bounded_by_structures_and_atoms_or_edges(bound) -> None:
    most = {"atoms": 12, "edges": 70}[bound]
    batches = pack(range(len(SIZES)), SIZES, BatchLimits(3, **{f"max_{bound}": most}))
    totals = [sum(getattr(SIZES[i], bound) for i in batch) for batch in batches]
    assert max(len(batch) for batch in batches) == 3
    assert all(total <= most or len(batch) == 1 for total, batch in zip(totals, batches, strict=True))
    assert [4] in batches  # larger than the bound: alone
    following = [getattr(SIZES[batch[0]], bound) for batch in batches[1:]]
    full = [len(batch) == 3 for batch in batches[:-1]]
    assert all(
        a or total + b > most for a, total, b in zip(full, totals[:-1], following, strict=True)
    )  # none too small


def test_the_largest_batch_is_known() -> None:
    sampler = EpochSampler(SIZES, BatchLimits(3))
    assert sampler.largest == (3, 28, 442)  # that of 5, 21 and 2 atoms


def test_sizes_are_those_of_the_graphs() -> None:
    some = graphs(structures(3))
    assert [size.atoms for size in sizes_of(some)] == [3, 3, 4]
    assert sum(size.edges for size in sizes_of(some)) == sum(graph.num_edges for graph in some) > 50


def test_order_depends_on_seed_and_epoch_only() -> None:
    one, two, other = (EpochSampler(ONES, BatchLimits(5), seed=seed) for seed in (3, 3, 4))
    assert list(one) == list(two) != list(other)
    two.set_epoch(1)
    assert list(one) != list(two)
    assert list(two) == list(other)  # seed + epoch
    two.set_epoch(0)
    assert list(one) == list(two)


def test_processes_share_the_batches_of_one_process() -> None:
    whole = list(EpochSampler(SIZES, BatchLimits(4), seed=5))
    parts = [EpochSampler(SIZES, BatchLimits(4), seed=5, rank=rank, processes=2) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


def test_without_a_seed_the_order_is_kept() -> None:
    assert [i for batch in EpochSampler(SIZES, BatchLimits(3)) for i in batch] == list(range(len(SIZES)))


def test_more_processes_than_structures_is_an_error() -> None:
    with pytest.raises(ConfigError, match="2 structures cannot be shared by 3 processes"):
        pack([0, 1], ONES, BatchLimits(4), processes=3)
