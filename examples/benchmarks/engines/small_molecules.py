"""The molecules of the comparisons of many structures."""

from ase import Atoms
from ase.build import molecule

NAMES = (
    "CH3CHO", "HCOOH", "CH3CH2OCH3", "C4H4NH", "CH3SCH3", "isobutene", "C2H6", "H3CNH2", "CH3CH2OH", "CH3CN", "CH3Cl",
    "trans-butane", "C6H6", "CH3CONH2", "CH3COOH", "C4H4S", "N2H4", "C5H5N", "CH3NO2", "CH3OH",
)  # fmt: skip


def molecules() -> list[Atoms]:
    """Twenty molecules of five to fourteen atoms."""
    return [molecule(name) for name in NAMES]
