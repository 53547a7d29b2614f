"""Modes of torch that a caller has switched on change no prediction."""

import contextlib

import numpy as np
import pytest
import torch
from ase.build import molecule

from ik_e3nn.graph import build_graph, build_molecular_graph
from ik_e3nn.models import (
    Committee,
    Forecaster,
    InteratomicPotential,
    LastLayerEnsemble,
    MolecularPropertyModel,
)
from ik_e3nn.models.uncertainty.last_layer import directions_of, last_weights
from ik_e3nn.targets import Dipole, Intensive
from ik_e3nn_calculators import IKCalculator


@contextlib.contextmanager
def both_autocasts():
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", dtype=torch.float16):
        yield


MODES = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "nested autocast": both_autocasts,
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
}


def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    return atoms


def potential(seed=0, **options):
    torch.manual_seed(seed)
    return InteratomicPotential(["H", "C", "O"], 4.0, num_channels=4, l_max=2, **options).eval()


def ensemble():
    model = potential()
    root = torch.eye(model.last_weights.numel())
    return LastLayerEnsemble(model, {"energy": root}, directions_of(root, 4)).eval()


POTENTIALS = {
    "potential": potential,
    "committee": lambda: Committee([potential(0), potential(1)]),
    "posterior": ensemble,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", POTENTIALS)
def test_potentials(mode, kind):
    model, graph = POTENTIALS[kind](), build_graph(ethanol(), 4.0)
    expected = model(graph)
    assert expected["forces"].abs().max() > 1e-3
    with MODES[mode]():
        found = model(graph)
        made_inside = model(build_graph(ethanol(), 4.0))
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert torch.equal(made_inside[name], value), name
        assert not found[name].requires_grad


def test_what_was_made_in_inference_mode_works_after_it():
    with torch.inference_mode():
        model, graph = potential(), build_graph(ethanol(), 4.0)
        inside = model(graph)
    expected = potential()(build_graph(ethanol(), 4.0))
    for outputs in (inside, model(graph), model.train()(graph)):
        assert torch.allclose(outputs["forces"].detach(), expected["forces"], atol=1e-6)
    model(graph)["forces"].square().sum().backward()
    assert model.node_embedding.species.grad.abs().max() > 0


def test_training_in_autocast():
    model, graph = potential().train(), build_graph(ethanol(), 4.0)
    expected = model(graph)["forces"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(graph)["forces"]
    assert torch.equal(found, expected)
    assert found.requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_calculators(mode):
    atoms, inside = ethanol(), ethanol()
    atoms.calc = IKCalculator(potential(), device="cpu")
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    with MODES[mode]():
        inside.calc = IKCalculator(potential(), device="cpu")
        assert inside.get_potential_energy() == energy
        assert np.array_equal(inside.get_forces(), forces)
    inside.positions[0] += 0.1
    atoms.positions[0] += 0.1
    assert np.array_equal(inside.get_forces(), atoms.get_forces())
    assert np.abs(atoms.get_forces() - forces).max() > 1e-4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("body", ["steerable", "potential"])
def test_properties(mode, body):
    torch.manual_seed(0)
    targets = [Intensive("gap", "eV"), Dipole("mu", "D")]
    model = MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", r_max=4.0, **{body: SIZES[body]}).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    roots = {kind: torch.eye(weight.numel()) for kind, weight in last_weights(model).items()}
    graph = build_molecular_graph(ethanol(), "radius", 4.0)
    for one in (model, LastLayerEnsemble(model, roots)):
        with torch.no_grad():
            expected = one(graph)
        with MODES[mode]():
            found = one(graph)
        for name, value in expected.items():  # sums are taken in another order where gradients are recorded
            assert torch.allclose(found[name], value, rtol=1e-5, atol=1e-7), name
            assert value.abs().max() > 0


SIZES = {"steerable": {"channels": 4, "num_layers": 1}, "potential": {"num_channels": 4, "num_layers": 1}}


def test_forecasts_in_autocast():
    torch.manual_seed(0)
    model = Forecaster("SO2", 1, channels=4, num_layers=1).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    inputs = torch.randn(2, 5, 3), torch.randn(2, 5, 3), torch.rand(2, 5, 1), torch.ones(2), torch.ones(1)
    expected = model(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(*inputs), expected)
