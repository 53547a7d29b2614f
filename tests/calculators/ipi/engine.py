"""A tiny potential, structures and templates for the driver of i-PI."""

import importlib.util

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.models import InteratomicPotential, save_model

needs_ipi = pytest.mark.skipif(importlib.util.find_spec("ipi") is None, reason="needs i-PI (pip install ipi)")


def potential(**options):
    torch.manual_seed(0)
    options = {"num_channels": 2, "num_layers": 2, "l_max": 1, "l_features": 1, "correlation": 2} | options
    model = InteratomicPotential(["H", "C", "O"], 3.5, **options)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.set_scale(3.0)
    model.set_energy_reference({z: -float(z) for z in model.species}, "test")
    return model.double().eval()


def stored(folder, **options):
    """The file of the potential."""
    save_model(potential(**options), folder / "model.safetensors", overwrite=True)
    return str(folder / "model.safetensors")


def isolated() -> Atoms:
    atoms = molecule("CH3OH", vacuum=4.0)
    atoms.rattle(0.05, seed=0)
    return atoms


def crystal() -> Atoms:
    """Methanol in a skewed cell."""
    cell = molecule("CH3OH")
    cell.set_cell([[4.6, 0, 0], [0.7, 5.0, 0], [-0.4, 0.9, 4.4]])
    cell.pbc = True
    cell.rattle(0.05, seed=0)
    return cell


def over_a_surface() -> Atoms:
    atoms = crystal()
    atoms.set_cell([[4.6, 0, 0], [0.7, 5.0, 0], [0, 0, 20.0]])
    atoms.pbc = (True, True, False)
    atoms.info |= {"charge": 1, "surface_normal": np.array([0, 0, 1.0]), "surface_origin": np.array([0, 0, -1.0])}
    return atoms


def over_a_face() -> Atoms:
    atoms = over_a_surface()
    atoms.info = {"surface_cell": np.array([[2.3, 0, 0], [0.7, 5.0, 0]]), "surface_origin": np.array([0, 0, -1.0])}
    return atoms
