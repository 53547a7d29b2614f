"""Structures, point clouds and labels: reading, checking, generating, and data sets of graphs."""

from ik_e3nn.data.bond_perception import perceive_bonds
from ik_e3nn.data.clouds import mesh_cloud, point_cloud, turned
from ik_e3nn.data.dataset import StructureDataset, force_rms
from ik_e3nn.data.energy_reference import EnergyReference, fit_energy_reference
from ik_e3nn.data.furniture import FURNITURE, furniture_clouds
from ik_e3nn.data.label_keys import LabelKeys
from ik_e3nn.data.label_values import StructureLabels
from ik_e3nn.data.labels import LabelCounts, read_labels
from ik_e3nn.data.modelnet import MODELNET10, MODELNET40, from_modelnet, read_modelnet
from ik_e3nn.data.molecules import atoms_from_mol, conformers, molecule_from_smiles
from ik_e3nn.data.nbody import Trajectories, simulate_nbody
from ik_e3nn.data.pyg import from_pyg
from ik_e3nn.data.reading import read_structures
from ik_e3nn.data.slab_symmetry import suggest_group
from ik_e3nn.data.steele import SteeleWall
from ik_e3nn.data.writing import write_structures

__all__ = [
    "FURNITURE",
    "MODELNET10",
    "MODELNET40",
    "EnergyReference",
    "LabelCounts",
    "LabelKeys",
    "SteeleWall",
    "StructureDataset",
    "StructureLabels",
    "Trajectories",
    "atoms_from_mol",
    "conformers",
    "fit_energy_reference",
    "force_rms",
    "from_modelnet",
    "from_pyg",
    "furniture_clouds",
    "mesh_cloud",
    "molecule_from_smiles",
    "perceive_bonds",
    "point_cloud",
    "read_labels",
    "read_modelnet",
    "read_structures",
    "simulate_nbody",
    "suggest_group",
    "turned",
    "write_structures",
]
