"""Predictions where the memory does not suffice: in smaller batches, the same, and in the same order."""

import logging

import numpy as np
import pytest
import torch
from ase.build import molecule

from ik_e3nn.data import LabeledSet, StructureDataset
from ik_e3nn.errors import DataError
from ik_e3nn.memory import is_out_of_memory
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel
from ik_e3nn.models.uncertainty.last_layer import LastLayerPosterior
from ik_e3nn.targets import make_target
from ik_e3nn.training.config.limits import BatchLimits
from ik_e3nn.training.inference.batches import in_batches
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn.training.sets.loader import sizes_of
from tests.training.helpers import MODEL, graphs, structures

CPU = torch.device("cpu")
TOO_MUCH = 1 << 46  # numbers: more than the addresses of a process


def edges_of(batch):
    return batch["edge_index"].shape[1]


def only_small(model, most):
    """Let a model run out of memory on batches of more edges, and record the sizes of what it is asked for."""
    asked = []

    def check(module, arguments):
        asked.append(edges_of(arguments[0]))
        if asked[-1] > most:
            torch.empty(TOO_MUCH)

    model.register_forward_pre_hook(check)
    return asked


@pytest.mark.parametrize("allocate", [torch.empty, np.empty], ids=["torch", "numpy"])
def test_a_lack_of_memory_is_recognized(allocate) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as error:
        allocate(TOO_MUCH)
    assert is_out_of_memory(error.value)


def test_other_errors_are_no_lack_of_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.zeros(2) @ torch.zeros(3)
    assert not is_out_of_memory(error.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


def test_batches_that_are_too_large_are_divided_and_the_order_is_kept(caplog) -> None:
    caplog.set_level(logging.INFO, logger="ik_e3nn")
    some = graphs(structures(12))
    sizes = [size.edges for size in sizes_of(some)]
    bound = sum(sizes[:3]) - 1
    asked, done = [], []

    def function(batch):
        asked.append(edges_of(batch))
        if asked[-1] > bound:
            torch.empty(TOO_MUCH)
        return batch["energy"].tolist()

    found = []
    for batch, energies in in_batches(function, some, BatchLimits(3), CPU):
        done.append(edges_of(batch))
        found.extend(energies)
    assert found == [float(graph["energy"]) for graph in some]
    assert sum(done) == sum(sizes)
    assert max(asked) > bound >= max(done)
    assert len(asked) == len(done) + 1  # later batches are smaller from the start
    assert len(caplog.records) == 1
    assert "a batch of 3 structures with 10 atoms" in caplog.text
    assert "does not fit into the memory of cpu; continuing with at most" in caplog.text


def test_a_structure_that_does_not_fit_is_an_error() -> None:
    some = graphs(structures(6))
    largest = int(np.argmax([size.edges for size in sizes_of(some)]))

    def function(batch):
        if edges_of(batch) >= some[largest].num_edges:
            raise MemoryError

    with pytest.raises(
        DataError,
        match=rf"structure {largest} \(counted from 0, with 4 atoms and \d+ edges\) does not fit into the memory",
    ):
        list(in_batches(function, some, BatchLimits(6), CPU))


def test_atoms_without_edges_are_divided_too() -> None:
    alone = graphs([atom for one in structures(3) for atom in [one[:1]]], dtype=torch.float64)
    assert sum(edges_of(graph) for graph in alone[:2]) == 0
    parts = []

    def function(batch):
        if len(batch["positions"]) > 1:
            raise MemoryError
        parts.append(len(batch["positions"]))

    list(in_batches(function, alone[:2], BatchLimits(2), CPU))
    assert parts == [1, 1]


def test_other_errors_of_the_function_come_out() -> None:
    def function(batch):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(in_batches(function, graphs(structures(2)), BatchLimits(2), CPU))


def test_energies_and_forces_are_the_same() -> None:
    torch.manual_seed(0)
    model, some = InteratomicPotential([1, 8, 29], **MODEL).double().eval(), graphs(structures(9), torch.float64)
    whole = predict(model, some, limits=BatchLimits(9))
    asked = only_small(model, 2 * max(size.edges for size in sizes_of(some)))
    counts = []
    parts = predict(model, some, limits=BatchLimits(9), on_batch=counts.append)
    assert max(asked) == sum(size.edges for size in sizes_of(some))
    assert len(counts) > 1
    assert sum(counts) == 9
    np.testing.assert_allclose(parts.values["energy"], whole.values["energy"], rtol=1e-12)
    for one, other in zip(parts.of_atoms("forces"), whole.of_atoms("forces"), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert np.abs(whole.values["forces"]).max() > 1e-3
    assert parts.errors == pytest.approx(whole.errors, rel=1e-9)


NAMES = ("H2O", "CH4", "CH3CH2OH", "H2O2", "CH3OH")


@pytest.fixture
def properties():
    torch.manual_seed(0)
    targets = [make_target("gap", "intensive", "eV"), make_target("mu", "dipole", "D")]
    model = MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", r_max=4.0, steerable={"channels": 4})
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    values = {"gap": np.arange(5.0), "mu": np.arange(15.0).reshape(5, 3)}
    molecules = LabeledSet([molecule(name) for name in NAMES], tuple(targets), values, list(NAMES))
    return model.double().eval(), StructureDataset(molecules, 4.0, edges="radius", dtype=torch.float64)


def test_properties_are_the_same(properties) -> None:
    model, some = properties
    whole = predict(model, some).values
    asked = only_small(model, max(size.edges for size in sizes_of(some)))
    parts = predict(model, some).values
    assert len(asked) > 2
    for name, values in whole.items():
        assert np.abs(values).max() > 1e-3
        np.testing.assert_allclose(parts[name], values, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", ["potential", "properties"])
def test_a_posterior_is_that_of_one_batch(kind, properties) -> None:
    if kind == "potential":
        model, some = InteratomicPotential([1, 8, 29], **MODEL).double().eval(), graphs(structures(6), torch.float64)
        made = [LastLayerPosterior(model, {"energy": 0.1, "forces": 0.2}) for _ in range(2)]
    else:
        model, some = properties
        made = [LastLayerPosterior(model, {"gap": 0.1, "mu": 0.2}) for _ in range(2)]
    most = max(size.edges for size in sizes_of(some))
    calls = []

    def add(batch):
        calls.append(edges_of(batch))
        if calls[-1] > most:
            torch.empty(TOO_MUCH)
        made[1].add(batch)

    for _ in in_batches(made[0].add, some, BatchLimits(9), CPU):
        pass
    for _ in in_batches(add, some, BatchLimits(9), CPU):
        pass
    assert len(calls) > 2
    for name, whole in made[0].data.items():
        assert whole.abs().max() > 1
        torch.testing.assert_close(made[1].data[name], whole, rtol=1e-9, atol=1e-9 * float(whole.abs().max()))
