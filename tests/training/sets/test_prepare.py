"""What is said of the data before a training, and in which form structures are set aside."""

import numpy as np
import pytest
from ase import units
from ase.io import read, write

from ik_e3nn.data import LabelKeys, read_labels, write_structures
from ik_e3nn.data.graphs.dataset import force_scale
from ik_e3nn.errors import DataError
from ik_e3nn.training.sets.prepare import prepare_data, read_set
from tests.training.helpers import small_config as config
from tests.training.helpers import structures


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train.xyz", structures())
    return tmp_path


def test_a_test_set_without_labels_is_an_error(folder) -> None:
    other = structures(3)
    for atoms in other:
        atoms.info["dft_energy"], atoms.arrays["dft_forces"] = (
            atoms.info.pop("REF_energy"),
            atoms.arrays.pop("REF_forces"),
        )
        atoms.info.pop("REF_stress", None)
    write(folder / "test.xyz", other)
    with pytest.raises(
        DataError, match="data.test has no labels to test on: none of 3 structures has the energy label"
    ):
        prepare_data(config(folder, data={"test": str(folder / "test.xyz")}))


def test_structures_in_two_sets_are_counted(folder, caplog) -> None:
    some = structures()
    write(folder / "valid.xyz", some[:4])
    write(folder / "test.xyz", structures(3, seed=9))
    prepare_data(config(folder, data={"valid": str(folder / "valid.xyz"), "test": str(folder / "test.xyz")}))
    assert "4 structures (by SMILES or geometry) are both in data.train and in data.valid" in caplog.text
    assert "data.test" not in caplog.text.split("are both in data.train")[1].split("\n")[0]


def test_one_absurd_force_does_not_set_the_models_scale(folder, caplog) -> None:
    some = structures(30)
    write(folder / "train.xyz", some)
    usual = force_scale(prepare_data(config(folder)).sets["train"])
    some[5].arrays["REF_forces"][0, 0] = 1e5
    write(folder / "train.xyz", some)
    assert force_scale(prepare_data(config(folder, seed=1)).sets["train"]) == pytest.approx(usual, rel=0.5)
    assert "that they alone would set the scale of the model" in caplog.text


def test_structures_set_aside_have_our_names_and_units(folder) -> None:
    some = structures()
    for atoms in some:
        atoms.info["e_ha"] = atoms.info.pop("REF_energy") / units.Hartree
        atoms.arrays["f_au"] = atoms.arrays.pop("REF_forces") / (units.Hartree / units.Bohr)
        atoms.info.pop("REF_stress", None)
    write(folder / "train.xyz", some)
    names = {"energy_key": "e_ha", "forces_key": "f_au", "energy_unit": "Ha", "length_unit": "bohr"}
    valid = prepare_data(config(folder, data=names)).sets["valid"]
    write_structures(folder / "aside.xyz", valid.labeled())
    assert "e_ha" not in read(folder / "aside.xyz").info
    asked = LabelKeys("e_ha", "f_au", energy_unit="Ha", length_unit="bohr")
    for keys in (LabelKeys(), asked):
        again = read_set(str(folder / "aside.xyz"), keys, require=("energy", "forces"))
        for one, other in zip(valid.labels, again.labels, strict=True):
            assert other.energy == pytest.approx(one.energy, abs=1e-9)
            np.testing.assert_allclose(other.forces, one.forces, atol=1e-7)
    assert not read_labels(read(folder / "aside.xyz", ":")).doubts
