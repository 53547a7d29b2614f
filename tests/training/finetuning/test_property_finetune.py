"""Fine-tuning to properties of molecules, from a potential or a model of properties."""

import csv
import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import read, write
from e3nn import o3

from ik_e3nn.cli import main
from ik_e3nn.errors import ConfigError, DataError, UnknownSpeciesError
from ik_e3nn.graph import batch_graphs, build_graph, build_molecular_graph
from ik_e3nn.models import (
    InteratomicPotential,
    MolecularPropertyModel,
    load_model,
    read_model_info,
    save_model,
)
from ik_e3nn.models.networks.domain import Domain
from ik_e3nn.nn import lora_layers
from ik_e3nn.targets import Dipole, Extensive, Intensive, Polarizability, SpatialExtent
from ik_e3nn.training import (
    CalibrationSettings,
    DataConfig,
    FinetuneConfig,
    LossConfig,
    MethodConfig,
    OptimizerConfig,
    RunConfig,
    calibrate,
    finetune,
    read_config,
    write_config,
)
from ik_e3nn.training.finetuning.parts import parts_of
from ik_e3nn.training.finetuning.task import Finetuning
from tests.data.molecule_sets import property_set
from tests.training.helpers import MODEL, RUN

NAMES = ("H2O", "CH4", "CH3OH", "H2CO", "HCOOH", "CO2", "C2H4", "C2H6", "CH3CHO", "C2H2", "CH3CH2OH", "H2")
WITH_N = (*NAMES, "NH3", "HCN", "CH3CN")
TARGETS = {"size": "extensive eV", "gap": "intensive eV", "moment": "dipole D"}
SIZES = {1: 1.0, 6: -6.0, 7: 2.5, 8: 3.0}  # what composition says of `size`


def molecules(names, seed=0):
    """Rattled molecules with properties that are functions of composition and geometry."""
    generator = np.random.default_rng(seed)
    result = []
    for name in names:
        atoms = molecule(name)
        atoms.positions += 0.05 * generator.standard_normal(atoms.positions.shape)
        spread = np.linalg.norm(atoms.positions - atoms.positions.mean(0), axis=1).mean()
        atoms.info = {
            "size": sum(SIZES[z] for z in atoms.numbers), "gap": 5.0 - spread,
            "moment": atoms.positions[0] - atoms.positions[-1], "name": name, "other": spread,
        }  # fmt: skip
        result.append(atoms)
    return result


def potential(species=("H", "C", "O")):
    torch.manual_seed(1)
    model = InteratomicPotential(species, **(MODEL | {"num_layers": 2, "num_channels": 6}))
    model.set_energy_reference({z: -0.5 * z for z in model.species}, "the test")
    model.set_scale(0.3)
    model.set_average_neighbors(2.0)
    return model.eval()


def properties(targets, species=("H", "C", "O")):
    """A model of properties that predicts something."""
    model = MolecularPropertyModel.from_potential(potential(species), targets)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model.scales.per_atom[0, :] = torch.tensor([SIZES[z] for z in model.species])
        model.scales.scale[:] = torch.tensor([0.2, 0.4, 0.6, 0.5, 0.3])[: len(targets)]
    return model.eval()


OLD = [Extensive("size", "eV"), Intensive("old gap", "eV"), Dipole("moment", "D")]


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "train.xyz", molecules(NAMES))
    write(tmp_path / "more.xyz", molecules(WITH_N))
    save_model(potential(), tmp_path / "base.safetensors")
    save_model(properties(OLD), tmp_path / "properties.safetensors")
    return tmp_path


def config(folder, *, base="base", train="train.xyz", targets=TARGETS, model=None, optimizer=None, run=None, **method):
    return FinetuneConfig(
        data=DataConfig(str(folder / train), targets=targets, valid=3),
        model=model or {},
        optimizer=OptimizerConfig(**({"lr": 0.02, "warmup_steps": 2} | (optimizer or {}))),
        run=RunConfig(**(RUN | {"output": str(folder / "run"), "max_epochs": 1} | (run or {}))),
        finetune=MethodConfig(**({"base": str(folder / f"{base}.safetensors")} | method)),
    )


def started(folder, *, run="started", seed=0, **options):
    """The task before its first step, and the model as it was before the method was applied."""
    (folder / run).mkdir(exist_ok=True)
    task = Finetuning(config(folder, run={"output": str(folder / run), "seed": seed}, **options))
    return task, task.initial


def graph_of(atoms, model):
    return build_molecular_graph(atoms, model.edges, model.r_max, dtype=model.dtype)


def test_the_features_at_the_start_are_those_of_the_base_and_the_predictions_the_references(data) -> None:
    task, model = started(data)
    base, atoms = potential(), molecules(["CH3OH"])[0]
    graph = build_graph(atoms, base.r_max)
    with torch.no_grad():
        features = torch.cat(list(base.node_features(base.prepare(graph))), 1)
        assert float(features.abs().max()) > 0.1
        assert torch.equal(model.body(graph, model.molecules(graph).species), features)
        out = model(graph_of(atoms, model))
    train = task.data.sets["train"]
    assert float(out["size"]) == pytest.approx(atoms.info["size"], abs=1e-6)
    assert float(out["gap"]) == pytest.approx(train.values["gap"].mean(), abs=1e-9)
    # constants to which the weights belong are the base's, not the new data's
    assert float(model.body.potential.interactions[0].normalization) == 0.25  # the base has 2, which counts as 4
    assert (
        float(task.module.model.body.potential.interactions[0].normalization) == 0.25
    )  # the base has 2, which counts as 4
    assert task.graphs["train"].average_neighbors() != 2.0


@pytest.mark.parametrize("method", [{}, {"method": "lora"}])
def test_new_heads_see_fields_of_unit_size_and_those_of_the_base_what_they_know(data, method) -> None:
    task, initial = started(data, **method)
    graphs = batch_graphs([task.graphs["train"][index] for index in range(9)])
    for model in (initial, task.module.model.eval()):
        with torch.no_grad():
            features = model.atomwise(graphs, model.molecules(graphs)).features
        squares = model.feature_scale.mean_squares(features)
        torch.testing.assert_close(squares, torch.ones_like(squares), rtol=1e-4, atol=1e-4)
    base = properties(OLD)
    base.feature_scale.factors.fill_(1.5)
    save_model(base, data / "properties.safetensors", overwrite=True)
    _, initial = started(data, base="properties", run="second", **method)
    assert initial.feature_scale.factors.tolist() == base.feature_scale.factors.tolist()


@pytest.mark.parametrize("base", ["base", "properties"])
@pytest.mark.parametrize(
    ("method", "trained"),
    [
        ({}, {"embedding", "interactions.0", "interactions.1", "heads", "invariants"}),
        ({"method": "head"}, {"heads", "invariants"}),
        ({"frozen_blocks": 1}, {"interactions.1", "heads", "invariants"}),
        ({"method": "lora"}, {"interactions.0", "interactions.1", "heads", "invariants"}),
    ],
)
def test_a_method_changes_its_weights_and_no_others(data, base, method, trained) -> None:
    _, before = started(data, base=base, **method)
    result = finetune(config(data, base=base, **method))
    after = load_model(result.model)
    one, two = before.state_dict(), after.state_dict()
    assert one.keys() == two.keys()  # updates of low rank are merged
    changed = {name for name, _ in before.named_parameters() if not torch.equal(one[name], two[name])}
    parts = {
        "embedding" if "node_embedding" in name else name.split(".")[0] if not name.startswith("body") else
        ".".join(name.split(".")[2:4])
        for name in changed
    }  # fmt: skip
    assert parts == trained
    if method.get("method") == "lora":
        assert {name.split("kernel.")[1] for name in changed if "kernel" in name} == {"mlp.weights.1"}


def test_targets_of_the_base_are_predicted_by_it_at_the_start(data) -> None:
    targets = {"gap": "intensive eV", "moment": "dipole D", "size": "extensive eV"}
    task, model = started(data, base="properties", targets=targets, E0s="base")
    base, atoms = properties(OLD), molecules(["CH3CHO"])[0]
    with torch.no_grad():
        known, out = base(graph_of(atoms, base)), model(graph_of(atoms, model))
    for name in ("size", "moment"):
        assert float(known[name].abs().max()) > 1e-2
        torch.testing.assert_close(out[name], known[name], rtol=1e-5, atol=1e-6)
    assert float(out["gap"]) == pytest.approx(task.data.sets["train"].values["gap"].mean(), abs=1e-9)
    assert dict(zip(model.scales.targets, model.scales.scale.tolist(), strict=True))[OLD[0]] == pytest.approx(0.2)
    assert [target.name for target in task.kept] == ["moment", "size"]
    assert task.facts["new_targets"] == ["gap"]
    moments = task.data.sets["train"].values["moment"]
    assert task.loss.spreads["moment"] == pytest.approx(np.sqrt(np.mean(moments**2)))  # of the new labels


def test_references_of_the_bases_targets_move_to_the_new_labels_by_least_squares(data) -> None:
    """What composition explains of the difference is gone at the start, and nothing else has changed."""
    targets = {"size": "extensive eV", "old gap": "intensive eV", "moment": "dipole D"}
    base, shifted = properties(OLD), molecules(NAMES)
    with torch.no_grad():
        for atoms in shifted:
            said = base(graph_of(atoms, base))
            atoms.info["size"] = float(said["size"]) + sum({1: 0.5, 6: -2.0, 8: 3.0}[z] for z in atoms.numbers)
            atoms.info["old gap"] = float(said["old gap"]) - 4.0
    write(data / "shifted.xyz", shifted)
    _, model = started(data, base="properties", train="shifted.xyz", targets=targets)
    fresh = molecules(["CH3CHO"], seed=5)[0]
    with torch.no_grad():
        known, out = base(graph_of(fresh, base)), model(graph_of(fresh, model))
    shift = {"size": 4 * 0.5 - 2 * 2.0 + 3.0, "old gap": -4.0, "moment": 0.0}
    for name, value in shift.items():
        torch.testing.assert_close(out[name], known[name] + value, rtol=1e-5, atol=1e-5)


def test_a_target_of_the_base_that_is_something_else_is_noticed(data, caplog) -> None:
    targets = {"size": "extensive eV", "old gap": "intensive eV", "moment": "dipole D"}
    base, labeled = properties(OLD), molecules(NAMES)
    for number, atoms in enumerate(labeled):
        with torch.no_grad():
            said = base(graph_of(atoms, base))
        atoms.info |= {"size": float(said["size"]), "old gap": 1e-3 * number, "moment": said["moment"][0].numpy()}
    write(data / "labeled.xyz", labeled)
    started(data, base="properties", train="labeled.xyz", targets=targets)
    found = [record.getMessage() for record in caplog.records if "give it another name" in record.getMessage()]
    assert len(found) == 1
    assert found[0].startswith("the base predicts old gap with an error of ")


@pytest.mark.parametrize("base", ["base", "properties"])
@pytest.mark.parametrize("method", [{}, {"method": "head"}, {"method": "lora"}])
def test_new_elements_are_learned_whatever_is_frozen_and_old_ones_keep_what_is(data, base, method) -> None:
    references = {"E0s": "base"} if base == "properties" else {}
    result = finetune(config(data, base=base, train="more.xyz", **references, **method))
    after = load_model(result.model)
    assert after.species == (1, 6, 7, 8)
    old = potential()
    now, before = after.body.potential.node_embedding.species, old.node_embedding.species
    assert not any(torch.equal(now[2], row) for row in before)
    assert torch.equal(now[[0, 1, 3]], before) == bool(method)
    # what composition says of the new element is found from the data, that of the others is the base's or found too
    np.testing.assert_allclose(after.scales.per_atom[0].tolist(), [SIZES[z] for z in after.species], atol=1e-6)
    report = json.loads((data / "run/finetune.json").read_text())
    assert report["new_elements"] == ["N"]
    assert report["errors"]["valid"]["after"] == result.metrics["valid"]


def test_what_a_model_was_trained_on_grows_with_the_new_molecules(data) -> None:
    """New heads on a potential know the new molecules alone."""
    base = properties(OLD)
    base.trained_on = Domain(max_atoms=30, several=True)
    save_model(base, data / "properties.safetensors", overwrite=True)
    assert started(data, base="properties")[1].trained_on == base.trained_on
    assert started(data, run="other")[1].trained_on == Domain(max_atoms=9)


def test_keeping_references_that_the_base_does_not_have_is_refused(data) -> None:
    with pytest.raises(ConfigError, match="finetune.E0s is 'base', but has no effect, because the base has none of"):
        finetune(config(data, E0s="base"))
    assert not (data / "run").exists()


def test_what_the_data_do_not_say_of_an_element_is_not_made_up(data, caplog, capsys) -> None:
    save_model(potential(("H", "C", "O", "S")), data / "base.safetensors", overwrite=True)
    with caplog.at_level(logging.WARNING):
        result = finetune(config(data))
    assert "no training molecule with a value of size contains S: predictions of it are NaN" in caplog.text
    write(data / "new.xyz", [molecule("CH3SH"), molecule("CH3OH")])
    assert (
        main(["predict", str(result.model), str(data / "new.xyz"), "-o", str(data / "p.csv"), "--progress=false"]) == 0
    )
    with (data / "p.csv").open() as file:
        one, two = csv.DictReader(file)
    assert one["size_eV"] == ""
    assert np.isfinite(float(one["gap_eV"]))
    reason = "the model has no reference for an element, or atoms are too close"
    assert one["problem"] == f"the prediction of size is not finite: {reason}"
    assert (np.isfinite(float(two["size_eV"])), two["problem"]) == (True, "")
    write(data / "valid.xyz", [*molecules(["CH3OH"]), molecule("CH3SH")])
    bad = config(data, run={"output": str(data / "bad")})
    bad = dataclasses.replace(bad, data=dataclasses.replace(bad.data, valid=str(data / "valid.xyz")))
    with pytest.raises(UnknownSpeciesError, match="data.valid has S, which no training structure has"):
        finetune(bad)


def test_updates_of_low_rank_keep_symmetry_and_merge_exactly(data) -> None:
    merged = load_model(finetune(config(data, method="lora", optimizer={"lr": 0.02})).model)
    elsewhere = {"output": str(data / "apart")}
    apart = load_model(finetune(config(data, method="lora", merge=False, optimizer={"lr": 0.02}, run=elsewhere)).model)
    assert not lora_layers(merged)
    assert all(name.startswith("body.potential.interactions") for name in lora_layers(apart))
    model, atoms = apart.double(), molecules(["CH3CH2OH"])[0]
    R = o3.rand_matrix(dtype=torch.float64)
    turned = atoms.copy()
    turned.positions = -atoms.positions @ R.numpy().T + [1.0, 2.0, -3.0]  # a reflection too
    with torch.no_grad():
        one, two = model(graph_of(atoms, model)), model(graph_of(turned, model))
        same = merged.double()(graph_of(atoms, merged))
    assert float(one["moment"].abs().max()) > 1e-2
    torch.testing.assert_close(two["moment"], -one["moment"] @ R.T, rtol=1e-9, atol=1e-9)
    for name in ("size", "gap"):
        torch.testing.assert_close(two[name], one[name], rtol=1e-10, atol=1e-10)
    for name, value in one.items():
        torch.testing.assert_close(same[name], value, rtol=1e-5, atol=1e-5)
    # and a base with updates kept apart is the model that they make of it
    save_model(apart.float(), data / "properties.safetensors", overwrite=True)
    _, model = started(data, base="properties", E0s="base")
    with torch.no_grad():
        again = model(graph_of(atoms, model))
    for name, value in one.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-4)


def test_learning_rates_fall_from_all_that_reads_properties_towards_the_input(data) -> None:
    task, model = started(data, lr_decay=0.5)
    assert parts_of(model).embedding == ["body.potential.node_embedding.species"]
    factors = task.module.lr_factors
    assert factors["heads.intensive.mlp.weights.0"] == factors["invariants.linear.weight"] == 1.0
    assert factors["body.potential.interactions.1.skip.weight"] == 0.5
    assert factors["body.potential.interactions.0.skip.weight"] == 0.25
    assert factors["body.potential.node_embedding.species"] == 0.125
    assert factors.keys() == {name for name, _ in task.module.model.named_parameters()}


def test_a_steerable_network_is_a_base_too(tmp_path) -> None:
    chosen = property_set(("C", "CO", "CC", "CCO", "COC", "CCC"))
    for atoms, size, moment in zip(chosen.structures, chosen.values["size"], chosen.values["moment"], strict=True):
        atoms.info |= {"size": size, "moment": moment}
    write(tmp_path / "train.xyz", chosen.structures)
    network = {"channels": 4, "num_layers": 2, "kernel_fields": 4}
    base = MolecularPropertyModel(["H", "C", "N", "O"], OLD, steerable=network)
    save_model(base, tmp_path / "base.safetensors")
    options = {"targets": {"size": "extensive eV", "moment": "dipole D"}, "method": "lora", "frozen_blocks": 1}
    after = load_model(finetune(config(tmp_path, run={"max_epochs": 4}, **options)).model)
    assert after.edges == "bonds"
    assert after.species == (1, 6, 7, 8)
    one, two = base.state_dict(), after.state_dict()
    changed = {name for name, _ in base.named_parameters() if name in two and not torch.equal(one[name], two[name])}
    assert any(name.startswith("body.network.layers.1") for name in changed)
    assert not any(name.startswith(("body.network.layers.0", "body.network.embedding")) for name in changed)


def test_the_report_speaks_of_targets_in_their_units(data, caplog) -> None:
    with caplog.at_level(logging.INFO):
        result = finetune(config(data, base="properties", method="lora"))
    report = json.loads((data / "run/finetune.json").read_text())
    changes = {change["setting"]: change for change in report["changes"]}
    assert changes["finetune.lora_rank"]["reason"] == "the default"
    assert changes["model.hidden"] == {
        "setting": "model.hidden", "asked": None, "resolved": 64, "reason": "the base's"
    }  # fmt: skip
    assert changes["model.potential"]["resolved"]["num_channels"] == 6
    assert report["kept_targets"] == ["size", "moment"]
    assert report["new_targets"] == ["gap"]
    both = report["errors"]["valid"]
    assert set(both["before"]) == set(both["after"]) >= {"size_mae_eV", "gap_mae_eV", "moment_mae_D"}
    assert both["before"]["gap_mae_eV"] != both["after"]["gap_mae_eV"]
    assert report["head_parameters"] < report["trained_parameters"] < report["parameters"]
    assert read_model_info(result.model)["training"]["finetune"]["base"] == report["base"]
    page = (data / "run/finetune.md").read_text()
    assert "| valid | moment_mae_D |" in page
    assert "Targets shared with the base: size, moment; new: gap; kept from the base for old data: none; left" in page
    assert "and targets of the base by its own heads" in page
    assert not any(word in page for word in ("E0s:", "Replayed"))
    assert "**What the model has forgotten was not measured**" in page
    assert "what the model forgets is not measured, because there are no data of the old domain" in caplog.text
    assert "trained: " in (data / "run/train.log").read_text()


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        ("nowhere", {}, "there is no model file .*nowhere.safetensors"),
        ("base", {"frozen_blocks": 3}, "finetune.frozen_blocks is 3, but the base has 2 blocks"),
        ("base", {"model": {"edges": "both"}}, "model.edges is 'both', but the base has 'radius': fine-tuning keeps"),
        ("base", {"model": {"r_max": 6.0}}, "model.r_max is 6.0, but the base has 4.0"),
        ("base", {"model": {"steerable": {"channels": 4}}}, "model.steerable is given, but the base has a body of"),
        ("base", {"model": {"potential": {"num_channels": 8}}}, "model.potential.num_channels is 8, but the base has"),
        ("base", {"model": {"potential": {"preset": "large"}}}, "preset is 'large', with num_channels 64, but"),
        ("base", {"model": {"potential": {"size": 8}}}, "unknown setting 'model.potential.size'; there are preset"),
        ("base", {"model": {"num_channels": 8}}, "unknown setting 'model.num_channels'"),
        ("base", {"run": {"compile": True}}, "run.compile is true, but models of properties cannot be compiled"),
        ("base", {"train": "more.xyz", "method": "head", "optimizer": {"weight_decay": 0.1}}, "would shrink frozen"),
        ("base", {"replay": "old.xyz"}, "finetune.replay is 'old.xyz', but has no effect, because the base is a poten"),
        ("base", {"old_domain": "old.xyz"}, "finetune.old_domain is 'old.xyz', but has no effect"),
        ("properties", {"model": {"places": "center"}}, "model.places is 'center', but the base has 'local'"),
        ("properties", {"model": {"hidden": 32}}, "model.hidden is 32, but the base has 64"),
        ("surface", {}, "finetune.base is a potential for atoms beside a surface"),
    ],
)  # fmt: skip
def test_mistakes_are_clear_errors(data, base, changes, message) -> None:
    outside = InteratomicPotential(["H"], group="Cinfv", inputs=["surface"], **MODEL)
    save_model(outside, data / "surface.safetensors")
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        finetune(config(data, base=base, **changes))
    assert not (data / "run").exists()


def old_molecules(folder, name="old.xyz", names=NAMES, seed=7):
    """Molecules with the properties of the base, named as it names them."""
    structures = molecules(names, seed)
    for atoms in structures:
        atoms.info["old gap"] = atoms.info.pop("gap") + 1.0
    write(folder / name, structures)
    return structures


def mae(model, structures, name):
    """Mean absolute error of a model, molecule by molecule."""
    with torch.no_grad():
        differences = [
            model(graph_of(atoms, model))[name].double().numpy() - atoms.info[name]
            for atoms in structures
            if name in atoms.info
        ]
    return float(np.abs(differences).mean())


def report_of(folder):
    return json.loads((folder / "run/finetune.json").read_text())


def test_errors_on_old_data_are_those_of_the_base_before_and_of_the_new_model_after(data, caplog) -> None:
    caplog.set_level(logging.INFO)
    structures = old_molecules(data)
    for k in (1, 4):
        del structures[k].info["old gap"]  # labels may be missing
    write(data / "old.xyz", structures)
    targets = {"gap": "intensive eV", "moment": "dipole D"}
    result = finetune(config(data, base="properties", targets=targets, E0s="base", old_domain=str(data / "old.xyz")))
    model, errors = load_model(result.model).double(), report_of(data)["errors"]["old domain"]
    assert [target.name for target in model.targets] == ["gap", "moment", "size", "old gap"]
    for when, one in (("before", properties(OLD).double()), ("after", model)):
        for name, key in (("size", "size_mae_eV"), ("old gap", "old gap_mae_eV"), ("moment", "moment_mae_D")):
            assert errors[when][key] == pytest.approx(mae(one, structures, name), rel=1e-4), (when, name)
    assert errors["before"]["moment_mae_D"] != errors["after"]["moment_mae_D"]
    assert "gap_mae_eV" not in errors["before"]  # old data say nothing of the new property
    page = (data / "run/finetune.md").read_text()
    assert "; kept from the base for old data: size, old gap; left out: none. " in page
    assert "Old structures: 0 replayed, 12 to measure on." in page
    assert "no training structure has a value of size, old gap: the model still predicts it" in caplog.text
    assert "errors on the old domain:\n| set | error | before" in caplog.text
    assert "| old domain | loss |" not in page
    assert "forgotten was not measured" not in page


KINDS = [
    Extensive("size", "eV"), Intensive("gap", "eV"), Dipole("moment", "D"),
    Polarizability("alpha", "A^3"), SpatialExtent("extent", "A^2"),
]  # fmt: skip


def with_all_kinds(structures, seed, shift):
    """Properties of all kinds, with a part that composition and size say and is another at each level."""
    generator = np.random.default_rng(seed)
    for atoms in structures:
        center = np.average(atoms.positions, axis=0, weights=atoms.numbers)
        noise = generator.normal(size=(3, 3))
        rest = atoms.info.pop("other")
        atoms.info |= {
            "size": atoms.info["size"] + shift * len(atoms), "gap": atoms.info["gap"] + shift,
            "alpha": shift * atoms.numbers.sum() * np.eye(3) + 0.1 * (noise + noise.T),
            "extent": (4 + shift) * ((atoms.positions - center) ** 2).sum() + (3 + shift) * len(atoms) + rest,
        }  # fmt: skip
    return structures


@pytest.mark.parametrize("train", [NAMES, WITH_N])
def test_old_values_move_with_the_references_so_that_the_bases_errors_stay(data, train) -> None:
    """P_new - (q + R_new - R_old) = P_old - q, for every kind of property, with new elements and several files."""
    base = properties(KINDS)
    with torch.no_grad():
        base.scales.per_square[4, :] = 0.7
        base.scales.per_atom[3, :] = torch.tensor([0.3, 1.2, 0.9])
    save_model(base, data / "kinds.safetensors")
    write(data / "train.xyz", with_all_kinds(molecules(train), 5, 2.0))
    old = with_all_kinds(molecules(NAMES, 7), 8, -1.0)
    del old[0].info["alpha"], old[5].info["extent"], old[5].info["size"]
    write(data / "one.xyz", old[:5])
    write(data / "two.xyz", old[5:])
    targets = {target.name: f"{target.kind} {target.unit}" for target in KINDS}
    files = [str(data / "one.xyz"), str(data / "two.xyz")]
    task, initial = started(data, base="kinds", targets=targets, replay=files, replay_ratio=0.75)
    sets, new = task.data.sets, len(train) - 3
    assert len(sets["train"]) - new + len(sets["old domain"]) == 12
    seen = dict.fromkeys(targets, 0)
    for part in (sets["train"], sets["old domain"]):
        for index, atoms in enumerate(part.structures):
            for one in old:
                if len(one) != len(atoms) or not np.allclose(one.positions, atoms.positions, atol=1e-6):
                    continue
                with torch.no_grad():
                    before, after = (model(graph_of(one, model)) for model in (base, initial))
                for name in targets:
                    moved = part.values[name][index]
                    assert np.isnan(moved).any() == (name not in one.info)
                    if name in one.info:
                        errors = [p[name][0].numpy() - q for p, q in ((before, one.info[name]), (after, moved))]
                        np.testing.assert_allclose(*errors, atol=2e-5)
                        assert (np.abs(moved - one.info[name]).max() > 0.2) == (name != "moment")
                        seen[name] += 1
    assert seen == {"size": 11, "gap": 12, "moment": 12, "alpha": 11, "extent": 11}


def test_targets_of_old_data_alone_are_learned_from_them_alone(data) -> None:
    old_molecules(data)
    task, _ = started(data, base="properties", targets={"size": "extensive eV"}, replay=str(data / "old.xyz"))
    assert task.data.sets["train"].counts() == {"size": 18, "old gap": 9, "moment": 9}
    assert task.data.sets["valid"].counts() == {"size": 3, "old gap": 0, "moment": 0}
    assert task.data.sets["old domain"].counts() == {"size": 3, "old gap": 3, "moment": 3}


def test_what_is_left_of_replayed_data_is_a_file_that_calibrates_the_old_targets(data) -> None:
    old = old_molecules(data, names=NAMES * 3)
    options = {"base": "properties", "targets": {"gap": "intensive eV"}, "replay": str(data / "old.xyz")}
    result = finetune(config(data, **options))
    left = read(data / "run/set_aside/old_domain.xyz", ":")
    assert len(left) == len(old) - 9
    errors = report_of(data)["errors"]["old domain"]["after"]
    model = load_model(result.model).double()
    assert errors["old gap_mae_eV"] == pytest.approx(mae(model, left, "old gap"), rel=1e-4)
    write(data / "more.xyz", molecules(NAMES * 2, seed=11))  # valid.xyz has three molecules
    files = [str(data / "more.xyz"), str(data / "run/set_aside/old_domain.xyz")]
    train = [str(data / "train.xyz"), str(data / "old.xyz")]
    settings = CalibrationSettings([str(result.model)], files, train=train, output=str(data / "sure.safetensors"))
    assert set(calibrate(settings).factors) == {"gap", "size", "old gap", "moment"}
    finetune(config(data, **options, old_domain=str(data / "old.xyz"), run={"output": str(data / "given")}))
    assert not (data / "given/set_aside/old_domain.xyz").exists()


def test_old_tables_of_smiles_have_bonds_where_the_base_sees_them(data) -> None:
    """A base whose graph is made of bonds: the moment is a vector, which such a table cannot have."""
    base = MolecularPropertyModel(["H", "C", "O"], OLD, steerable={"channels": 4, "num_layers": 1})
    save_model(base, data / "bonds.safetensors")
    rows = ["smiles,size,old gap", "CCO,1.0,", "CC=O,2.0,3.0", "C#C,,4.0", "CO,,"]
    (data / "old.csv").write_text("\n".join(rows) + "\n")
    options = {"base": "bonds", "targets": {"gap": "intensive eV"}, "replay": str(data / "old.csv")}
    task, _ = started(data, **options, replay_ratio=1.0)
    assert task.data.sets["train"].counts() == {"gap": 9, "size": 2, "old gap": 2}  # CO has no value
    assert [target.name for target in task.module.model.targets] == ["gap", "size", "old gap"]
    assert sum(task.data.bonds["replay"].values()) == 3
    ethanol = task.graphs["train"][9]
    assert ethanol["edge_index"].shape == (2, 2 * 8)


def test_values_without_a_reference_are_left_out_and_said(data, caplog) -> None:
    base = properties(OLD)
    base.scales.per_atom[0, 2] = torch.nan  # of oxygen
    save_model(base, data / "gap.safetensors")
    old = old_molecules(data)
    task, _ = started(
        data, base="gap", targets={"size": "extensive eV"}, replay=str(data / "old.xyz"), replay_ratio=2.0
    )
    without = sum(8 not in atoms.numbers for atoms in old)
    assert task.data.sets["train"].counts()["size"] == 9 + without
    assert f"{12 - without} old values of size are left out: the base has no reference" in caplog.text


@pytest.mark.parametrize("method", [{}, {"method": "lora"}])
def test_replay_keeps_what_the_base_can_do(data, method) -> None:
    """With and without it the new property is learned; what the base predicts is kept with it alone."""
    teacher = properties(OLD)
    structures = molecules(NAMES, seed=7)
    with torch.no_grad():
        for atoms in structures:
            out = teacher(graph_of(atoms, teacher))
            atoms.info = {"old gap": float(out["old gap"]), "moment": out["moment"][0].numpy()}
    write(data / "old.xyz", structures)
    options = {
        "base": "properties", "targets": {"other": "intensive A"}, "optimizer": {"lr": 0.005},
        "run": {"max_epochs": 15}, **method,
    }  # fmt: skip
    after = {}
    for name in ("replay", "old_domain"):
        run = {**options["run"], "output": str(data / name)}
        finetune(config(data, **options | {"run": run}, **{name: str(data / "old.xyz")}))
        errors = json.loads((data / name / "finetune.json").read_text())["errors"]
        assert errors["old domain"]["before"]["old gap_mae_eV"] < 1e-4
        assert errors["valid"]["after"]["other_mae_A"] < errors["valid"]["before"]["other_mae_A"]
        after[name] = errors["old domain"]["after"]["moment_mae_D"] + errors["old domain"]["after"]["old gap_mae_eV"]
    assert after["replay"] < 0.5 * after["old_domain"]


def test_weights_of_old_targets_may_be_chosen_and_their_errors_are_in_units_of_the_bases_scale(data) -> None:
    old_molecules(data)
    settings = config(data, base="properties", targets={"gap": "intensive eV"}, replay=str(data / "old.xyz"))
    settings = dataclasses.replace(settings, loss=LossConfig(weights={"size": 0.0, "old gap": 0.1}))
    (data / "run").mkdir()
    loss = Finetuning(settings).loss
    assert loss.weights == pytest.approx({"gap": 1 / 2.1, "old gap": 0.1 / 2.1, "moment": 1 / 2.1})  # a mean
    assert [loss.spreads[name] for name in ("size", "old gap", "moment")] == pytest.approx([0.2, 0.4, 0.6])
    measured = MethodConfig(base=settings.finetune.base, old_domain=settings.finetune.replay)
    settings = dataclasses.replace(settings, finetune=measured)
    with pytest.raises(
        ConfigError, match=r"loss.weights.size, loss.weights.old gap has no effect, as no training structure"
    ):
        Finetuning(settings)
    loss = Finetuning(dataclasses.replace(settings, loss=LossConfig())).loss
    assert loss.weights == {"gap": 1.0}  # what is only measured does not dilute it


def test_a_target_that_no_replayed_molecule_has_is_not_learned(data, caplog) -> None:
    structures = old_molecules(data)
    for atoms in structures[1:]:
        del atoms.info["old gap"]
    del structures[0].info["size"], structures[0].info["moment"]
    write(data / "old.xyz", structures)
    options = {"base": "properties", "targets": {"gap": "intensive eV"}, "replay": str(data / "old.xyz")}
    weights = []
    for seed in range(4):  # one molecule of twelve is replayed, or measures
        task, _ = started(data, seed=seed, replay_ratio=0.6, **options)
        count = task.data.sets["train"].counts()["old gap"]
        assert task.loss.weights.get("old gap") == (pytest.approx(1 / 4) if count else None)
        weights.append(count)
    assert {*weights} == {0, 1}
    assert "no training structure has a value of old gap: the model still predicts it" in caplog.text


def test_validation_without_a_weighted_value_is_refused(data) -> None:
    old_molecules(data)
    settings = config(data, base="properties", targets={"gap": "intensive eV"}, replay=str(data / "old.xyz"))
    settings = dataclasses.replace(settings, loss=LossConfig(weights={"gap": 0.0}))
    with pytest.raises(ConfigError, match="data.valid has no value of a target with a weight .loss.weights."):
        finetune(settings)


def test_unusable_old_data_are_clear_errors(data, caplog) -> None:
    old_molecules(data)
    old_molecules(data, "nitrogen.xyz", WITH_N)
    write(data / "other.xyz", [molecule("H2O")])
    options = {"base": "properties", "targets": {"gap": "intensive eV"}}
    for name, error, message in (
        (
            "nitrogen.xyz",
            UnknownSpeciesError,
            "nitrogen.xyz .NH3. has N; .*, which the model does not know; leave them out of finetune.replay",
        ),
        ("other.xyz", DataError, "no molecule in .*other.xyz has a value of size, old gap, moment"),
        ("none.xyz", DataError, "there is no file .*none.xyz"),
    ):
        with pytest.raises(error, match=message):
            finetune(config(data, replay=str(data / name), **options))
    for method, message in (
        ({"replay": []}, "must be a file or several"),
        ({"old_domain": ""}, "finetune.old_domain is '', but it must be text that is not empty"),
    ):
        with pytest.raises(ConfigError, match=message):
            config(data, **method)
    charged = InteratomicPotential(["H", "C", "O"], inputs=["total_charge"], **MODEL)
    save_model(MolecularPropertyModel.from_potential(charged, OLD), data / "charged.safetensors")
    with pytest.raises(DataError, match="finetune.replay: 12 of 12 structures have no 'charge', which the base needs"):
        finetune(config(data, base="charged", targets=options["targets"], replay=str(data / "old.xyz")))
    renamed = {"size": "extensive Ha", "old gap": "intensive Ha", "moment": "dipole eA"}
    structures = old_molecules(data)
    write(data / "train.xyz", structures)
    with pytest.raises(ConfigError, match="data.targets uses the names of all targets of the base"):
        finetune(config(data, base="properties", targets=renamed, replay=str(data / "old.xyz")))
    for atoms in structures[:2]:
        atoms.info["momentt"] = atoms.info.pop("moment")
    write(data / "old.xyz", structures[:2])
    result = finetune(
        config(data, base="properties", targets={"size": "extensive Ha"}, old_domain=str(data / "old.xyz"))
    )
    assert "old values of size are left out" in caplog.text
    assert "finetune.old_domain has no value of moment, which the base predicts: check the names" in caplog.text
    assert [target.name for target in load_model(result.model).targets] == ["size", "old gap"]
    page = (data / "run/finetune.md").read_text()
    assert (
        "Targets shared with the base: none; new: size; kept from the base for old data: old gap; left out: size, mo"
        in page
    )


def test_without_data_of_the_old_domain_nothing_says_what_was_forgotten(data, caplog) -> None:
    """All of ``replay`` is learned again: the base's own targets stay, and nothing measures them."""
    old_molecules(data)
    options = {"targets": {"gap": "intensive eV"}, "replay": str(data / "old.xyz"), "replay_ratio": 2.0}
    finetune(config(data, base="properties", **options))
    assert "because all structures of finetune.replay are replayed: give finetune.old_domain, or a smal" in caplog.text
    changes = {change["setting"]: change for change in report_of(data)["changes"]}
    assert changes["finetune.replay_ratio"]["resolved"] == pytest.approx(12 / 9, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"E0s": "data"}, "finetune.E0s is 'data', but with data.targets it must be 'refit' or 'base'"),
        (
            {"replay": "a.xyz", "old_labels": {"energy_key": "E"}},
            "finetune.old_labels is .*, but has no effect, because data.targets makes this a fine-tuning to properties",
        ),
        ({"replay_ratio": 2.0}, "finetune.replay_ratio is 2.0, but has no effect, because finetune.replay is not"),
    ],
)
def test_settings_of_potentials_are_refused(tmp_path, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **options)


def test_hidden_sizes_of_new_heads_may_be_chosen_and_the_bases_settings_be_given(data) -> None:
    given = {
        "hidden": 16,
        "places": "center",
        "edges": "radius",
        "r_max": 4,
        "potential": {"num_channels": 6, "inputs": []},
    }
    result = finetune(config(data, model=given))
    made = load_model(result.model).config
    assert (made["hidden"], made["places"]) == (16, "center")
    changes = [change["setting"] for change in json.loads((data / "run/finetune.json").read_text())["changes"]]
    assert "model.hidden" not in changes


def test_one_command_makes_properties_of_a_potential_and_another_predicts(data, monkeypatch, capsys) -> None:
    monkeypatch.chdir(data)
    rows = [f"{text},{len(text)},{sum(c in 'O' for c in text)}" for text in ("C", "CO", "C=O", "CC", "CCO", "COC")]
    (data / "train.csv").write_text("\n".join(["smiles,length,oxygens", *rows]) + "\n")
    (data / "config.yaml").write_text(
        "data:\n  train: train.csv\n  targets: {length: extensive, oxygens: intensive}\n  valid: 2\n"
        "run: {output: out, max_epochs: 2, batch_size: 2, device: cpu, progress: false}\n"
    )
    assert main(["finetune", "base.safetensors", "config.yaml", "--finetune.method=lora", "--model.hidden=16"]) == 0
    said = capsys.readouterr().out
    assert "model: out/model.safetensors" in said
    assert "valid length_mae" in said
    assert "report: out/finetune.md" in said
    assert load_model(data / "out/model.safetensors").config["hidden"] == 16
    again = read_config(data / "out/config.yaml", kind=FinetuneConfig)
    assert again.finetune.method == "lora"
    write_config(again, data / "again.yaml")
    assert read_config(data / "again.yaml", kind=FinetuneConfig) == again
    (data / "smiles.csv").write_text("smiles\nCCC\nC1CC1\n")
    assert main(["predict", "out/model.safetensors", "smiles.csv", "-o", "out.csv", "--progress=false"]) == 0
    with (data / "out.csv").open() as file:
        assert all(np.isfinite(float(row["length"])) for row in csv.DictReader(file))
    assert main(["finetune", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "except group and inputs that add a surface, wire, site or face, and hidden and places of new heads" in said
    for words, kind in (([], "a potential (properties: --help --data.targets)"), (["--data.targets"], "properties")):
        assert main(["train", "--help", *words]) == 0
        assert f"settings of the model are those of {kind}." in " ".join(capsys.readouterr().out.split())


def test_configurations_are_told_apart_by_their_targets() -> None:
    from ik_e3nn.training.config.file import model_type

    assert model_type(["data.train", "finetune.method"]) is InteratomicPotential
    assert model_type(["data.targets.gap"]) is MolecularPropertyModel
