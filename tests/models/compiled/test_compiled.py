"""Compiled potentials give what eager ones give, for structures of any size, or say why they are not compiled."""

import copy
import functools
import logging
import os
import shutil
from types import SimpleNamespace

import pytest
import torch

from ik_e3nn.graph import batch_graphs, build_graph
from ik_e3nn.models import CompileWarning, InteratomicPotential, compile_for_training, compile_potential
from ik_e3nn.models.compiled import potential as compiled_module
from ik_e3nn.models.compiled.graph import Fusable, padded, places, random_edges, traced
from ik_e3nn.models.compiled.package import key_of
from ik_e3nn.private_folder import cache_folder
from tests.properties import structures
from tests.shared import made_once

CUTOFF = 3.5
INPUTS = ["bond_types", "total_charge"]
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler, which torch needs to compile"
)


def potential(**options):
    torch.manual_seed(0)
    options = {"num_channels": 2, "num_layers": 1, "l_max": 1, "l_features": 1, "correlation": 2} | options
    model = InteratomicPotential(structures.SPECIES, CUTOFF, **options)
    model.set_energy_reference(dict.fromkeys(model.species, -1.0), "test")
    return model.double().eval()


def graphs():
    family = [make() for make in structures.ALL.values()]
    for atoms in family:
        atoms.info["charge"] = 1
    singles = [build_graph(atoms, CUTOFF, dtype=torch.float64) for atoms in family]
    return [*singles, batch_graphs(singles)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory, quick_compiler):
    """A compiled model and its cache; processes that run tests at the same time compile it once."""
    model, folder = potential(inputs=INPUTS), tmp_path_factory.mktemp("cache")
    shared = made_once(tmp_path_factory, "compiled", lambda folder: compile_potential(model, cache=folder))
    shutil.copytree(shared, folder, dirs_exist_ok=True)
    assert model.compiled or compile_potential(model, cache=folder)
    return model, folder


@pytest.fixture(scope="module")
def eager(compiled):
    return copy.deepcopy(compiled[0])


@pytest.mark.parametrize("in_cpp", [True, False])
def test_the_graph_for_the_compiler_is_the_same_function(in_cpp, monkeypatch):
    if not in_cpp:
        monkeypatch.setattr("ik_e3nn.conv.outer_sums.library", lambda _: None)
    model = potential(inputs=["bond_types"], num_layers=2).eval().double()
    graph, edges = traced(model, training=False), padded(random_edges(model), model.r_max)
    fusable = Fusable(graph).transform()
    inputs = [store[name] for store, name in places(model).values()], [edges[key] for key in sorted(edges)]
    with torch.no_grad():
        results = zip(fusable(*inputs), graph(*inputs), strict=True)
    for got, wanted in results:
        assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12 * float(wanted.abs().max()))
    left = {
        str(node.target) for node in fusable.graph.nodes if "ik_e3nn" in str(node.target) or "bmm" in str(node.target)
    }
    operators = {"ik_e3nn.outer_sums.default", "ik_e3nn.outer_sums_gradient.default"}
    assert left == (operators if in_cpp and model.sums_in_cpp else set())


@needs_compiler
def test_every_structure_in_float64(compiled, eager):
    model, _ = compiled
    assert eager.compiled is None  # a copy is eager
    for graph in graphs():
        options = {"stress": True, "atomic_stress": True}
        got, wanted = model(graph, **options), eager(graph, **options)
        assert got.keys() == wanted.keys()
        for name in wanted:
            assert torch.allclose(got[name], wanted[name], atol=1e-10, rtol=1e-10, equal_nan=True), name
    assert max(float(eager(graph)["forces"].abs().max()) for graph in graphs()) > 1e-2


@needs_compiler
def test_the_package_is_kept_and_shared_by_models_with_other_weights(compiled, caplog):
    _, folder = compiled
    (package,) = folder.glob("*.pt2")
    before = package.stat().st_mtime_ns
    other = potential(inputs=INPUTS)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    expected = [other(graph)["forces"] for graph in graphs()]
    with caplog.at_level(logging.INFO):
        assert compile_potential(other, cache=folder)
    assert not caplog.records
    assert package.stat().st_mtime_ns == before
    assert [package] == list(folder.iterdir())
    for graph, forces in zip(graphs(), expected, strict=True):
        assert torch.allclose(other(graph)["forces"], forces, atol=1e-10)
    with torch.no_grad():
        other.atomic_energy.scale.mul_(2.0)  # weights are read at every call
    assert torch.allclose(other(graphs()[0])["forces"], 2 * expected[0], atol=1e-10)


@needs_compiler
def test_a_damaged_package_is_made_again(monkeypatch, compiled):
    model, folder = potential(inputs=INPUTS), compiled[1]
    (package,) = folder.iterdir()
    good = package.read_bytes()
    package.write_bytes(good[:1000])
    monkeypatch.setattr(compiled_module, "compile_to", lambda model, path: path.write_bytes(good))
    assert compile_potential(model, cache=folder)


@pytest.fixture
def loaded(monkeypatch):
    """The packages that are loaded; nothing is compiled and none of them is used."""
    paths = []

    def load(path, device):
        paths.append(path)
        raise RuntimeError("loaded")

    monkeypatch.setattr(compiled_module, "load_graph", load)
    monkeypatch.setattr(compiled_module, "compile_to", lambda model, path: None)
    return paths


@pytest.mark.parametrize("variable", [False, True])
def test_machine_code_that_others_can_write_is_not_loaded(monkeypatch, tmp_path, loaded, variable):
    folder, model = tmp_path / "cache", potential()
    folder.mkdir()
    package = folder / f"{key_of(model)}.pt2"
    package.write_bytes(b"made by somebody else")
    folder.chmod(0o777)
    if variable:
        monkeypatch.setenv("IK_E3NN_CACHE", str(folder))
    with pytest.warns(CompileWarning, match=rf"others may write to it \(mode 0777\); .* chmod 700 {folder}"):
        assert not compile_potential(model, cache=None if variable else folder)
    assert not loaded
    assert package.read_bytes() == b"made by somebody else"
    assert model(graphs()[0])["forces"].isfinite().all()


@pytest.mark.parametrize("fault", ["writable", "link"])
def test_a_file_that_others_can_write_is_made_again(tmp_path, loaded, caplog, fault):
    folder, model = tmp_path / "cache", potential()
    folder.mkdir(mode=0o700)
    package = folder / f"{key_of(model)}.pt2"
    other = tmp_path / "other"
    other.touch(mode=0o600)
    if fault == "link":
        package.symlink_to(other)
    else:
        package.touch()
        package.chmod(0o666)
    with pytest.warns(CompileWarning, match="RuntimeError: loaded"):
        assert not compile_potential(model, cache=folder)
    assert loaded == [package]  # only the new one
    assert f"the machine code in {package} is removed, because" in caplog.text
    assert other.exists()


def test_the_compiler_of_torch_keeps_its_files_private_too(monkeypatch, tmp_path, loaded, caplog):
    shared, own = tmp_path / "torch", tmp_path / "own"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(shared))
    monkeypatch.setenv("IK_E3NN_CACHE", str(own))
    with pytest.warns(CompileWarning, match="RuntimeError: loaded"):
        compile_potential(potential())
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(own / "torchinductor")
    assert f"torch's compiler uses {own / 'torchinductor'} instead" in caplog.text


def test_an_empty_variable_is_none_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("IK_E3NN_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().expanduser() == tmp_path / ".cache" / "ik_e3nn"


@needs_compiler
def test_weights_and_inputs_are_those_of_the_call(compiled, eager):
    """New weights in the same model, and a single-precision charge for a model in double precision."""
    model, edges = compiled[0], graphs()[-1]
    edges["total_charge"] = edges["total_charge"].float()
    other = potential(inputs=INPUTS)
    for weight in other.parameters():
        weight.data.normal_()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for assign in (False, True):
        model.load_state_dict(other.state_dict(), assign=assign)
        assert torch.allclose(model(edges)["forces"], other(edges)["forces"], rtol=1e-9, atol=1e-9)
        model.load_state_dict(before, assign=assign)
        assert torch.allclose(model(edges)["forces"], eager(edges)["forces"], rtol=1e-9, atol=1e-9)


@needs_compiler
def test_another_dtype_is_eager_again(compiled):
    model = potential()
    model.compiled = compiled[0].compiled
    assert model.float().compiled is None


def test_without_a_compiler_the_model_stays_eager(monkeypatch, tmp_path):
    """Where a compilation is killed, no error handler runs: what is there at that moment stays, and that is nothing."""
    folder, found = tmp_path / "new", []

    def fail(*_, **__):
        found.append(list(folder.iterdir()))
        raise RuntimeError("g++ not found\nmore")

    monkeypatch.setattr(torch._inductor, "aot_compile", fail)
    model = potential(l_max=0, l_features=0)
    with pytest.warns(CompileWarning, match=r"runs eagerly \(RuntimeError: g\+\+ not found\)"):
        assert not compile_potential(model, cache=folder)
    assert model.compiled is None
    assert found == [[]]
    assert list(folder.iterdir()) == []


@needs_compiler
@pytest.mark.parametrize(("factor", "size"), [(1.001, "1.0e-03"), (float("nan"), "nan")])
def test_wrong_results_are_not_used(monkeypatch, compiled, tmp_path, factor, size):
    model, folder = potential(inputs=INPUTS), tmp_path / "cache"
    shutil.copytree(compiled[1], folder)
    load = torch._inductor.aoti_load_package

    def wrong(path):
        run = load(path).loader.run
        return SimpleNamespace(loader=SimpleNamespace(run=lambda inputs: [x * factor for x in run(inputs)]))

    monkeypatch.setattr(torch._inductor, "aoti_load_package", wrong)
    with pytest.warns(CompileWarning, match=f"the relative difference to the eager model is {size}"):
        assert not compile_potential(model, cache=folder)
    assert model.compiled is None
    assert not list(folder.iterdir())  # the next call makes it anew


def test_training_goes_through_the_graph(monkeypatch):
    """Gradients of a loss of energies and forces with respect to all weights, from the graph that is compiled."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    model = potential(l_max=2, correlation=3).train()
    results = []
    for step in range(2):
        if step:
            assert compile_for_training(model)
        gradients = []
        for graph in graphs()[-3:]:
            out = model(graph, stress=True)
            stress = torch.nan_to_num(out["stress"], nan=0.0)
            loss = out["energy"].square().sum() + out["forces"].square().sum() + stress.square().sum()
            weights = list(model.parameters())
            gradients += torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        results.append(gradients)
    assert model.compiled_for_training is not None
    for got, wanted in zip(*results, strict=True):
        assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-9 * max(1.0, float(wanted.abs().max())))
