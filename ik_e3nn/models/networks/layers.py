r"""One interaction of a potential at a time, for some of the atoms, so that memory does not grow with the structure.

With features :math:`x^{(t)}` of all atoms after interaction t, the energy and its derivatives need two passes:

.. math:: x_i^{(t)} &= f_t(x^{(t-1)}; r)_i, \qquad E = \sum_{t,i} e_t(x_i^{(t)}) \\
          \frac{\partial E}{\partial x^{(t-1)}} &= \frac{\partial}{\partial x^{(t-1)}} \sum_i
          \Big[e_t(x_i^{(t)}) + x_i^{(t)} \cdot \frac{\partial E}{\partial x_i^{(t)}}\Big]

The first goes through the interactions forward, the second backward, and both go through all atoms in tiles. A tile has
all edges to its receivers. Only the features, and their derivatives, are kept between the interactions, and this is
where an engine exchanges them between processes. Every interaction but the last is computed twice.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ik_e3nn.blocks import Interaction, derivatives
from ik_e3nn.graph import fields
from ik_e3nn.models.networks.potential import InteratomicPotential

FEATURES, GRADIENT = "features", "gradient"


class LayerFeatures(nn.Module):
    """Features of receivers after an interaction: the function f.

    Args:
        model: The potential.
        layer: Number of the interaction, from 0.
    """

    def __init__(self, model: InteratomicPotential, layer: int) -> None:
        super().__init__()
        self.model, self.layer = model, layer

    @property
    def is_last(self) -> bool:
        """Whether no interaction follows."""
        return self.layer == len(self.model.interactions) - 1

    def forward(self, edges: Mapping[str, Tensor], num_receivers: int) -> Tensor:
        """Features.

        Args:
            edges: The tensors of ``fields.PREPARED`` for the atoms and edges of a tile, receivers first; and, after the
                first interaction, ``features`` (N, dim) of its atoms.
            num_receivers: R, the number of atoms that receive.

        Returns:
            (R, dim).
        """
        x = edges[FEATURES] if self.layer else self.model.initial_features(edges)
        interaction = cast(Interaction, self.model.interactions[self.layer])
        new: Tensor = interaction(
            x, edges[fields.SPECIES], self.model.neighbors(edges), None, num_receivers, self.model.factors_of(edges)
        )
        return new


class LayerGradients(LayerFeatures):
    """The part of the energy that is read from the features after an interaction, and derivatives of the whole."""

    def forward(self, edges: Mapping[str, Tensor], num_receivers: int) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Energies and derivatives.

        Args:
            edges: As for :class:`LayerFeatures`; and, before the last interaction, ``gradient`` (R, dim): the
                derivative of the energy with respect to the features after this interaction, through the later ones.
            num_receivers: R, the number of atoms that receive.

        Returns:
            Energies e (R,) in eV, float64; and the derivatives with respect to the present tensors of ``features``
            (N, dim), ``vectors`` (K, w, 3) and ``displacements`` (N, 3), in this order.
        """
        with torch.enable_grad():
            variables = derivatives.leaves(edges, (FEATURES, *fields.MOVING))
            edges = {**edges, **variables}
            x = super().forward(edges, num_receivers)
            energies = self.energies(x, edges)
            total = energies.sum()
            if GRADIENT in edges:
                total = total + (x * edges[GRADIENT]).sum()
            return energies.detach(), *derivatives.gradients(total, variables, create_graph=False)

    def energies(self, x: Tensor, edges: Mapping[str, Tensor]) -> Tensor:
        """The part e(x) of the energies, (R,); energies of isolated atoms are in the part of the last interaction."""
        readout, energy = self.model.readout(self.layer, x, edges), self.model.atomic_energy
        if not self.is_last:
            return energy.scale * readout.double()
        with_reference: Tensor = energy(readout, edges[fields.SPECIES][: x.shape[0]])
        return with_reference
