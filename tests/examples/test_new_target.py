"""The worked example of a new target: what it promises of charges, and that all of training works for it."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import read, write

from ik_e3nn.data import StructureDataset, read_properties
from ik_e3nn.errors import DataError, MissingInputError
from ik_e3nn.graph import build_molecular_graph
from ik_e3nn.models import MolecularPropertyModel, load_model
from ik_e3nn.targets import KINDS, Dipole
from ik_e3nn.training import DataConfig, RunConfig, TrainConfig, train
from ik_e3nn.training.inference.prediction import predict

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        patch.delitem(sys.modules, "11_new_target", raising=False)  # each import names its kind of target anew
        yield importlib.import_module("11_new_target")
    del KINDS["atomic_charges"]


def graph_of(atoms, charge, model):
    atoms.info["charge"] = charge
    return build_molecular_graph(atoms, model.edges, model.r_max, dtype=model.dtype)


def test_it_is_one_short_file() -> None:
    assert len((EXAMPLES / "11_new_target.py").read_text().splitlines()) <= 80


@pytest.mark.parametrize("charge", [-1, 0, 2])
def test_charges_sum_to_the_total_charge_and_are_the_same_in_any_orientation(example, charge) -> None:
    targets = [example.AtomicCharges("q", "e"), Dipole("mu", "D"), example.AtomicCharges("p", "e")]
    model = MolecularPropertyModel(["H", "C", "O"], targets, edges="radius", potential={"num_channels": 4})
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_()
        model.scales.per_atom.normal_()
    atoms = molecule("CH3CH2OH")
    turned = atoms.copy()
    turned.rotate(40, (1, 2, 3))
    with torch.no_grad():
        out, other = (model(graph_of(one, charge, model)) for one in (atoms, turned))
    for name in ("q", "p"):
        assert out[name].shape == (9,)
        assert float(out[name].sum()) == pytest.approx(charge, abs=1e-12)
        assert float(out[name].std()) > 0.1
        torch.testing.assert_close(other[name], out[name], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(out["q"], out["p"])
    with pytest.raises(MissingInputError, match="total_charge"):
        model(build_molecular_graph(molecule("H2O"), "radius", 5.0, dtype=torch.float64))


def test_it_is_trained_written_and_read_like_every_target(example, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunConfig("charges", max_epochs=6, progress=False)
    monkeypatch.setattr(example, "RunConfig", lambda *args, **kwargs: run)
    example.main()
    frames = read("charges.xyz", ":")
    model = load_model("charges/model.safetensors", device="cpu")
    data = read_properties("charges.xyz", model.targets)
    graphs = StructureDataset(data, model.r_max, edges=model.edges, dtype=model.dtype, inputs=model.inputs)
    found = predict(model, graphs)
    for atoms, charges in zip(frames, found.of_atoms("q"), strict=True):
        assert charges.shape == (len(atoms),)
        assert charges.sum() == pytest.approx(0.0, abs=1e-6)
    labels = np.concatenate([atoms.arrays["q"] for atoms in frames])
    assert found.errors["q_mae_e"] == pytest.approx(np.abs(found.values["q"] - labels).mean(), rel=1e-9)
    by_element = {z: labels[np.concatenate([a.numbers for a in frames]) == z].mean() for z in (1, 6, 8)}
    means = np.array([by_element[z] for atoms in frames for z in atoms.numbers])
    assert found.errors["q_mae_e"] < 0.5 * np.abs(labels - means).mean()  # better than the mean charge of every element
    aside = read("charges/set_aside/valid.xyz", ":")
    assert all(np.ptp(atoms.arrays["q"]) > 0 for atoms in aside)


def test_labels_that_are_no_charges_are_refused(example, tmp_path) -> None:
    water = molecule("H2O")
    water.info["charge"], water.arrays["q"] = 1, np.array([-0.8, 0.4, 0.4])
    write(tmp_path / "a.xyz", water)
    with pytest.raises(DataError, match="molecule 0 of .*: q must sum to the total charge 1, but sums to 0; got"):
        read_properties(tmp_path / "a.xyz", [example.AtomicCharges("q", "e")])


def test_structures_without_a_charge_are_refused(example, tmp_path) -> None:
    frames = [molecule("H2O") for _ in range(4)]
    for atoms in frames:
        atoms.arrays["q"] = np.array([-0.8, 0.4, 0.4])
    write(tmp_path / "a.xyz", frames)
    data = DataConfig(str(tmp_path / "a.xyz"), targets={"q": "atomic_charges e"})
    with pytest.raises(MissingInputError, match="the model needs total_charge, but 3 of 3 structures have no"):
        train(TrainConfig(data, {"edges": "radius"}, run=RunConfig(str(tmp_path / "run"), progress=False)))
