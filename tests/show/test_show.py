"""Pictures show the kernel that the network uses, and the check of rotations tells right from wrong."""

import numpy as np
import pytest
import torch
from e3nn import o3
from matplotlib.figure import Figure

from ik_e3nn.basis import BesselBasis, RadialHarmonicBasis
from ik_e3nn.blocks import Edges
from ik_e3nn.conv import PointConv
from ik_e3nn.errors import ConfigError
from ik_e3nn.kernels import ImplicitKernel
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.pictures import WIDTH, save
from ik_e3nn.show import (
    Plane,
    cases_figure,
    convolution_kernel,
    draw_block,
    inside,
    most_moved,
    outside,
    potential_kernel,
    random_kernel,
    rotation_error,
    rotation_figure,
    slices_figure,
    sphere_figure,
    turned,
)
from ik_e3nn.symmetry import SymmetryGroup
from tests.pictures import faults

SMALL = {"num_channels": 4, "num_layers": 2, "l_max": 2, "l_features": 1, "correlation": 2, "r_max": 3.0}


@pytest.mark.parametrize("group", ["Cs", "C4v", "Td", "SO2", "SO3", "O3"])
@pytest.mark.parametrize("attributes", ["2x0e", "1x1o"])
def test_random_kernels_turn_with_what_they_see(group, attributes):
    kernel = random_kernel(group, "0e + 1o", "0e + 1o", irreps_attributes=attributes)
    for case in range(len(kernel.cases)):
        assert rotation_error(kernel, inside(kernel.group), case) < 1e-10
        other = outside(kernel.group)
        assert other is None or rotation_error(kernel, other, case) > 0.01
    assert (outside(kernel.group) is None) == (group == "O3")


def test_elements_inside_and_outside():
    for name in ("C1", "Ci", "Cs", "C3", "D4h", "Ih", "SO2", "Dinfh", "SO3", "O3"):
        group = SymmetryGroup(name)
        assert group.contains(inside(group))
        other = outside(group)
        assert other is None or not group.contains(other)


def test_with_a_vector_the_kernel_turned_is_the_kernel_of_the_turned_vector():
    kernel = random_kernel("O3", "0e", "0e + 1o", irreps_attributes="1x1o")
    g = SymmetryGroup("O3").random_elements(1, torch.Generator().manual_seed(0))[0]
    points = torch.randn(20, 3, dtype=torch.float64)
    case = most_moved(kernel, g)
    assert case > 0  # not the one without the vector
    moved = kernel.matrix(points, case, g)
    assert torch.allclose(turned(kernel, points, g, case), moved, atol=1e-12)
    assert (kernel.matrix(points, case, None) - moved).abs().max() > 0.01


def test_first_fields_of_a_convolution():
    kernel = ImplicitKernel("1x0e", "4x0e + 4x1o", basis=RadialHarmonicBasis(BesselBasis(3.0), 1)).double()
    conv = PointConv("2x0e + 3x1o", "2x1o", kernel).double()
    shown = convolution_kernel(kernel, conv, reach=3.0, cases={"a": torch.tensor([0.5])})
    points = torch.randn(4, 3, dtype=torch.float64)
    K = kernel.matrix(conv, points, torch.full((4, 1), 0.5, dtype=torch.float64))
    found = shown.matrix(points, 0, None)
    assert torch.allclose(found, K[:, :3][:, :, [0, 2, 3, 4]], rtol=0, atol=1e-14)  # sums round otherwise
    assert found.abs().max() > 0.01
    assert torch.equal(shown.block(K[:, :3][:, :, [0, 2, 3, 4]], 0, 1), K[:, :3, 2:5])


@pytest.mark.parametrize(("group", "inputs"), [("O3", ("bond_types",)), ("Cinfv", ("surface",)), ("O3", ("spin",))])
@pytest.mark.parametrize(("layer", "seen"), [(0, "initial"), (1, "initial"), (1, "current")])
def test_a_potentials_kernel_is_the_one_of_its_convolution(group, inputs, layer, seen):
    """Against the kernel matrix by the definition, from the model's own parts, for one edge and all fields."""
    model = InteratomicPotential(["H", "C"], group=group, inputs=inputs, kernel_features=seen, **SMALL).double()
    bond = ":double" if "bond_types" in inputs else ""
    shown = potential_kernel(model, layer=layer, pairs=[f"C-H{bond}"], channels=(1, 3))
    points = torch.randn(3, 3, dtype=torch.float64)
    interaction = model.interactions[layer]
    species = torch.tensor([0, 1])  # H, C
    one = torch.ones(2, dtype=torch.float64)
    with torch.no_grad():
        places = torch.zeros(2, 3, dtype=torch.float64)
        x = model.first_features(species, {"total_charge": 0 * one, "spin": one}, places)
        if seen == "current":  # an isolated atom hears nothing
            none = torch.zeros(0, 1, dtype=torch.long)
            x = model.interactions[0](x, x, species, Edges(none, none[:, 0], points[:0, None], none))
        ends = interaction.ends(x, species)
        hidden = (ends[0][0] + ends[1][1]) * 0.5
        if interaction.bonds is not None:
            hidden = (hidden + interaction.bonds()[2]) * 0.5**0.5
        h = interaction.kernel(points, None, hidden.expand(3, -1))
        K = interaction.conv.matrix(h if isinstance(h, torch.Tensor) else h.fields())
    rows = [k for (m, ir), s in zip(interaction.conv.irreps_out, interaction.conv.irreps_out.slices(), strict=True)
            for k in range(s.start + 3 * ir.dim, s.start + 4 * ir.dim)]  # fmt: skip
    columns = [k for (m, ir), s in zip(interaction.conv.irreps_in, interaction.conv.irreps_in.slices(), strict=True)
               for k in range(s.start + ir.dim, s.start + 2 * ir.dim)]  # fmt: skip
    expected = K[:, rows][:, :, columns]
    assert expected.abs().max() > 1e-3
    assert torch.allclose(shown.matrix(points, 0, None), expected, atol=1e-12)


@pytest.mark.parametrize("group", ["O3", "C4v"])
def test_a_potentials_kernel_turns(group):
    model = InteratomicPotential(["H", "O"], group=group, **SMALL).double()
    for layer in range(2):
        shown = potential_kernel(model, layer=layer)
        assert shown.cases == ("O-H", "O-O")
        assert rotation_error(shown, inside(shown.group)) < 1e-10


def test_the_strongest_channels_are_shown():
    model = InteratomicPotential(["H", "O"], **SMALL)
    generator = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(torch.randn(60, 3, generator=generator))
    points = directions * (0.6 + 1.8 * torch.rand(60, 1, generator=generator))
    sizes = {
        (i, o): float(potential_kernel(model, pairs=["O-O"], channels=(i, o)).matrix(points, 0, None).norm())
        for i in range(4)
        for o in range(4)
    }
    best = float(potential_kernel(model, pairs=["O-O"]).matrix(points, 0, None).norm())
    assert best >= 0.8 * max(sizes.values())
    assert best > 1.5 * sorted(sizes.values())[8]


def test_figures_hold_what_they_say():
    kernel = random_kernel("C4v", "0e + 1o", "0e + 1o + 2e", irreps_attributes="1x0e")
    plane = Plane("xz", height=0.4, points=19)
    assert len(slices_figure(kernel, plane).axes) == 6
    assert len(cases_figure(kernel, plane).axes) == 2 * 4
    assert len(sphere_figure(kernel, 1.0).axes) == 9
    figure, errors = rotation_figure(kernel, plane)
    assert len(figure.axes) == 8
    assert errors["inside"] < 1e-10
    assert errors["outside"] > 0.1
    assert rotation_figure(random_kernel("O3", "0e", "1o"), plane)[1].keys() == {"inside"}


def pixels(values, plane):
    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    draw_block(axes, values, plane)
    figure.canvas.draw()
    return axes


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 3), (5, 1), (3, 3), (7, 1), (5, 3)])
def test_blocks_of_every_shape_are_drawn(shape):
    plane = Plane(points=19)
    values = torch.randn(19, 19, *shape)
    axes = pixels(values, plane)
    image = axes.images[0].get_array()
    if shape in ((1, 1), (3, 1), (1, 3), (5, 1)):
        assert image.shape == (19, 19)
        assert len(axes.collections) == {1: 0, 3: 1, 5: 2}[max(shape)]
    elif shape == (7, 1):  # three rows of three maps, from the top left; the last two are empty
        assert image.shape == (3 * 21, 3 * 21)
        for number in range(7):
            below, left = 21 * (2 - number // 3) + 1, 21 * (number % 3) + 1
            np.testing.assert_allclose(image[below : below + 19, left : left + 19], values[:, :, number, 0], rtol=1e-6)
        assert np.isfinite(image.filled(np.nan)).sum() == 7 * 19 * 19
    else:
        assert image.shape == (shape[0] * 21, shape[1] * 21)


def test_arrows_point_where_the_kernel_points():
    plane = Plane("xy", points=19)
    outwards = plane.positions()[..., None]  # K(r) = r
    quiver = pixels(outwards, plane).collections[0]
    u, v, places = np.asarray(quiver.U), np.asarray(quiver.V), quiver.get_offsets()
    assert np.abs(u * places[:, 1] - v * places[:, 0]).max() < 1e-9
    assert (u * places[:, 0] + v * places[:, 1] >= 0).all()


def test_glyphs_are_the_principal_axes():
    """For K(r) = Y_2(r) the positive axis points along r."""
    plane = Plane("xy", points=19)
    Y = o3.spherical_harmonics(2, plane.positions(), normalize=True)[..., None]
    for lines, sign in zip(pixels(Y, plane).collections, (-1, 1), strict=True):  # eigenvalues in ascending order
        u, v, places = np.asarray(lines.U), np.asarray(lines.V), np.asarray(lines.get_offsets())
        along, across = u * places[:, 0] + v * places[:, 1], u * places[:, 1] - v * places[:, 0]
        far = np.hypot(*places.T) > 0.1
        assert np.abs(across if sign > 0 else along)[far].max() < 1e-9


def test_a_zero_kernel_is_drawn():
    pixels(torch.zeros(19, 19, 3, 1), Plane(points=19))


def test_mistakes_are_explained():
    model = InteratomicPotential(["H", "O"], **SMALL)
    for options, message in (
        ({"layer": 2}, "the model has layers 0 to 1; got layer 2"),
        ({"pairs": ["H-C"]}, r"pairs must name two of the model's species \(H, O\).*got 'H-C'"),
        (
            {"pairs": ["H-O:double"]},
            "the bond of a pair must be none, since the model does not see bonds; got 'H-O:double'",
        ),
        ({"channels": (0, 4)}, "the model has channels 0 to 3; got channel 4"),
    ):
        with pytest.raises(ConfigError, match=message):
            potential_kernel(model, **options)
    bonded = InteratomicPotential(["H", "O"], inputs=["bond_types"], **SMALL)
    with pytest.raises(ConfigError, match="the bond of a pair must be one of none, single, double, triple, aromatic"):
        potential_kernel(bonded, pairs=["H-O:strong"])
    with pytest.raises(ConfigError, match="a plane is named by its two axes, such as xy or xz; got 'xx'"):
        Plane("xx")


def test_pictures_say_what_their_colors_mean():
    kernel = random_kernel("C4v", "0e", "0e + 1o")
    figure = slices_figure(kernel, Plane(height=0.4, points=15))
    assert figure.get_suptitle() == "kernel of C4v\nz = 0.4 Å\nred: positive, blue: negative"
    red, _, blue, _ = figure.axes[0].images[0].cmap(1.0)
    assert red > blue
    assert figure.axes[0].get_title().startswith("0e to 0e, ±")


@pytest.mark.parametrize("kernel", ["potential", "random"])
def test_pictures_can_be_read(kernel, tmp_path, drawn):
    if kernel == "potential":
        torch.manual_seed(0)
        model = InteratomicPotential(["H", "C", "O"], **(SMALL | {"l_max": 3})).double()
        shown = potential_kernel(model, pairs=("C-O", "C-C", "H-C", "C-H", "O-H"))
    else:
        shown = random_kernel("C4v", "0e + 1o", "0e + 1o + 2e", irreps_attributes="1x1o")
    plane = Plane("xy", 0.4, shown.reach)
    figures = [slices_figure(shown, plane), cases_figure(shown, plane), sphere_figure(shown, 1.0)]
    for figure in (*figures, rotation_figure(shown, plane)[0]):
        save(figure, tmp_path / "a.png")
        assert figure.get_figwidth() < 1.3 * WIDTH
    assert not [faults(figure) for figure in drawn if faults(figure)]
