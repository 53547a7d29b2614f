"""Every field of every command's settings, given what it must not be: one clear error, and nothing else."""

import contextlib
import dataclasses
import math
import typing

import pytest

from ik_e3nn.cli.commands import COMMANDS
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.models import InteratomicPotential, MolecularPropertyModel
from ik_e3nn.training.config import finetune as finetune_config
from ik_e3nn.training.config import schema as config
from ik_e3nn.training.tasks.model_section import check_model_arguments
from ik_e3nn_calculators.dock.settings import RegionSettings
from ik_e3nn_calculators.md.settings import ExplosionLimits

SECTIONS = [
    config.DataConfig, config.LossConfig, config.OptimizerConfig, config.RunConfig, finetune_config.MethodConfig,
    RegionSettings, ExplosionLimits,
]  # fmt: skip
SETTINGS = [one.load()[0] for one in COMMANDS if one.name not in ("train", "finetune")] + SECTIONS
NEEDED = {
    "train": "a.xyz", "targets": ["mu"], "output": "out.xyz", "smiles": ["C"], "data": "a.xyz",
    "model": "m.safetensors", "structure": "CCO", "steps": 10, "ligand": "CCO",
}  # fmt: skip
HOSTILE = {
    "nan": math.nan, "inf": math.inf, "-inf": -math.inf, "huge": 10**30, "-huge": -(10**30), "object": object(),
    "nul": "a\0b", "surrogate": "\ud800", "bytes": b"a", "empty": "", "blank": "  ", "null": None, "keys": {1: 2.0},
    "nested": {"a": {"b": [math.nan]}}, "list of null": [None], "list of empty": [""], "true": True, "number": 3.7,
    "text": "some", "-1": -1, "set": {1.5},
}  # fmt: skip


def start(kind):
    """The settings of a class that it needs."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in NEEDED.items() if name in names}


CASES = [(kind, field.name) for kind in SETTINGS for field in dataclasses.fields(kind)]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{kind.__name__}.{name}" for kind, name in CASES])
def test_a_hostile_value_is_an_error_of_one_line_that_names_the_setting(kind, name):
    hint = typing.get_type_hints(kind)[name]
    messages = []
    for value in HOSTILE.values():
        with contextlib.suppress(ValueError):  # and nothing else
            try:
                kind(**start(kind) | {name: value})
            except ValueError as error:
                messages.append(str(error))
                raise
    assert not any("\n" in message for message in messages)
    never = {"nan", "inf", "-inf", "huge", "-huge", "object", "nul", "bytes", "set", "list of null"}
    for wrong in never - ({"set"} if "Sequence" in str(hint) else set()):
        with pytest.raises((ConfigError, DataError), match=name):
            kind(**start(kind) | {name: HOSTILE[wrong]})


@pytest.mark.parametrize("kind", [InteratomicPotential, MolecularPropertyModel])
def test_arguments_of_models(kind):
    for name, hint in typing.get_type_hints(kind.__init__).items():
        if name in ("return", "species", "targets"):
            continue
        for wrong in ("nan", "inf", "huge", "object", "nul", "bytes", "keys"):
            with pytest.raises(ConfigError, match=f"model.{name}"):
                check_model_arguments({name: HOSTILE[wrong]}, kind)
        if type(None) not in typing.get_args(hint):
            with pytest.raises(ConfigError, match=f"model.{name} is null"):
                check_model_arguments({name: None}, kind)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: config.DataConfig("a", valid=None),
            "data.valid is null, but it must be a whole number or a number or te",
        ),
        (lambda: config.DataConfig("a", energy_key=None), "data.energy_key is null, but it must be text"),
        (lambda: config.DataConfig("a", E0s=None), "data.E0s is null, but it must be 'fit' or a mapping"),
        (lambda: config.DataConfig("a", E0s={1: -13.6}), "a mapping whose keys are text, which 1 is not"),
        (lambda: config.DataConfig("a", E0s={"H": math.nan}), "a mapping in which 'H' is a finite number"),
        (lambda: config.DataConfig(""), "data.train is '', but it must be text that is not empty"),
        (lambda: config.RunConfig(output=""), "run.output is '', but it must be text that is not empty"),
        (lambda: config.RunConfig(max_epochs=None), "run.max_epochs is null, but it must be a whole number"),
        (lambda: config.RunConfig(seed=-1), r"run.seed is -1, but it must be between 0 and 4294967295"),
        (lambda: config.RunConfig(seed=2**70), r"run.seed is \d+, but it must be a number of less than 2\^63"),
        (lambda: config.RunConfig(overwrite="no"), "run.overwrite is 'no', but it must be true or false"),
        (
            lambda: config.OptimizerConfig(clip_grad=math.inf),
            "optimizer.clip_grad is inf, but it must be a finite number",
        ),
        (lambda: config.LossConfig(forces_weight=None), "loss.forces_weight is null, but it must be a number"),
        (lambda: config.TrainConfig(data=None), "data is null, but it must be DataConfig"),
    ],
)
def test_what_the_message_says(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_what_is_right_is_let_through(tmp_path):
    import numpy as np

    assert config.RunConfig(output=tmp_path, seed=2**32 - 1).seed == 2**32 - 1
    assert config.OptimizerConfig(lr=np.float64(0.1), clip_grad=None).lr == 0.1
    assert config.LossConfig(forces_weight=10).forces_weight == 10
    assert config.DataConfig(["a.xyz", "b.xyz"], valid=np.int64(7), E0s={"H": -13}).valid == 7
