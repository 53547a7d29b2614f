"""Targets: made by kind, told apart, and their references by least squares as they are defined."""

import re

import numpy as np
import pytest
import torch
from ase import Atoms

from ik_e3nn.data import LabeledSet, read_properties, write_structures
from ik_e3nn.data.properties.reading import resolve_targets
from ik_e3nn.data.properties.reference import fit_references
from ik_e3nn.errors import ConfigError, DataError
from ik_e3nn.targets import (
    KINDS,
    MECHANICS,
    Dipole,
    Extensive,
    Intensive,
    LabelLayout,
    Polarizability,
    Target,
    make_target,
    parse_target,
    target_from_config,
)


def test_configurations_make_the_same_targets() -> None:
    for kind in KINDS:
        target = make_target("x", kind, "u") if KINDS[kind].field is None else make_target(kind, kind)
        assert (target.kind, type(target)) == (kind, KINDS[kind])
        assert target_from_config(target.config()) == target_from_config(target) == target
    assert Extensive("x", "eV") != Intensive("x", "eV")  # the kind is part of what a target is


def test_mistakes() -> None:
    with pytest.raises(
        ConfigError, match="target 'x' is of kind 'scalar', but .* one of .*extensive.*import the module"
    ):
        make_target("x", "scalar")
    with pytest.raises(ConfigError, match="'x' is of kind 'polarisability', which is now called 'polarizability'"):
        make_target("x", "polarisability", "a0^3")
    with pytest.raises(ConfigError, match="a target needs a name"):
        Extensive("")
    with pytest.raises(ConfigError, match="there are two classes of the kind 'extensive'"):

        class Sum(Target):
            kind = "extensive"


def test_a_reference_is_the_isotropic_part_by_element(rng) -> None:
    """A tensor that is a sum of isotropic parts of its atoms is all reference; what is left is traceless noise."""
    alpha = {1: 2.0, 8: 5.0}
    molecules = [Atoms(f"H{h}O{o}", rng.normal(size=(h + o, 3))) for h, o in ((1, 1), (2, 1), (1, 2), (3, 1))]
    noise = rng.normal(size=(4, 3, 3))
    noise = noise + noise.swapaxes(1, 2)
    noise -= np.trace(noise, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    totals = np.array([sum(alpha[z] for z in atoms.numbers) for atoms in molecules])
    values = totals[:, None, None] * np.eye(3) + noise
    target = Polarizability("alpha", "A^3")
    one = fit_references(LabeledSet(molecules, (target,), {"alpha": values}, list("abcd")), [1, 8])[0]
    assert one.per_atom == pytest.approx([2.0, 5.0], rel=1e-12)
    assert one.scale == pytest.approx(np.sqrt(np.mean(noise**2)), rel=1e-12)
    back = target.from_isotropic(torch.from_numpy(totals))
    assert target.isotropic(back.numpy()) == pytest.approx(totals, rel=1e-14)


def test_labels_have_places_in_graphs(rng) -> None:
    """What is put is what is read, whatever the targets; two of one name have no places."""
    layout = LabelLayout([Polarizability("a"), MECHANICS[1], Extensive("b"), MECHANICS[0]])
    values = {"a": (1, 3, 3), "forces": (4, 3), "b": (1,), "energy": (1,)}
    labels, graph = {name: torch.tensor(rng.normal(size=shape)) for name, shape in values.items()}, {}
    layout.put(graph, labels)
    assert {name: tuple(tensor.shape) for name, tensor in graph.items()} == {
        "targets": (1, 10), "forces": (4, 3), "energy": (1,)
    }  # fmt: skip
    assert all(torch.equal(layout.get(graph, name), label) for name, label in labels.items())
    with pytest.raises(ConfigError, match="target 'a' is given twice"):
        LabelLayout([Extensive("a"), Dipole("a")])


def test_energies_have_one_name_and_one_unit() -> None:
    assert make_target("energy", "energy") == make_target("energy", "energy", "eV") == MECHANICS[0]
    assert parse_target("forces", "forces") == MECHANICS[1]
    for wrong in (("E", "energy", "eV"), ("energy", "energy", "Ha"), ("force", "forces", "")):
        message = f"'{wrong[0]}' is of kind '{wrong[1]}' in .*always called.*data.{wrong[1]}_key, data.energy_unit and"
        with pytest.raises(ConfigError, match=message):
            make_target(*wrong)


@pytest.mark.parametrize(
    ("name", "text", "quantity", "units"),
    [
        ("dipole", "dipole eV", "an energy, but a target of kind 'dipole' is a dipole moment", "D, Debye, e.A"),
        ("mu", "dipole_norm kcal / mol", "an energy, but a target of kind 'dipole_norm' is a dip", "D, Debye"),
        ("alpha", "polarizability D", "a dipole moment, but a target of kind 'pol.* is a polariz", "a0.3, bohr.3"),
        ("r2", "spatial_extent a0**3", "a polarizability, but a target of kind 'sp.* is a squared", "a0.2, bohr.2"),
        ("homo", "intensive D", "a dipole moment, but 'homo' is an energy", "eV, meV, Ha"),
    ],
)
def test_a_unit_of_another_quantity_is_refused(name, text, quantity, units) -> None:
    unit = text.partition(" ")[2]
    match = rf"target '{name}' has the unit '{re.escape(unit)}', which is a unit of {quantity}.*are {units}"
    for given in (text, dict(zip(("kind", "unit"), text.split(maxsplit=1), strict=True))):
        with pytest.raises(ConfigError, match=match):
            resolve_targets({name: given})


def test_units_of_the_quantity_and_unknown_units_are_allowed() -> None:
    given = {"a": "dipole e*Å", "b": "dipole furlong", "c": "intensive D", "d": "polarizability", "gap": "intensive Ha"}
    assert [target.unit for target in resolve_targets(given)] == ["e*Å", "furlong", "D", "", "Ha"]


def test_predictions_of_another_shape_are_compared_value_by_value(rng) -> None:
    """A column of predictions must not be compared with every label."""
    layout, labels = LabelLayout([Intensive("gap", "eV")]), torch.tensor(rng.normal(size=(3, 1)))
    error, known = layout.residual({"gap": labels.clone()}, {"targets": labels}, "gap")
    assert error.tolist() == [0.0, 0.0, 0.0]
    assert known.shape == (3,)
    with pytest.raises(RuntimeError, match="shape"):
        layout.residual({"gap": torch.zeros(2)}, {"targets": labels}, "gap")


def test_values_of_another_quantity_are_not_taken_or_lost_in_silence() -> None:
    one = LabeledSet([Atoms("H")], (Intensive("gap", "eV"),), {"gap": np.array([1.0])})
    with pytest.raises(DataError, match=r"the set has values of Intensive\(name='gap', unit='eV'\), but Extensive"):
        one.with_targets([Extensive("gap", "eV")])


def test_what_is_known_in_part_is_written(tmp_path) -> None:
    values = {"mu": np.array([[1.0, np.nan, 2.0], [np.nan] * 3, [3.0, 4.0, 5.0]])}
    one = LabeledSet([Atoms("H"), Atoms("He"), Atoms("Li")], (Dipole("mu", "D"),), values, ["a", "b", "c"])
    first, second, _ = one.labeled()
    assert first.info["mu"][::2] == [1.0, 2.0]
    assert "mu" not in second.info
    write_structures(tmp_path / "a.xyz", one.labeled())
    found = read_properties(tmp_path / "a.xyz", one.targets)
    np.testing.assert_array_equal(found.values["mu"], values["mu"])
