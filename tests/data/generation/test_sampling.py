"""Sampled structures obey statistical mechanics, constraints and periodicity."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read, write

from ik_e3nn.data import read_labels
from ik_e3nn.data.generation.generate import GenerateSettings, generate
from ik_e3nn.data.generation.labeling import Labeler
from ik_e3nn.data.generation.langevin import LangevinSampler
from ik_e3nn.data.generation.normal_modes import thermal_displacement
from ik_e3nn.data.generation.sampling import Origin


def test_langevin_dynamics_samples_the_canonical_ensemble():
    """Atoms on springs of known stiffness: <k x^2> = kB T for each coordinate that is not the drift of the whole."""
    rng = np.random.default_rng(2)

    class Wells:
        implemented_properties = ("energy", "forces")

        def get_property(self, name, atoms):
            return -2.0 * atoms.positions if name == "forces" else float((atoms.positions**2).sum())

    sampler = LangevinSampler(timestep=1.0, interval=25, equilibration=100, friction=0.1)
    start, labeler = Atoms("H30", positions=np.zeros((30, 3))), Labeler(Wells())
    previous, squares = None, []
    for _ in range(60):
        previous = sampler.frame(Origin(start, labeler, 400.0), previous, rng)
        squares.append(previous.positions.var(axis=0, ddof=1).mean())
    assert np.mean(squares) == pytest.approx(units.kB * 400.0 / 2.0, rel=0.1)


def test_normal_modes_have_the_classical_amplitude():
    """Two atoms on one spring: the bond's variance is kB T / k, and nothing else moves."""
    rng, k = np.random.default_rng(3), 30.0
    hessian = np.zeros((6, 6))
    hessian[np.ix_([0, 3], [0, 3])] = k * np.array([[1.0, -1.0], [-1.0, 1.0]])
    masses = np.array([12.0, 16.0])
    moves = np.array([thermal_displacement(hessian, masses, 500.0, rng) for _ in range(4000)])
    assert np.var(moves[:, 1, 0] - moves[:, 0, 0]) == pytest.approx(units.kB * 500.0 / k, rel=0.06)
    assert np.abs(moves[:, :, 1:]).max() < 1e-12
    assert np.abs((masses[None, :, None] * moves).sum(axis=1)).max() < 1e-12


def test_copper_with_strain_and_stress(tmp_path):
    write(tmp_path / "cu.xyz", bulk("Cu", cubic=True))
    chosen = GenerateSettings(
        output=f"{tmp_path}/out.xyz", smiles=[], structures=[f"{tmp_path}/cu.xyz"], calculator="emt",
        method="rattle", strain=0.04, num_frames=6,
    )  # fmt: skip
    generate(chosen)
    frames = read(tmp_path / "out.xyz", ":")
    data = read_labels(frames, require=["energy", "forces", "stress"])
    assert data.counts()["stress"] == 6
    assert np.std([atoms.get_volume() for atoms in frames]) > 0.1
    frames[0].calc = EMT()
    assert np.allclose(data.labels[0].stress, frames[0].get_stress(voigt=False), atol=1e-5)
    assert "charge" not in frames[0].info


def test_fixed_atoms_stay_and_open_directions_are_not_strained(tmp_path):
    slab = fcc111("Cu", (2, 2, 2), vacuum=4.0)
    slab.set_constraint(FixAtoms([0, 1, 2, 3]))
    slab.positions[4:] += 0.05
    write(tmp_path / "slab.traj", slab)
    chosen = {
        "smiles": [],
        "structures": [f"{tmp_path}/slab.traj"],
        "calculator": "emt",
        "num_frames": 2,
        "relax": True,
    }
    generate(GenerateSettings(output=f"{tmp_path}/md.xyz", **chosen))
    for atoms in read(tmp_path / "md.xyz", ":"):
        assert np.allclose(atoms.positions[:4], slab.positions[:4])
        assert np.abs(atoms.positions[4:] - slab.positions[4:]).max() > 0.01
        assert np.abs(atoms.arrays["REF_forces"][:4]).max() > 0.01
    generate(GenerateSettings(output=f"{tmp_path}/rattle.xyz", method="rattle", **chosen))
    for atoms in read(tmp_path / "rattle.xyz", ":"):
        assert np.allclose(atoms.cell[2], slab.cell[2], atol=1e-6)
        assert np.abs(atoms.cell[:2] - slab.cell[:2]).max() > 1e-3
