import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.io import read, write

from ik_e3nn.data import LabeledSet, StructureLabels
from ik_e3nn.errors import ConfigError, DataError, ModelFileError, UnknownSpeciesError
from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential, load_model, read_model_info, save_model
from ik_e3nn.nn import lora_layers
from ik_e3nn.training import DataConfig, FinetuneConfig, MethodConfig, OptimizerConfig, RunConfig, finetune, train
from ik_e3nn.training.config.finetune import LORA_RANK
from ik_e3nn.training.finetuning.methods import apply_method
from ik_e3nn.training.finetuning.old_data import chosen_of
from ik_e3nn.training.finetuning.parts import parts_of
from ik_e3nn.training.finetuning.references import refit_reference
from ik_e3nn.training.finetuning.task import Finetuning
from ik_e3nn.training.sets.prepare import prepare_data, read_set
from ik_e3nn_calculators import IKCalculator
from tests.training.helpers import MODEL, RUN, structures
from tests.training.stand_in import PairModel


def base_model(species=("H", "O")):
    torch.manual_seed(1)
    model = InteratomicPotential(species, **(MODEL | {"num_layers": 2, "num_channels": 6}))
    model.set_energy_reference({z: -0.5 * z for z in model.species}, "the test")
    model.set_scale(0.3)
    model.set_average_neighbors(2.0)
    return model


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "train.xyz", structures(12, crystals=False))
    write(tmp_path / "all.xyz", structures(12))
    write(tmp_path / "old.xyz", structures(10, seed=3, crystals=False))
    known = {"bonds": {"H-O": 0.5}, "contacts": {"H-H": 1.9}, "heights": {}}
    save_model(base_model(), tmp_path / "base.safetensors", summary={"geometry": known})
    return tmp_path


def config(folder, *, train="train.xyz", model=None, optimizer=None, data=None, run=None, **method):
    return FinetuneConfig(
        data=DataConfig(**({"train": str(folder / train), "valid": 3} | (data or {}))),
        model=model or {},
        optimizer=OptimizerConfig(**({"lr": 0.02, "warmup_steps": 2} | (optimizer or {}))),
        run=RunConfig(**(RUN | {"output": str(folder / "run")} | (run or {}))),
        finetune=MethodConfig(**({"base": str(folder / "base.safetensors")} | method)),
    )


def started(folder, **options):
    """The model that a fine-tuning would train."""
    chosen = config(folder, **options)
    (folder / "run").mkdir(exist_ok=True)
    task = Finetuning(chosen)
    return task.module.model, task.data, task


def changed_names(before, after):
    one, two = before.state_dict(), after.state_dict()
    weights = {name for name, _ in before.named_parameters()}
    return {name for name in weights if not torch.equal(one[name], two[name])}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({}, {"node_embedding", "interactions.0", "interactions.1", "readouts.0", "readouts.1"}),
        ({"method": "head"}, {"readouts.0", "readouts.1"}),
        ({"frozen_blocks": 1}, {"interactions.1", "readouts.0", "readouts.1"}),
        ({"method": "lora"}, {"interactions.0", "interactions.1", "readouts.0", "readouts.1"}),
        ({"method": "lora", "frozen_blocks": 1}, {"interactions.1", "readouts.0", "readouts.1"}),
    ],
)
def test_a_method_changes_its_weights_and_no_others(data, method, expected) -> None:
    result = finetune(config(data, run={"max_epochs": 1}, **method))
    after = load_model(result.model)
    changed = changed_names(base_model(), after)
    parts = {".".join(name.split(".")[: 1 if name.startswith("node") else 2]) for name in changed}
    assert parts == expected
    if method.get("method") == "lora":
        rest = {name for name in changed if name.startswith("interactions")}
        linear = {"sender", "receiver", "up", "skip", "factors", "linear"}
        kernels = {name for name in rest if "kernel" in name}
        assert kernels
        assert all(name.endswith("kernel.mlp.weights.1") for name in kernels)
        assert all(linear & set(name.split(".")) for name in rest - kernels)
    metrics = json.loads((data / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(metrics["valid/loss"])


def test_a_configuration_says_that_it_is_one_of_a_finetuning(data) -> None:
    one, two = (
        load_model(start(config(data, run={"max_epochs": 1, "output": str(data / name)})).model).state_dict()
        for start, name in ((finetune, "one"), (train, "two"))
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_model_without_training_steps_of_any_size_is_the_base(data) -> None:
    model, prepared, _ = started(data, method="lora")
    atoms = prepared.sets["train"].structures[0]
    graph = build_graph(atoms, model.r_max)
    torch.testing.assert_close(model.eval()(graph)["forces"], base_model().eval()(graph)["forces"], rtol=0, atol=0)
    share = sum(p.numel() for p in model.parameters() if p.requires_grad) / sum(p.numel() for p in model.parameters())
    assert share < 0.5


def test_lora_trains_at_most_a_tenth_of_the_default_model() -> None:
    model = InteratomicPotential(["H", "C", "N", "O", "F", "S", "Cl"])
    total = sum(p.numel() for p in model.parameters())
    apply_method(model, MethodConfig(method="lora"), {})
    assert set(lora_layers(model).values()) == {LORA_RANK}
    assert 0 < sum(p.numel() for p in model.parameters() if p.requires_grad) <= 0.1 * total


def test_low_rank_updates_learn_faster_than_heads(data) -> None:
    model, _, task = started(data, method="lora", lora_lr_factor=4.0, lr_decay=0.5)
    factors = task.lr_factors(model)
    assert factors["readouts.0.scalars.weight"] == 1.0
    assert factors["interactions.1.skip.parametrizations.weight.0.up.0"] == 2.0
    assert factors["interactions.1.skip.parametrizations.weight.original"] == 0.5
    groups = {group["lr_factor"]: group["params"] for group in task.module.configure_optimizers().param_groups}
    assert set(groups) == {2.0, 1.0}


def test_learning_rates_fall_towards_the_input(data) -> None:
    factors = parts_of(base_model()).lr_factors(0.5)
    assert factors["readouts.0.mlp.weights.0"] == 1.0
    assert factors["interactions.1.skip.weight"] == 0.5
    assert factors["interactions.0.skip.weight"] == 0.25
    assert factors["node_embedding.species"] == 0.125
    # Adam's first step is the learning rate, whatever the gradient
    result = finetune(
        config(
            data,
            lr_decay=0.5,
            run={"max_epochs": 1, "batch_size": 12},
            optimizer={"ema_decay": 0.0, "schedule": "constant", "warmup_steps": 0, "lr": 0.01},
        )
    )
    before, after = base_model().state_dict(), load_model(result.model).state_dict()
    for name, factor in factors.items():
        moved = (after[name] - before[name]).abs().max().item()
        assert moved == pytest.approx(0.01 * factor, rel=1e-2) or moved == 0.0, name
    assert not torch.equal(before["node_embedding.species"], after["node_embedding.species"])


@pytest.mark.parametrize("method", [{}, {"method": "head"}, {"method": "lora"}, {"frozen_blocks": 2}])
def test_new_elements_are_learned_whatever_is_frozen_and_old_ones_keep_what_is(data, method) -> None:
    result = finetune(config(data, train="all.xyz", run={"max_epochs": 1}, **method))
    after = load_model(result.model)
    assert after.species == (1, 8, 29)
    base = base_model()
    scale, old = after.state_dict()["interactions.0.species_scale"], base.state_dict()["interactions.0.species_scale"]
    assert not torch.equal(scale[:, 2], old[:, 1])
    assert not torch.equal(scale[:, 2], old[:, 0])
    embedding = after.node_embedding.species
    assert not any(torch.equal(embedding[2], row) for row in base.node_embedding.species)
    kept = torch.equal(scale[:, :2], old)
    assert kept == bool(method)
    assert torch.equal(embedding[:2], base.node_embedding.species) == bool(method)
    report = json.loads((data / "run/finetune.json").read_text())
    assert report["new_elements"] == ["Cu"]
    assert report["errors"]["valid"]["after"] == result.metrics["valid"]


def test_frozen_rows_and_weight_decay_do_not_go_together(data) -> None:
    with pytest.raises(ConfigError, match="optimizer.weight_decay would shrink frozen weights"):
        finetune(config(data, train="all.xyz", method="head", optimizer={"weight_decay": 0.1}))


def test_refitted_E0s_are_exact_for_another_level_that_differs_by_E0s(data) -> None:
    base = base_model().double().eval()
    sets = read_set(str(data / "train.xyz"), prepare_keys(data))
    mixed = [*sets.structures, molecule("OH"), molecule("H2")]
    shift = {1: -13.1, 8: 40.7}
    energies = [
        float(base(build_graph(atoms, base.r_max, dtype=torch.float64))["energy"])
        + sum(shift[z] for z in atoms.numbers)
        for atoms in mixed
    ]
    labels = [
        dataclasses.replace(StructureLabels.empty(len(one)), energy=e) for one, e in zip(mixed, energies, strict=True)
    ]
    reference = refit_reference(base, LabeledSet.of_labels(mixed, labels))
    assert reference.rank == 2
    for z in (1, 8):
        assert reference.values[z] == pytest.approx(-0.5 * z + shift[z], abs=1e-9)
    assert "shifted for H, O by least squares over the base's errors of 14 energies (rank 2 of 2)" in reference.source


def prepare_keys(folder):
    from ik_e3nn.training.sets.reading import label_keys

    return label_keys(config(folder).data)


def test_isolated_atoms_are_where_a_refit_begins(data) -> None:
    alone = [
        Atoms(s, info={"REF_energy": e, "config_type": "IsolatedAtom"}) for s, e in (("H", -500.0), ("O", -2000.0))
    ]
    write(data / "train.xyz", [*structures(12, crystals=False), *alone])
    model, *_ = started(data)
    e0 = dict(zip(model.species, model.atomic_energy.reference.tolist(), strict=True))
    # water alone cannot tell H from O: the smallest change of the atoms' energies goes by 2 to 1, as in H2O
    assert (e0[1] + 500.0) == pytest.approx(2 * (e0[8] + 2000.0), rel=1e-6)
    assert "isolated atoms for H, O" in model.energy_reference_provenance
    base, *_ = started(data, E0s="base")
    assert base.atomic_energy.reference.tolist() == [-0.5, -4.0]
    own, *_ = started(data, E0s="data")
    assert own.atomic_energy.reference.tolist() == [-500.0, -2000.0]
    given, *_ = started(data, E0s="data", data={"E0s": {"H": -1.0, "O": -2.0}})
    assert given.atomic_energy.reference.tolist() == [-1.0, -2.0]


def test_elements_that_the_data_lack_keep_their_E0(data) -> None:
    save_model(base_model(("H", "O", "Cu")), data / "base.safetensors", overwrite=True)
    model, *_ = started(data)
    assert model.species == (1, 8, 29)
    assert model.atomic_energy.reference[2] == -14.5
    assert "unchanged for Cu, which the data lack" in model.energy_reference_provenance


def test_scales_are_those_of_the_base(data) -> None:
    model = load_model(finetune(config(data, run={"max_epochs": 1})).model)
    assert float(model.atomic_energy.scale) == pytest.approx(0.3)
    assert float(model.interactions[0].normalization) == 0.25  # the base has 2, which counts as 4


def test_replayed_structures_are_a_random_choice() -> None:
    """Seeds choose differently, none twice, and from the whole file: what is next to each other is often alike."""
    method = MethodConfig(replay="old.xyz", replay_ratio=0.5)
    choices = [chosen_of(100, method, 40, seed) for seed in (0, 0, 1)]
    assert choices[0] == choices[1] != choices[2]
    for replayed, rest in choices:
        assert sorted([*replayed, *rest]) == list(range(100))
        assert len(replayed) == 20
        assert min(replayed) < 25
        assert max(replayed) > 75


def test_replayed_structures_belong_to_the_new_E0s_and_the_rest_measures_forgetting(data) -> None:
    _, prepared, task = started(data, replay=str(data / "old.xyz"), replay_ratio=0.5)
    train = prepared.sets["train"]
    assert len(train.structures) == 9 + 4
    assert len(prepared.sets["old domain"].structures) == 6
    original = {atoms.positions.tobytes(): atoms.info["REF_energy"] for atoms in structures(10, seed=3, crystals=False)}
    model = task.module.model
    e0 = dict(zip(model.species, model.atomic_energy.reference.tolist(), strict=True))
    seen = set()
    for part in (train, prepared.sets["old domain"]):
        for atoms, one in zip(part.structures, part.labels, strict=True):
            matches = [e for key, e in original.items() if np.allclose(np.frombuffer(key), atoms.positions.ravel())]
            if matches:
                moved = sum(e0[z] + 0.5 * z for z in atoms.numbers)
                assert one.energy == pytest.approx(matches[0] + moved, abs=1e-6)
                seen.add(matches[0])
    assert len(seen) == 10
    assert task.method.replay_ratio == 0.5


def test_old_data_may_have_names_and_units_of_their_own(data) -> None:
    old = read(data / "old.xyz", ":")
    for atoms in old:
        atoms.info["theirs"] = atoms.info.pop("REF_energy") / units.Hartree
        atoms.arrays["their_forces"] = atoms.arrays.pop("REF_forces") / units.Hartree
    write(data / "theirs.xyz", old)
    labels = {"energy_key": "theirs", "forces_key": "their_forces", "energy_unit": "Ha"}
    one, two = (
        started(data, replay=str(data / name), replay_ratio=0.5, **more)[1].sets["old domain"].labels
        for name, more in (("old.xyz", {}), ("theirs.xyz", {"old_labels": labels}))
    )
    for a, b in zip(one, two, strict=True):
        assert b.energy == pytest.approx(a.energy, abs=1e-5)
        np.testing.assert_allclose(b.forces, a.forces, atol=1e-5)


def test_the_report_says_what_was_asked_what_is_and_what_was_forgotten(data, caplog) -> None:
    with caplog.at_level(logging.INFO):
        result = finetune(config(data, method="lora", replay=str(data / "old.xyz"), replay_ratio=0.5))
    report = json.loads((data / "run/finetune.json").read_text())
    changes = {change["setting"]: change for change in report["changes"]}
    assert changes["finetune.lora_rank"]["asked"] is None
    assert changes["finetune.lora_rank"]["resolved"] == 2
    assert changes["finetune.lora_lr_factor"]["resolved"] == 5
    assert changes["model.num_channels"]["reason"] == "the base's"
    assert set(changes["data.E0s"]["resolved"]) == {"H", "O"}
    assert "finetune.replay_ratio" not in changes  # 4 beside 9: as near as whole structures are
    assert "run.device" not in changes
    assert report["settings"]["optimizer.lr"] == 0.02
    errors = report["errors"]
    assert set(errors) == {"valid", "old domain"}
    assert errors["valid"]["after"] == result.metrics["valid"]
    assert errors["valid"]["before"]["force_mae_meV_per_A"] != errors["valid"]["after"]["force_mae_meV_per_A"]
    assert set(errors["old domain"]["before"]) == set(errors["old domain"]["after"]) >= {"energy_mae_meV_per_atom"}
    assert report["trained_parameters"] < report["parameters"]
    training = read_model_info(result.model)["training"]
    assert training["finetune"]["base"] == report["base"]
    assert training["geometry"] == {"bonds": {"H-O": 0.5}, "contacts": {"H-H": 1.9}, "heights": {}}  # the base's too
    page = (data / "run/finetune.md").read_text()
    assert "| old domain | force_mae_meV_per_A |" in page
    assert "finetune.lora_rank: not asked for, is 2 (the default)" in page
    assert "forgotten was not measured" not in page
    assert "  data.E0s: not asked for, is {'H'" in caplog.text  # nobody asked for the default, "fit"
    assert changes["data.E0s"]["asked"] is None
    assert "what the model forgets is not measured" not in caplog.text
    assert "trained: " in (data / "run/train.log").read_text()


def test_updates_kept_apart_predict_like_merged_ones(data) -> None:
    short = {"max_epochs": 1}
    merged = load_model(finetune(config(data, method="lora", run=short)).model)
    elsewhere = short | {"output": str(data / "apart")}
    apart = load_model(finetune(config(data, method="lora", merge=False, run=elsewhere)).model)
    assert not lora_layers(merged)
    assert lora_layers(apart)
    graph = build_graph(molecule("H2O"), merged.r_max)
    forces = merged(graph)["forces"]
    assert forces.abs().max() > 1e-3
    torch.testing.assert_close(apart(graph)["forces"], forces, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"base": "nowhere.safetensors"}, FileNotFoundError, "there is no model file 'nowhere.safetensors'"),
        ({"base": "base"}, ModelFileError, "comes without the base model .* make the base model with `python"),
        ({"frozen_blocks": 3}, ConfigError, "finetune.frozen_blocks is 3, but the base has 2 blocks"),
        ({"model": {"num_channels": 8}}, ConfigError, "model.num_channels is 8, but the base has 6: fine-tuning keeps"),
        (
            {"model": {"preset": "large"}},
            ConfigError,
            "model.preset is 'large', with num_channels 64, but the base has 6: .* leave the section model out",
        ),
        ({"model": {"group": "C4v"}}, ConfigError, "model.group is 'C4v', but the base has"),
        (
            {"replay": "all.xyz"},
            UnknownSpeciesError,
            "has Cu, which the model does not know.*; leave them out of finetune.replay, as the base",
        ),
        (
            {"old_domain": "plain.xyz"},
            DataError,
            "old_domain has no labels: no structure, isolated atoms aside, has REF_energy",
        ),
        ({"train": "all.xyz", "E0s": "base"}, ConfigError, "the base has no E0 of Cu; add an isolated atom"),
    ],
)
def test_mistakes_are_clear_errors(data, monkeypatch, changes, error, message) -> None:
    monkeypatch.chdir(data)
    monkeypatch.setattr("ik_e3nn.models.files.pretrained.FOLDER", data / "empty")
    alone = Atoms("O", info={"REF_energy": -3.0, "config_type": "IsolatedAtom"})
    write(data / "plain.xyz", [Atoms("OH", [[0, 0, 0], [0, 0, 1]]), alone])
    with pytest.raises(error, match=message):
        finetune(config(data, **changes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "head", "frozen_blocks": 1}, "frozen_blocks is 1, but has no effect, because method is 'head'"),
        ({"method": "head", "lr_decay": 0.5}, "lr_decay is 0.5, but has no effect"),
        ({"lora_rank": 4}, "lora_rank is 4, but has no effect, because method is 'full', not 'lora'"),
        ({"lora_lr_factor": 2.0}, "lora_lr_factor is 2.0, but has no effect, because method is 'full', not 'lora'"),
        ({"merge": False}, "merge is False, but has no effect"),
        ({"lr_decay": 0.0}, "finetune.lr_decay is 0.0, but it must be above 0 and at most 1"),
        ({"replay_ratio": 0.0}, "finetune.replay_ratio is 0.0, but it must be positive"),
        ({"old_labels": {"energy_unit": "Ha"}}, "old_labels is .*, but has no effect, because neither finetune.replay"),
        ({"replay": "a.xyz", "old_labels": {"energy": "E"}}, "old_labels has energy, but it may hold energy_key, "),
        ({"frozen_blocks": -1}, "finetune.frozen_blocks is -1, but it must be zero or positive"),
        ({"method": "lora", "lora_rank": 0}, "finetune.lora_rank is 0, but it must be at least 1"),
        ({"method": "lora", "lora_lr_factor": 0.0}, "finetune.lora_lr_factor is 0.0, but it must be positive"),
    ],
)
def test_settings_without_effect_are_refused(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        MethodConfig(**options)


def test_given_E0s_are_not_replaced_silently() -> None:
    with pytest.raises(ConfigError, match="data.E0s gives values, but finetune.E0s is 'refit' and would replace them"):
        FinetuneConfig(data=DataConfig(train="a.xyz", E0s={"H": -1.0}))


def test_the_base_may_be_asked_for_by_its_own_settings(data) -> None:
    result = finetune(config(data, model={"num_channels": 6, "group": "O3", "r_max": 4.0}, run={"max_epochs": 1}))
    assert result.model.exists()


def test_a_model_without_blocks_or_heads_cannot_be_fine_tuned() -> None:
    with pytest.raises(
        ConfigError, match="PairModel cannot be fine-tuned: it has no blocks, a list of modules that is called"
    ):
        parts_of(PairModel())


def test_labels_without_energies_keep_the_bases_E0s(data) -> None:
    some = structures(8, crystals=False)
    for atoms in some:
        del atoms.info["REF_energy"]
    write(data / "forces.xyz", some)
    chosen = dataclasses.replace(
        config(data, train="forces.xyz"), loss=dataclasses.replace(config(data).loss, energy_weight=0.0)
    )
    model = load_model(finetune(chosen).model)
    assert model.atomic_energy.reference.tolist() == [-0.5, -4.0]
    with pytest.raises(ConfigError, match="the new data have no energies to fit E0s to"):
        refit_reference(base_model().eval(), prepare_data(chosen).sets["train"])


@pytest.mark.parametrize(
    ("factor", "noise", "said"),
    [(1.3, 0.0, False), (1 / 51.42, 0.0, True), (23.06, 0.0, True), (0.0, 0.0, False), (0.0, 1e-3, False)],
)
def test_forces_in_other_units_are_said(data, caplog, factor, noise, said) -> None:
    """Minima, whose forces are zero or noise, are no matter of units."""
    frames, rng = structures(6, crystals=False), np.random.default_rng(0)
    for atoms in frames:
        forces = IKCalculator(base_model().eval()).get_property("forces", atoms)
        atoms.arrays["REF_forces"] = factor * forces + noise * rng.normal(size=forces.shape)
    write(data / "other.xyz", frames)
    started(data, train="other.xyz")
    assert ("if they are not in eV/A" in caplog.text) == said


def test_the_field_of_surroundings_is_a_head() -> None:
    parts = parts_of(InteratomicPotential(["H"], num_channels=4, group="Cinfv", inputs=["surface"]))
    assert "field.linear.weight" in parts.heads
    assert "place_embedding.linear.weight" in parts.embedding
