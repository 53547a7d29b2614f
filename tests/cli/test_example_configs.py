from pathlib import Path

import pytest

from ik_e3nn.training import read_config
from ik_e3nn.training.config.finetune import FinetuneConfig
from ik_e3nn.training.config.schema import TrainConfig
from ik_e3nn.training.config.yaml_file import read_yaml

CONFIGS = sorted((Path(__file__).parents[2] / "examples" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_configuration_is_valid(path) -> None:
    kind = FinetuneConfig if "finetune" in read_yaml(path) else TrainConfig
    assert read_config(path, kind=kind).run.output


def test_there_are_examples() -> None:
    assert {path.stem for path in CONFIGS} >= {
        "ethanol", "acac", "silicon_stress", "finetune", "finetune_properties", "base_model"
    }  # fmt: skip
