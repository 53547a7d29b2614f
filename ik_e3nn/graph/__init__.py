"""Atomic structures and point clouds as graphs: neighbors, edge vectors, bonds, batches, downsampling."""

from ik_e3nn.graph.bonds.charges import (
    check_all_stated,
    check_stated,
    get_shares,
    set_charge,
    set_shares,
    settle_bonds,
    stated_number,
    structure_number,
)
from ik_e3nn.graph.bonds.stored import (
    BOND_NAMES,
    check_bonds,
    edge_bond_types,
    fitting_bonds,
    get_bonds,
    has_bonds,
    remove_bonds,
    set_bonds,
)
from ik_e3nn.graph.build import batch_graphs, build_graph, surface_vectors
from ik_e3nn.graph.check import check_graph
from ik_e3nn.graph.edges import edge_vectors
from ik_e3nn.graph.fields import FIELDS, SURROUNDINGS, Field
from ik_e3nn.graph.join import joined_graphs
from ik_e3nn.graph.molecular import Connectivity, build_molecular_graph
from ik_e3nn.graph.neighbors.closest import closest_pair
from ik_e3nn.graph.neighbors.coordination import average_neighbors
from ik_e3nn.graph.neighbors.near import NearPairs, near_pairs
from ik_e3nn.graph.neighbors.search import neighbor_list, search_cell
from ik_e3nn.graph.neighbors.skin import Pairs, SkinList
from ik_e3nn.graph.occupancy import check_occupancy
from ik_e3nn.graph.points.clouds import farthest_points, nearest_edges, radius_edges, random_points
from ik_e3nn.graph.points.pyramid import Level, Pyramid

__all__ = [
    "BOND_NAMES",
    "FIELDS",
    "SURROUNDINGS",
    "Connectivity",
    "Field",
    "Level",
    "NearPairs",
    "Pairs",
    "Pyramid",
    "SkinList",
    "average_neighbors",
    "batch_graphs",
    "build_graph",
    "build_molecular_graph",
    "check_all_stated",
    "check_bonds",
    "check_graph",
    "check_occupancy",
    "check_stated",
    "closest_pair",
    "edge_bond_types",
    "edge_vectors",
    "farthest_points",
    "fitting_bonds",
    "get_bonds",
    "get_shares",
    "has_bonds",
    "joined_graphs",
    "near_pairs",
    "nearest_edges",
    "neighbor_list",
    "radius_edges",
    "random_points",
    "remove_bonds",
    "search_cell",
    "set_bonds",
    "set_charge",
    "set_shares",
    "settle_bonds",
    "stated_number",
    "structure_number",
    "surface_vectors",
]
