"""Property tests that any equivariant module and any potential must pass; for this library's tests and for yours.

Nothing here needs pytest: functions return numbers and reports, or raise ``AssertionError`` with a message.
"""

from ik_e3nn.testing.equivariance import (
    EquivarianceError,
    assert_equivariant,
    assert_not_equivariant,
    equivariance_error,
)
from ik_e3nn.testing.grid import grid_equivariance_error, grid_symmetries, move_grid
from ik_e3nn.testing.potential import PROPERTIES, assert_potential, check_potential
from ik_e3nn.testing.report import PotentialReport, PropertyResult
from ik_e3nn.testing.representation import representation
from ik_e3nn.testing.tolerances import TOLERANCE

__all__ = [
    "PROPERTIES",
    "TOLERANCE",
    "EquivarianceError",
    "PotentialReport",
    "PropertyResult",
    "assert_equivariant",
    "assert_not_equivariant",
    "assert_potential",
    "check_potential",
    "equivariance_error",
    "grid_equivariance_error",
    "grid_symmetries",
    "move_grid",
    "representation",
]
