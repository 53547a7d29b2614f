"""A pair potential with the interface of a learned one, whose every number can be checked by hand."""

import torch
from torch import Tensor, nn

from ik_e3nn.graph import edge_vectors


class PairPotential(nn.Module):
    """Lennard-Jones terms times a smooth cutoff; declared inputs scale it, so that leaving one out would show."""

    def __init__(self, species=(18,), *, r_max=6.0, epsilon=0.0104, sigma=3.4, inputs=(), dtype=torch.float64):
        super().__init__()
        self.species = tuple(species)
        self.r_max = r_max
        self.inputs = frozenset(inputs)
        self.outputs = ("energy", "energies", "forces", "stress", "atomic_virials")
        self.epsilon = nn.Parameter(torch.tensor(epsilon, dtype=dtype))
        self.sigma = nn.Parameter(torch.tensor(sigma, dtype=dtype))
        self.calls = 0

    @property
    def dtype(self) -> torch.dtype:
        return self.epsilon.dtype

    @property
    def device(self) -> torch.device:
        return self.epsilon.device

    def forward(self, graph, forces=True, stress=False, atomic_stress=False) -> dict[str, Tensor]:
        self.calls += 1
        batch, edge_index = graph["batch"], graph["edge_index"]
        positions = graph["positions"]
        vectors = edge_vectors(positions, edge_index, graph["edge_shifts"], graph["cell"], batch)
        vectors = vectors.detach().requires_grad_(True)
        pair = self.pair_energy(vectors.norm(dim=1), graph).double()
        energies = torch.zeros(len(positions), dtype=torch.float64, device=positions.device)
        energies = energies.index_add(0, edge_index[1], 0.5 * pair)
        (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        force = torch.zeros_like(positions).index_add(0, edge_index[0], gradient)
        force = force.index_add(0, edge_index[1], -gradient)
        virials = torch.zeros(len(positions), 3, 3, dtype=vectors.dtype, device=positions.device)
        virials = virials.index_add(0, edge_index[1], vectors[:, :, None] * gradient[:, None, :])
        volume = torch.linalg.det(graph["cell"]).abs()[:, None, None]
        return {
            "energy": energies.sum()[None].detach(),
            "energies": energies.detach(),
            "forces": force.detach(),
            "stress": (virials.sum(dim=0)[None] / volume).detach(),
            "atomic_virials": virials.detach(),
        }

    def pair_energy(self, r: Tensor, graph) -> Tensor:
        ratio = (self.sigma / r) ** 6
        x = r / self.r_max
        pair = 4 * self.epsilon * (ratio**2 - ratio) * (1 - x**2) ** 3
        if "total_charge" in self.inputs:
            pair = pair * (1 + 0.1 * graph["total_charge"])
        if "spin" in self.inputs:
            pair = pair * (1 + 0.01 * graph["spin"])
        if "bond_types" in self.inputs:
            pair = pair * (1 + graph["bond_types"].to(r.dtype))
        return pair
