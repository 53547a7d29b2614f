"""Structures in tiles give the same with compiled interactions, or it is said why they are not compiled."""

import copy
from types import SimpleNamespace

import pytest
import torch

from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import CompileWarning, InteratomicPotential, MolecularPropertyModel, compile_layers
from ik_e3nn.models.compiled import layers
from ik_e3nn.models.compiled.layers import functions_of, part_of
from ik_e3nn.targets import Intensive
from tests.models.networks.test_owned import CUTOFF
from tests.properties import structures

INPUTS = ["bond_types", "total_charge", "surface"]


def potential():
    torch.manual_seed(0)
    sizes = {"num_channels": 2, "num_layers": 2, "l_max": 1, "l_features": 1, "correlation": 2}
    model = InteratomicPotential(structures.SPECIES, CUTOFF, group="Cinfv", inputs=INPUTS, **sizes)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.set_energy_reference(dict.fromkeys(model.species, -1.0), "test")
    return model.double().eval()


class Traced:
    """A package whose functions are the graphs for the compiler, which are not compiled: that would take minutes."""

    def __init__(self, model):
        self.graphs = {}
        for name, function in functions_of(model).items():
            part = part_of(model, function)
            self.graphs[name] = (part.graph, *map(len, part.inputs))

    def load(self, path, name, device_index):
        graph, state, edges = self.graphs[name]
        assert device_index == -1

        def run(inputs):
            assert len(inputs) == state + edges
            with torch.no_grad():
                return graph(inputs[:state], inputs[state:])

        return SimpleNamespace(loader=SimpleNamespace(run=run))


@pytest.fixture
def traced(monkeypatch):
    """Packages are empty files, and their functions are those that would be compiled."""
    monkeypatch.setattr(torch._inductor.package.package, "load_package", Traced(potential()).load)
    made = []
    monkeypatch.setattr(layers, "package_layers", lambda model, path, configs: (made.append(path), path.touch()))
    return made


def crystal():
    atoms = structures.slab().repeat((3, 3, 1))
    atoms.info |= {"charge": 1, "surface_normal": [0, 0, 1], "surface_origin": [0, 0, -1.0]}
    return build_graph(atoms, CUTOFF, dtype=torch.float64)


@pytest.mark.parametrize("max_edges", [1, 60])
def test_tiles_of_any_size_give_the_same(traced, tmp_path, max_edges):
    """A tile of one receiver runs eagerly."""
    model, graph = potential(), crystal()
    expected = model(graph, stress=True, atomic_stress=True)
    assert compile_layers(model, cache=tmp_path)
    model.max_edges = max_edges
    called = []
    for name, layer in model.compiled_layers.items():
        layer.on_padded = lambda *args, run=layer.on_padded, name=name: called.append(name) or run(*args)
    found = model(graph, stress=True, atomic_stress=True)
    assert set(called) == (set(model.compiled_layers) if max_edges > 1 else set())
    assert expected["forces"].abs().max() > 1e-3
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-11, atol=1e-11, equal_nan=True)
    assert copy.deepcopy(model).compiled_layers is None
    assert model.float().compiled_layers is None


def test_the_package_is_kept_and_a_damaged_one_is_made_again(traced, tmp_path, monkeypatch):
    for _ in range(2):
        assert compile_layers(potential(), cache=tmp_path)
    assert traced == list(tmp_path.iterdir())
    load, broken = torch._inductor.package.package.load_package, [True]

    def failing(*args, **options):
        if broken.pop() if broken else False:
            raise RuntimeError("damaged")
        return load(*args, **options)

    monkeypatch.setattr(torch._inductor.package.package, "load_package", failing)
    assert compile_layers(potential(), cache=tmp_path)
    assert len(traced) == 2


def test_code_that_gives_something_else_is_not_used(traced, tmp_path, monkeypatch):
    run = layers.CompiledLayer.on_padded
    monkeypatch.setattr(layers.CompiledLayer, "on_padded", lambda *args: [1.01 * part for part in run(*args)])
    with pytest.warns(CompileWarning, match=r"relative difference to the eager model is 1\.0e-02"):
        assert not compile_layers(potential(), cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failure_is_a_warning_and_leaves_no_file(tmp_path, monkeypatch):
    def fail(model, path, configs):
        path.write_text("unfinished")
        raise RuntimeError("no compiler\ndetails")

    monkeypatch.setattr(layers, "package_layers", fail)
    model = potential()
    with pytest.warns(CompileWarning, match=r"not compiled for large structures .*\(RuntimeError: no compiler\)"):
        assert not compile_layers(model, cache=tmp_path)
    assert model.compiled_layers is None
    assert not list(tmp_path.iterdir())


def test_models_without_energies_are_refused():
    with pytest.raises(
        DataError, match="only potentials are compiled, and MolecularPropertyModel predicts no energies"
    ):
        compile_layers(MolecularPropertyModel(["H", "C"], [Intensive("gap", "eV")]))
