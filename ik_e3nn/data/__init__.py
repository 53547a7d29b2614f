"""Structures, point clouds and labels: reading, checking, generating, and data sets of graphs."""

from ik_e3nn.data.bond_mapping import bonds_from_smiles
from ik_e3nn.data.bond_perception import perceive_bonds
from ik_e3nn.data.bond_source import BondReport, perception_counts, with_bonds
from ik_e3nn.data.clouds import mesh_cloud, point_cloud, turned
from ik_e3nn.data.dataset import StructureDataset, force_rms
from ik_e3nn.data.energy_reference import EnergyReference, fit_energy_reference
from ik_e3nn.data.furniture import FURNITURE, furniture_clouds
from ik_e3nn.data.joined import joined
from ik_e3nn.data.label_keys import LabelKeys
from ik_e3nn.data.label_values import StructureLabels
from ik_e3nn.data.labels import LabelCounts, read_labels
from ik_e3nn.data.modelnet import MODELNET10, MODELNET40, from_modelnet, read_modelnet
from ik_e3nn.data.molecules import atoms_from_mol, conformers, molecule_from_smiles
from ik_e3nn.data.nbody import Trajectories, simulate_nbody
from ik_e3nn.data.property_dataset import PropertyDataset
from ik_e3nn.data.property_reading import read_properties, resolve_targets
from ik_e3nn.data.property_set import PropertySet
from ik_e3nn.data.pyg import from_pyg
from ik_e3nn.data.qm9 import qm9_from_pyg, read_qm9
from ik_e3nn.data.reading import read_structure, read_structures
from ik_e3nn.data.slab_symmetry import slab_operations, suggest_group
from ik_e3nn.data.splits import Split, paper_split, random_split
from ik_e3nn.data.steele import SteeleWall
from ik_e3nn.data.writing import write_structures

__all__ = [
    "FURNITURE",
    "MODELNET10",
    "MODELNET40",
    "BondReport",
    "EnergyReference",
    "LabelCounts",
    "LabelKeys",
    "PropertyDataset",
    "PropertySet",
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
    "suggest_group",
    "turned",
    "with_bonds",
    "write_structures",
]
