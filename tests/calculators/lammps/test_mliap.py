"""The coupling for ``pair_style mliap unified``, with stand-ins for LAMMPS's data with and without Kokkos.

No LAMMPS with Python and Kokkos can be installed from the package index; the stand-ins have the attributes of its
``mliap_unified_couple`` and ``mliap_unified_couple_kokkos``.
"""

import pickle

import numpy as np
import pytest
import torch
from ase import Atoms

from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import fields
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.lammps.mliap import MLIAPotential
from tests.models.networks.processes import Processes
from tests.properties import structures

CUTOFF = 3.5


def potential(**options):
    torch.manual_seed(0)
    options = {"num_channels": 2, "num_layers": 2, "l_max": 1, "correlation": 2} | options
    model = InteratomicPotential(structures.SPECIES, CUTOFF, **options)
    model.set_scale(100.0)
    model.set_energy_reference({z: -float(z) for z in model.species}, "test")
    return model.double().eval()


@pytest.fixture
def saved(tmp_path):
    def save(**options):
        save_model(potential(**options), tmp_path / "model.safetensors", overwrite=True)
        return tmp_path / "model.safetensors"

    return save


class Data:
    """LAMMPS's data of one process, without Kokkos: NumPy arrays, and pairs from centers i to neighbors j."""

    def __init__(self, process, species):
        graph = process.graph
        senders, receivers = graph[fields.EDGE_INDEX]
        local = receivers < process.num_owned
        self.nlocal, self.ntotal, self.npairs = process.num_owned, len(process.atom), int(local.sum())
        self.pair_i, self.pair_j = receivers[local].int().numpy(), senders[local].int().numpy()
        positions = graph[fields.POSITIONS].numpy()
        self.rij = positions[self.pair_j] - positions[self.pair_i]
        self.elems = np.array([species.index(z) for z in graph[fields.ATOMIC_NUMBERS].tolist()], dtype=np.int32)
        self.f = np.zeros((self.ntotal, 3))
        self.eatoms, self.energy = np.full(self.nlocal, np.nan), np.nan
        self.virial = np.zeros((3, 3))

    def update_pair_forces(self, forces):
        """Add the force on i, and the opposite one to j, as LAMMPS does."""
        np.add.at(self.f, self.pair_i, forces)
        np.subtract.at(self.f, self.pair_j, forces)
        self.virial -= self.rij.T @ forces  # volume times pressure


class KokkosData(Data):
    """The same with Kokkos: tensors, and the exchange of features."""

    def __init__(self, process, species, exchange):
        super().__init__(process, species)
        self.exchange = exchange
        self.calls = []

    def update_pair_forces(self, forces):
        raise AssertionError("with Kokkos, forces are given as tensors")

    def update_pair_forces_cpu(self, forces):
        super().update_pair_forces(forces.numpy())

    def forward_exchange(self, rows, out, width):
        assert rows.shape == out.shape == (self.ntotal, width)
        self.x = rows[: self.nlocal].clone().requires_grad_(True)
        with torch.enable_grad():
            self.y = self.exchange(self.x)
        out.copy_(self.y.detach())
        self.calls.append("forward")

    def reverse_exchange(self, rows, out, width):
        assert rows.shape == out.shape == (self.ntotal, width)
        (gradient,) = torch.autograd.grad(self.y, self.x, rows)
        out.fill_(np.nan)  # rows of ghosts have no meaning afterwards
        out[: self.nlocal] = gradient
        self.calls.append("reverse")


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("options", [{}, {"group": "C1"}, {"inputs": ["total_charge"]}], ids=["O3", "C1", "charged"])
def test_features_are_exchanged_through_kokkos(saved, options, number):
    atoms = structures.triclinic()
    atoms.info["charge"] = 1
    info = {"charge": 1} if "inputs" in options else {}
    coupling = MLIAPotential(saved(**options), info=info)
    assert coupling.element_types == list(structures.SPECIES)
    assert 2 * coupling.rcutfac == CUTOFF
    processes = Processes(atoms, number, CUTOFF, CUTOFF)
    species = list(coupling.model.species)

    def compute(process, exchange):
        data = KokkosData(process, species, exchange)
        coupling_of_process = pickle.loads(pickle.dumps(coupling))  # what an input file names is a pickle
        coupling_of_process.compute_forces(data)
        return data

    forces, energies = np.zeros((len(atoms), 3)), np.zeros(len(atoms))
    virial = np.zeros((3, 3))
    for process, data in zip(processes.members, processes.each(compute), strict=True):
        assert data.calls == ["forward", "reverse"]
        np.add.at(forces, process.atom.numpy(), data.f)
        energies[process.atom[: process.num_owned].numpy()] = data.eatoms
        assert data.energy == pytest.approx(data.eatoms.sum(), abs=1e-10)
        virial += data.virial
    atoms.calc = IKCalculator(potential(**options))
    assert abs(forces).max() > 0.05
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-9)
    np.testing.assert_allclose(energies, atoms.get_potential_energies(), atol=1e-9)
    stress = atoms.get_stress(voigt=False) * atoms.get_volume()
    np.testing.assert_allclose(-0.5 * (virial + virial.T), stress, atol=1e-8)


def test_without_kokkos_one_interaction_is_right_and_more_are_refused(saved):
    atoms = structures.methanol()
    coupling = MLIAPotential(saved(num_layers=1))
    (process,) = Processes(atoms, 1, CUTOFF, CUTOFF).members
    data = Data(process, list(coupling.model.species))
    coupling.compute_forces(data)
    atoms.calc = IKCalculator(potential(num_layers=1))
    assert data.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(data.f, atoms.get_forces(), atol=1e-9)
    with pytest.raises(DataError, match=r"2 interactions, which exchange features of ghosts: start LAMMPS with Kokkos"):
        MLIAPotential(saved()).compute_forces(data)


@pytest.mark.parametrize("kokkos", [True, False])
def test_single_atoms_and_empty_processes_have_no_pairs(saved, kokkos):
    coupling = MLIAPotential(saved(num_layers=2 if kokkos else 1))
    species = list(coupling.model.species)
    for atoms in (Atoms("O", [[0, 0, 0]]), Atoms()):
        (process,) = Processes(atoms, 1, CUTOFF, CUTOFF).members
        data = KokkosData(process, species, lambda x: x) if kokkos else Data(process, species)
        coupling.compute_forces(data)
        alone = 0.0
        if len(atoms):
            atoms.calc = IKCalculator(potential(num_layers=2 if kokkos else 1))
            alone = atoms.get_potential_energy()
            assert abs(alone) > 1.0
        assert data.energy == pytest.approx(alone, abs=1e-12)
        assert not data.f.any()


def test_what_it_cannot_be_given_is_refused(saved):
    with pytest.raises(DataError, match="the model has surroundings, but mliap gives no positions"):
        MLIAPotential(saved(group="Cinfv", inputs=["surface"]))
    with pytest.raises(MissingInputError, match="the model uses spin: give its value"):
        MLIAPotential(saved(inputs=["spin"]))


def test_a_pickle_has_the_arguments_alone(saved):
    written = pickle.dumps(MLIAPotential(saved()))
    assert len(written) < 1000
    assert b"model.safetensors" in written
