"""Processes that own parts of a structure have its energies, forces and virials together."""

import copy

import pytest
import torch
from ase.build import molecule

from ik_e3nn.blocks import derivatives
from ik_e3nn.errors import DataError, UnknownSpeciesError
from ik_e3nn.graph import build_graph, fields
from ik_e3nn.models import InteratomicPotential, predict_owned
from ik_e3nn.models.networks.owned import EDGE_GRADIENTS
from tests.models.networks.processes import Processes
from tests.properties import structures

CUTOFF = 3.5
FACE = structures.slab().cell.array[:2]
KINDS = {
    "O3": {"num_layers": 3},
    "kernels of current features": {"num_layers": 3, "kernel_features": "current"},
    "charged": {"num_layers": 2, "inputs": ["total_charge", "spin"]},
    "SO3": {"num_layers": 2, "group": "SO3"},
    # an error of the sign of edge vectors shows only in groups without inversion and twofold axes across
    "C1": {"num_layers": 2, "group": "C1"},
    "SO2 surface": {"num_layers": 2, "group": "SO2", "inputs": ["surface"]},
    "Cinfv surface": {"num_layers": 2, "group": "Cinfv", "inputs": ["surface"]},
    "site": {"num_layers": 2, "group": "Td", "inputs": ["site"]},
    "face": {"num_layers": 2, "group": {"plane": "p3m1", "cell": FACE[:, :2].tolist()}, "inputs": ["face"]},
}


def potential(**options):
    torch.manual_seed(0)
    model = InteratomicPotential(
        structures.SPECIES, CUTOFF, num_channels=2, l_max=2, l_features=1, correlation=2, **options
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.set_scale(100.0)
    return model.double().eval()


def case(kind):
    atoms = structures.methanol() if kind == "site" else structures.triclinic()
    if kind.endswith("surface") or kind == "face":
        atoms = structures.slab_in_a_box()
        atoms.positions[:, 2] += 1.5
    if kind == "face":
        atoms.info |= {"surface_cell": FACE, "surface_origin": [0.3, 0.1, 0.0]}
    atoms.info |= {"charge": 1, "spin": 2}
    return atoms


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("by", ["exchange", "halo", "halo in tiles", "exchange, some in tiles"])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_add_up_to_the_whole(kind, by, number):
    model, atoms = potential(**KINDS[kind]), case(kind)
    expected = model(build_graph(atoms, CUTOFF, dtype=torch.float64), atomic_stress=True)
    by, _, tiled = by.replace(",", "").partition(" ")
    layers = 1 if by == "exchange" else len(model.interactions)
    processes = Processes(atoms, number, CUTOFF, layers * CUTOFF)

    def predict(process, exchange):
        one = model
        if tiled == "in tiles" or (tiled and process is processes.members[0]):
            one = copy.deepcopy(model)
            one.max_edges = 30
        return predict_owned(one, process.graph, process.num_owned, exchange=exchange if by == "exchange" else None)

    found = {
        fields.ENERGIES: torch.zeros(len(atoms), dtype=torch.float64),
        fields.FORCES: torch.zeros(len(atoms), 3, dtype=torch.float64),
        fields.ATOMIC_VIRIALS: torch.zeros(3, 3, dtype=torch.float64),
    }
    for process, out in zip(processes.members, processes.each(predict), strict=True):
        assert out[fields.ENERGIES].shape == (process.num_owned,)
        assert float(out[fields.ENERGY].sum()) == pytest.approx(float(out[fields.ENERGIES].sum()), abs=1e-12)
        found[fields.ENERGIES].index_add_(0, process.atom[: process.num_owned], out[fields.ENERGIES])
        found[fields.FORCES].index_add_(0, process.atom, out[fields.FORCES])
        found[fields.ATOMIC_VIRIALS] += out[fields.ATOMIC_VIRIALS].sum(0)
        if "surface" not in kind and kind not in ("site", "face"):  # there, forces have a part that edges do not have
            by_edges, edges = out[EDGE_GRADIENTS], process.graph[fields.EDGE_INDEX]
            forces = derivatives.forces(by_edges, edges[0], edges[1], len(process.atom))
            torch.testing.assert_close(forces, out[fields.FORCES], rtol=1e-12, atol=1e-12)
    assert expected[fields.FORCES].abs().max() > 0.01
    expected[fields.ATOMIC_VIRIALS] = expected[fields.ATOMIC_VIRIALS].sum(0)
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], rtol=1e-11, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_what_is_not_needed_is_not_computed(treated_at_once):
    model, atoms = potential(num_layers=3), structures.triclinic()
    (process,) = Processes(atoms, 1, CUTOFF, 3 * CUTOFF).members
    predict_owned(model, process.graph, process.num_owned)
    *_, last = receivers = [count for _, count in treated_at_once]
    assert last == len(atoms)
    assert receivers == sorted(receivers, reverse=True)
    assert receivers[0] < len(process.atom)


def test_a_process_without_atoms_has_no_energy():
    model = potential(num_layers=2)
    graph = build_graph(molecule("CH3OH"), CUTOFF, dtype=torch.float64)
    for exchange in (None, lambda x: torch.cat([x, x.new_zeros(6, x.shape[1])])):
        out = predict_owned(model, graph, 0, exchange=exchange)
        assert out[fields.ENERGIES].shape == (0,)
        assert not out[fields.FORCES].any()


def test_impossible_input_is_refused():
    model, graph = potential(num_layers=1), build_graph(molecule("CH3OH"), CUTOFF, dtype=torch.float64)
    with pytest.raises(DataError, match="owned atoms must be between 0 and the 6 atoms, got 7"):
        predict_owned(model, graph, 7)
    graph = build_graph(molecule("CH3Cl"), CUTOFF, dtype=torch.float64)
    with pytest.raises(UnknownSpeciesError, match="the model does not know Cl"):
        predict_owned(model, graph, 1)
