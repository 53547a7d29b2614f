"""One small instance of every equivariant module, to run the same tests over all of them."""

from ik_e3nn import nn

IRREPS = "4x0e + 3x1o + 2x2e + 1x0o + 2x1e"
SAME = "4x0e + 4x1o + 4x2e"
GROUPS = ("O3", "SO3", "SO2", "Cinfv", "C4v", "D3d", "S4", "Td", "I", "C1")


def linear(group):
    return nn.EquivariantLinear(IRREPS, "3x0e + 4x1o + 2x2o + 1x3o + 1x0o", group, bias=True)


def product(group):
    return nn.TensorProduct(SAME, "4x0o + 4x1o", "3x0e + 2x1e + 2x1o + 1x2o", group)


def square(group):
    return nn.SelfTensorProduct(SAME, "3x0e + 2x1o + 2x2e + 1x1e", group)


def gated_mlp(group):
    return nn.EquivariantMLP(IRREPS, "8x0e + 6x1o + 4x2e", "2x0e + 2x1o + 1x2e + 1x0o", group, layers=3)


def sphere_mlp(group):
    return nn.EquivariantMLP(IRREPS, SAME, "2x0e + 2x1o + 1x2e", group, layers=2, activation="sphere")


def gate(group):
    return nn.Gate("4x0e + 3x1o + 2x2e + 1x0o")


def batch_norm(group):
    return nn.EquivariantBatchNorm(IRREPS)


def layer_norm(group):
    return nn.EquivariantLayerNorm(IRREPS)


def sphere(group):
    return nn.SphereActivation(4, 2)


def powers(group):
    return nn.TensorPowers(SAME, "3x0e + 3x1o + 3x1e", group, correlation=3)


def sphere_product(group):
    return nn.SphereProduct(SAME, "3x0e + 3x1o + 3x2e + 3x3o", correlation=3)


def spectral_pool(group):
    return nn.SpectralPool(SAME, 1)


def sphere_norms(group):
    return nn.SphereNorms(SAME)


def bispectrum(group):
    return nn.Bispectrum(SAME, "SO3")


SPHERE = (sphere_product, spectral_pool, sphere_norms, bispectrum)
EXACT = (linear, product, square, powers, gated_mlp, gate, batch_norm, layer_norm, *SPHERE)
ALL = (*EXACT, sphere_mlp, sphere)


def types_in(module):
    """Types of the arguments: two for a product."""
    if type(module) is nn.TensorProduct:
        return [module.irreps_in1, module.irreps_in2]
    return [module.irreps_in]
