"""Potentials and structures for the tests of TorchSim."""

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from torch import nn

from ik_e3nn.blocks import derivatives
from ik_e3nn.conv import segment_sum
from ik_e3nn.graph import edge_vectors
from ik_e3nn.models import InteratomicPotential

ELEMENTS = ["H", "C", "O", "Mg", "Al", "Si", "Fe", "Cu"]


def potential(**options):
    """A tiny model in float64 whose energies depend on everything."""
    torch.manual_seed(0)
    options = {"num_channels": 2, "num_layers": 2, "l_max": 1, "l_features": 1, "correlation": 2} | options
    model = InteratomicPotential(ELEMENTS, 3.5, **options)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.set_scale(3.0)
    model.set_energy_reference({z: -float(z) for z in model.species}, "test")
    return model.double().eval()


class Argon(nn.Module):
    """Lennard-Jones terms of many structures: a model whose minima are known."""

    species, r_max, inputs, outputs = (18,), 6.0, frozenset(), ("energy", "energies", "forces", "stress")
    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, epsilon=0.0104):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, graph, *, forces=True, stress=False, atomic_stress=False):
        (senders, receivers), batch, cell = graph["edge_index"], graph["batch"], graph["cell"]
        vectors = edge_vectors(graph["positions"], graph["edge_index"], graph["edge_shifts"], cell, batch)
        squares = (vectors**2).sum(1)
        ratio, cut = (3.4**2 / squares) ** 3, 1 - squares / self.r_max**2
        energies = 2 * self.epsilon * (ratio**2 - ratio) * cut**3
        slopes = (
            2 * self.epsilon * (3 * (ratio - 2 * ratio**2) / squares * cut - 3 / self.r_max**2 * (ratio**2 - ratio))
        )
        gradient = (2 * slopes * cut**2)[:, None] * vectors
        virials = derivatives.edge_virials(vectors, gradient)
        return {
            "energy": segment_sum(energies, batch[receivers], len(cell)),
            "forces": derivatives.forces(gradient, senders, receivers, len(batch)),
            "stress": derivatives.stress(virials, batch[receivers], cell),
        }


def molecules():
    """Open structures of one to nine atoms."""
    found = [molecule(name) for name in ("H2O", "CH4", "CH3OH", "C2H4", "CH3CH2OH")] + [Atoms("O")]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.1, seed=seed)
    return found


def crystals():
    """Cells smaller and larger than the cutoff, skewed ones, and atoms outside of their cell."""
    skewed = molecule("CH3OH")
    skewed.set_cell([[4.6, 0, 0], [0.7, 5.0, 0], [-0.4, 0.9, 4.4]])
    skewed.pbc = True
    skewed.positions[2] += 2 * skewed.cell[0] - skewed.cell[2]
    found = [bulk("Cu"), bulk("Si", cubic=True) * (1, 1, 2), skewed, bulk("Fe")]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.1, seed=seed)
    return found


def slabs():
    """Periodic in two directions."""
    found = [fcc111("Al", (1, 1, 3), vacuum=4.0), fcc111("Cu", (2, 2, 2), vacuum=5.0)]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.1, seed=seed)
        atoms.pbc = (True, True, False)
    return found


def many(number):
    """Copies of the molecules, each in another geometry, with their charges."""
    found = [molecules()[k % 6] for k in range(number)]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
        atoms.info["charge"] = np.sign(seed % 3 - 1)
    return found
