"""The uncertainty of one model from its last layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ik_e3nn.conv import segment_sum
from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models.networks.modes import in_own_precision, with_gradients
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.uncertainty.potentials import UncertainPotential


class LastLayerEnsemble(UncertainPotential):
    r"""One model and the Gaussian posterior of the weights of its last layer.

    Energies are linear in these weights, :math:`E = E^0 + f \cdot w`, and so are forces, :math:`F = g \cdot w` with
    :math:`g = -\partial f / \partial r`; the field of surroundings is taken as certain. With the weights' prior
    N(0, 1), from which they start, and Gaussian noise, their posterior is exact:

    .. math:: \Sigma^{-1} = 1 + \sum_s \frac{f_s f_s^T}{N_s^2 \sigma_E^2} + \sum_s \frac{g_s g_s^T}{\sigma_F^2}, \qquad
              s_E^2 = f^T \Sigma f, \qquad s_F^2 = \sum_m (d_m \cdot g)^2

    The sums go over structures of the training set. The variance of the energy is exact. That of the forces takes one
    more gradient for each of M members :math:`d_m`, rows of :math:`\sqrt{K/M} \, Q \, \Sigma^{1/2}` with orthonormal
    rows Q; it is exact for M = K.

    Args:
        model: The model.
        root: A matrix L with :math:`L L^T = \Sigma`, (K, K).
        members: The members d, (M, K).

    Raises:
        DataError: The matrices do not fit the model.

    Reference:
        Bigi et al., A prediction rigidity formalism for low-cost uncertainties in trained neural networks, Mach.
        Learn.: Sci. Technol. 5, 045018 (2024), for the idea; Daxberger et al., Laplace Redux, NeurIPS 2021, for its
        Bayesian form.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.graph import build_graph
        >>> model = InteratomicPotential(["H", "O"], num_channels=4).eval()
        >>> ensemble = LastLayerEnsemble(model, *members_of(torch.eye(32), 4))
        >>> ensemble(build_graph(molecule("H2O"), model.r_max))["energy_std"].shape
        torch.Size([1])
    """

    root: Tensor
    directions: Tensor

    def __init__(self, model: InteratomicPotential, root: Tensor, members: Tensor) -> None:
        super().__init__([model])
        size = model.last_weights.numel()
        if root.shape != (size, size) or members.ndim != 2 or members.shape[1] != size:
            raise DataError(
                f"the model has {size} weights in its last layer, but the matrices are {tuple(root.shape)} and "
                f"{tuple(members.shape)}: calibrate this model again"
            )
        self.register_buffer("root", root.double())
        self.register_buffer("directions", members.double())

    @with_gradients
    def forward(
        self,
        graph: Mapping[str, Tensor],
        *,
        forces: bool = True,
        stress: bool = False,
        atomic_stress: bool = False,
        std: bool = True,
    ) -> dict[str, Tensor]:
        """Predict; standard deviations of forces cost one more gradient a member."""
        result: dict[str, Tensor] = self.first(graph, forces=forces, stress=stress, atomic_stress=atomic_stress)
        if std:
            structures, batch = graph[fields.CELL].shape[0], graph[fields.BATCH]
            root, directions = self.root.double(), self.directions.double()
            features, jacobian = last_layer_derivatives(self.first, graph, directions if forces else directions[:0])
            totals = segment_sum(features, batch, structures)
            result[fields.ENERGY_STD] = self.energy_factor * (totals @ root).norm(dim=1)
            if forces:
                variance = sum(one.square() for one in jacobian)
                result[fields.FORCES_STD] = self.forces_factor * torch.as_tensor(variance).sqrt()
        return result


def last_layer_derivatives(
    model: InteratomicPotential, graph: Mapping[str, Tensor], directions: Tensor
) -> tuple[Tensor, Iterator[Tensor]]:
    """What energies and forces of a structure change by when weights of the last layer do.

    Args:
        model: The model.
        graph: A graph or batch.
        directions: Changes of the weights, (M, K).

    Returns:
        Features of the atoms, (N, K), and for every change the forces' change, (N, 3), one after the other.
    """
    edges = model.prepare(graph)
    moving: list[str] = [name for name in fields.MOVING if name in edges]
    with torch.enable_grad():
        variables = {name: edges[name].detach().requires_grad_(True) for name in moving}
        features = model.last_layer({**edges, **variables})

    def changes() -> Iterator[Tensor]:
        for direction in directions:
            with torch.enable_grad():
                energy = features.sum(0) @ direction
            gradients = torch.autograd.grad(
                energy,
                list(variables.values()),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            yield model.forces_of(gradients, edges, torch.float64)

    return features.detach(), changes()


class LastLayerPosterior:
    r"""Adds up the precision of the posterior of the last layer's weights, see :class:`LastLayerEnsemble`.

    Args:
        model: The model.
        energy_noise: Standard deviation :math:`\sigma_E` of energies per atom, in eV.
        forces_noise: Standard deviation :math:`\sigma_F` of force components, in eV/A.

    Raises:
        ValueError: A standard deviation is not positive.
    """

    def __init__(self, model: InteratomicPotential, *, energy_noise: float, forces_noise: float) -> None:
        if not (energy_noise > 0 and forces_noise > 0):
            raise ValueError(f"noises must be positive; got {energy_noise} for energies and {forces_noise} for forces")
        self.model = model
        self.noise = energy_noise, forces_noise
        size = model.last_weights.numel()
        self.data = torch.zeros(size, size, dtype=torch.float64, device=model.device)

    @in_own_precision
    def add(self, graph: Mapping[str, Tensor], *, energies: bool = True, forces: bool = True) -> None:
        """Add the structures of a batch, with labels of these kinds; a label in the graph that is NaN is none.

        Nothing is added if there is an error, so that a batch can be added in parts where the memory does not suffice.
        """
        identity = torch.eye(len(self.data), dtype=torch.float64, device=self.data.device)
        features, changes = last_layer_derivatives(self.model, graph, identity if forces else identity[:0])
        added = []
        if energies:
            batch, structures = graph[fields.BATCH], graph[fields.CELL].shape[0]
            sizes = torch.bincount(batch, minlength=structures)
            f = segment_sum(features, batch, structures) / sizes[:, None]
            if fields.ENERGY in graph:
                f = f[~graph[fields.ENERGY].isnan()]
            added.append(f.T @ f / self.noise[0] ** 2)
        if forces:
            g = torch.stack([change.flatten() for change in changes])
            if fields.FORCES in graph:
                g = g[:, ~graph[fields.FORCES].flatten().isnan()]
            added.append(g @ g.T / self.noise[1] ** 2)
        for part in added:
            self.data += part

    def root(self, scale: float = 1.0) -> Tensor:
        r"""A matrix L with :math:`L L^T = \Sigma`, (K, K), if the data added are one of ``scale`` equal parts."""
        values, vectors = torch.linalg.eigh(scale * self.data)
        return vectors * (1.0 + values.clamp(min=0.0)).rsqrt()


def members_of(root: Tensor, number: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A root of the covariance and random members of the posterior, at most as many as there are weights.

    Args:
        root: A root L of the covariance, (K, K).
        number: Number of members.
        seed: Random seed.

    Returns:
        L and the members, (M, K).

    Raises:
        ValueError: The number is not positive.

    Example:
        >>> root, members = members_of(torch.eye(3), 7)
        >>> torch.allclose(members.T @ members, torch.eye(3, dtype=torch.float64))
        True
    """
    if number < 1:
        raise ValueError(f"the number of members must be at least 1; got {number}")
    size = len(root)
    count = min(number, size)
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q[:count]
    return root.double(), (size / count) ** 0.5 * Q.to(root.device) @ root.double().T
