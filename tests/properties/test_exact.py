"""Everything the package offers is exactly equivariant as it is made by default, and what is not is named here.

One table over all kernels, convolutions, layers and models; a class that is exported and not in it fails.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

import ik_e3nn.conv
import ik_e3nn.kernels
import ik_e3nn.models
import ik_e3nn.nn
from ik_e3nn.basis import BesselBasis, PolynomialBasis, RadialHarmonicBasis
from ik_e3nn.blocks.steerable_settings import SteerableSettings
from ik_e3nn.conv import GridConv, ImplicitSphereConv, PointConv, SphereConv, Stencil
from ik_e3nn.graph import Pyramid, build_graph, build_molecular_graph
from ik_e3nn.kernels import AnalyticKernel, ImplicitKernel, RadialKernel, ResidualKernel
from ik_e3nn.models import Forecaster, InteratomicPotential, MolecularPropertyModel, PointCloudClassifier
from ik_e3nn.show import random_kernel
from ik_e3nn.symmetry import SymmetryGroup
from ik_e3nn.targets import Dipole, Intensive, Polarizability
from ik_e3nn.testing import equivariance_error, grid_equivariance_error, grid_symmetries, representation
from tests.data.molecule_sets import property_set
from tests.nn import modules

WORST = {torch.float32: 1e-4, torch.float64: 1e-10}  # largest error over the root mean square of the output
ATTRIBUTES = "2x0e + 1o"
FILTER = "2x0e + 2x1o + 2x2e"
IN, OUT = "3x0e + 2x1o", "2x0e + 2x1o + 1x2e"
EDGES = torch.tensor([[0, 1, 2, 3, 0, 4], [1, 0, 0, 1, 2, 3]])


def tilted():
    """C5 x Ci about an axis of one's own, from two generators."""
    axis = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), dim=0)
    turn = Rotation.from_rotvec(2 * math.pi / 5 * axis.numpy())
    return SymmetryGroup.from_generators(torch.stack([torch.from_numpy(turn.as_matrix()), -torch.eye(3).double()]))


GROUPS = {name: SymmetryGroup(name) for name in ("O3", "SO3", "SO2", "Cinfv", "C4v", "D3", "C1")} | {
    "C5 x Ci": tilted()
}
ISOTROPIC = ("O3", "SO3")


@dataclasses.dataclass(frozen=True)
class Case:
    """A function, its types, and arguments that are not standard normal numbers."""

    module: torch.nn.Module
    types_in: list[str]
    types_out: list[str]
    call: Callable[..., object]
    rows: int = 5


def basis(l_max=2):
    return RadialHarmonicBasis(BesselBasis(4.0, 3), l_max)


def kernel(group, attributes=ATTRIBUTES, **options):
    return ImplicitKernel(attributes, FILTER, group, basis=basis(), **options)


def of_kernel(made):
    return Case(made, ["1o", str(made.irreps_attributes)], [str(made.irreps_filter)], made)


def implicit_kernel(group, **options):
    return of_kernel(kernel(group, **options))


def polynomial_kernel(group):
    made = ImplicitKernel("", FILTER, group, basis=PolynomialBasis(2), depth=1, batch_norm=True)
    return Case(made, ["1o"], [FILTER], made, rows=9)


def analytic_kernel(group):
    return of_kernel(AnalyticKernel(ATTRIBUTES, group, basis=basis()))


def residual_kernel(group):
    return of_kernel(ResidualKernel(ImplicitKernel(ATTRIBUTES, basis().irreps_out, group, basis=basis())))


def radial_kernel(group):
    made = RadialKernel("3x0e", 2, radial=BesselBasis(4.0, 3), l_max=2, group=group)
    return Case(made, ["1o", "3x0e"], [str(made.irreps_filter)], lambda r, a: made(r, a).fields())


def point_conv(group, mode="full", **options):
    made = kernel(group, **options)
    conv = PointConv("2x0e + 2x1o", OUT, made, mode)
    both = torch.nn.ModuleList([made, conv])
    return Case(
        both, ["2x0e + 2x1o", "1o", ATTRIBUTES], [OUT], lambda x, r, a: conv(x, EDGES, made(r[EDGES[0]], a[EDGES[1]]))
    )


def depthwise_conv(group):
    return point_conv(group, "depthwise")


def sphere_conv(group):
    made = SphereConv("2x0e + 2x1o + 2x2e", 3)
    return Case(made, [str(made.irreps_in)], [str(made.irreps_out)], made)


def implicit_sphere_conv(group):
    made = ImplicitSphereConv("2x0e + 2x1o", 3, irreps_attributes=ATTRIBUTES, group=group)
    return Case(made, [str(made.irreps_in), ATTRIBUTES], [str(made.irreps_out)], made)


def mlp(group):
    made = ik_e3nn.nn.EquivariantMLP(IN, "4x0e + 4x1o", OUT, group)
    return Case(made, [IN], [OUT], made)


def damped_square(group):
    made = ik_e3nn.nn.DampedSquare("3x0e + 3x1o + 3x2e", group)
    return Case(made, [str(made.irreps_in)], [str(made.irreps_out)], made)


def forecaster(group):
    made = Forecaster(group, 1, channels=4, num_layers=1)
    now = lambda x: torch.ones(1, dtype=x.dtype)  # noqa: E731
    call = lambda x, v, s: made(x[None], v[None], s[None], now(x), now(x))[0, 0]  # noqa: E731
    return Case(made, ["1o", "1o", "0e"], ["1o"], call)


def point_cloud(group, **options):
    pytest.importorskip("torch_cluster", reason="torch-cluster is not installed")
    made = PointCloudClassifier(3, group, channels=2, scalars=4, **options)
    return Case(made, ["1o", "1o"], ["3x0e"], made, rows=30)


def sampled_cloud(group):
    return point_cloud(group, pyramid=Pyramid((16, 8, 4), neighbors=5))


def farthest_cloud(group):
    return point_cloud(group, pyramid=Pyramid((16, 8, 4), neighbors=5, sampling="farthest"))


def potential(group):
    made = InteratomicPotential(["H", "C", "O"], num_channels=2, num_layers=1, l_max=2, l_features=1, group=group)

    def call(positions):
        with torch.enable_grad():
            out = made(moved(lambda a: build_graph(a, made.r_max, dtype=positions.dtype), positions), forces=True)
        return out["energy"].detach()[:, None], out["energies"].detach()[:, None], out["forces"].detach()

    return Case(made, ["1o"], ["0e", "0e", "1o"], call, rows=6)


def property_model(*, training=False, **options):
    targets = [Intensive("gap", "eV"), Dipole("mu", "D"), Polarizability("a", "a0^3")]
    made = MolecularPropertyModel(["H", "C", "O"], targets, **options)
    quadrupole = o3.wigner_3j(1, 1, 2, dtype=torch.float64)

    def call(positions):
        made.train(training)
        out = made(moved(lambda a: build_molecular_graph(a, made.edges, made.r_max, dtype=positions.dtype), positions))
        tensor = out["a"].double()
        trace = tensor.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)
        tensor = torch.cat([trace, torch.einsum("ijm,bij->bm", quadrupole, tensor)], 1)
        return out["gap"][:, None], out["mu"], tensor

    return Case(made, ["1o"], ["0e", "1o", "0e + 2e"], call, rows=6)


NETWORK = {"channels": 3, "num_layers": 2, "kernel_fields": 3}


def papers_network(group):
    return property_model(edges="bonds", steerable=NETWORK)


def papers_network_in_training(group):
    return property_model(edges="bonds", steerable=NETWORK, training=True)


def depthwise_network(group):
    return property_model(edges="both", steerable=NETWORK | {"mode": "depthwise"})


def standard_network(group):
    return property_model(edges="radius", steerable=NETWORK | {"kernel_depth": 0, "conditions": ()})


def network_of_products(group):
    return property_model(edges="radius", steerable=NETWORK | {"conditions": ("species",), "activation": "product"})


def network_of_blocks(group):
    small = {"num_channels": 3, "num_layers": 2, "l_max": 2, "l_features": 1}
    return property_model(edges="radius", potential=small)


def moved(build, positions):
    """The graph of methanol with its atoms at other positions: its edges are those of the molecule itself."""
    graph = build(property_set(("CO",)).structures[0])
    graph["positions"] = positions
    return graph


WITH_A_GROUP = (
    implicit_kernel,
    polynomial_kernel,
    analytic_kernel,
    residual_kernel,
    point_conv,
    depthwise_conv,
    implicit_sphere_conv,
    mlp,
    damped_square,
    forecaster,
    sampled_cloud,
    farthest_cloud,
    potential,
)
OF_ALL_OF_O3 = (
    radial_kernel,
    sphere_conv,
    papers_network,
    papers_network_in_training,
    depthwise_network,
    standard_network,
    network_of_products,
    network_of_blocks,
)


def error_of(case, group, dtype):
    torch.manual_seed(1)
    with torch.no_grad():  # biases and weights that start at zero take part
        for parameter in case.module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    case.module.to(dtype).eval()
    generator = torch.Generator().manual_seed(2)
    inputs = [
        torch.randn(case.rows, o3.Irreps(t).dim, generator=generator, dtype=torch.float64).to(dtype)
        for t in case.types_in
    ]
    return equivariance_error(case.call, case.types_in, case.types_out, group, inputs=inputs, samples=2)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("make", WITH_A_GROUP, ids=lambda make: make.__name__)
def test_what_takes_a_group_is_exact_by_default(make, group):
    torch.manual_seed(0)
    case = make(GROUPS[group])
    for dtype, worst in WORST.items():
        assert error_of(case, GROUPS[group], dtype) < worst


@pytest.mark.parametrize("make", OF_ALL_OF_O3, ids=lambda make: make.__name__)
def test_what_is_for_all_rotations_and_reflections_is_exact_by_default(make):
    torch.manual_seed(0)
    case = make("O3")
    for dtype, worst in WORST.items():
        assert error_of(case, "O3", dtype) < worst


@pytest.mark.parametrize("group", ["O3", "SO2", "D3"])
@pytest.mark.parametrize("make", [implicit_kernel, point_conv], ids=lambda make: make.__name__)
def test_the_activation_of_the_paper_is_not(make, group):
    """So that the tests above can fail: what they measure is far above rounding here."""
    torch.manual_seed(0)
    case = make(GROUPS[group], activation="sphere")
    assert error_of(case, GROUPS[group], torch.float64) > 0.01


@pytest.mark.parametrize("group", GROUPS)
def test_grids_are_exact_for_their_own_symmetries(group):
    torch.manual_seed(0)
    made = ImplicitKernel("", FILTER, GROUPS[group], basis=PolynomialBasis(2, sigma=1.5), batch_norm=True)
    conv = GridConv("2x0e + 1o", "1x0e + 1o", made, stencil=Stencil(3, dims=3)).eval()
    elements = grid_symmetries(GROUPS[group], 3)
    orders = {"O3": 48, "SO3": 24, "Cinfv": 8, "C4v": 8, "SO2": 4, "D3": 2, "C5 x Ci": 2, "C1": 1}
    assert len(elements) == orders[group]
    for dtype, worst in WORST.items():
        x = torch.randn(1, conv.irreps_in.dim, 4, 4, 4, dtype=dtype)
        error = grid_equivariance_error(conv.to(dtype), conv.irreps_in, conv.irreps_out, elements, features=x)
        assert error < worst


@pytest.mark.parametrize("attributes", ["", "1o"])
@pytest.mark.parametrize("group", ["O3", "SO2", "D3"])
def test_kernels_that_are_shown_are_exact(group, attributes):
    shown = random_kernel(group, "0e + 1o", "0e + 1o", irreps_attributes=attributes)
    g = SymmetryGroup(group).random_elements(1, torch.Generator().manual_seed(1))[0]
    points = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    D = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), representation("1o", g))
    for case in range(len(shown.cases)):
        K = shown.matrix(points, case, None)
        turned = shown.matrix(points @ g.T, case, g)
        assert K.abs().max() > 1e-3
        assert (turned - D @ K @ D.T).abs().max() < 1e-10 * K.abs().max()


EXACT_ELSEWHERE = {
    "Kernel": "abstract",
    "OnGrid": "any module at every point of a grid; tests/nn/test_on_grid.py",
    "GridPool": "tests/conv/test_grid_pool.py",
    "ScalarMLP": "of scalars",
    "LowRankUpdate": "tests/nn/test_lora.py",
    "Committee": "a mean of models",
    "Ensemble": "abstract",
    "LastLayerEnsemble": "a model",
    "StoredModel": "abstract",
}
APPROXIMATE = {"SphereActivation": "pointwise on the sphere: what one asks for; its page gives the error"}


def test_no_class_is_forgotten():
    """Every exported module is in a table above, or in that of exact layers, or named here with the reason."""
    exported = {
        name
        for package in (ik_e3nn.kernels, ik_e3nn.conv, ik_e3nn.nn, ik_e3nn.models)
        for name in package.__all__
        if inspect.isclass(getattr(package, name)) and issubclass(getattr(package, name), torch.nn.Module)
    }
    here = {ImplicitKernel, AnalyticKernel, ResidualKernel, RadialKernel}
    here |= {PointConv, GridConv, SphereConv, ImplicitSphereConv}
    here |= {ik_e3nn.nn.EquivariantMLP, ik_e3nn.nn.DampedSquare}
    here |= {Forecaster, PointCloudClassifier, InteratomicPotential, MolecularPropertyModel}
    tested = {one.__name__ for one in here} | {type(make("C4v")).__name__ for make in modules.EXACT}
    assert exported - tested - EXACT_ELSEWHERE.keys() - APPROXIMATE.keys() == set()


@pytest.mark.parametrize("owner", [ImplicitKernel, ik_e3nn.nn.EquivariantMLP, ImplicitSphereConv, PointCloudClassifier])
def test_no_default_is_approximate(owner):
    assert inspect.signature(owner).parameters["activation"].default in ("gate", "product")


def test_settings_of_the_papers_network_are_exact_by_default():
    assert SteerableSettings().activation in ("gate", "product")
