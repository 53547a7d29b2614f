"""Uncertainty of a single model from the posteriors of its last layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.func import functional_call, jvp, vmap

from ik_e3nn.blocks import Readout
from ik_e3nn.conv import segment_sum
from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models.networks.layers import LayerGradients
from ik_e3nn.models.networks.modes import in_own_precision, with_gradients
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.property import MolecularPropertyModel
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.models.uncertainty.ensemble import Ensemble, uncertain_targets
from ik_e3nn.targets import LabelLayout
from ik_e3nn.targets.head import Atomwise, Head, Molecules

ROOT, DIRECTIONS = "root.", "directions"  # names in files
TANGENTS = 64  # directions of weights that are computed at once


class LastLayerEnsemble(Ensemble):
    r"""One model and the Gaussian posteriors of the weights of its last layers.

    Every prediction is linear in the weights w of a last layer (the length of a dipole approximately), with derivatives
    :math:`J = \partial y / \partial w`. For the prior N(0, 1), the distribution of the initial weights, and Gaussian
    noise, the posterior is exact:

    .. math:: \Sigma^{-1} = 1 + \sum_s \frac{J_s^T J_s}{\sigma^2}, \qquad s^2 = J \Sigma J^T

    The sum runs over the labels of the training set. Energy and forces share the last layer of the potential, "energy":
    :math:`E = E^0 + f \cdot w` and :math:`F = g \cdot w` with :math:`g = -\partial f / \partial r`. Labels of energies
    count per atom, and the field of surroundings has no uncertainty. Other targets of one kind share the last layer of
    their head.

    .. math:: s_E^2 = f^T \Sigma f, \qquad s_F^2 = \sum_m (d_m \cdot g)^2

    The variance of the energy is exact. The variance of the forces needs one more gradient for each of M directions
    :math:`d_m`, rows of :math:`\sqrt{K/M} \, Q \, \Sigma^{1/2}` with orthonormal rows Q; it is exact for M = K.

    Args:
        model: The model.
        roots: Matrices L with :math:`L L^T = \Sigma`, (K, K), by last layer: "energy" or the kind of the targets.
        directions: The directions d, (M, K), of a model that predicts forces; see ``directions_of``.

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
        >>> ensemble = LastLayerEnsemble(model, {"energy": torch.eye(32)}, directions_of(torch.eye(32), 4))
        >>> ensemble(build_graph(molecule("H2O"), model.r_max))["energy_std"].shape
        torch.Size([1])
    """

    kind = "last_layer"
    tensor_names = r"root\..+|directions"
    potential_tensors = frozenset({ROOT + "energy", DIRECTIONS})
    directions: Tensor | None

    def __init__(self, model: StoredModel, roots: Mapping[str, Tensor], directions: Tensor | None = None) -> None:
        super().__init__([model])
        weights = last_weights(model)
        for layer in [*weights, *roots]:
            size = weights[layer].numel() if layer in weights else 0
            if layer not in roots or roots[layer].shape != (size, size):
                found = tuple(roots[layer].shape) if layer in roots else None
                raise DataError(
                    f"the last layer of {layer} has {size} weights, but the matrix is {found}: calibrate this model "
                    "again"
                )
            self.register_buffer(f"root_{layer}", roots[layer].double())
        shape = None if directions is None else tuple(directions.shape)
        columns = weights["energy"].numel() if fields.FORCES in {target.name for target in self.uncertain} else 0
        if (shape is None) == bool(columns) or (shape is not None and shape[1:] != (columns,)):
            expected = f"(M, {columns})" if columns else "None, because the model predicts no forces"
            raise DataError(
                f"the directions of forces must have the shape {expected}; got {shape}: calibrate this model again"
            )
        self.register_buffer("directions", None if directions is None else directions.double())

    @property
    def roots(self) -> dict[str, Tensor]:
        """Roots of the covariances by last layer."""
        return {layer: getattr(self, f"root_{layer}").double() for layer in last_weights(self.first)}

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        found = {ROOT + layer: root for layer, root in self.roots.items()}
        return found if self.directions is None else found | {DIRECTIONS: self.directions}

    @classmethod
    def restored(cls, models: Sequence[StoredModel], tensors: Mapping[str, Tensor]) -> LastLayerEnsemble:
        """See the base class."""
        if len(models) != 1:
            raise DataError(f"a last-layer uncertainty belongs to one model, got {len(models)}")
        roots = {name.removeprefix(ROOT): one for name, one in tensors.items() if name.startswith(ROOT)}
        return cls(models[0], roots, tensors.get(DIRECTIONS))

    @with_gradients
    def forward(self, graph: Mapping[str, Tensor], *, std: bool = True, **options: bool) -> dict[str, Tensor]:
        """Predict the targets; standard deviations of forces need one more gradient for each direction."""
        values: dict[str, Tensor] = self.first(graph, **options)
        if not std:
            return values
        raw, roots = {}, self.roots
        if self.first.potential is not None:
            asked = self.directions is not None and fields.FORCES in values
            directions = cast(Tensor, self.directions).double() if asked else roots["energy"][:0]
            features, changes = last_layer_derivatives(self.first.potential, graph, directions)
            totals = segment_sum(features, graph[fields.BATCH], graph[fields.CELL].shape[0])
            raw[fields.ENERGY] = (totals @ roots["energy"]).norm(dim=1)
            if asked:
                raw[fields.FORCES] = torch.as_tensor(sum(one.square() for one in changes)).sqrt()
        scales = _scales(self.first)
        for kind, jacobian in head_jacobians(self.first, graph).items():
            stds = (jacobian @ roots[kind]).norm(dim=-1)
            raw |= {name: scales[name] * one for name, one in zip(self.first.names[kind], stds.unbind(1), strict=True)}
        return self.with_std(values, raw)


def last_weights(model: StoredModel) -> dict[str, Tensor]:
    """Weights of the last layers by name: "energy" for a potential, and the kinds of targets for heads.

    >>> {name: len(weights) for name, weights in last_weights(InteratomicPotential(["H"], num_channels=4)).items()}
    {'energy': 32}
    """
    found = {} if model.potential is None else {"energy": model.potential.last_weights}
    return found | {kind: head.mlp.weights[-1] for kind, head in _heads(model).items()}


def last_layer_derivatives(
    model: InteratomicPotential, graph: Mapping[str, Tensor], directions: Tensor
) -> tuple[Tensor, Iterator[Tensor]]:
    """Derivatives of energies and forces by the weights of the last layer of a potential.

    Args:
        model: The potential.
        graph: A graph or batch.
        directions: Changes of the weights, (M, K).

    Returns:
        Features of the atoms, (N, K), which are the derivatives of their energies; and an iterator over the changes of
        the forces, (N, 3), for each direction.
    """
    edges = model.prepare(graph)
    layered = model.layered(edges)
    if layered is not None:
        with torch.no_grad():
            found = list(layered.features())
            features = torch.cat([model.last_layer_of(layer, x) for layer, x in enumerate(found)], 1)
        derivatives = (layered.gradients(found, _changes(model, direction))[1:] for direction in directions)
        return features, (model.forces_of(one, edges, torch.float64) for one in derivatives)
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


class _Change(LayerGradients):
    """The change of the energy, for a change (columns,) of the last weights of the readout after an interaction."""

    def __init__(self, model: InteratomicPotential, layer: int, direction: Tensor) -> None:
        super().__init__(model, layer)
        self.direction = direction

    def energies(self, x: Tensor, edges: Mapping[str, Tensor]) -> Tensor:
        """The change of the part of the energies, (R,)."""
        return self.model.last_layer_of(self.layer, x) @ self.direction


def _changes(model: InteratomicPotential, direction: Tensor) -> list[_Change]:
    """The change of the energy by interactions, for a change (K,) of the last weights of all readouts."""
    sizes = [read.mlp.weights[-1].numel() for read in cast(list[Readout], model.readouts)]
    return [_Change(model, layer, part) for layer, part in enumerate(direction.split(sizes))]


def head_jacobians(model: StoredModel, graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Derivatives of dimensionless readouts by the last weights of their heads.

    Args:
        model: The model.
        graph: A graph or batch.

    Returns:
        By the kinds of targets, (B, targets of the kind, *shape, K), float64; nothing for a potential.
    """
    heads, found = _heads(model), dict[str, Tensor]()
    if not heads:
        return found
    whole = cast(MolecularPropertyModel, model)
    with torch.no_grad():
        molecules = whole.molecules(graph)
        atoms = whole.atomwise(graph, molecules)
        for kind, head in heads.items():
            weight = head.mlp.weights[-1]
            directions = torch.eye(weight.numel(), dtype=weight.dtype, device=weight.device).unflatten(1, weight.shape)
            push = _derivative(head, atoms, molecules)
            found[kind] = vmap(push, out_dims=-1, chunk_size=TANGENTS)(directions).double()
    return found


def _derivative(head: Head, atoms: Atomwise, molecules: Molecules) -> Callable[[Tensor], Tensor]:
    """A function from a direction of the last weights of a head to the derivative of its readouts along it."""
    name = f"mlp.weights.{len(head.mlp.weights) - 1}"

    def readouts(weight: Tensor) -> Tensor:
        return cast(Tensor, functional_call(head, {name: weight}, (atoms, molecules)))

    return lambda direction: jvp(readouts, (head.mlp.weights[-1],), (direction,))[1]


def _heads(model: StoredModel) -> dict[str, Head]:
    """Heads by the kinds of their targets; a potential has none."""
    return {kind: cast(Head, model.get_submodule(f"heads.{kind}")) for kind in model.names}


def _scales(model: StoredModel) -> dict[str, float]:
    """Factors from dimensionless readouts to the unit of the target, by target."""
    if not model.names:
        return {}
    scales = cast(MolecularPropertyModel, model).scales
    return dict(zip([target.name for target in scales.targets], scales.scale.tolist(), strict=True))


class LastLayerPosterior:
    r"""Sums the precision matrices of the last layers' weights over a data set; see :class:`LastLayerEnsemble`.

    Args:
        model: The model.
        noises: Standard deviation of labels minus predictions for every target with uncertainty, in the unit of the
            target; for energies, per atom.

    Raises:
        ValueError: A standard deviation is not positive.
    """

    def __init__(self, model: StoredModel, noises: Mapping[str, float]) -> None:
        wrong = {name: noise for name, noise in noises.items() if not noise > 0}
        if wrong:
            raise ValueError(f"noises must be positive; got {wrong}")
        targets, scales = uncertain_targets(model), _scales(model)
        self.model, self.layout = model, LabelLayout(targets)
        self.noises = {target.name: noises[target.name] / scales.get(target.name, 1.0) for target in targets}
        self.data = {
            layer: torch.zeros(weight.numel(), weight.numel(), dtype=torch.float64, device=model.device)
            for layer, weight in last_weights(model).items()
        }

    @in_own_precision
    def add(self, graph: Mapping[str, Tensor]) -> None:
        """Add the structures of a batch; labels that are NaN are ignored.

        Nothing is added if there is an error, so that a batch can be added again in parts if memory is insufficient.
        """
        added = list(self._of_energies(graph))
        for kind, jacobian in head_jacobians(self.model, graph).items():
            for column, name in enumerate(self.model.names[kind]):
                known = self._known(graph, name).reshape(len(jacobian), -1).all(1)
                J = jacobian[known, column].flatten(0, -2)
                added.append((kind, J.T @ J / self.noises[name] ** 2))
        for layer, part in added:
            self.data[layer] += part

    def _of_energies(self, graph: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The contributions of labels of energies and forces, with the name of the layer."""
        if self.model.potential is None:
            return
        data = self.data["energy"]
        directions = torch.eye(len(data), dtype=torch.float64, device=data.device)
        if fields.FORCES not in self.noises:
            directions = directions[:0]
        features, changes = last_layer_derivatives(self.model.potential, graph, directions)
        if fields.ENERGY in self.noises:
            batch, structures = graph[fields.BATCH], graph[fields.CELL].shape[0]
            sizes = torch.bincount(batch, minlength=structures)
            f = (segment_sum(features, batch, structures) / sizes[:, None])[self._known(graph, fields.ENERGY)]
            yield "energy", f.T @ f / self.noises[fields.ENERGY] ** 2
        if fields.FORCES in self.noises:
            g = torch.stack([change.flatten() for change in changes])[:, self._known(graph, fields.FORCES).flatten()]
            yield "energy", g @ g.T / self.noises[fields.FORCES] ** 2

    def _known(self, graph: Mapping[str, Tensor], name: str) -> Tensor:
        """Which labels of a target are known, in the shape of the labels."""
        return ~self.layout.get(graph, name).isnan()

    def roots(self, scale: float = 1.0) -> dict[str, Tensor]:
        r"""Matrices L with :math:`L L^T = \Sigma` for ``scale`` times the data that were added."""
        roots = {}
        for layer, data in self.data.items():
            values, vectors = torch.linalg.eigh(scale * data)
            roots[layer] = vectors * (1.0 + values.clamp(min=0.0)).rsqrt()
        return roots


def directions_of(root: Tensor, number: int, *, seed: int = 0) -> Tensor:
    """Random directions of a posterior, at most as many as there are weights.

    Args:
        root: A root L of the covariance, (K, K).
        number: Number of directions.
        seed: Random seed.

    Returns:
        The directions, (M, K).

    Raises:
        ValueError: The number is not positive.

    Example:
        >>> directions = directions_of(torch.eye(3), 7)
        >>> torch.allclose(directions.T @ directions, torch.eye(3, dtype=torch.float64))
        True
    """
    if number < 1:
        raise ValueError(f"the number of members must be at least 1; got {number}")
    size = len(root)
    count = min(number, size)
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q[:count]
    return (size / count) ** 0.5 * Q.to(root.device) @ root.double().T
