"""The interactions of a potential as functions of the tensors that LAMMPS gives."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ik_e3nn.conv.receivers import WIDTH
from ik_e3nn.graph import fields
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.models.compiled.graph import padded, random_edges
from ik_e3nn.models.networks.layers import FEATURES, GRADIENT, LayerFeatures, LayerGradients
from ik_e3nn_calculators.lammps.inputs import declared

OWNED, POSITIONS = "owned", fields.POSITIONS


class Layer(nn.Module):
    """A function of an interaction, see ``ik_e3nn.models.networks.layers``, with constant declared inputs.

    Args:
        function: The function.
        info: Declared inputs of the model.

    Raises:
        DataError: The model has an input that LAMMPS cannot give it, or does not use one that is given.
        MissingInputError: An input of the model is not given.
    """

    frame: Tensor
    origin: Tensor
    fixed: Tensor

    def __init__(self, function: LayerFeatures, info: Mapping[str, Any]) -> None:
        super().__init__()
        self.function, model = function, function.model
        graph = declared(model, info)
        self.numbers = {name: float(graph[name]) for name in model.node_embedding.inputs}
        identity = torch.eye(3, dtype=torch.float64)
        frame, free, origin = identity, identity, torch.zeros(3, dtype=torch.float64)
        if model.surroundings is not None:
            frame = model.surroundings.checked(graph)[0]
            free = model.surroundings.free_directions(frame[None])[0]
            origin = graph.get(fields.SURFACE_ORIGIN, origin[None])[0].double()
        self.free = free
        self.register_buffer("frame", frame.to(model.dtype))
        self.register_buffer("origin", origin)
        self.register_buffer("fixed", identity - free)

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Features, or energies and derivatives.

        Args:
            inputs: Tensors of a tile with N atoms, of which the first R receive: ``species`` (N,), ``vectors``
                (K, w, 3), ``senders`` (K, w) and ``owners`` (K,) as in ``fields.PREPARED``; ``owned`` (R,), of which
                only the size is used; ``features`` and ``gradient`` as in ``LayerGradients``; and, for a model with
                surroundings, ``positions`` (N, 3) in A.

        Returns:
            As ``LayerFeatures`` or ``LayerGradients``.
        """
        model = self.function.model
        edges = {key: value for key, value in inputs.items() if key not in (OWNED, POSITIONS)}
        species, vectors = inputs[fields.SPECIES], inputs[fields.VECTORS]
        for name, value in self.numbers.items():
            edges[name] = vectors.new_full(species.shape, value)
        if model.surroundings is not None:
            edges[fields.FRAMES] = self.frame.expand(species.shape[0], 3, 3)
            displacements = (inputs[POSITIONS] - self.origin) @ self.fixed
            edges[fields.DISPLACEMENTS] = displacements.to(model.dtype)
        result = self.function(edges, inputs[OWNED].shape[0])
        return result if isinstance(result, tuple) else (result,)

    def example(self) -> dict[str, Tensor]:
        """Random inputs, with two receivers in three atoms."""
        model, layer = self.function.model, self.function.layer
        edges = padded(random_edges(model, WIDTH), model.r_max)
        number = edges[fields.SPECIES].shape[0]
        owned = 2 * number // 3
        kept = {key: edges[key] for key in (fields.SPECIES, fields.SENDERS, fields.VECTORS)}
        kept[fields.OWNERS] = (edges[fields.OWNERS] % owned).sort().values
        kept[OWNED] = torch.zeros(owned, dtype=torch.float64)
        generator = torch.Generator().manual_seed(1)
        widths = [irreps.dim for irreps in model.irreps_features]
        if layer > 0:
            kept[FEATURES] = torch.randn(number, widths[layer - 1], generator=generator).to(model.dtype)
        if model.surroundings is not None:
            kept[POSITIONS] = edges[fields.DISPLACEMENTS].double()
        if isinstance(self.function, LayerGradients) and layer < len(widths) - 1:
            kept[GRADIENT] = torch.randn(owned, widths[layer], generator=generator).to(model.dtype)
        return kept


def layers(model: InteratomicPotential, info: Mapping[str, Any]) -> dict[str, Layer]:
    """The functions of all interactions of a potential, by their names in the package.

    These are ``features_t`` for all interactions t but the last, and ``gradients_t`` for all.

    Args:
        model: The potential.
        info: Declared inputs of the model.

    Raises:
        DataError: The model has an input that LAMMPS cannot give it, or does not use one that is given.
        MissingInputError: An input of the model is not given.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    numbers = range(len(model.interactions))
    functions = {f"features_{t}": LayerFeatures(model, t) for t in numbers[:-1]}
    functions |= {f"gradients_{t}": LayerGradients(model, t) for t in numbers}
    return {name: Layer(function, info) for name, function in functions.items()}
