"""The kernels of a potential, between pairs of atoms that have no other neighbors."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from ase.data import atomic_numbers, chemical_symbols
from e3nn import o3
from torch import Tensor

from ik_e3nn.blocks import Edges, Interaction
from ik_e3nn.blocks.anisotropy import Factors
from ik_e3nn.errors import ConfigError
from ik_e3nn.graph import BOND_NAMES, fields
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.show.subject import MOST_CASES, ShownKernel, fields_of, single

PROBES = 24  # points at which channels are compared


class Pair(NamedTuple):
    """Species (indices in the model) of both ends, and the type of their bond."""

    receiver: int
    sender: int
    bond: int


Whole = Callable[[Tensor, Pair, Sequence[int]], Tensor]
"""Maps points, a pair and columns to the kernel of all fields, (n, dim_out, columns)."""


def potential_kernel(
    model: InteratomicPotential, *, layer: int = 0, pairs: Sequence[str] = (), channels: tuple[int, int] | None = None
) -> ShownKernel:
    """The kernel from fields of a sender to fields of a receiver, which is at the points relative to the sender.

    It leaves out the linear map of the features before the kernel and the factors after it. Later layers depend on
    features, for which the features of isolated atoms are used.

    Args:
        model: The model.
        layer: Number of the interaction.
        pairs: Receiver and sender, such as "C-O", and the type of the bond for models that see bonds, such as
            "C-O:double"; a selection if absent.
        channels: Channel of the input and of the output; if absent, the channels between which the kernel of the first
            pair is strongest.

    Raises:
        ConfigError: The model has no such layer, species, bond or channel.

    Example:
        >>> model = InteratomicPotential(["H", "O"], num_channels=8)
        >>> shown = potential_kernel(model, pairs=["H-O", "O-O"])
        >>> shown.irreps_in, shown.matrix(torch.randn(5, 3), 0, None).shape
        (1x0e, torch.Size([5, 16, 1]))
    """
    if not 0 <= layer < len(model.interactions):
        raise ConfigError(f"the model has layers 0 to {len(model.interactions) - 1}; got layer {layer}")
    chosen = [_pair(model, text) for text in pairs] or _some_pairs(model)
    interaction = cast(Interaction, model.interactions[layer])
    irreps_in, irreps_out = interaction.conv.irreps_in, interaction.conv.irreps_out
    features, factors = _isolated(model, layer)
    dtype = features.dtype

    def whole(points: Tensor, pair: Pair, columns: Sequence[int]) -> Tensor:
        with torch.no_grad():
            return (
                _columns(interaction, features, factors, pair, points.to(model.device, dtype), columns).double().cpu()
            )

    if channels is None:
        channels = _strongest(whole, chosen[0], irreps_in, irreps_out, model.r_max)
    for irreps, channel in zip((irreps_in, irreps_out), channels, strict=True):
        if not 0 <= channel < irreps[0].mul:
            raise ConfigError(f"the model has channels 0 to {irreps[0].mul - 1}; got channel {channel}")
    columns, rows = fields_of(irreps_in, channels[0]), fields_of(irreps_out, channels[1])

    def matrix(points: Tensor, case: int, g: Tensor | None) -> Tensor:
        return whole(points, chosen[case], columns)[:, rows]  # rotations do not change species and bonds

    names = tuple(_name(model, pair) for pair in chosen)
    return ShownKernel(single(irreps_in), single(irreps_out), model.group, model.r_max, names, matrix)


def _isolated(model: InteratomicPotential, layer: int) -> tuple[Tensor, Factors | None]:
    """Features of isolated atoms that the kernel of a layer sees, (species, dim), and their factors."""
    species = torch.arange(len(model.species), device=model.device)
    neutral = {fields.TOTAL_CHARGE: 0.0, fields.SPIN: 1.0}
    like = model.node_embedding.species
    with torch.no_grad():
        inputs = {name: like.new_full(species.shape, value) for name, value in neutral.items()}
        places = like.new_zeros(len(species), 3)
        initial = features = model.first_features(species, inputs, places)
        factors = None if model.factors is None else model.factors(species, places)
        nothing = torch.zeros(0, 1, dtype=torch.long, device=model.device)
        edges = Edges(nothing, nothing[:, 0], like.new_zeros(0, 1, 3), nothing)
        for interaction in list(model.interactions)[:layer]:
            features = interaction(features, model.seen(initial, features), species, edges, factors=factors)
    return model.seen(initial, features), factors


def _columns(
    interaction: Interaction,
    features: Tensor,
    factors: Factors | None,
    pair: Pair,
    points: Tensor,
    columns: Sequence[int],
) -> Tensor:
    """Convolve unit fields, with a separate edge for every point and column: (n, dim_out, columns)."""
    species = torch.tensor([pair.receiver, pair.sender], device=features.device)
    own = None if factors is None else factors.of(species)
    senders, receivers = interaction.ends(features[species], species, factors=own)
    n, many = len(points), len(points) * len(columns)
    units = torch.eye(interaction.conv.irreps_in.dim, dtype=features.dtype, device=features.device)[list(columns)]
    sender_of = torch.arange(len(columns), device=features.device).repeat(n)[:, None]
    bonds = torch.full_like(sender_of, pair.bond)
    edges = Edges(
        sender_of, torch.arange(many, device=features.device), points.repeat_interleave(len(columns), 0)[:, None], bonds
    )
    h = interaction.filter_fields(senders[1:].expand(len(columns), -1), receivers[:1].expand(many, -1), edges)
    x = torch.cat([units[:, b.place].unflatten(1, (b.mul, b.dim)).permute(2, 0, 1) for b in interaction.conv.blocks_in])
    parts = interaction.conv.on_components(x, edges.senders, h, edges.owners, many)
    return torch.cat([part.permute(1, 2, 0).flatten(1) for part in parts], 1).unflatten(0, (n, -1)).mT


def _strongest(whole: Whole, pair: Pair, irreps_in: o3.Irreps, irreps_out: o3.Irreps, r_max: float) -> tuple[int, int]:
    """Channels of the input and the output between which the kernel is largest, summed over some points."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(PROBES, 3, generator=generator, dtype=torch.float64))
    points = directions * (0.2 + 0.6 * torch.rand(PROBES, 1, generator=generator, dtype=torch.float64)) * r_max
    K = whole(points, pair, range(irreps_in.dim))
    outs, ins = irreps_out[0].mul, irreps_in[0].mul
    size = torch.zeros(outs, ins, dtype=torch.float64)
    for (_, ir_out), s_out in zip(irreps_out, irreps_out.slices(), strict=True):
        for (_, ir_in), s_in in zip(irreps_in, irreps_in.slices(), strict=True):
            block = K[:, s_out, s_in].reshape(PROBES, outs, ir_out.dim, ins, ir_in.dim)
            size += block.square().sum((0, 2, 4))
    best = int(size.argmax())
    return best % ins, best // ins


def _pair(model: InteratomicPotential, text: str) -> Pair:
    """A pair from text like "C-O" or "C-O:double"."""
    ends, _, bond = text.partition(":")
    names = ends.split("-")
    numbers = [atomic_numbers.get(name) for name in names]
    if len(names) != 2 or any(number not in model.species for number in numbers):
        known = ", ".join(chemical_symbols[z] for z in model.species)
        raise ConfigError(
            f"pairs must name two of the model's species ({known}), such as C-O or C-O:double; got {text!r}"
        )
    if bond and (bond not in BOND_NAMES or not _sees_bonds(model)):
        kinds = f"one of {', '.join(BOND_NAMES)}" if _sees_bonds(model) else "none, since the model does not see bonds"
        raise ConfigError(f"the bond of a pair must be {kinds}; got {text!r}")
    receiver, sender = (model.species.index(cast(int, number)) for number in numbers)
    return Pair(receiver, sender, BOND_NAMES.index(bond) if bond else 0)


def _some_pairs(model: InteratomicPotential) -> list[Pair]:
    """Pairs of one species (carbon if known) with itself for all types of bonds, or else with all species."""
    count = len(model.species)
    middle = model.species.index(6) if 6 in model.species else count - 1
    if _sees_bonds(model):
        return [Pair(middle, middle, bond) for bond in range(len(BOND_NAMES))]
    return [Pair(middle, sender, 0) for sender in range(count)][:MOST_CASES]


def _sees_bonds(model: InteratomicPotential) -> bool:
    return fields.BOND_TYPES in model.inputs


def _name(model: InteratomicPotential, pair: Pair) -> str:
    ends = "-".join(chemical_symbols[model.species[k]] for k in (pair.receiver, pair.sender))
    return f"{ends}, {BOND_NAMES[pair.bond]}" if _sees_bonds(model) else ends
