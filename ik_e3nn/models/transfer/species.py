"""Add chemical elements to a trained model."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ik_e3nn.blocks.embedding import TypeEmbedding, types_of_weights
from ik_e3nn.blocks.surroundings import PlaceEmbedding
from ik_e3nn.models.networks.hyperparameters import parse_species
from ik_e3nn.models.networks.potential import InteratomicPotential

Model = TypeVar("Model", bound=nn.Module)

_NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)  # elements before each period
_COLUMNS = 18


def extended(model: InteratomicPotential, species: Iterable[int | str]) -> InteratomicPotential:
    """Make a model with more elements, which predicts the same energies and forces for the known elements.

    All weights are copied. A new element starts with the weights of the most similar known element, see
    ``most_similar``, and with an E0 of zero.

    Args:
        model: The model; it is not changed.
        species: Atomic numbers or symbols of elements to add.

    Returns:
        A new model on the same device and in the same dtype; a copy if no element is new.

    Example:
        >>> water = InteratomicPotential(["H", "O"], num_channels=4)
        >>> extended(water, ["S"]).species
        (1, 8, 16)
    """
    union = parse_species([*model.species, *species])
    sources = {z: z if z in model.species else most_similar(z, model.species) for z in union}
    config = {**model.config, "species": list(union)}
    new = type(model)(**config).to(device=model.device, dtype=model.dtype).train(model.training)
    transplant(model, new, sources)
    fresh = [index for index, z in enumerate(union) if z not in model.species]
    new.atomic_energy.reference[fresh] = 0.0
    new.energy_reference_provenance = model.energy_reference_provenance
    new.trained_on = model.trained_on
    return new


def transplant(old: InteratomicPotential, new: InteratomicPotential, sources: Mapping[int, int]) -> None:
    """Copy weights and buffers of one model into another that differs only in its elements.

    Args:
        old: The source; it may have parts that the other model lacks.
        new: The destination; elements without a source keep their weights.
        sources: For elements of the new model, the element of the old model to copy from, by atomic numbers.
    """
    _transplant(old, new, sources, old.state_dict(), new.state_dict())


def _transplant(
    old: InteratomicPotential,
    new: InteratomicPotential,
    sources: Mapping[int, int],
    state: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
) -> None:
    """Copy values of the weights of one model to those of another, both by name; see ``transplant``."""
    rows = [index for index, z in enumerate(new.species) if z in sources]
    taken = [old.species.index(sources[new.species[index]]) for index in rows]
    counts, before = (len(old.species), len(new.species)), dict(old.named_modules())
    special = {}
    for name, module in new.named_modules():
        if isinstance(module, TypeEmbedding | PlaceEmbedding):
            special[f"{name}.linear.weight"] = before[name].linear, module.linear
    with torch.no_grad():
        for name, tensor in target.items():
            source = state[name]
            if source.shape == tensor.shape:  # independent of elements, or with the same elements
                tensor.copy_(source)
            elif name in special:
                types = [types_of_weights(linear, n) for linear, n in zip(special[name], counts, strict=True)]
                for row, taken_row in zip(rows, taken, strict=True):
                    tensor[types[1] == row] = source[types[0] == taken_row]
            else:
                axis = next(
                    i for i, sizes in enumerate(zip(source.shape, tensor.shape, strict=True)) if sizes == counts
                )
                tensor.index_copy_(
                    axis,
                    torch.tensor(rows, device=tensor.device),
                    source.index_select(axis, torch.tensor(taken, device=source.device)),
                )


def new_element_masks(old: InteratomicPotential, new: InteratomicPotential) -> dict[str, Tensor]:
    """Masks of the weights that belong to elements which only the second of two models has.

    Args:
        old: A model.
        new: A model with the same elements and further ones.

    Returns:
        By name, a mask of the shape of the parameter for every parameter that has such weights.
    """
    known = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in old.state_dict().items()}
    masks = {name: torch.ones_like(value, dtype=torch.bool) for name, value in new.state_dict().items()}
    _transplant(old, new, {z: z for z in old.species}, known, masks)
    return {name: masks[name] for name, _ in new.named_parameters() if bool(masks[name].any())}


def most_similar(element: int, known: Iterable[int]) -> int:
    """The known element that is nearest in the periodic table, first by column, then by row.

    Args:
        element: Atomic number.
        known: Atomic numbers to choose from.

    Example:
        >>> most_similar(17, [1, 6, 7, 8, 9]), most_similar(15, [1, 6, 7, 8])  # Cl: F, P: N
        (9, 7)
    """
    period, column = place_in_table(element)

    def distance(z: int) -> tuple[int, int]:
        row, group = place_in_table(z)
        return abs(group - column), abs(row - period)

    return min(sorted(known), key=distance)


def place_in_table(element: int) -> tuple[int, int]:
    """Period and column, 1 to 18, of an element; lanthanides and actinides share column 3.

    Example:
        >>> [place_in_table(z) for z in (1, 2, 6, 17, 26, 57)]
        [(1, 1), (1, 18), (2, 14), (3, 17), (4, 8), (6, 3)]
    """
    period = next(i for i, first in enumerate(_NOBLE) if element <= first)
    place, length = element - _NOBLE[period - 1], _NOBLE[period] - _NOBLE[period - 1]
    return period, place if place <= 2 and (place, length) != (2, 2) else max(3, _COLUMNS - length + place)
