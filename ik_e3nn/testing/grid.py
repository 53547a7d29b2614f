"""The symmetries of a square or cubic grid, and the error of equivariance of a function of fields under them."""

from collections.abc import Callable

import torch
from e3nn import o3
from torch import Tensor

from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.testing.equivariance import EquivarianceError
from ik_e3nn.testing.representation import representation


def grid_symmetries(group: SymmetryGroup | str, dims: int) -> Tensor:
    """The elements of a group that map a grid to itself: rotations by 90 degrees, mirrors and their products.

    Args:
        group: The group, or its name.
        dims: 2 for a grid in the plane (x, y, 0), 3 for one in space.

    Returns:
        Signed permutation matrices (n, 3, 3), float64; the identity first.

    Example:
        >>> len(grid_symmetries("SO2", 2)), len(grid_symmetries("Cinfv", 2)), len(grid_symmetries("O3", 3))
        (4, 8, 48)
    """
    symmetry = SymmetryGroup.from_config(group)
    cube = SymmetryGroup("Oh").components.round()
    if dims == 2:
        cube = cube[cube[:, 2, 2] != 0]
    chosen = [g for g in cube if symmetry.contains(g)]
    return torch.stack(sorted(chosen, key=lambda g: -float(g.trace())))


def move_grid(features: Tensor, irreps: o3.Irreps | str, g: Tensor) -> Tensor:
    r"""Apply a symmetry of the grid to a field.

    .. math:: (g f)(x) = D(g) \, f(g^{-1} x)

    with x measured from the center of the grid.

    Args:
        features: (B, irreps.dim, *grid).
        irreps: Their type.
        g: Signed permutation matrix (3, 3).

    Returns:
        The field on the moved grid; axes of different lengths may change places.

    Example:
        >>> turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> move_grid(torch.tensor([[[[1.0, 2], [3, 4]]]]), "0e", turn)
        tensor([[[[2., 4.],
                  [1., 3.]]]])
    """
    dims = features.ndim - 2
    part = g[:dims, :dims].round()
    axes = part.abs().argmax(1).tolist()
    moved = features.permute(0, 1, *[2 + axis for axis in axes])
    moved = moved.flip([2 + axis for axis in range(dims) if part[axis].sum() < 0])
    D = representation(irreps, g.double()).to(features)
    return torch.einsum("ij,bj...->bi...", D, moved)


def grid_equivariance_error(
    function: Callable[..., Tensor],
    irreps_in: o3.Irreps | str,
    irreps_out: o3.Irreps | str,
    elements: Tensor,
    *,
    features: Tensor,
    attributes: tuple[o3.Irreps | str, Tensor] | None = None,
) -> float:
    r"""Largest violation of equivariance over symmetries of the grid, relative to the size of the output.

    .. math:: \max_{g} |F(g f, D(g) a) - g F(f, a)| \,/\, \mathrm{rms} F(f, a)

    Args:
        function: Takes features, and attributes if there are any.
        irreps_in: Type of the features.
        irreps_out: Type of the result.
        elements: Symmetries of the grid, (n, 3, 3).
        features: (B, irreps_in.dim, *grid).
        attributes: Type and values (B, dimension) of attributes of the samples.

    Raises:
        EquivarianceError: The result is zero everywhere, so that nothing would be tested.

    Example:
        >>> grid_equivariance_error(torch.relu, "0e", "0e", grid_symmetries("Oh", 2), features=torch.randn(2, 1, 5, 5))
        0.0
    """
    worst = 0.0
    with torch.no_grad():
        extra = () if attributes is None else (attributes[1],)
        expected = function(features, *extra)
        size = float(expected.double().square().mean().sqrt())
        if not size > 0:
            raise EquivarianceError(f"the output of type {irreps_out} is zero everywhere: nothing would be tested")
        for g in elements:
            if attributes is not None:
                extra = (attributes[1] @ representation(attributes[0], g).T.to(attributes[1]),)
            moved = function(move_grid(features, irreps_in, g), *extra)
            difference = (moved - move_grid(expected, irreps_out, g)).abs().max()
            worst = max(worst, float(difference.double().nan_to_num(torch.inf)) / size)
    return worst
