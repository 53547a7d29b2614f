import dataclasses
import re

import pytest

from ik_e3nn.errors import ConfigError
from ik_e3nn.renamed import RENAMED
from ik_e3nn.training import (
    DataConfig,
    FinetuneConfig,
    LossConfig,
    MethodConfig,
    OptimizerConfig,
    RunConfig,
    TrainConfig,
    read_config,
    write_config,
)
from ik_e3nn.training.tasks.model_section import check_model_arguments
from ik_e3nn.training.tasks.tasks import Task

YAML = """
data:
  train: train.xyz
  E0s: {H: -13.6, C: -1029}
model:
  r_max: 4
  num_channels: 16
loss:
  forces_weight: 30
run:
  output: out
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(YAML)
    return path


def test_file_and_overrides(file) -> None:
    config = read_config(file, ["--model.num_channels=64", "--run.dtype=float64", "--data.valid=7", "--loss.kind=mae"])
    assert config.data == DataConfig(train="train.xyz", valid=7, E0s={"H": -13.6, "C": -1029.0})
    assert config.loss == LossConfig(kind="mae", forces_weight=30.0)
    assert config.optimizer == OptimizerConfig(lr=0.05)
    assert config.run == RunConfig(output="out", dtype="float64")
    assert config.model["num_channels"] == 64
    assert config.model["r_max"] == 4.0
    assert "species" not in config.model


def test_overrides_alone() -> None:
    config = read_config(None, ["--data.train=[a.xyz, b.xyz]", "--data.valid=v.xyz", "--run.max_minutes=2"])
    assert config.data.train == ["a.xyz", "b.xyz"]
    assert config.data.valid == "v.xyz"
    assert config.run.max_minutes == 2.0


def test_a_written_configuration_reads_back(file, tmp_path) -> None:
    config = read_config(file, ["--model.group=C4v", "--model.inputs=[bond_types]"])
    write_config(config, tmp_path / "again.yaml")
    again = read_config(tmp_path / "again.yaml")
    assert again == config
    assert again.model["group"] == "C4v"
    assert list(again.model["inputs"]) == ["bond_types"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("data: {train: a, trian: b}", "unknown setting 'data.trian'; did you mean 'data.train'?"),
        ("data: {train: a}\nrun: {max_epoch: 3}", "'run.max_epoch'; did you mean 'run.max_epochs'?"),
        ("data: {train: a}\nrun: {lr: 3}", "'run.lr'; did you mean 'optimizer.lr'?"),
        ("data: {train: a}\nmodel: {num_chanels: 3}", "'model.num_chanels'; did you mean 'model.num_channels'?"),
        ("data: {train: a}\nrmax: 3", "'rmax'; did you mean 'model.r_max'?"),
        ("data: {train: a}\ntraining: {seed: 3}", "'training.seed'; did you mean 'run.seed'?"),
        ("data: {train: a}\nrun: {seed: 1, seed: 2}", "the key 'seed' appears twice"),
        ("data: {train: a}\nrun: {seed: [1", "is not valid YAML"),
        ("train.xyz", r"must hold sections \(data, model, loss, optimizer, run\), but it holds text"),
        ("data: {train: a}\nrun: {max_epochs: many}", "run.max_epochs"),
        ("data: {train: a}\nloss: {kind: rmse}", "loss.kind"),
        ("data: {train: a}\nrun: {overwrite: maybe}", "run.overwrite"),
        ("run: {seed: 3}", "data.train"),
    ],
)
def test_mistakes_are_one_line_with_the_right_key(tmp_path, line, message) -> None:
    (tmp_path / "bad.yaml").write_text(line)
    with pytest.raises(ConfigError, match=message) as error:
        read_config(tmp_path / "bad.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--loss.huber_delta=", "^loss.huber_delta is '', but it must be a number or null.$"),
        ("--loss.huber_delta= ", "^loss.huber_delta is ' ', but it must be a number or null.$"),
        ("--model.correlation=", "^model.correlation is '', but it must be a whole number or null.$"),
        ("--run.patience= ", "^run.patience is ' ', but it must be a whole number or null.$"),
        ("--model.inputs=no", r"^model.inputs is 'no', but it must be a list \(of text\).$"),
        ("--run.overwrite=", "^run.overwrite is '', but it must be true or false.$"),
        ("--run.compile=", "^run.compile is '', but it must be true or false or 'auto'.$"),
        ("--run.clock=", "^run.clock is '', but it must be one of 'wall', 'cpu'.$"),
        (
            "--data.targets=[gap] --model.steerable= ",
            "^model.steerable is ' ', but it must be SteerableSettings or a mapping or null.$",
        ),
    ],
)
def test_empty_settings_are_refused_in_words(word, message) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(None, ["--data.train=a", *re.split(" (?=--)", word)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--data.train=a", "b.yaml"],
            "^command line: 'b.yaml' belongs to no option; give settings as --SECTION.NAME=",
        ),
        (["--data.train=a", "-x"], "^command line: unknown option '-x'; options begin with two hyphens"),
        (["--data.train", "--run.seed=1"], "^command line: --data.train needs a value, as in --data.train=VALUE"),
        (["--run=1"], "^run is a section: give its settings one by one, as --run.NAME=VALUE; got '1'"),
        (["--data.train=a", "--run.seed=-1"], "^run.seed is -1, but it must be between 0 and"),
        (["--data.train=a", "--run.seed=1.5"], "^run.seed is 1.5, but it must be a whole number"),
        (["--run.seed=1"], "^data.train is missing; give it a value.$"),
        (["--data.train=a", "--data.E0s={1: -13.6}"], "^data.E0s is {1: -13.6}, but .* keys are text, which 1 is not"),
    ],
)
def test_words_that_give_no_setting(words, message) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(None, words)


def test_values_are_those_of_yaml_or_text() -> None:
    words = ["--data.train=123", "--data.cache=null", "--data.energy_key=null", "--run.output=2026-01-31"]
    words += ["--optimizer.lr=1e-3", "--data.E0s.H=-13", "--model.group={name: C4v, axis: [0, 0, 1]}"]
    config = read_config(None, words)
    assert (config.data.train, config.data.cache, config.data.energy_key) == ("123", None, "null")
    assert (config.run.output, config.optimizer.lr) == ("2026-01-31", 1e-3)
    assert isinstance(config.data.E0s["H"], float)
    assert config.model["group"] == {"name": "C4v", "axis": [0, 0, 1]}
    chosen = read_config(None, ["--data.train=a", "--data.targets", "gap", "U0"]).data.targets
    assert chosen == read_config(None, ["--data.train=a", "--data.targets=[gap, U0]"]).data.targets == ["gap", "U0"]
    words = ["--data.train=a", "--data.train-size=3", "--data.targets.my-gap=intensive eV"]
    data = read_config(None, words).data
    assert (data.train_size, data.targets) == (3, {"my-gap": "intensive eV"})  # the name of a target is kept
    words = ["--data.train=a", "--data.targets.gap=intensive eV", "--model.steerable.channels=4"]
    assert read_config(None, words, kind=FinetuneConfig).model == {"steerable": {"channels": 4}}


def test_old_names_are_answered_with_the_new_ones(monkeypatch) -> None:
    monkeypatch.setitem(RENAMED, "learning_rate", "lr")
    monkeypatch.setitem(RENAMED, "time", "wall")
    with pytest.raises(ConfigError, match="'optimizer.learning_rate'; it is now called 'optimizer.lr'"):
        read_config(None, ["--data.train=a", "--optimizer.learning_rate=1"])
    with pytest.raises(ConfigError, match="run.clock is 'time', but it must be .*; 'time' is now called 'wall'"):
        read_config(None, ["--data.train=a", "--run.clock=time"])


def test_mistyped_override_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"command line: unknown setting 'model.l_mx'; did you mean 'model.l_max'\?"):
        read_config(None, ["--data.train=a", "--model.l_mx=2"])
    with pytest.raises(ConfigError, match=r"did you mean 'optimizer.ema_decay'"):
        read_config(None, ["--data.train", "a", "--ema_decay", "0.9"])


def test_missing_file(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no configuration file"):
        read_config(tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (DataConfig, {"train": "a", "valid": 1.5}, "data.valid is 1.5, but it must be a whole number or a fraction"),
        (
            DataConfig,
            {"train": "a", "valid": 0},
            "data.valid is 0, but it must be at least 1 or a fraction between 0 and 1",
        ),
        (LossConfig, {"forces_weight": -1.0}, "loss.forces_weight is -1.0, but it must be zero or positive"),
        (LossConfig, {"energy_growth": 0.0}, "loss.energy_growth is 0.0, but it must be positive"),
        (LossConfig, {"huber_delta": 0.0}, "loss.huber_delta is 0.0, but it must be positive"),
        (OptimizerConfig, {"lr": 0.0}, "optimizer.lr is 0.0, but it must be positive"),
        (OptimizerConfig, {"ema_decay": 1.0}, "optimizer.ema_decay is 1.0, but it must be at least 0 and below 1"),
        (
            OptimizerConfig,
            {"clip_grad": 1.0},
            "optimizer.clip_grad is 1.0, but it must be above 1, in units of the usual norm",
        ),
        (OptimizerConfig, {"plateau_factor": 1.0}, "plateau_factor is 1.0, but it must be a fraction between 0 and 1"),
        (OptimizerConfig, {"min_lr_ratio": 1.1}, "min_lr_ratio is 1.1, but it must be between 0 and 1"),
        (RunConfig, {"batch_size": 0}, "run.batch_size is 0, but it must be at least 1"),
        (RunConfig, {"max_minutes": 0.0}, "run.max_minutes is 0.0, but it must be positive"),
    ],
)
def test_impossible_values(section, values, message) -> None:
    with pytest.raises(ConfigError, match=message):
        section(**values)


def test_something_must_have_a_weight() -> None:
    with pytest.raises(ConfigError, match="loss: all weights are zero; give at least one of them a positive weight"):
        TrainConfig(DataConfig("a.xyz"), loss=LossConfig(energy_weight=0.0, forces_weight=0.0))


def test_settings_without_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match="data.energy_key is 'E', but has no effect, because none of data.targets is"):
        TrainConfig(DataConfig("a.xyz", targets=["homo"], energy_key="E"))
    with pytest.raises(ConfigError, match="loss.forces_weight is 1.0, but has no effect, because none of data.targets"):
        TrainConfig(DataConfig("a.xyz", targets=["homo"]), loss=LossConfig(forces_weight=1.0))
    with pytest.raises(
        ConfigError, match="data.bonds is 'given', but has no effect, because data.targets is not given"
    ):
        TrainConfig(DataConfig("a.xyz", bonds="given"))
    with pytest.raises(ConfigError, match="data.energy_unit is 'Ha', but has no effect, because none of data.targets"):
        TrainConfig(DataConfig("a.xyz", targets=["homo"], energy_unit="Ha"))
    with pytest.raises(ConfigError, match="loss.energy_growth is 2.0, .* because neither forces nor stress are"):
        TrainConfig(DataConfig("a.xyz"), loss=LossConfig(forces_weight=0.0, energy_growth=2.0))
    joint = {"energy": "energy", "gap": "intensive eV"}
    with pytest.raises(ConfigError, match="data.forces_key is 'F', but has no effect, because forces is not among"):
        TrainConfig(DataConfig("a.xyz", targets=joint, forces_key="F"))
    with pytest.raises(ConfigError, match="loss.stress_weight is 1.0, but has no effect, because stress is not among"):
        TrainConfig(DataConfig("a.xyz", targets=joint), loss=LossConfig(stress_weight=1.0))
    base_has_forces = FinetuneConfig(DataConfig("a.xyz", targets=joint), loss=LossConfig(forces_weight=1.0))
    assert base_has_forces.loss.forces_weight == 1.0


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (
            LossConfig,
            {"kind": "mse", "huber_delta": 0.1},
            "loss.huber_delta is 0.1, but .* loss.kind is 'mse', not",
        ),
        (
            OptimizerConfig,
            {"plateau_patience": 3},
            "optimizer.plateau_patience is 3, .* optimizer.schedule is",
        ),
        (
            OptimizerConfig,
            {"schedule": "constant", "min_lr_ratio": 0.1},
            "optimizer.min_lr_ratio is 0.1, .* 'constant'",
        ),
        (RunConfig, {"clock": "cpu"}, "run.clock is 'cpu', but has no effect, because run.max_minutes is not given"),
    ],
)
def test_settings_of_another_choice_are_refused(section, values, message) -> None:
    with pytest.raises(ConfigError, match=message):
        section(**values)


def test_weights_of_unknown_targets_are_refused_before_the_data_are_read() -> None:
    for targets, names in ((None, "none"), ({"gap": "intensive eV"}, "gap")):
        with pytest.raises(ConfigError, match=f"loss.weights names homo; the properties are {names}"):
            TrainConfig(DataConfig("a.xyz", targets=targets), loss=LossConfig(weights={"homo": 2.0}))
    with pytest.raises(ConfigError, match="loss: all weights are zero; give at least one of them a positive weight"):
        TrainConfig(DataConfig("a.xyz", targets={"gap": "intensive eV"}), loss=LossConfig(weights={"gap": 0.0}))


def test_learning_rates_that_are_not_given() -> None:
    data, properties = DataConfig("a.xyz"), DataConfig("a.xyz", targets=["homo"])
    rates = [kind(one).optimizer.lr for kind in (TrainConfig, FinetuneConfig) for one in (data, properties)]
    assert rates == [0.05, 0.05, 0.01, 0.02]
    assert FinetuneConfig(data, finetune=MethodConfig(method="surroundings")).optimizer.lr == 0.001
    assert FinetuneConfig(data, optimizer=OptimizerConfig(lr=0.3)).optimizer.lr == 0.3


def test_model_arguments_from_python_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'model.num_chanels'; did you mean 'num_channels'\?"):
        check_model_arguments({"num_chanels": 3})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("steerable: {chanels: 1}", "unknown setting 'model.steerable.chanels'; did you mean 'channels'"),
        ("steerable: {channels: -1}", "model.steerable.channels must be at least 1; got -1"),
        ("steerable: {channels: many}", "model.steerable.channels is 'many', but it must be a whole number"),
        ("edges: both\n  potential: {group: C4w}", "model.potential.group: unknown symmetry group 'C4w'"),
        ("edges: both\n  potential: {l_max: 30}", "model.potential.l_max must be at most 12; got 30"),
        ("edges: both\n  potential: {inputs: [smell]}", "model.potential.inputs must be some of .*; got smell"),
        ("hidden: 0", "model.hidden must be at least 1; got 0"),
        ("r_max: -1", "model.r_max must be positive and finite"),
    ],
)
def test_what_is_wrong_in_a_model_of_properties_is_named_before_data_are_read(tmp_path, model, message) -> None:
    text = f"data: {{train: nowhere.csv, targets: {{gap: intensive eV}}}}\nmodel:\n  {model}"
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Task.check(read_config(tmp_path / "a.yaml"))


def test_every_field_is_documented() -> None:
    for section in (DataConfig, LossConfig, OptimizerConfig, RunConfig, TrainConfig):
        for field in dataclasses.fields(section):
            assert f"        {field.name}: " in section.__doc__
