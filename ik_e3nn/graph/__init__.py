"""Atomic structures as graphs: neighbour lists, edge vectors, bonds and batches."""

from ik_e3nn.graph.bonds import BOND_NAMES, check_bonds, edge_bond_types, get_bonds, set_bonds
from ik_e3nn.graph.build import batch_graphs, build_graph, surface_vectors
from ik_e3nn.graph.edges import edge_vectors
from ik_e3nn.graph.fields import FIELDS, SURROUNDINGS, Field
from ik_e3nn.graph.molecular import Connectivity, build_molecular_graph
from ik_e3nn.graph.neighbours import neighbour_list
from ik_e3nn.graph.skin import Pairs, SkinList
from ik_e3nn.graph.targets import Target

__all__ = [
    "BOND_NAMES",
    "FIELDS",
    "SURROUNDINGS",
    "Connectivity",
    "Field",
    "Pairs",
    "SkinList",
    "Target",
    "batch_graphs",
    "build_graph",
    "build_molecular_graph",
    "check_bonds",
    "edge_bond_types",
    "edge_vectors",
    "get_bonds",
    "neighbour_list",
    "set_bonds",
    "surface_vectors",
]
