"""Models that predict standard deviations: their base class, and committees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from ik_e3nn.errors import DataError
from ik_e3nn.graph import fields
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.models.networks.stored import StoredModel
from ik_e3nn.targets import Target

STD = "_std"
MOST = 1e9  # largest factor of standard deviations


class Ensemble(nn.Module, ABC):
    r"""A model whose predictions have standard deviations.

    It predicts the same targets as its members, and for every target except the stress ``NAME_std`` of the same shape
    and unit: the standard deviation of every component, a raw number times a calibrated factor of the target:

    .. math:: \sigma_t = a_t \, s_t, \qquad a_t^2 = \big\langle (\Delta_t / s_t)^2 \big\rangle_{validation}

    Args:
        members: Models of the same targets on the same kind of graph; potentials must have the same inputs.

    Attributes:
        kind: Name of the kind of ensemble in files.
        tensor_names: Regular expression of the names of its tensors in files.
        potential_tensors: Names of those tensors that belong to energies and forces.
        uncertain: The targets that have standard deviations, in the order of ``factors``.

    Raises:
        DataError: There are no models, or the models have different targets or inputs.
    """

    kind: ClassVar[str]
    tensor_names: ClassVar[str] = ""
    potential_tensors: ClassVar[frozenset[str]] = frozenset()
    factors: Tensor

    def __init__(self, members: Sequence[StoredModel]) -> None:
        if not members:
            raise DataError("an ensemble needs at least one model, got none")
        first = members[0]
        # The cutoffs of potentials may differ, because edges beyond a cutoff contribute exactly zero to the energy.
        for what in ("targets", "inputs") if first.edges is None else ("targets", "edges", "r_max"):
            for model in members:
                if getattr(model, what) != getattr(first, what):
                    one, other = (_shown(getattr(one, what)) for one in (first, model))
                    raise DataError(f"models of a committee must have the same {what}, got {one} and {other}")
        super().__init__()
        self.members = nn.ModuleList(members)
        self.species = tuple(z for z in first.species if all(z in model.species for model in members))
        self.inputs = frozenset[str]().union(*(model.inputs for model in members))
        self.targets, self.edges, self.uncertain = first.targets, first.edges, uncertain_targets(first)
        self.r_max = max(model.r_max for model in members)
        self.register_buffer("factors", torch.ones(len(self.uncertain), dtype=torch.float64))

    @abstractmethod
    def forward(self, graph: Mapping[str, Tensor], *, std: bool = True, **options: bool) -> dict[str, Tensor]:
        """Predict the targets.

        Args:
            graph: A graph or batch with the inputs of the members.
            std: Whether to compute standard deviations as well.
            **options: Options of the members, like ``forces``; targets that are left out have no standard deviations.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that a file stores besides the factors."""

    @classmethod
    @abstractmethod
    def restored(cls, models: Sequence[StoredModel], tensors: Mapping[str, Tensor]) -> Ensemble:
        """Build an ensemble from its models and the result of ``tensors``; its factors must be set afterwards.

        Raises:
            DataError: The models or tensors do not fit this kind of ensemble.
        """

    def calibrate(self, factors: Mapping[str, float]) -> None:
        """Set the factors of the standard deviations by name of the target; the default is 1.

        Raises:
            ValueError: A factor is not positive, or so large or small that the standard deviations are meaningless.
        """
        found = [factors.get(target.name, 1.0) for target in self.uncertain]
        for target, factor in zip(self.uncertain, found, strict=True):
            check_factor(target.name, factor)
        self.factors.copy_(torch.tensor(found, dtype=torch.float64))

    def with_std(self, values: dict[str, Tensor], raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions with calibrated standard deviations, from the raw standard deviations."""
        scaled = zip(self.uncertain, self.factors, strict=True)
        return values | {
            target.name + STD: factor * raw[target.name] for target, factor in scaled if target.name in raw
        }

    def of_potentials(self) -> Ensemble:
        """The potentials of joint models, with the same standard deviations of energies and forces.

        The weights are shared with this ensemble.

        Raises:
            DataError: The models do not predict both energies and forces.
        """
        names = [target.name for target in self.uncertain]
        potentials = [cast(StoredModel, member).potential for member in self.members]
        found = [one for one in potentials if one is not None]
        if len(found) < len(potentials) or not {fields.ENERGY, fields.FORCES} <= {*names}:
            raise DataError(
                f"the models predict {', '.join(names)}; standard deviations in simulations need models that predict "
                "both energy and forces"
            )
        return self.of(found, {name: one for name, one in self.tensors().items() if name in self.potential_tensors})

    def of(self, models: Sequence[StoredModel], tensors: Mapping[str, Tensor]) -> Ensemble:
        """The same factors for other models, with tensors as in a file.

        Raises:
            DataError: The models or tensors do not fit this kind of ensemble.
        """
        ensemble = self.restored(models, tensors)
        factors = zip(self.uncertain, self.factors.tolist(), strict=True)
        ensemble.calibrate({target.name: factor for target, factor in factors})
        return ensemble.to(device=models[0].device).train(self.training)

    @property
    def first(self) -> StoredModel:
        """The first model."""
        return cast(StoredModel, self.members[0])

    @property
    def outputs(self) -> tuple[str, ...]:
        """Outputs of potentials, with the standard deviations; models of properties have no such list."""
        return (*cast(InteratomicPotential, self.first).outputs, *fields.STDS)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the first model's parameters."""
        return self.first.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.first.device

    @property
    def surroundings(self) -> nn.Module | None:
        """The surroundings of the first potential; None for models of properties."""
        return None if self.first.potential is None else self.first.potential.surroundings

    @property
    def max_edges(self) -> int | None:
        """Largest number of edges that a potential computes at once."""
        return None if self.first.potential is None else self.first.potential.max_edges

    @max_edges.setter
    def max_edges(self, value: int | None) -> None:
        for model in self.members:
            potential = cast(StoredModel, model).potential
            if potential is not None:
                potential.max_edges = value

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Move to another device or dtype, but keep the factors in float64."""
        factors = self.factors
        super()._apply(fn, recurse)
        self.factors = factors.to(self.device)
        return self


class Committee(Ensemble):
    r"""Several models, trained with different seeds or on different data, with the spread of their predictions.

    .. math:: \bar y = \frac 1 M \sum_m y_m, \qquad s^2 = \frac{1}{M-1} \sum_m (y_m - \bar y)^2

    for the energy of a structure, and for every component of the forces and of other targets.

    Args:
        members: At least two models.

    Raises:
        DataError: There are fewer than two models, or the models have different targets or inputs.

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.graph import build_graph
        >>> committee = Committee([InteratomicPotential(["H", "O"], num_channels=4).eval() for _ in range(3)])
        >>> committee(build_graph(molecule("H2O"), committee.r_max))["forces_std"].shape
        torch.Size([3, 3])
    """

    kind = "committee"

    def __init__(self, members: Sequence[StoredModel]) -> None:
        super().__init__(members)
        if len(members) < 2:
            raise DataError(f"a committee needs at least two models, got {len(members)}")

    def forward(self, graph: Mapping[str, Tensor], *, std: bool = True, **options: bool) -> dict[str, Tensor]:
        """Predict the targets; the standard deviations need no extra time."""
        outputs = [model(graph, **options) for model in self.members]
        stacked = {name: torch.stack([output[name] for output in outputs]) for name in outputs[0]}
        values = {name: value.mean(0) for name, value in stacked.items()}
        if not std:
            return values
        return self.with_std(values, {name: value.double().std(0) for name, value in stacked.items()})

    def tensors(self) -> dict[str, Tensor]:
        """See the base class."""
        return {}

    @classmethod
    def restored(cls, models: Sequence[StoredModel], tensors: Mapping[str, Tensor]) -> Committee:
        """See the base class."""
        del tensors
        return cls(models)


def uncertain_targets(model: StoredModel) -> tuple[Target, ...]:
    """The targets of a model that can have standard deviations: all except the stress.

    >>> [target.name for target in uncertain_targets(InteratomicPotential(["H"], num_channels=4))]
    ['energy', 'forces']
    """
    return tuple(target for target in model.targets if target.field is None or target.name + STD in fields.STDS)


def check_factor(name: str, value: float) -> None:
    """Raise unless a number can be the factor of a standard deviation.

    Args:
        name: Name of the target.
        value: The factor.

    Raises:
        ValueError: It is not positive, or so large or small that the standard deviations are meaningless.

    >>> check_factor("energy", 1e30)
    Traceback (most recent call last):
    ...
    ValueError: the factor of the standard deviation of energy must be between 1e-09 and 1e+09; got 1e+30
    """
    if not 1 / MOST <= value <= MOST:
        raise ValueError(
            f"the factor of the standard deviation of {name} must be between {1 / MOST:g} and {MOST:g}; got {value:g}"
        )


def _shown(value: Any) -> Any:
    """A value as it is shown in messages: sets are sorted."""
    return sorted(value) if isinstance(value, frozenset) else value
