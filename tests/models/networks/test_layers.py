"""The energy and its derivatives, one interaction and one tile of atoms at a time, are those of the whole model."""

import pytest
import torch

from ik_e3nn.graph import build_graph, fields
from ik_e3nn.models.networks.layers import FEATURES, GRADIENT, LayerFeatures, LayerGradients
from tests.models.networks.test_owned import CUTOFF, KINDS, case, potential

OF_ATOMS = (fields.SPECIES, fields.DISPLACEMENTS, fields.FRAMES, fields.UNSTRAIN, fields.TOTAL_CHARGE, fields.SPIN)
OF_BLOCKS = (fields.VECTORS, fields.BONDS)


class Tile:
    """Some receivers, their blocks of edges, and all atoms of these edges, receivers first."""

    def __init__(self, edges, receivers):
        self.receivers = receivers
        self.blocks = torch.isin(edges[fields.OWNERS], receivers).nonzero().flatten()
        senders = edges[fields.SENDERS][self.blocks]
        others = senders.unique()
        self.atoms = torch.cat([receivers, others[~torch.isin(others, receivers)]])
        number = torch.full((int(edges[fields.SPECIES].shape[0]),), -1)
        number[self.atoms] = torch.arange(len(self.atoms))
        self.edges = {name: edges[name][self.atoms] for name in OF_ATOMS if name in edges}
        self.edges |= {name: edges[name][self.blocks] for name in OF_BLOCKS if name in edges}
        self.edges[fields.SENDERS] = number[senders]
        self.edges[fields.OWNERS] = number[edges[fields.OWNERS][self.blocks]]

    def with_rows(self, features, gradient):
        """The edges with features of the tile's atoms and derivatives by those of its receivers, where they exist."""
        rows = {FEATURES: (features, self.atoms), GRADIENT: (gradient, self.receivers)}
        return self.edges | {name: value[index] for name, (value, index) in rows.items() if value is not None}


def by_tiles(model, edges, number):
    """Site energies and derivatives by vectors and displacements, in two passes through the interactions."""
    size, last = edges[fields.SPECIES].shape[0], len(model.interactions) - 1
    tiles = [Tile(edges, part) for part in torch.randperm(size).tensor_split(number)]
    features = [None]
    for layer in range(last):
        new = torch.zeros(size, model.irreps_features[layer].dim, dtype=model.dtype)
        for tile in tiles:
            inputs = tile.with_rows(features[-1], None)
            new[tile.receivers] = LayerFeatures(model, layer)(inputs, len(tile.receivers))
        features.append(new)
    energies = torch.zeros(size, dtype=torch.float64)
    moved = {name: torch.zeros_like(edges[name]) for name in fields.MOVING if name in edges}
    gradient = None
    for layer in reversed(range(last + 1)):
        previous = None if layer == 0 else torch.zeros_like(features[layer])
        for tile in tiles:
            inputs = tile.with_rows(features[layer], gradient)
            part, *found = LayerGradients(model, layer)(inputs, len(tile.receivers))
            energies[tile.receivers] += part
            if layer > 0:
                previous.index_add_(0, tile.atoms, found.pop(0))
            for (name, total), derivative in zip(moved.items(), found, strict=True):
                total.index_add_(0, tile.blocks if name == fields.VECTORS else tile.atoms, derivative)
        gradient = previous
    return energies, *moved.values()


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_interactions_and_tiles_add_up_to_the_whole(kind, number):
    model = potential(**KINDS[kind])
    edges = model.prepare(build_graph(case(kind), CUTOFF, dtype=torch.float64))
    found = by_tiles(model, edges, number)
    wanted = model.energies_and_gradients(edges, create_graph=False)
    assert wanted[1].abs().max() > 0.01
    for f, w in zip(found, wanted, strict=True):
        torch.testing.assert_close(f, w, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_on_edges_changes_no_output(kind):
    """Also features, with which joint models predict further targets."""
    model = potential(**KINDS[kind])
    graph = build_graph(case(kind), CUTOFF, dtype=torch.float64)
    found = []
    for model.max_edges in (None, 10):
        out = model(graph, stress=True, atomic_stress=True)
        with torch.no_grad():
            edges = model.prepare(graph)
            assert (model.max_edges is None) == (model.layered(edges) is None)
            energies, _, features = model.with_features(edges, gradients=True, create_graph=False)
            found.append(out | {"energies again": energies, "features": features, "last": model.last_layer(edges)})
    whole, tiled = found
    assert whole[fields.FORCES].abs().max() > 0.01
    for name, value in whole.items():
        torch.testing.assert_close(tiled[name], value, rtol=1e-11, atol=1e-10, equal_nan=True)
