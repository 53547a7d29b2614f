"""Potentials that are wrong on purpose, each in one way."""

import torch
from torch import nn

from ik_e3nn.graph import edge_vectors


class PairPotential(nn.Module):
    """E = 1/2 sum over pairs of u(r) f(r), smooth and exact in every way; subclasses break it."""

    def __init__(self, r_max=4.0):
        super().__init__()
        self.r_max = r_max
        self.strength = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def window(self, r):
        x = (r / self.r_max).clamp(max=1)
        return 1 + x**6 * (-28 + x * (48 - 21 * x))

    def pair(self, vectors, graph):
        r = vectors.norm(dim=1)
        return self.strength * torch.exp(-((r - 1) ** 2) / 2) * self.window(r)

    def forward(self, graph, *, forces=True, stress=False):
        cell, batch = graph["cell"], graph["batch"]
        positions = graph["positions"].detach().requires_grad_()
        strain = torch.zeros_like(cell).requires_grad_()
        symmetric = torch.eye(3, dtype=cell.dtype) + (strain + strain.mT) / 2
        moved = torch.einsum("ni,nij->nj", positions, symmetric[batch])
        vectors = edge_vectors(moved, graph["edge_index"], graph["edge_shifts"], cell @ symmetric, batch)
        energies = positions.new_zeros(len(positions)).index_add(
            0, graph["edge_index"][1], self.pair(vectors, graph) / 2
        )
        energies = self.finish(energies, graph)
        energy = positions.new_zeros(len(cell)).index_add(0, batch, energies)
        gradient, virial = torch.autograd.grad(energy.sum(), (positions, strain), materialize_grads=True)
        volume = torch.linalg.det(cell).abs()[:, None, None]
        stress = torch.where(volume > 0, virial / volume, torch.nan)
        return {"energy": energy.detach(), "energies": energies.detach(), "forces": -gradient, "stress": stress}

    def finish(self, energies, graph):
        return energies


class Anisotropic(PairPotential):
    def pair(self, vectors, graph):
        return super().pair(vectors, graph) * (1 + 0.1 * vectors[:, 2] ** 2)


class SharpCutoff(PairPotential):
    def window(self, r):
        return torch.ones_like(r)


class KinkAtCutoff(PairPotential):
    """Continuous in energy, not in forces."""

    def window(self, r):
        return (1 - r / self.r_max).clamp(min=0)


class CountsAtoms(PairPotential):
    """Site energies depend on the number of atoms in the structure, like a mean over atoms."""

    def finish(self, energies, graph):
        batch = graph["batch"]
        return energies / torch.bincount(batch)[batch]


class NormalizesOverTheBatch(PairPotential):
    def finish(self, energies, graph):
        return energies / (1 + energies.mean().abs())


class DependsOnTheOrder(PairPotential):
    def finish(self, energies, graph):
        first = torch.cat([torch.ones(1, dtype=torch.bool), graph["batch"].diff() > 0])
        return energies * (1 + 0.1 * first)


class DependsOnThePlace(PairPotential):
    def finish(self, energies, graph):
        return energies * (1 + 0.01 * graph["positions"][:, 0])


class WrongForces(PairPotential):
    def forward(self, graph, **options):
        out = super().forward(graph, **options)
        return out | {"forces": out["forces"] * (1 + 1e-5)}


class WrongStress(PairPotential):
    def forward(self, graph, **options):
        out = super().forward(graph, **options)
        return out | {"stress": -out["stress"]}


class WrongSites(PairPotential):
    def forward(self, graph, **options):
        out = super().forward(graph, **options)
        return out | {"energies": out["energies"] + 1e-4}


class ChangesItsInput(PairPotential):
    def forward(self, graph, **options):
        out = super().forward(graph, **options)
        graph["positions"] += 1e-3
        return out


class MarksItsInput(PairPotential):
    def forward(self, graph, **options):
        out = super().forward(graph, **options)
        graph["positions"].requires_grad_()
        return out


class Noisy(PairPotential):
    def finish(self, energies, graph):
        return energies + 1e-12 * torch.rand_like(energies)


class Silent(PairPotential):
    def pair(self, vectors, graph):
        return 0 * super().pair(vectors, graph)


class NotANumber(PairPotential):
    def pair(self, vectors, graph):
        return torch.nan * super().pair(vectors, graph)
