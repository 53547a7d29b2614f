"""Every tensor of a graph, named once, with its shape, unit and dtype.

N atoms, E directed edges, B structures. A graph is a ``torch_geometric.data.Data`` or ``Batch``, or a plain dict of
tensors under these keys. Edges run from a sender j (the neighbor) to a receiver i (the center), and

    edge_vectors = positions[receiver] - positions[sender] + edge_shifts @ cell[batch]

is computed in one place, ``ik_e3nn.graph.edge_vectors``.
"""

from dataclasses import dataclass
from typing import Final

ATOMIC_NUMBERS: Final = "atomic_numbers"
POSITIONS: Final = "positions"
CELL: Final = "cell"
PBC: Final = "pbc"
EDGE_INDEX: Final = "edge_index"
EDGE_SHIFTS: Final = "edge_shifts"
BOND_TYPES: Final = "bond_types"
BATCH: Final = "batch"
TOTAL_CHARGE: Final = "total_charge"
SPIN: Final = "spin"
SURFACE_NORMAL: Final = "surface_normal"
SURFACE_ORIGIN: Final = "surface_origin"
SURFACE_X: Final = "surface_x"
SURROUNDINGS: Final = ("surface", "wire", "site")  # what a model may declare to stand outside its structures
ENERGY: Final = "energy"
FORCES: Final = "forces"
STRESS: Final = "stress"
TARGETS: Final = "targets"


@dataclass(frozen=True)
class Field:
    """What one tensor of a graph is.

    Args:
        shape: Dimensions in symbols: N atoms, E edges, B structures.
        dtype: Kind of number; "float" is float64 for positions, cell and surface, so that their differences are
            rounded after they are taken, and the dtype the graph was built with for shifts, charge and spin.
        unit: Physical unit, empty where there is none.
        meaning: What it holds.

    Example:
        >>> FIELDS["forces"].unit
        'eV/A'
    """

    shape: str
    dtype: str
    unit: str
    meaning: str


FIELDS: Final[dict[str, Field]] = {
    ATOMIC_NUMBERS: Field("(N,)", "int64", "", "atomic number of each atom"),
    POSITIONS: Field("(N, 3)", "float", "A", "atom positions, as given (not wrapped)"),
    CELL: Field("(B, 3, 3)", "float", "A", "cell vectors as rows, as given; zeros where there is none"),
    PBC: Field("(B, 3)", "bool", "", "periodic along each cell vector"),
    EDGE_INDEX: Field("(2, E)", "int64", "", "[0] sender j, [1] receiver i; both directions; sorted by receiver"),
    EDGE_SHIFTS: Field("(E, 3)", "float", "cell vectors", "whole-number lattice shift of each edge"),
    BOND_TYPES: Field("(E,)", "int64", "", "0 none, 1 single, 2 double, 3 triple, 4 aromatic"),
    BATCH: Field("(N,)", "int64", "", "structure that each atom belongs to"),
    TOTAL_CHARGE: Field("(B,)", "float", "e", "total charge; only where it is known"),
    SPIN: Field("(B,)", "float", "", "spin multiplicity 2S+1; only where it is known"),
    SURFACE_NORMAL: Field(
        "(B, 3)", "float", "", "direction of a surface's normal, a wire, a site's main axis; optional"
    ),
    SURFACE_ORIGIN: Field("(B, 3)", "float", "A", "a point of the surface or wire, or the site; optional"),
    SURFACE_X: Field("(B, 3)", "float", "", "direction across the normal that groups like C4v need; optional"),
    ENERGY: Field("(B,)", "float64", "eV", "label; NaN where missing"),
    FORCES: Field("(N, 3)", "float64", "eV/A", "label; NaN where missing"),
    STRESS: Field("(B, 3, 3)", "float64", "eV/A^3", "label, tension positive; NaN where missing"),
    TARGETS: Field("(B, T)", "float64", "each its own", "properties of molecules side by side; NaN where missing"),
}
