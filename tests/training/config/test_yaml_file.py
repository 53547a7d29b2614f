"""Configuration files of any content: one clear error, and never the code of a module."""

import contextlib
import time
import uuid

import pytest

from ik_e3nn.cli.options import parse_settings
from ik_e3nn.errors import ConfigError
from ik_e3nn.training import read_config
from ik_e3nn.training.config.yaml_file import read_yaml
from ik_e3nn_calculators.md.settings import MDSettings

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"# \xc5\ndata:\n  train: mol\xe9cule.xyz",
            r"bad.yaml, line 1: the text is not UTF-8 \(byte 0xc5\); save it as",
        ),
        (
            b"data:\n  train: mol\xe9cule.xyz",
            r"bad.yaml, line 2: the text is not UTF-8 \(byte 0xe9\); save it as UTF-8",
        ),
        (b"data: {train: 'a\0b'}", "is not valid YAML: .*special characters are not allowed"),
        (b'data: {train: "a\\0b"}', "contains a NUL character in 'a.x00b'; remove it"),
        (b"data: &d {train: *d}", "has more than 30 levels, counting repetitions by anchors"),
        (b"data: {train: " + b"[" * 40 + b"]" * 40 + b"}", "has more than 30 levels"),
        (b"data: {train: " + b"[" * 5000 + b"]" * 5000 + b"}", "is nested too deeply"),
        (BOMB.encode(), "has more than 200000 values, counting repetitions by anchors"),
        (b"", "must hold sections .*, but it is empty"),
        (b"run: {seed: " + b"9" * 5000 + b"}", "is not valid YAML: Exceeds the limit"),
        (b"data: !!python/object/apply:os.system [ls]", "is not valid YAML: could not determine a constructor"),
        (b"data: {train: a}\n--- {}", "is not valid YAML: expected a single document"),
        (b"data: {train: a}\n? [a]\n: b", "is not valid YAML: .* found unhashable key"),
        (b"data: {train: !!timestamp 99999-01-01}", "is not valid YAML: a value does not match its tag"),
        (b"run: {compile: !!bool a}", "is not valid YAML: a value does not match its tag"),
        (b"run: {seed: !!int ''}", "is not valid YAML: a value does not match its tag"),
        (
            b"data: &d {train: a}\nrun: {<<: *d}",
            "is not valid YAML: merging mappings with << is not supported; write the",
        ),
        (b"data: null", "data is a section and must be a mapping of settings; got null"),
        (b"data: {train: a}\nmodel: O3", "model is a section and must be a mapping of settings; got 'O3'"),
        (b"data: {train: a}\nrun: [1]", "run is a section and must be a mapping"),
        (b"data: {train: a, valid: null}", "data.valid is null"),
        (b"data: {train: a, E0s: null}", "data.E0s is null"),
        (b"data: {train: a, E0s: {1: -13.6}}", "data.E0s is .*keys are text"),
        (b"data: {train: a, energy_key: null}", "data.energy_key is null"),
        (b"data: {train: a}\nloss: {energy_weight: null}", "loss.energy_weight is null"),
        (b"data: {train: a}\nrun: {output: null}", "run.output is null"),
        (b"data: {train: a}\nrun: {output: ''}", "run.output is '', but it must be text that is not empty"),
        (b"data: {train: a}\nrun: {max_epochs: null}", "run.max_epochs is null"),
        (b"data: {train: a}\nrun: {seed: null}", "run.seed is null"),
        (b"data: {train: a}\nrun: {seed: -1}", "run.seed is -1"),
        (
            b"data: {train: a}\nrun: {seed: 1180591620717411303424}",
            r"run.seed is 118\d+, but it must be a number of less",
        ),
        (
            b"data: {train: a}\noptimizer: {clip_grad: .inf}",
            "optimizer.clip_grad is inf, but it must be a finite number",
        ),
        (b"data: {train: a}\noptimizer: {lr: .nan}", "optimizer.lr is nan"),
    ],
)
def test_no_file_does_more_than_raise_an_error(tmp_path, content, message):
    path, begin = tmp_path / "bad.yaml", time.monotonic()
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_config(path)
    assert "\n" not in str(error.value)
    assert time.monotonic() - begin < 30


def test_what_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="is a folder, a pipe or a device; give a configuration file"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match="the name of the configuration file, .*, contains a NUL character"):
        read_yaml("a\0b")
    (tmp_path / "large.yaml").write_text("#" * 10_000_001)
    with pytest.raises(ConfigError, match="has 10,000,001 bytes; a configuration has at most 10,000,000"):
        read_yaml(tmp_path / "large.yaml")


def test_what_yaml_offers_is_still_read(tmp_path):
    """A byte-order mark, anchors with moderation, dates as text, and numbers like 1e-3."""
    (tmp_path / "a.yaml").write_bytes("\ufeffdata: {train: &a mol\u00e9cule.xyz, test: *a}".encode())
    config = read_config(tmp_path / "a.yaml")
    assert config.data.train == config.data.test == "mol\u00e9cule.xyz"
    (tmp_path / "a.yaml").write_text("data: {train: 2020-13-45, test: 2020-01-31}\noptimizer: {lr: 1e-3}")
    config = read_config(tmp_path / "a.yaml")
    assert (config.data.train, config.data.test, config.optimizer.lr) == ("2020-13-45", "2020-01-31", 1e-3)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that leaves a trace when it is imported."""
    name = f"canary_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass X: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


POTENTIAL, PROPERTIES = "data: {train: a}\n", "data: {train: a, targets: [mu]}\n"


@pytest.mark.parametrize(
    ("start", "place"),
    [
        *(
            (POTENTIAL, place)
            for place in ("model.group", "run", "loss", "optimizer", "model", "run.output", "data.E0s")
        ),
        *((PROPERTIES, place) for place in ("model.steerable", "model.potential", "loss.weights", "run")),
    ],
)
@pytest.mark.parametrize("form", ["{}.X", "{{class_path: {}.X}}", "{{class_path: {}.X, init_args: {{a: 1}}}}"])
def test_no_setting_imports_a_module(tmp_path, module, start, place, form):
    value, path = form.format(module), tmp_path / "a.yaml"
    section, _, name = place.partition(".")
    path.write_text(start + f"{section}: " + (f"{{{name}: {value}}}" if name else value))
    if section == "data":
        path.write_text(f"data: {{train: a, {name}: {value}}}")
    overrides = ["--data.train=a", *(["--data.targets=[mu]"] if start == PROPERTIES else [])]
    for arguments in ((path,), (None, [*overrides, f"--{place}={value}"]), (None, [*overrides, f"--{place}", value])):
        with contextlib.suppress(ConfigError):
            read_config(*arguments)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "words", [["--limits={}.X"], ["--limits", "{}.X"], ["--limits.class_path={}.X"], ["--config=a.yaml"]]
)
def test_nor_does_one_of_another_command(tmp_path, module, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(f"limits: {{class_path: {module}.X}}")
    words = [word.format(module) for word in words]
    with pytest.raises(ConfigError, match=r"limits is a section|unknown setting|'class_path' is not a setting"):
        parse_settings(MDSettings, ("structure",), ["CCO", "--steps=1", *words])
    assert not (tmp_path / "ran").exists()


def test_the_model_section_still_takes_groups_and_networks(tmp_path):
    (tmp_path / "a.yaml").write_text(POTENTIAL + "model: {group: {name: C4v, axis: [0, 0, 1]}}")
    assert read_config(tmp_path / "a.yaml").model["group"] == {"name": "C4v", "axis": [0, 0, 1]}
    assert read_config(tmp_path / "a.yaml", ["--model.group=C6v"]).model["group"] == "C6v"
    words = ["--data.train=a", "--data.targets=[mu]", "--model.steerable.grid_degree=11", "--model.r_max=4"]
    model = read_config(None, words).model
    assert model["steerable"]["grid_degree"] == 11
    assert model["r_max"] == 4.0
