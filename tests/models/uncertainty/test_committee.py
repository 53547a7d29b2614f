"""Committees are the mean and the sample deviation of their members, whatever these predict."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from ik_e3nn.errors import DataError
from ik_e3nn.models import Committee
from tests.models.uncertainty.helpers import MODELS, PROPERTIES, batch_of, potential, property_model, rattled


@pytest.mark.parametrize("kind", MODELS)
def test_a_committee_is_mean_and_sample_deviation_of_its_members(kind) -> None:
    models = [MODELS[kind](seed) for seed in range(4)]
    batch = rattled(models[0])
    committee = Committee(models)
    names = [target.name for target in models[0].targets if target.name != "stress"]
    factors = {name: 2.0 + number for number, name in enumerate(names)}
    committee.calibrate(factors)
    out = committee(batch)
    parts = [model(batch) for model in models]
    assert {name for name in out if name.endswith("_std")} == {f"{name}_std" for name in names}
    for name in names:
        values = np.stack([part[name].detach().numpy() for part in parts])
        np.testing.assert_allclose(out[name].detach(), values.mean(0), rtol=1e-12, atol=1e-12)
        expected = factors[name] * values.std(0, ddof=1)
        np.testing.assert_allclose(out[f"{name}_std"].detach(), expected, rtol=1e-12, atol=1e-14)
        assert out[f"{name}_std"].min() > 1e-6, name
    if "energies" in out:
        np.testing.assert_allclose(out["energies"].sum(), out["energy"].sum(), rtol=1e-12)
    assert not any(name.endswith("_std") for name in committee(batch, std=False))


@pytest.mark.parametrize("kind", ["potential", "joint"])
def test_what_is_not_asked_for_has_no_standard_deviation(kind) -> None:
    committee = Committee([MODELS[kind](seed) for seed in range(2)])
    out = committee(rattled(committee.first), forces=False)
    assert "energy_std" in out
    assert not {"forces", "forces_std"} & set(out)


def test_a_committee_has_the_largest_cutoff_and_the_common_elements_of_its_potentials() -> None:
    models = [potential(), potential(r_max=3.0)]
    committee, batch = Committee(models), batch_of(models[0], molecule("H2O"))
    assert committee.r_max == 4.0
    one, other = models[0](batch), models[1](batch_of(models[1], molecule("H2O")))
    torch.testing.assert_close(committee(batch)["forces"], (one["forces"] + other["forces"]) / 2)


def test_mistakes_are_clear_errors() -> None:
    model, properties = potential(), property_model()
    for one in (model, properties):
        with pytest.raises(DataError, match="a committee needs at least two models, got 1"):
            Committee([one])
    with pytest.raises(DataError, match="an ensemble needs at least one model, got none"):
        Committee([])
    with pytest.raises(DataError, match=r"must have the same inputs, got \[\] and \['spin'\]"):
        Committee([model, potential(inputs=["spin"])])
    with pytest.raises(DataError, match="must have the same r_max, got 5.0 and 4.0"):
        Committee([properties, property_model(r_max=4.0)])
    with pytest.raises(DataError, match="must have the same targets, got"):
        Committee([properties, property_model(targets=PROPERTIES[:1])])
    with pytest.raises(DataError, match="must have the same targets, got"):
        Committee([model, properties])
    range_ = r"must be between 1e-09 and 1e\+09; got 0"
    with pytest.raises(ValueError, match=f"the factor of the standard deviation of forces {range_}"):
        Committee([model, model]).calibrate({"energy": 1.0, "forces": 0.0})
    with pytest.raises(ValueError, match=f"the factor of the standard deviation of dipole_1 {range_}"):
        Committee([properties, properties]).calibrate({"dipole_1": 0})
