"""Damaged and forged model files: the model that was written, or a clear error."""

import json
import struct

import pytest
import torch
from ase import Atoms

from ik_e3nn.graph import build_graph
from ik_e3nn.models import load_model
from ik_e3nn.models.files.checkpoint import KEY
from tests.fuzz.engine import VALUES, assert_clear, damaged_bytes, one_of, sizes, try_many

WATER = Atoms("OH2", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


def energy_of(model):
    return model(build_graph(WATER, model.r_max, dtype=model.dtype), forces=False)["energy"].item()


def check_file(path, right):
    """Load and evaluate what is in a file."""
    try:
        found = energy_of(load_model(path))
    except Exception as error:  # noqa: BLE001 - whatever comes is judged
        return assert_clear(error)
    assert found == right


@sizes(50)
def test_damaged_bytes_are_noticed(number, potential, model_file, tmp_path):
    right, path = energy_of(potential), tmp_path / "damaged.safetensors"

    def check(data):
        path.write_bytes(data)
        check_file(path, right)

    try_many(check, number, damaged_bytes(model_file.read_bytes()))


def parts_of(data):
    """The JSON header of a safetensors file, with our description of the model taken apart, and the tensors' bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"][KEY]), data[8 + length :]


def joined(header, info, tensors):
    """A safetensors file from its parts."""
    header = header | {"__metadata__": {KEY: json.dumps(info)}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def leaves(content, place=()):
    """The places of all values in nested JSON."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*place, key)
        yield from leaves(value, (*place, key))


def replaced(content, place, value):
    """A copy of nested JSON with another value at one place, or without it."""
    content = json.loads(json.dumps(content))
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    if value == "absent":
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return content


FORGED = [value for value in VALUES if not isinstance(value, dict) or 1 not in value]  # what JSON can hold
FORGED += ["absent", "F64", "I32", "float32", "O3", 30, 2, 4.0, ["H"], ["H", "C", "O", "N"], [1, 6, 8]]


@sizes(70)
@pytest.mark.parametrize("part", ["description", "tensors"])
def test_forged_descriptions_are_noticed(number, part, potential, model_file, tmp_path):
    right, path = energy_of(potential), tmp_path / "forged.safetensors"
    header, info, tensors = parts_of(model_file.read_bytes())
    table = {name: entry for name, entry in header.items() if name != "__metadata__"}
    source = info if part == "description" else table

    def check(place, value):
        try:
            changed = replaced(source, place, value)
        except (KeyError, IndexError, TypeError):
            return
        pieces = (header, changed, tensors) if part == "description" else (changed, info, tensors)
        path.write_bytes(joined(*pieces))
        check_file(path, right)

    places = list(leaves(source))
    try_many(check, number, one_of(places), one_of(FORGED))


def test_the_forger_can_write_a_file_that_loads(potential, model_file, tmp_path):
    path = tmp_path / "same.safetensors"
    path.write_bytes(joined(*parts_of(model_file.read_bytes())))
    assert energy_of(load_model(path)) == energy_of(potential)
    assert torch.isfinite(torch.tensor(energy_of(potential)))
