"""Small models of every kind, with weights at which nothing is zero, and batches with labels for them."""

import numpy as np
import torch
from ase.build import molecule

from ik_e3nn.graph import batch_graphs, build_graph, build_molecular_graph
from ik_e3nn.models import InteratomicPotential, LastLayerEnsemble, MolecularPropertyModel
from ik_e3nn.models.uncertainty.last_layer import LastLayerPosterior, directions_of, last_weights
from ik_e3nn.targets import MECHANICS, Dipole, Extensive, LabelLayout, make_target

SIZES = {"num_channels": 4, "num_layers": 2, "l_max": 1, "correlation": 2, "r_max": 4.0}
KINDS = ("extensive", "intensive", "dipole", "dipole_norm", "polarizability", "spatial_extent")
PROPERTIES = [*(make_target(f"{kind}_1", kind, "u") for kind in KINDS), Extensive("extensive_2", "u")]
JOINT = [*MECHANICS, Dipole("mu", "D")]


def potential(seed=0, **options):
    torch.manual_seed(seed)
    model = InteratomicPotential(["H", "O"], **(SIZES | options)).double().eval()
    model.set_energy_reference({1: -3.0, 8: -7.0}, "test")
    model.set_scale(0.7)
    return model


def property_model(seed=0, targets=PROPERTIES, **options):
    torch.manual_seed(seed)
    settings = {"edges": "radius", "potential": {"num_channels": 4}, "hidden": 8} | options
    model = MolecularPropertyModel(["H", "C", "O"], targets, **settings).double().eval()
    model.scales.scale[:] = torch.linspace(0.5, 2.0, len(model.properties))
    for kind in model.names:
        torch.nn.init.normal_(model.heads[kind].mlp.weights[-1])
    if model.potential is not None:
        model.potential.set_energy_reference({1: -3.0, 6: -5.0, 8: -7.0}, "test")
        model.potential.set_scale(0.7)
    return model.requires_grad_(False)


def joint_model(seed=0):
    """Energy, forces, stress and a dipole of one body."""
    return property_model(seed, JOINT)


MODELS = {"potential": potential, "properties": property_model, "joint": joint_model}


def batch_of(model, *structures, labels=0.0):
    """Structures as a model reads them, with the same label everywhere."""
    layout, graphs = LabelLayout(model.targets), []
    for atoms in structures:
        options = {"dtype": torch.float64}
        if model.edges is None:
            graph = build_graph(atoms, model.r_max, **options)
        else:
            graph = build_molecular_graph(atoms, model.edges, model.r_max, **options)
        rows = {True: len(atoms), False: 1}
        shapes = {target.name: (rows[target.per_atom], *target.shape) for target in model.targets}
        layout.put(graph, {name: torch.full(shape, labels, dtype=torch.float64) for name, shape in shapes.items()})
        graphs.append(graph)
    return batch_graphs(graphs)


def rattled(model, count=3):
    """Deformed molecules of water."""
    rng, structures = np.random.default_rng(1), []
    for _ in range(count):
        atoms = molecule("H2O")
        atoms.positions += 0.1 * rng.normal(size=(3, 3))
        structures.append(atoms)
    return batch_of(model, *structures)


def posterior_of(model, batch=None, noise=0.1):
    """The posterior from a batch of labels, or the prior."""
    posterior = LastLayerPosterior(model, {target.name: noise for target in model.targets})
    if batch is not None:
        posterior.add(batch)
    return posterior


def ensemble_of(model, roots, number=None, seed=0):
    """The ensemble of a posterior, exact unless a number of directions is given."""
    directions = None
    if model.potential is not None:
        directions = directions_of(roots["energy"], number or len(roots["energy"]), seed=seed)
    return LastLayerEnsemble(model, roots, directions).eval()


def scaled_prior(model, scale=0.2, number=5):
    """An ensemble whose covariances are all that of the prior times a factor."""
    roots = {layer: scale * torch.eye(w.numel(), dtype=torch.float64) for layer, w in last_weights(model).items()}
    return ensemble_of(model, roots, number)
