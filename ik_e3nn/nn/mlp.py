"""The G-equivariant MLP."""

from typing import Literal

from e3nn import o3
from torch import Tensor, nn

from ik_e3nn.basis import spherical_irreps
from ik_e3nn.nn.gate import Gate
from ik_e3nn.nn.linear import EquivariantLinear
from ik_e3nn.nn.sphere.activation import SphereActivation
from ik_e3nn.nn.tensor_product import DampedSquare
from ik_e3nn.symmetry import SymmetryGroup

Activation = Literal["gate", "sphere", "product"]
GAIN = 1.15  # of products; it keeps layers near unit variance for large and for small groups


def nonlinearity(
    hidden: o3.Irreps, group: SymmetryGroup, activation: Activation, grid_degree: int | None = None
) -> tuple[nn.Module, o3.Irreps]:
    """A nonlinearity whose output is of type ``hidden``, and the type of its input.

    "gate" and "product" are exactly equivariant. "product" multiplies all pairs of fields of a channel before the gate,
    so that it depends on angles between fields. "sphere" is equivariant only as far as its grid, of degree
    ``grid_degree``, allows: see :class:`SphereActivation`. For scalars alone it is exact too.

    Raises:
        ValueError: ``hidden`` is not a type that the activation takes, or ``grid_degree`` is given for an activation
            that has no grid.
    """
    if grid_degree is not None and activation != "sphere":
        raise ValueError(
            f"grid_degree sets the grid of the sphere activation and has no effect on {activation!r}: leave it out, or "
            "take activation='sphere'"
        )
    if activation == "sphere":
        l_max, mul = hidden.lmax, hidden[0].mul
        if hidden != spherical_irreps(l_max, mul):
            raise ValueError(
                "the sphere activation needs the same number of every harmonic, like "
                f"{spherical_irreps(2, 16)}; got {hidden}"
            )
        return SphereActivation(mul, l_max, degree=grid_degree), hidden
    if activation not in ("gate", "product"):
        raise ValueError(f"activation must be 'gate', 'sphere' or 'product'; got {activation!r}")
    gate = Gate(hidden)
    if activation == "gate":
        return gate, gate.irreps_in
    if len({mul for mul, _ in hidden}) > 1:
        raise ValueError(
            f"the activation 'product' multiplies the fields of a channel and needs one multiplicity for every irrep, "
            f"like 16x0e + 16x1o; got {hidden}: change the multiplicities, or take activation='gate'"
        )
    square = DampedSquare(hidden, group, gain=GAIN)
    return nn.Sequential(square, EquivariantLinear(hidden, gate.irreps_in, group, bias=True), gate), hidden


def hidden_layer(
    irreps_in: o3.Irreps,
    hidden: o3.Irreps,
    group: SymmetryGroup,
    activation: Activation,
    grid_degree: int | None = None,
) -> nn.Sequential:
    """A G-linear layer with bias, and a nonlinearity whose output is of type ``hidden``; see ``nonlinearity``."""
    function, wanted = nonlinearity(hidden, group, activation, grid_degree)
    return nn.Sequential(EquivariantLinear(irreps_in, wanted, group, bias=True), function)


class EquivariantMLP(nn.Module):
    r"""Linear layers that commute with G, and equivariant nonlinearities between them.

    .. math:: x \mapsto L_n \circ \sigma \circ \dots \circ \sigma \circ L_1 (x)

    Args:
        irreps_in: Type of the input.
        irreps_hidden: Type of all hidden features.
        irreps_out: Type of the output.
        group: The group G, or its name.
        layers: Number of linear layers, at least 1.
        activation: "gate" (exact), "product" (exact; depends on angles between the fields of a channel) or "sphere"
            (used in the paper; equivariant only approximately, with the errors given in :class:`SphereActivation`).

    Reference:
        Zhdanov et al., NeurIPS 2023, section 3.3.

    Example:
        >>> import torch
        >>> mlp = EquivariantMLP("4x0e + 1o", "16x0e + 16x1o", "3x0e + 1o", "C4v", layers=3)
        >>> mlp(torch.randn(5, 7)).shape
        torch.Size([5, 6])
    """

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        irreps_hidden: o3.Irreps | str,
        irreps_out: o3.Irreps | str,
        group: SymmetryGroup | str = "O3",
        *,
        layers: int = 2,
        activation: Activation = "gate",
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"an MLP needs at least 1 linear layer; got layers={layers}")
        self.irreps_in, self.irreps_out = o3.Irreps(irreps_in), o3.Irreps(irreps_out)
        self.group = SymmetryGroup.from_config(group)
        hidden = o3.Irreps(irreps_hidden)
        types = [self.irreps_in] + [hidden] * (layers - 1)
        self.hidden_layers = nn.ModuleList(hidden_layer(t, hidden, self.group, activation) for t in types[:-1])
        self.last = EquivariantLinear(types[-1], self.irreps_out, self.group, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., irreps_in.dim) to (..., irreps_out.dim)."""
        for layer in self.hidden_layers:
            x = layer(x)
        return self.last(x)
