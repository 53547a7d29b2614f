"""Make a potential beside surroundings from a potential of atoms alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ik_e3nn.blocks.anisotropy import O3, tensors_of
from ik_e3nn.blocks.face import parse_group
from ik_e3nn.graph import SURROUNDINGS
from ik_e3nn.models.networks.potential import InteratomicPotential
from ik_e3nn.symmetry import PlaneGroup, SymmetryGroup


def beside_surroundings(
    model: InteratomicPotential,
    kind: str,
    group: SymmetryGroup | PlaneGroup | str | dict[str, Any],
    *,
    field_degree: int | None = None,
) -> InteratomicPotential:
    """Make a potential for atoms beside surroundings, which at first predicts the energies and forces of another one.

    All weights are copied. The new parts, which see the surroundings, contribute nothing at first: the external field
    and all features and factors of positions are zero. They can be trained alone, see ``surroundings_masks``; far from
    the surroundings the potential then stays the one that it was made from.

    Args:
        model: A potential with the group O(3) that knows no surroundings; it is not changed.
        kind: "surface", "wire", "site" or "face".
        group: The symmetry group that the surroundings leave, see :class:`Surroundings`; the plane group of a face.
        field_degree: Degree of the external field of a site or a wire, see :class:`InteratomicPotential`.

    Returns:
        A new model on the same device and in the same dtype. Weights of the new parts that are not zero are random.

    Raises:
        ValueError: The model has another group or surroundings, or the group does not fit the surroundings or needs
            layers of SO(3).

    Example:
        >>> from ase.build import molecule
        >>> from ik_e3nn.graph import build_graph
        >>> water = InteratomicPotential(["H", "O"], num_channels=4).double().eval()
        >>> over_wall = beside_surroundings(water, "surface", "Cinfv")
        >>> graph = build_graph(molecule("H2O"), water.r_max, dtype=torch.float64)
        >>> bool((over_wall(graph)["energy"] - water(graph)["energy"]).abs() < 1e-12)
        True
    """
    known = sorted(model.inputs.intersection(SURROUNDINGS))
    if known:
        raise ValueError(f"inputs of the model have a {known[0]} already; start from a potential of atoms alone")
    if model.group != O3:
        raise ValueError(f"group of the model is {model.group.name}; surroundings can be added to O3 alone")
    inputs = frozenset({*model.inputs, kind})
    config = parse_group(group, inputs).to_config()
    new = type(model)(**{**model.config, "group": config, "inputs": sorted(inputs), "field_degree": field_degree})
    if _layers(new) != O3:
        raise ValueError(
            f"group {new.group.name} has layers of SO(3), which cannot have the weights of a model with the group O3: "
            "train a new model, or choose a group that contains mirrors or inversion"
        )
    new = new.to(device=model.device, dtype=model.dtype).train(model.training)
    _copy(model.state_dict(), new.state_dict())
    new.energy_reference_provenance = model.energy_reference_provenance
    new.trained_on = model.trained_on
    return new


def surroundings_masks(model: InteratomicPotential) -> dict[str, Tensor]:
    """Masks of the weights that act only near the surroundings.

    Args:
        model: A potential beside surroundings, with layers of O(3).

    Returns:
        By name, a mask of the shape of the parameter for every parameter that has such weights.

    Raises:
        ValueError: The model has no surroundings, or layers of SO(3).

    Example:
        >>> masks = surroundings_masks(InteratomicPotential(["H"], num_channels=4, group="Cinfv", inputs=["surface"]))
        >>> bool(masks["field.linear.weight"].all()), "readouts.0.scalars.weight" in masks
        (True, False)
    """
    around = model.inputs.intersection(SURROUNDINGS)
    if not around or _layers(model) != O3:
        what = "layers of SO(3)" if around else "no surroundings"
        raise ValueError(f"the model has {what}, so that it has no weights that act only near surroundings")
    inputs = sorted(model.inputs - around)
    alone = type(model)(**{**model.config, "group": O3, "inputs": inputs, "field_degree": None})
    common = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in alone.state_dict().items()}
    masks = {name: torch.ones_like(value, dtype=torch.bool) for name, value in model.state_dict().items()}
    _copy(common, masks)
    return {name: masks[name] for name, _ in model.named_parameters() if bool(masks[name].any())}


def _layers(model: InteratomicPotential) -> SymmetryGroup:
    """The group of the layers of a model."""
    in_features = model.surroundings is not None and model.surroundings.in_features
    return O3 if in_features else tensors_of(model.group).layers


def _copy(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Copy weights, by name, to those of a model that sees surroundings too.

    New features, paths and scalars of edges come after those that both models have. In matrices these are the first
    rows, and the layer divides by the root of the number of all rows; in the flat weights of an equivariant linear
    layer they are the first entries, and every degree has its own matrix.
    """
    with torch.no_grad():
        for name, source in state.items():
            rows = target[name]
            if rows.shape == source.shape:
                rows.copy_(source)
            elif rows.ndim == 1:
                rows[: len(source)] = source
            else:
                factor = (len(rows) / len(source)) ** 0.5
                rows[: len(source)] = source if source.dtype == torch.bool else source * factor
