"""Names, shapes, units and dtypes of the tensors of graphs, of prepared graphs and of predictions.

``FIELDS`` describes the tensors of a graph, ``PREPARED`` the tensors that ``EdgePotential.prepare`` returns, and
``OUTPUTS`` predictions. There are N atoms, E directed edges and B structures; edges are prepared in K blocks of w
places, and all edges of a block have the same receiver.

A graph is a ``torch_geometric.data.Data`` or ``Batch``, or a plain dict of tensors under these keys. Edges run from a
sender j (the neighbor) to a receiver i (the center), and

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
SURFACE_CELL: Final = "surface_cell"
SURROUNDINGS: Final = ("surface", "wire", "site", "face")  # kinds of surroundings of a model
ENERGY: Final = "energy"
FORCES: Final = "forces"
STRESS: Final = "stress"
TARGETS: Final = "targets"
ATOM_TARGETS: Final = "atom_targets"

SPECIES: Final = "species"
VECTORS: Final = "vectors"
SENDERS: Final = "senders"
OWNERS: Final = "owners"
BONDS: Final = "bonds"
DISPLACEMENTS: Final = "displacements"
FRAMES: Final = "frames"
UNSTRAIN: Final = "unstrain"
ORDER: Final = "order"
MOVING: Final = (VECTORS, DISPLACEMENTS)  # tensors with respect to which energies are differentiated

ENERGIES: Final = "energies"
ATOMIC_VIRIALS: Final = "atomic_virials"
ENERGY_STD: Final = "energy_std"
FORCES_STD: Final = "forces_std"
STDS: Final = (ENERGY_STD, FORCES_STD)


@dataclass(frozen=True)
class Field:
    """Description of one tensor.

    Args:
        shape: Dimensions in symbols: N atoms, E edges, B structures, K blocks of w places for edges.
        dtype: Kind of number. In graphs, "float" is float64 for positions, cell and surface, so that their differences
            are taken before rounding, and the dtype of the graph for shifts, charge and spin. In prepared tensors it is
            the dtype of the model, in predictions the dtype of the positions.
        unit: Physical unit; empty for numbers without unit.
        meaning: Meaning of the values.

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
    CELL: Field("(B, 3, 3)", "float", "A", "cell vectors as rows, as given; absent vectors are zero"),
    PBC: Field("(B, 3)", "bool", "", "periodic along each cell vector"),
    EDGE_INDEX: Field("(2, E)", "int64", "", "[0] sender j, [1] receiver i; both directions; sorted by receiver"),
    EDGE_SHIFTS: Field("(E, 3)", "float", "cell vectors", "whole-number lattice shift of each edge"),
    BOND_TYPES: Field("(E,)", "int64", "", "0 none, 1 single, 2 double, 3 triple, 4 aromatic"),
    BATCH: Field("(N,)", "int64", "", "structure that each atom belongs to"),
    TOTAL_CHARGE: Field("(B,)", "float", "e", "total charge; only if it is known"),
    SPIN: Field("(B,)", "float", "", "spin multiplicity 2S+1; only if it is known"),
    SURFACE_NORMAL: Field(
        "(B, 3)", "float", "", "direction of a surface's normal, a wire, a site's main axis; optional"
    ),
    SURFACE_ORIGIN: Field("(B, 3)", "float", "A", "a point of the surface or wire, or the site; optional"),
    SURFACE_X: Field("(B, 3)", "float", "", "direction across the normal that groups like C4v need; optional"),
    SURFACE_CELL: Field("(B, 2, 3)", "float", "A", "lattice vectors of a crystal face as rows; for models of a face"),
    ENERGY: Field("(B,)", "float64", "eV", "label; NaN if missing"),
    FORCES: Field("(N, 3)", "float64", "eV/A", "label; NaN if missing"),
    STRESS: Field("(B, 3, 3)", "float64", "eV/A^3", "label, tension positive; NaN if missing"),
    TARGETS: Field("(B, T)", "float64", "of each target", "labels of structures side by side; NaN if missing"),
    ATOM_TARGETS: Field("(N, T)", "float64", "of each target", "labels of atoms side by side; NaN if missing"),
}

PREPARED: Final[dict[str, Field]] = {
    SPECIES: Field("(N,)", "int64", "", "index of each atom's element among the species of the model"),
    VECTORS: Field("(K, w, 3)", "float", "A", "edge vectors; longer than the cutoff in empty places"),
    SENDERS: Field("(K, w)", "int64", "", "sender of each edge; 0 in empty places"),
    OWNERS: Field("(K,)", "int64", "", "receiver of each block"),
    BONDS: Field("(K, w)", "int64", "", "bond type of each edge; only for models that use it"),
    TOTAL_CHARGE: Field("(N,)", "float", "e", "total charge of each atom's structure; only for models that use it"),
    SPIN: Field("(N,)", "float", "", "spin multiplicity of each atom's structure; only for models that use it"),
    DISPLACEMENTS: Field("(N, 3)", "float", "A", "from the surroundings to each atom; only for models that use them"),
    FRAMES: Field("(N, 3, 3)", "float", "", "axes of each atom's surroundings; only for models that use them"),
    UNSTRAIN: Field("(N, 3, 3)", "float", "", "in these axes, from each atom's face to that of the model, unstrained"),
    ORDER: Field("(N,)", "int64", "", "atoms in an order in space; only for structures that are treated in tiles"),
}

OUTPUTS: Final[dict[str, Field]] = {
    ENERGY: Field("(B,)", "float64", "eV", "total energy"),
    ENERGIES: Field("(N,)", "float64", "eV", "energy of each atom; they sum to the total energy"),
    FORCES: Field("(N, 3)", "float", "eV/A", "minus the derivative of the energy with respect to positions"),
    STRESS: Field("(B, 3, 3)", "float", "eV/A^3", "tension positive; NaN if the cell has no volume"),
    ATOMIC_VIRIALS: Field("(N, 3, 3)", "float", "eV", "virial of each atom; they sum to stress times volume"),
    ENERGY_STD: Field("(B,)", "float64", "eV", "standard deviation of the total energy"),
    FORCES_STD: Field("(N, 3)", "float64", "eV/A", "standard deviation of each component of the forces"),
}
