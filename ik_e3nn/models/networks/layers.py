r"""One interaction of a potential at a time, for some of the atoms, so that memory does not grow with the structure.

With features :math:`x^{(t)}` of all atoms after interaction t, the energy and its derivatives need two passes:

.. math:: x_i^{(t)} &= f_t(x^{(t-1)}; r)_i, \qquad E = \sum_{t,i} e_t(x_i^{(t)}) \\
          \frac{\partial E}{\partial x^{(t-1)}} &= \frac{\partial}{\partial x^{(t-1)}} \sum_i
          \Big[e_t(x_i^{(t)}) + x_i^{(t)} \cdot \frac{\partial E}{\partial x_i^{(t)}}\Big]

The first goes through the interactions forward, the second backward, and both go through all atoms in tiles. A tile has
all edges to its receivers. Only the features, and their derivatives, are kept between the interactions, and this is
where an engine exchanges them between processes. Every interaction but the last is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ik_e3nn.blocks import Interaction, derivatives
from ik_e3nn.blocks.interaction import first
from ik_e3nn.graph import fields
from ik_e3nn.models.networks.tiles import Tile, tiles

if TYPE_CHECKING:
    from ik_e3nn.models.networks.interface import Receivers
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
        of_inputs = self.layer == 0 or self.model.config["kernel_features"] == "initial"
        initial = self.model.initial_features(edges) if of_inputs else edges[FEATURES]
        x = edges[FEATURES] if self.layer else initial
        interaction = cast(Interaction, self.model.interactions[self.layer])
        new: Tensor = interaction(
            x,
            self.model.seen(initial, x),
            edges[fields.SPECIES],
            self.model.neighbors(edges),
            num_receivers,
            self.model.factors_of(edges),
        )
        return new


class LayerGradients(LayerFeatures):
    """The part of the energy that is read from the features after an interaction, and derivatives of the whole."""

    def forward(  # type: ignore[override]
        self, edges: Mapping[str, Tensor], num_receivers: int, num_owned: int | None = None
    ) -> tuple[Tensor, ...]:
        """Energies and derivatives.

        Args:
            edges: As for :class:`LayerFeatures`; and, before the last interaction, ``gradient`` (R, dim): the
                derivative of the energy with respect to the features after this interaction, through the later ones.
            num_receivers: R, the number of atoms that receive.
            num_owned: Number of the first atoms whose energies count; by default R.

        Returns:
            Energies e (R,) in eV, float64; and the derivatives with respect to the present tensors of ``features``
            (N, dim), ``vectors`` (K, w, 3) and ``displacements`` (N, 3), in this order.
        """
        with torch.enable_grad():
            variables = derivatives.leaves(edges, (FEATURES, *fields.MOVING))
            edges = {**edges, **variables}
            x = super().forward(edges, num_receivers)
            energies = self.energies(first(x, num_owned), edges)
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


class Layered:
    """All interactions, in tiles.

    Args:
        model: The potential.
        edges: The output of ``prepare``, with ``order``.
        size: Number of edges in a tile.
        receivers: The atoms that each interaction computes; None for all.
    """

    def __init__(
        self, model: InteratomicPotential, edges: Mapping[str, Tensor], size: int, receivers: Receivers | None = None
    ) -> None:
        self.model, self.edges = model, edges
        self.number_of_atoms, number = edges[fields.SPECIES].shape[0], len(model.interactions)
        self.counts = (self.number_of_atoms,) * number if receivers is None else receivers.counts
        self.exchange = None if receivers is None else receivers.exchange
        self._exchanged: dict[int, tuple[Tensor, Tensor]] = {}  # features before and after an exchange, by interaction
        self._tiles = {count: list(tiles(edges, size, self._receiving(count))) for count in set(self.counts)}

    def features(self) -> Iterator[Tensor]:
        """Features after each interaction, (R, dim), without gradients."""
        x = None
        for layer in range(len(self.counts)):
            x = self._features(layer, None if x is None else self._sent(layer, x))
            yield x

    def gradients(self, features: Sequence[Tensor], functions: Sequence[Gradients] | None = None) -> tuple[Tensor, ...]:
        """Energies and derivatives, as ``InteratomicPotential.energies_and_gradients`` returns them.

        Args:
            features: Features after each interaction but the last.
            functions: What is differentiated, for each interaction; by default :class:`LayerGradients`.
        """
        model, last, moving = self.model, len(self.counts) - 1, [n for n in fields.MOVING if n in self.edges]
        if functions is None:
            numbers = range(last + 1)
            functions = [self._compiled(f"gradients_{layer}") or LayerGradients(model, layer) for layer in numbers]
        energies = torch.zeros(self.counts[-1], dtype=torch.float64, device=model.device)
        totals = {name: torch.zeros_like(self.edges[name]) for name in moving}
        gradient: Tensor | None = None
        for layer in reversed(range(last + 1)):
            x = self._sent(layer, features[layer - 1]) if layer else None
            before = None if x is None else torch.zeros_like(x)
            for tile in self._tiles[self.counts[layer]]:
                edges, count, rows = self._inputs(tile, x), tile.num_receivers, tile.receivers
                owned = None if self.counts[layer] == self.counts[-1] else int((rows < self.counts[-1]).sum())
                if gradient is not None:
                    edges[GRADIENT] = gradient.index_select(0, rows)
                part, *found = functions[layer](edges, count, owned)
                energies.index_add_(0, first(rows, owned), part)
                if before is not None:
                    before.index_add_(0, tile.atoms, found.pop(0))
                for name, derivative in zip(moving, found, strict=True):
                    totals[name].index_add_(0, tile.blocks if name == fields.VECTORS else tile.atoms, derivative)
            if layer in self._exchanged:
                given, sent = self._exchanged[layer]
                (before,) = torch.autograd.grad(sent, given, before, retain_graph=True)
            gradient = before
        return energies, *totals.values()

    def energies_and_gradients(self) -> tuple[Tensor, ...]:
        """See ``InteratomicPotential.energies_and_gradients``."""
        return self.gradients(list(islice(self.features(), len(self.counts) - 1)))

    def _features(self, layer: int, x: Tensor | None) -> Tensor:
        """Features after an interaction, (R, dim), from those that are sent to it."""
        function, count = self._compiled(f"features_{layer}") or LayerFeatures(self.model, layer), self.counts[layer]
        new = torch.zeros(
            count, self.model.irreps_features[layer].dim, dtype=self.model.dtype, device=self.model.device
        )
        with torch.no_grad():
            for tile in self._tiles[count]:
                new[tile.receivers] = function(self._inputs(tile, x), tile.num_receivers)
        return new

    def _compiled(self, name: str) -> Any:
        """A compiled function, if there is one."""
        return (self.model.compiled_layers or {}).get(name)

    def _inputs(self, tile: Tile, x: Tensor | None) -> dict[str, Tensor]:
        """The tensors of a tile, with features of its atoms after the first interaction."""
        edges = tile.edges(self.edges)
        return edges if x is None else edges | {FEATURES: x.index_select(0, tile.atoms)}

    def _sent(self, layer: int, features: Tensor) -> Tensor:
        """Features of all atoms that send to an interaction: those that are computed, or those of other processes too.

        Features are exchanged once, because all processes do so together, whether or not they have tiles.
        """
        if self.exchange is None:
            return features
        if layer not in self._exchanged:
            with torch.enable_grad():
                given = features.detach().requires_grad_()
                self._exchanged[layer] = given, self.exchange(given)
        return self._exchanged[layer][1].detach()

    def _receiving(self, count: int) -> Tensor:
        """The first atoms in an order in space, those whose energies count before the others."""
        order = self.edges[fields.ORDER]
        if count == self.counts[-1]:
            return order if count == self.number_of_atoms else order[order < count]
        return torch.cat([order[order < self.counts[-1]], order[(order >= self.counts[-1]) & (order < count)]])


Gradients = Callable[[Mapping[str, Tensor], int, int | None], tuple[Tensor, ...]]
"""A function like :class:`LayerGradients`."""
