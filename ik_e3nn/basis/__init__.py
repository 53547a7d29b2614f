"""Functions of an edge vector or a place: radial bases, envelopes, harmonics, and quadrature grids on the sphere."""

from ik_e3nn.basis.edge import PolynomialBasis, RadialHarmonicBasis
from ik_e3nn.basis.harmonics import Harmonics, distances, harmonics, spherical_irreps
from ik_e3nn.basis.place import PlaceBasis
from ik_e3nn.basis.radial import BesselBasis, GaussianBasis, GaussianShell, smooth_envelope
from ik_e3nn.basis.sphere import sphere_grid

__all__ = [
    "BesselBasis",
    "GaussianBasis",
    "GaussianShell",
    "Harmonics",
    "PlaceBasis",
    "PolynomialBasis",
    "RadialHarmonicBasis",
    "distances",
    "harmonics",
    "smooth_envelope",
    "sphere_grid",
    "spherical_irreps",
]
