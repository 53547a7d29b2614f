"""Damaged configurations: the settings that the file names, or a clear error; and no code is run."""

import copy

import pytest
import yaml

from ik_e3nn.models import MolecularPropertyModel
from ik_e3nn.training.config.file import config_options, flat_values, read_config, write_config
from ik_e3nn.training.config.schema import TrainConfig
from tests.fuzz.engine import VALUES, assert_clear, damaged_text, one_of, sizes, try_many

POTENTIAL = """\
data: {train: train.xyz, valid: 0.1, E0s: {H: -13.6, O: -430.0}}
model: {r_max: 4.0, num_channels: 4, num_layers: 1, group: O3}
loss: {energy_weight: 1, forces_weight: 100}
optimizer: {lr: 0.01}
run: {output: out, max_epochs: 2, batch_size: 4, seed: 1}
"""
PROPERTIES = """\
data:
  train: train.csv
  targets: {gap: {kind: intensive, unit: eV}}
model: {potential: {num_channels: 4}, r_max: 4.0, edges: radius}
run: {output: out, max_epochs: 2}
"""
KEYS = [
    *((POTENTIAL, key) for key in config_options(TrainConfig)),
    *((PROPERTIES, key) for key in config_options(TrainConfig, MolecularPropertyModel)),
]


@pytest.fixture(autouse=True)
def _no_code_is_run(monkeypatch):
    """A configuration must not reach the shell."""

    def called(*arguments, **options):
        raise AssertionError(f"a configuration has run code: {arguments}")

    for name in ("os.system", "subprocess.Popen", "os.popen"):
        monkeypatch.setattr(name, called)


def check_configuration(path):
    """Read a configuration; what is accepted can be written and read again."""
    try:
        config = read_config(path)
    except Exception as error:  # noqa: BLE001 - whatever comes is judged
        return assert_clear(error)
    again = path.with_name("again.yaml")
    write_config(config, again)
    assert flat_values(read_config(again)) == flat_values(config)
    return None


@sizes(110)
def test_a_hostile_value_of_a_setting_is_used_or_refused(number, tmp_path):
    def check(case, value):
        text, key = case
        content = yaml.safe_load(text)
        section, _, name = key.partition(".")
        content.setdefault(section, {})[name] = copy.deepcopy(value)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True))
        check_configuration(path)

    try_many(check, number, one_of(KEYS), one_of(VALUES))


@sizes(60)
def test_a_damaged_yaml_is_read_or_refused(number, tmp_path):
    def check(text, encoding):
        path = tmp_path / "config.yaml"
        path.write_bytes(text.encode(encoding, errors="replace"))
        check_configuration(path)

    try_many(check, number, damaged_text([POTENTIAL, PROPERTIES]), one_of(["utf-8"] * 5 + ["latin-1", "utf-16"]))


BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{here}: &{here} [{','.join([f'*{before}'] * 9)}]\n" for before, here in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\n", "data: &a {train: *a}\n", "[" * 5000, "a:\n" * 3, "\x00"])
def test_bombs_and_cycles_are_refused_at_once(text, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(Exception) as caught:
        read_config(path)
    assert_clear(caught.value)
