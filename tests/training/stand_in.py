"""A tiny potential with the call signature of ``InteratomicPotential``: a sum of learned pair terms."""

import torch
from torch import nn

from ik_e3nn.graph import edge_vectors


class PairModel(nn.Module):
    """E_i = E0[Z_i] + 1/2 sum_j f(r_ij), f a small network times a cutoff; ``noise`` adds dropout."""

    def __init__(self, *, r_max=4.0, seed=0, noise=0.0, dtype=torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(8, 16, generator=generator, dtype=torch.float64).to(dtype) / 8**0.5)
        self.second = nn.Parameter(torch.randn(16, 1, generator=generator, dtype=torch.float64).to(dtype) / 16**0.5)
        self.register_buffer("centers", torch.linspace(0.5, r_max, 8, dtype=dtype))
        self.r_max, self.noise = r_max, noise

    def forward(self, graph, forces=True, stress=False, atomic_stress=False):
        positions, cell = graph["positions"], graph["cell"]
        with torch.enable_grad():
            strain = torch.zeros(len(cell), 3, 3, dtype=positions.dtype, requires_grad=True)
            symmetric = torch.eye(3, dtype=positions.dtype) + 0.5 * (strain + strain.mT)
            moved = torch.einsum("ni,nij->nj", positions.detach().requires_grad_(), symmetric[graph["batch"]])
            vectors = edge_vectors(moved, graph["edge_index"], graph["edge_shifts"], cell @ symmetric, graph["batch"])
            r = vectors.square().sum(-1, keepdim=True).sqrt().to(self.first.dtype)
            basis = torch.exp(-4 * (r - self.centers) ** 2) * (1 - (r / self.r_max) ** 2).clamp(min=0) ** 3
            hidden = torch.tanh(basis @ self.first)
            if self.noise and self.training:
                hidden = hidden * (1 + self.noise * torch.randn_like(hidden))
            pair = 0.5 * (hidden @ self.second)[:, 0].double()
            energies = torch.zeros(len(positions), dtype=torch.float64).index_add(0, graph["edge_index"][1], pair)
            energy = torch.zeros(len(cell), dtype=torch.float64).index_add(0, graph["batch"], energies)
            moved_gradient, virial = torch.autograd.grad(
                energy.sum(), (moved, strain), create_graph=self.training, allow_unused=True
            )
        volume = torch.linalg.det(cell).abs()[:, None, None]
        out = {"energy": energy, "energies": energies, "forces": -moved_gradient}
        if stress:
            out["stress"] = torch.where(volume > 0, virial / volume.clamp(min=1e-30), torch.nan)
        return out if self.training else {key: value.detach() for key, value in out.items()}
