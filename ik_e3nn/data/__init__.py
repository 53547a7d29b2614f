"""Structures, point clouds and labels: reading, checking, generating, and data sets of graphs."""

from ik_e3nn.data.bonds.mapping import bonds_from_smiles
from ik_e3nn.data.bonds.perception import perceive_bonds
from ik_e3nn.data.files.reading import read_structure, read_structures
from ik_e3nn.data.files.writing import write_structures
from ik_e3nn.data.generation.steele import SteeleWall
from ik_e3nn.data.graphs.dataset import StructureDataset, force_rms
from ik_e3nn.data.graphs.splits import Split, paper_split, random_split
from ik_e3nn.data.labels.energy_reference import EnergyReference, fit_energy_reference
from ik_e3nn.data.labels.finding import read_labels
from ik_e3nn.data.labels.keys import LabelKeys
from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.labels.values import StructureLabels
from ik_e3nn.data.properties.bond_source import BondReport, perception_counts, with_bonds
from ik_e3nn.data.properties.qm9 import qm9_from_pyg, read_qm9
from ik_e3nn.data.properties.reading import read_properties, resolve_targets
from ik_e3nn.data.shapes.clouds import mesh_cloud, point_cloud, turned
from ik_e3nn.data.shapes.furniture import FURNITURE, furniture_clouds
from ik_e3nn.data.shapes.modelnet import MODELNET10, MODELNET40, from_modelnet, read_modelnet
from ik_e3nn.data.shapes.nbody import Trajectories, simulate_nbody
from ik_e3nn.data.structures.joined import joined
from ik_e3nn.data.structures.molecules import atoms_from_mol, conformers, molecule_from_smiles
from ik_e3nn.data.structures.pyg import from_pyg
from ik_e3nn.data.structures.slab_symmetry import SlabFace, slab_operations, suggest_face, suggest_group

__all__ = [
    "FURNITURE",
    "MODELNET10",
    "MODELNET40",
    "BondReport",
    "EnergyReference",
    "LabelKeys",
    "LabeledSet",
    "SlabFace",
    "Split",
    "SteeleWall",
    "StructureDataset",
    "StructureLabels",
    "Trajectories",
    "atoms_from_mol",
    "bonds_from_smiles",
    "conformers",
    "fit_energy_reference",
    "force_rms",
    "from_modelnet",
    "from_pyg",
    "furniture_clouds",
    "joined",
    "mesh_cloud",
    "molecule_from_smiles",
    "paper_split",
    "perceive_bonds",
    "perception_counts",
    "point_cloud",
    "qm9_from_pyg",
    "random_split",
    "read_labels",
    "read_modelnet",
    "read_properties",
    "read_qm9",
    "read_structure",
    "read_structures",
    "resolve_targets",
    "simulate_nbody",
    "slab_operations",
    "suggest_face",
    "suggest_group",
    "turned",
    "with_bonds",
    "write_structures",
]
