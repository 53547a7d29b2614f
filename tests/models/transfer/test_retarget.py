"""Other targets and more elements for a model of properties: what it knew stays as it was, exactly."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.data.labels.labeled_set import LabeledSet
from ik_e3nn.data.properties.reference import PropertyReference, completed
from ik_e3nn.errors import ConfigError
from ik_e3nn.models import load_model, read_model_info, retargeted, save_model
from ik_e3nn.targets import Dipole, Extensive, Intensive, Polarizability
from tests.models.networks.test_property import TARGETS, ethanol, graph_of, make
from tests.models.uncertainty.helpers import JOINT, joint_model, rattled

MORE = [type(target)(f"{target.name} of another kind", target.unit) for target in TARGETS]


@pytest.mark.parametrize("name", ["bonds", "potential", "center"])
def test_known_targets_are_predicted_as_before_wherever_they_are(name) -> None:
    model = make(name, [*TARGETS, *MORE])
    model.feature_scale.factors.uniform_(0.5, 2.0)
    # in another order, without some, and with new ones between
    chosen = [TARGETS[3], MORE[0], Intensive("new"), TARGETS[1], *MORE[3:], TARGETS[4], Dipole("v")]
    new = retargeted(model, chosen)
    graph = graph_of(ethanol(), model)
    with torch.no_grad():
        before, after = model(graph), new(graph)
    assert list(after) == [target.name for target in chosen]
    for target in chosen:
        if target in model.targets:
            assert float(before[target.name].abs().max()) > 1e-3
            torch.testing.assert_close(after[target.name], before[target.name], rtol=1e-12, atol=1e-12)
    assert float(after["new"]) == 0.0  # its reference, which is not set yet
    assert float(after["v"].abs().max()) < 2.0


def test_a_target_of_another_unit_or_kind_is_another_target() -> None:
    model = make()
    new = retargeted(model, [Intensive("gap", "Ha"), Intensive("mu", "D")])
    graph = graph_of(ethanol(), model)
    with torch.no_grad():
        assert all(float(value) == 0.0 for value in new(graph).values())


def test_new_elements_start_like_similar_ones_and_their_part_of_references_is_not_known(tmp_path) -> None:
    model = make()
    new = retargeted(model, TARGETS, ["S"])
    assert new.species == (1, 6, 7, 8, 16)
    graph = graph_of(ethanol(), model)
    sulfur = dict(graph)
    sulfur["atomic_numbers"] = torch.where(graph["atomic_numbers"] == 8, 16, graph["atomic_numbers"])
    with torch.no_grad():
        before, after, other = model(graph), new(graph), new(sulfur)
        bodies = [m.body(g, m.molecules(g).species) for m, g in ((new, graph), (new, sulfur))]
    for target in TARGETS:
        torch.testing.assert_close(after[target.name], before[target.name], rtol=1e-12, atol=1e-12)
        assert bool(other[target.name].isnan().any()) == target.by_element
    torch.testing.assert_close(bodies[0], bodies[1], rtol=1e-12, atol=1e-12)
    save_model(new, tmp_path / "new.safetensors")
    assert read_model_info(tmp_path / "new.safetensors")["references"]["energy"]["S"] is None
    assert load_model(tmp_path / "new.safetensors").scales.per_atom[0, 4].isnan()


def test_a_steerable_network_is_not_given_elements() -> None:
    with pytest.raises(
        ConfigError, match=r"does not know S, and elements cannot be added to its network \(steerable\)"
    ):
        retargeted(make("bonds"), TARGETS, ["S"])


@pytest.mark.parametrize(
    "chosen",
    [JOINT, JOINT[3:], [JOINT[3], *JOINT[:2]], [Intensive("new"), *JOINT]],
    ids=["same", "mu", "order", "more"],
)
def test_energies_and_properties_of_one_body_are_predicted_as_before(chosen) -> None:
    model = joint_model()
    batch = rattled(model)
    new = retargeted(model, chosen, ["S"])
    before, after = model(batch), new(batch)
    for name in {target.name for target in chosen} & set(before):
        assert float(before[name].abs().max()) > 1e-3
        torch.testing.assert_close(after[name], before[name], rtol=1e-9, atol=1e-12)
    assert ("energy" in after) == ("energy" in {target.name for target in chosen})
    if new.potential is not None:
        assert new.reference()["energy"] == {
            "values": {"H": -3.0, "C": -5.0, "O": -7.0, "S": 0.0},
            "provenance": "test",
        }


def test_a_model_without_energies_cannot_be_given_them() -> None:
    with pytest.raises(
        ConfigError, match="predicts no energies, so that it cannot be extended to energy, forces: start"
    ):
        retargeted(make("potential"), [*TARGETS, *JOINT[:2]])


def test_a_file_of_before_features_had_a_scale_is_read_as_it_was(tmp_path) -> None:
    model = make()
    old = {name: value for name, value in model.state_dict().items() if name != "feature_scale.factors"}
    assert len(old) == len(model.state_dict()) - 1
    new = make()
    new.feature_scale.factors.fill_(3.0)
    new.load_state_dict(old)
    graph = graph_of(ethanol(), model)
    with torch.no_grad():
        assert torch.equal(new(graph)["gap"], model(graph)["gap"])
    assert "feature_scale.factors" not in old  # what is given is not changed


def test_missing_coefficients_complete_a_reference() -> None:
    rng = np.random.default_rng(0)
    atoms = [molecule(name) for name in ("CH4", "H2O", "CH3OH", "NH3", "H2CO", "CH3SH")]
    species, exact = [1, 6, 7, 8, 16, 17], np.array([0.5, -2.0, 1.0, 3.0, -4.0])

    def composition(one: Atoms) -> np.ndarray:
        return np.array([np.count_nonzero(one.numbers == z) for z in species[:5]])

    total = np.array([composition(one) @ exact for one in atoms])
    tensors = total[:, None, None] * np.eye(3) + 0.0
    values = {"E": total, "alpha": tensors, "gap": rng.normal(size=6)}
    targets = (Extensive("E"), Polarizability("alpha"), Intensive("gap"))
    whole = LabeledSet(atoms, targets, values, list("abcdef"))
    known = np.array([0.5, -2.0, np.nan, 3.0, np.nan, np.nan])
    for target in targets[:2]:
        before = PropertyReference(known, np.zeros(6), 0.0, 0.7)
        after = completed(whole, species, target, before)
        np.testing.assert_allclose(after.per_atom[:5], exact, atol=1e-12)
        assert np.isnan(after.per_atom[5])  # no molecule has chlorine
        assert after.scale == 0.7
        assert np.isnan(before.per_atom[2])  # inputs are not changed
    same = PropertyReference(np.zeros(6), np.zeros(6), 0.3, 0.7)
    after = completed(whole, species, targets[2], same)
    assert (after.shift, after.per_atom.tolist()) == (0.3, [0.0] * 6)
