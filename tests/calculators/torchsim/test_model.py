"""TorchSim with all its neighbor lists has the energies, forces and stresses of the ASE calculator."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from ik_e3nn.errors import DataError, ExplosionError, MissingInputError, UnknownSpeciesError
from ik_e3nn_calculators import IKCalculator
from tests.calculators.torchsim.structures import Argon, crystals, many, molecules, potential, slabs

ts = pytest.importorskip("torch_sim", reason="needs TorchSim, which needs Python 3.12")

from torch_sim import neighbors  # noqa: E402
from torch_sim.models.interface import validate_model_outputs  # noqa: E402

from ik_e3nn_calculators.torchsim import IKModel  # noqa: E402

LISTS = [  # all of TorchSim's, with vesin[torch]
    "torchsim_nl", "alchemiops_nl_n2", "alchemiops_nl_cell_list", "torch_nl_linked_cell", "torch_nl_n2", "vesin_nl",
    "vesin_nl_ts",
]  # fmt: skip
CPU = torch.device("cpu")
# TorchSim's lists of vesin copy tensors in this way.
pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
EXACT = 1e-10
EXTRAS = {name: name for name in ("charge", "spin", "surface_normal", "surface_origin", "surface_x")}


@pytest.fixture(scope="module")
def network():
    return potential()


@pytest.fixture(scope="module")
def model(network):
    return IKModel(network, device="cpu", compute_stress=True)


def state_of(structures, dtype=torch.float64):
    return ts.io.atoms_to_state(structures, CPU, dtype, system_extras_map=EXTRAS)


def compare(model, calculator, structures, tolerance=EXACT):
    """Compare one call of TorchSim with one calculation of ASE for each structure; nothing of it is zero."""
    out = model(state_of(structures))
    sizes = [len(atoms) for atoms in structures]
    for number, forces in enumerate(torch.split(out["forces"], sizes)):
        atoms = structures[number].copy()
        atoms.calc = calculator
        energy = atoms.get_potential_energy()
        assert float(out["energy"][number]) == pytest.approx(energy, rel=tolerance, abs=tolerance)
        np.testing.assert_allclose(forces, atoms.get_forces(), rtol=tolerance, atol=tolerance)
        if atoms.pbc.any():
            stress = atoms.get_stress(voigt=False)
            np.testing.assert_allclose(out["stress"][number], stress, rtol=tolerance, atol=tolerance)
            assert np.abs(stress).max() > 1e-4
        else:
            assert out["stress"][number].isnan().all()
    assert out["forces"].abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LISTS)
def test_the_contract_of_torchsim_holds(network, name, dtype):
    model = IKModel(network, device="cpu", neighbor_list=getattr(neighbors, name))
    validate_model_outputs(model, CPU, dtype)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("make", [molecules, crystals, slabs])
def test_results_are_those_of_ase(network, name, make):
    model = IKModel(network, device="cpu", compute_stress=True, neighbor_list=getattr(neighbors, name))
    compare(model, IKCalculator(network, device="cpu"), make())


def test_a_network_in_float32_differs_by_its_rounding(network):
    model = IKModel(network, device="cpu", dtype="float32", compute_stress=True)
    assert model.dtype == torch.float64  # of the states: only the network is less precise
    assert model.potential.dtype == torch.float32
    compare(model, IKCalculator(network, device="cpu", dtype="float32"), crystals(), tolerance=1e-5)


def test_outputs_have_the_dtype_of_the_state(model):
    out = model(state_of(crystals(), torch.float32))
    assert {value.dtype for value in out.values()} == {torch.float32}
    exact = model(state_of(crystals()))
    assert {value.dtype for value in exact.values()} == {torch.float64}
    torch.testing.assert_close(out["energy"].double(), exact["energy"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("group", ["SO3", "SO2"])
def test_edges_have_the_right_sign_for_models_that_tell_mirror_images_apart(group):
    network = potential(group=group, inputs=["surface"] if group == "SO2" else [])
    structures = molecules()
    for seed, atoms in enumerate(structures):
        atoms.info |= {"surface_origin": [0.0, 0.1 * seed, -1.0], "surface_normal": [0.0, 0.6, 0.8]}
    if group == "SO3":
        [atoms.info.clear() for atoms in structures]
    compare(IKModel(network, device="cpu", compute_stress=True), IKCalculator(network, device="cpu"), structures)


def test_charges_and_spins_are_extras_of_the_state():
    network = potential(inputs=["total_charge", "spin"])
    structures = many(6)
    for atoms in structures:
        atoms.info["spin"] = 2
    model = IKModel(network, device="cpu", compute_stress=True)
    compare(model, IKCalculator(network, device="cpu"), structures)
    plain = ts.io.atoms_to_state(structures, CPU, torch.float64)
    with pytest.raises(
        MissingInputError, match=r"needs the (total charge|spin multiplicity).*atoms.info only on request"
    ):
        model(plain)
    state = state_of(structures)
    state.charge = torch.full((6,), torch.nan)
    with pytest.raises(DataError, match="'charge' of the state must be one finite number for each of the 6 systems"):
        model(state)


def test_unused_charges_are_reported(network, caplog):
    structures = many(3)
    with caplog.at_level(logging.WARNING):
        IKModel(network, device="cpu")(state_of(structures))
    assert "the state has charge, but the model does not use it" in caplog.text


def test_a_stress_without_a_volume_is_reported_once(network, caplog):
    model = IKModel(network, device="cpu", compute_stress=True)
    boxed = molecules()
    boxed[2].cell = [9, 9, 9]  # a box that is not periodic is no volume
    for _ in range(2):
        assert model(state_of(boxed))["stress"].isnan().all()
    assert caplog.text.count("a stress needs a volume: it is NaN for systems 0, 1, 2, 3, 4 and 1 more") == 1


def test_only_what_is_requested_is_computed(network):
    model = IKModel(network, device="cpu", compute_forces=False)
    out = model(state_of(crystals()))
    assert set(out) == {"energy"}
    model.compute_forces = model.compute_stress = True
    more = model(state_of(crystals()))
    assert set(more) == {"energy", "forces", "stress"}
    torch.testing.assert_close(out["energy"], more["energy"])


def test_a_committee_has_standard_deviations():
    members = [potential(), potential(group="SO3")]
    model, calculator = IKModel(members, device="cpu"), IKCalculator(members, device="cpu")
    structures = molecules()[:3]
    out = model(state_of(structures))
    for number, atoms in enumerate(structures):
        atoms.calc = calculator
        assert float(out["energy_std"][number]) == pytest.approx(calculator.get_property("energy_std", atoms))
    np.testing.assert_allclose(out["forces_std"][-6:], calculator.get_property("forces_std", atoms), rtol=1e-8)
    assert out["energy_std"].min() > 1e-3


def test_what_cannot_be_computed_is_refused(model, network):
    with pytest.raises(DataError, match="uses bond types, and TorchSim cannot give it any"):
        IKModel(potential(inputs=["bond_types"]))
    with pytest.raises(DataError, match="knows a crystal face, whose lattice the states of TorchSim do not keep"):
        IKModel(potential(inputs=["face"], group={"plane": "p4m", "cell": [[2.5, 0], [0, 2.5]]}))
    with pytest.raises(UnknownSpeciesError, match="the structures hold Ne, but the model knows only H, C, O"):
        model(state_of([*crystals(), bulk("Ne")]))
    with pytest.raises(DataError, match=r"the state is on cuda:0, and the model on cpu: make the state with torch_sim"):
        model(SimpleNamespace(device=torch.device("cuda:0")))
    state = state_of(molecules())
    state.positions[4] = torch.nan
    with pytest.raises(DataError, match="positions of system 1 are NaN or infinite: check the structures"):
        model(state)
    state = state_of(molecules())
    state.positions[5] = state.positions[4]
    with pytest.raises(DataError, match="atoms 1 and 2 of system 1 are in the same place"):
        model(state)
    state = state_of(crystals())
    state.cell[2, 0, 0] = torch.inf
    with pytest.raises(DataError, match="cell vectors of system 2 are NaN or infinite"):
        model(state)


def test_energies_that_are_not_finite_stop_the_run():
    model = IKModel(Argon(float("inf")), device="cpu")
    with pytest.raises(ExplosionError, match="energy or forces are NaN or infinite for systems 0, 1"):
        model(state_of([bulk("Ar"), bulk("Ar")]))


def test_the_domain_of_the_model_is_checked_once_for_each_molecule(caplog):
    model = IKModel("base", device="cpu")
    structures = molecules()[:2]
    del structures[0][2]  # a radical
    for _ in range(2):
        model(state_of(structures))
    assert caplog.text.count("the model was not trained on structures like HO") == 1


def test_dynamics_follow_those_of_ase(network):
    structures = molecules()
    model = IKModel(network, device="cpu")
    start = state_of(structures)
    start.rng = 1
    state = ts.nve_init(state=start, model=model, kT=0.02)
    momenta = [part.numpy() for part in torch.split(state.momenta.clone(), [len(atoms) for atoms in structures])]
    time = 0.5 * units.fs
    for _ in range(40):
        state = ts.nve_step(state=state, model=model, dt=torch.tensor(time, dtype=torch.float64))
    ended = state.to_atoms()
    for atoms, p, end in zip(structures, momenta, ended, strict=True):
        before = atoms.positions.copy()
        atoms.calc = IKCalculator(network, device="cpu")
        atoms.set_momenta(p)
        VelocityVerlet(atoms, time).run(40)
        np.testing.assert_allclose(end.positions, atoms.positions, atol=1e-9)
        assert len(atoms) == 1 or np.abs(atoms.positions - before).max() > 0.05


def test_a_relaxed_cell_has_no_stress():
    """The sign of the stress: with the other one, the crystal would collapse or evaporate."""
    model = IKModel(Argon(), device="cpu", compute_stress=True)
    structures = [bulk("Ar", cubic=True, a=a) for a in (5.0, 5.8)]
    assert [bool(s.trace() < 0) for s in model(state_of(structures))["stress"]] == [True, False]
    converged = ts.generate_force_convergence_fn(1e-4, include_cell_forces=True)
    end = ts.optimize(
        structures, model, optimizer=ts.Optimizer.fire, convergence_fn=converged, max_steps=300,
        init_kwargs={"cell_filter": ts.CellFilter.frechet},
    )  # fmt: skip
    assert model(end)["stress"].abs().max() < 1e-5
    torch.testing.assert_close(end.volume[0], end.volume[1], rtol=1e-3, atol=0.0)


def test_batches_of_torchsim_change_no_result(model):
    structures = many(12)
    whole = ts.static(structures, model)
    batcher = ts.BinningAutoBatcher(model, memory_scales_with=model.memory_scales_with, max_memory_scaler=150)
    parts = ts.static(structures, model, autobatcher=batcher)
    assert len(batcher.index_bins) > 2
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one["potential_energy"], other["potential_energy"], rtol=EXACT, atol=EXACT)
        torch.testing.assert_close(one["forces"], other["forces"], rtol=EXACT, atol=EXACT)


def test_relaxations_are_swapped_in_flight():
    model = IKModel(Argon(), device="cpu")
    rng = np.random.default_rng(0)
    structures = [bulk("Ar", cubic=True) for _ in range(6)]
    for atoms in structures:
        atoms.pbc = False
        atoms.positions += rng.normal(scale=0.05, size=(4, 3))
    options = {"optimizer": ts.Optimizer.fire, "convergence_fn": ts.generate_force_convergence_fn(1e-5)}
    batcher = ts.InFlightAutoBatcher(model, memory_scales_with=model.memory_scales_with, max_memory_scaler=30)
    swapped = ts.optimize(structures, model, autobatcher=batcher, max_steps=2000, **options)
    energies = model(swapped)["energy"]
    assert swapped.n_systems == 6
    # four atoms at the same distances
    torch.testing.assert_close(energies, energies[:1].expand(6), rtol=1e-6, atol=0.0)
    assert float(energies[0]) < float(model(state_of(structures))["energy"].min())


def test_memory_grows_with_edges(model):
    """Batches are chosen by the number of edges: what autograd keeps for a larger cell is that for each edge."""

    def kept(structure):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):
            model(state_of([structure]))
        return sum(sizes)

    small, dense = bulk("Cu", cubic=True) * 2, bulk("Cu", cubic=True, a=2.9) * 2
    edges = [len(neighbors.torchsim_nl(*_arguments(state_of([one])))[1]) for one in (small, dense)]
    assert model.memory_scales_with == "n_edges"
    assert kept(dense) / kept(small) == pytest.approx(edges[1] / edges[0], rel=0.3)


def _arguments(state):
    return state.positions, state.row_vector_cell, state.pbc, 3.5, state.system_idx


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same(network):
    model = IKModel(network, device="cuda", compute_stress=True)
    out = model(ts.initialize_state(crystals(), model.device, model.dtype))
    wanted = IKModel(network, device="cpu", compute_stress=True)(state_of(crystals()))
    for name, value in wanted.items():
        torch.testing.assert_close(out[name].cpu(), value, rtol=1e-9, atol=1e-9)
