"""Models of properties that say how sure they are: committees, and the last layers of one model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import functional_call, jvp, vmap

from ik_e3nn.errors import DataError
from ik_e3nn.models.networks.modes import in_own_precision, with_gradients
from ik_e3nn.models.networks.property import MolecularPropertyModel
from ik_e3nn.models.uncertainty.ensemble import Ensemble
from ik_e3nn.models.uncertainty.potentials import check_factor
from ik_e3nn.targets import LabelLayout
from ik_e3nn.targets.head import Atomwise, Head, Molecules

STD = "_std"
TANGENTS = 64  # directions of weights that are followed at once


class UncertainProperties(Ensemble[MolecularPropertyModel]):
    r"""A model of properties whose values come with standard deviations.

    Its outputs are those of a :class:`MolecularPropertyModel`, and for every target ``NAME_std`` of the same shape and
    unit: a raw number times a calibrated factor of the target, :math:`\sigma_t = a_t \, s_t`.

    Args:
        members: Models of the same targets, on the same kind of graph.

    Raises:
        DataError: No models, or models that differ in their targets or graphs.
    """

    FACTORS = ("factors",)
    factors: Tensor

    def __init__(self, members: Sequence[MolecularPropertyModel]) -> None:
        if not members:
            raise DataError("uncertain properties need at least one model, got none")
        first = members[0]
        for model in members:
            for what in ("targets", "edges", "r_max"):
                if getattr(model, what) != getattr(first, what):
                    raise DataError(
                        f"models of a committee must have the same {what}, got {getattr(first, what)} and "
                        f"{getattr(model, what)}"
                    )
        super().__init__(members)
        self.targets, self.edges, self.r_max = first.targets, first.edges, first.r_max
        self.register_buffer("factors", torch.ones(len(self.targets), dtype=torch.float64))

    @abstractmethod
    def forward(self, graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict; see :class:`MolecularPropertyModel`."""

    def calibrate(self, factors: Mapping[str, float]) -> None:
        """Set factors of the standard deviations, by the targets' names.

        Raises:
            ValueError: A factor is none.
        """
        for column, target in enumerate(self.targets):
            factor = factors.get(target.name, 1.0)
            check_factor(target.name, factor)
            self.factors[column] = factor

    def _with_std(self, values: dict[str, Tensor], raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scaled = zip(self.targets, self.factors, strict=True)
        return values | {t.name + STD: factor * raw[t.name] for t, factor in scaled}


class PropertyCommittee(UncertainProperties):
    r"""Several models of properties, trained with different seeds or on different data, and how far they differ.

    Values are means over members, and :math:`s^2 = \frac{1}{M-1} \sum_m (y_m - \bar y)^2` for every component.

    Args:
        members: At least two models.

    Raises:
        DataError: Fewer models, or models that differ in their targets or graphs.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> from ase.build import molecule
        >>> from ik_e3nn.graph import build_molecular_graph
        >>> targets = [Intensive("gap", "eV")]
        >>> models = [MolecularPropertyModel(["H", "O"], targets, edges="radius").eval() for _ in range(2)]
        >>> PropertyCommittee(models)(build_molecular_graph(molecule("H2O"), "radius", 5.0))["gap_std"].shape
        torch.Size([1])
    """

    def __init__(self, members: Sequence[MolecularPropertyModel]) -> None:
        super().__init__(members)
        if len(members) < 2:
            raise DataError(f"a committee needs at least two models, got {len(members)}")

    def forward(self, graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See the base class."""
        outputs = [model(graph) for model in self.members]
        stacked = {t.name: torch.stack([output[t.name] for output in outputs]) for t in self.targets}
        values = {name: value.mean(0) for name, value in stacked.items()}
        return self._with_std(values, {name: value.std(0) for name, value in stacked.items()})


class LastLayerProperties(UncertainProperties):
    r"""One model of properties and the Gaussian posterior of the last weights of its heads.

    Readouts are linear in these weights (the length of a dipole nearly so), with derivatives
    :math:`J = \partial y / \partial w`. With the prior N(0, 1) and Gaussian noise the posterior is

    .. math:: \Sigma^{-1} = 1 + \sum_s \frac{J_s^T J_s}{\sigma^2}, \qquad s^2 = J \Sigma J^T

    with a sum over the labels of the training set, for every head by itself.

    Args:
        model: The model.
        roots: By the kinds of targets, matrices L with :math:`L L^T = \Sigma`.

    Raises:
        DataError: The matrices do not fit the model.

    Reference:
        Daxberger et al., Laplace Redux, NeurIPS 2021.

    Example:
        >>> from ik_e3nn.targets import Intensive
        >>> from ase.build import molecule
        >>> from ik_e3nn.graph import build_molecular_graph
        >>> model = MolecularPropertyModel(["H", "O"], [Intensive("gap", "eV")], edges="radius").eval()
        >>> ensemble = LastLayerProperties(model, {"intensive": 0.1 * torch.eye(128)})
        >>> ensemble(build_molecular_graph(molecule("H2O"), "radius", 5.0))["gap_std"].shape
        torch.Size([1])
    """

    def __init__(self, model: MolecularPropertyModel, roots: Mapping[str, Tensor]) -> None:
        super().__init__([model])
        for kind, (_, weight) in last_weights(model).items():
            size = weight.numel()
            if kind not in roots or roots[kind].shape != (size, size):
                found = tuple(roots[kind].shape) if kind in roots else None
                raise DataError(
                    f"the head of {kind} targets has {size} last weights, but the matrix is {found}: calibrate this "
                    "model again"
                )
            self.register_buffer(f"root_{kind}", roots[kind].double())

    @property
    def roots(self) -> dict[str, Tensor]:
        """Roots of the covariances, by the kinds of targets."""
        return {kind: getattr(self, f"root_{kind}").double() for kind in self.first.names}

    @with_gradients
    def forward(self, graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See the base class."""
        model = self.first
        values, raw = model(graph), {}
        scales = dict(zip([t.name for t in self.targets], model.scales.scale, strict=True))
        for kind, jacobian in head_jacobians(model, graph).items():
            stds = (jacobian @ self.roots[kind]).norm(dim=-1)
            for name, std in zip(model.names[kind], stds.unbind(1), strict=True):
                raw[name] = scales[name] * std
        return self._with_std(values, raw)


def last_weights(model: MolecularPropertyModel) -> dict[str, tuple[str, Tensor]]:
    """Name within its head and value of the last weights of every head, by the kinds of targets."""
    found = {}
    for kind, head in model.heads.items():
        weights = cast(Any, head).mlp.weights
        found[kind] = (f"mlp.weights.{len(weights) - 1}", weights[-1])
    return found


def head_jacobians(model: MolecularPropertyModel, graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Derivatives of dimensionless readouts by the last weights of their heads.

    Args:
        model: The model.
        graph: A graph or batch.

    Returns:
        By the kinds of targets, (B, targets of the kind, *shape, K), float64.
    """
    found = {}
    with torch.no_grad():
        molecules = model.molecules(graph)
        atoms = model.atomwise(graph, molecules)
        for kind, (name, weight) in last_weights(model).items():
            push = _derivative(cast(Head, model.heads[kind]), name, weight, atoms, molecules)
            directions = torch.eye(weight.numel(), dtype=weight.dtype, device=weight.device).unflatten(1, weight.shape)
            found[kind] = vmap(push, out_dims=-1, chunk_size=TANGENTS)(directions).double()
    return found


def _derivative(
    head: Head, name: str, weight: Tensor, atoms: Atomwise, molecules: Molecules
) -> Callable[[Tensor], Tensor]:
    """The change of readouts with a direction of the weights of this name."""

    def readouts(weight: Tensor) -> Tensor:
        return cast(Tensor, functional_call(head, {name: weight}, (atoms, molecules)))

    return lambda direction: jvp(readouts, (weight,), (direction,))[1]


class LastLayersPosterior:
    r"""Adds up the precisions of the posterior of the heads' last weights, see :class:`LastLayerProperties`.

    Args:
        model: The model.
        noises: Standard deviation of the labels of every target about the model, in the target's unit.

    Raises:
        ValueError: A standard deviation is not positive.
    """

    def __init__(self, model: MolecularPropertyModel, noises: Mapping[str, float]) -> None:
        wrong = {name: noise for name, noise in noises.items() if not noise > 0}
        if wrong:
            raise ValueError(f"noises must be positive; got {wrong}")
        scales = zip(model.targets, model.scales.scale.tolist(), strict=True)
        self.model, self.noises = model, {t.name: noises[t.name] / scale for t, scale in scales}
        self.data = {
            kind: torch.zeros(w.numel(), w.numel(), dtype=torch.float64, device=model.device)
            for kind, (_, w) in last_weights(model).items()
        }
        self.layout = LabelLayout(model.targets)

    @in_own_precision
    def add(self, graph: Mapping[str, Tensor]) -> None:
        """Add the molecules of a batch; labels that are NaN are none.

        Nothing is added if there is an error, so that a batch can be added in parts where the memory does not suffice.
        """
        added = []
        for kind, jacobian in head_jacobians(self.model, graph).items():
            for column, name in enumerate(self.model.names[kind]):
                known = ~self.layout.get(graph, name).isnan().reshape(len(jacobian), -1).any(1)
                J = jacobian[known, column].flatten(0, -2)
                added.append((kind, J.T @ J / self.noises[name] ** 2))
        for kind, part in added:
            self.data[kind] += part

    def roots(self, scale: float = 1.0) -> dict[str, Tensor]:
        r"""Matrices L with :math:`L L^T = \Sigma`, if the data added are one of ``scale`` equal parts."""
        roots = {}
        for kind, data in self.data.items():
            values, vectors = torch.linalg.eigh(scale * data)
            roots[kind] = vectors * (1.0 + values.clamp(min=0.0)).rsqrt()
        return roots
