from pathlib import Path

import pytest

from ik_e3nn.training import read_config

CONFIGS = sorted((Path(__file__).parents[2] / "examples" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_configuration_is_valid(path) -> None:
    assert read_config(path).run.output


def test_there_are_examples() -> None:
    assert {path.stem for path in CONFIGS} >= {"ethanol", "acac", "silicon_stress"}
