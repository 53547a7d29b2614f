"""Functions of an edge vector or a position: radial bases, envelopes, harmonics; grids and transforms on the sphere."""

from ik_e3nn.basis.edge import PolynomialBasis, RadialHarmonicBasis
from ik_e3nn.basis.harmonics import Harmonics, distances, harmonics, spherical_irreps
from ik_e3nn.basis.legendre import angular_harmonics, fixed_harmonics
from ik_e3nn.basis.place import PlaceBasis
from ik_e3nn.basis.radial import BesselBasis, BondBasis, GaussianBasis, GaussianShell, smooth_envelope
from ik_e3nn.basis.rings import SphereRings, equiangular_rings, gauss_legendre_rings
from ik_e3nn.basis.sphere import sphere_grid
from ik_e3nn.basis.sphere_transform import SphereTransform

__all__ = [
    "BesselBasis",
    "BondBasis",
    "GaussianBasis",
    "GaussianShell",
    "Harmonics",
    "PlaceBasis",
    "PolynomialBasis",
    "RadialHarmonicBasis",
    "SphereRings",
    "SphereTransform",
    "angular_harmonics",
    "distances",
    "equiangular_rings",
    "fixed_harmonics",
    "gauss_legendre_rings",
    "harmonics",
    "smooth_envelope",
    "sphere_grid",
    "spherical_irreps",
]
