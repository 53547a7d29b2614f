"""What is written to an extxyz file comes back with the same values, whatever a structure carries."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read

from ik_e3nn.data import write_structures
from ik_e3nn.data.files.extxyz import require_extxyz
from ik_e3nn.data.files.writing import check_output
from ik_e3nn.errors import DataError

VALUES = [
    "", "T", "12", "1 2 3", "a b", " a ", "a\nb", 'say "x"', "F/C=C\\F", 'q"\\', "_JSON x", "[OH-]", "{a}", "é",
    "ends\\", "1,2", None, 3, 2.5, 1e-300, True, [], [1, 2], ["T", "1"], [[1, 2], [3, 4]], {"a": [1, None]}, (1.0, 2.5),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("suffix", [".xyz", ".extxyz.gz"])
def test_entries_of_info_survive(tmp_path, value, suffix) -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], info={"before": 1.5, "value": value, "after": "x"})
    write_structures(tmp_path / f"a{suffix}", [atoms, atoms])
    for back in read(tmp_path / f"a{suffix}", ":"):
        found = back.info["value"]
        expected = list(value) if isinstance(value, tuple) else value
        assert (found.tolist() if hasattr(found, "tolist") else found) == expected
        assert (back.info["before"], back.info["after"]) == (1.5, "x")


def test_uneven_lists_come_back_as_text(tmp_path) -> None:
    """ASE's reader refuses the whole file if it holds one."""
    write_structures(tmp_path / "a.xyz", [Atoms("H", info={"parts": [[1, 2], [3]]})])
    assert read(tmp_path / "a.xyz").info["parts"] == "[[1, 2], [3]]"


def test_arrays_survive(tmp_path) -> None:
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])
    tensors = np.arange(18.0).reshape(2, 3, 3)
    atoms.arrays |= {"born": tensors, "name": np.array(["CA ", "O1"]), "flag": np.array([True, False])}
    write_structures(tmp_path / "a.xyz", [atoms])
    back = read(tmp_path / "a.xyz")
    np.testing.assert_allclose(back.arrays["born"].reshape(2, 3, 3), tensors)
    assert back.arrays["name"].tolist() == ["CA", "O1"]
    assert back.arrays["flag"].tolist() == [True, False]
    assert atoms.arrays["born"].shape == (2, 3, 3)


def test_results_of_a_calculator_survive_beside_info_of_the_same_name(tmp_path) -> None:
    """ASE's writer ends in a KeyError; info goes before results, as in ``stored_values``."""
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], info={"energy": -1.0})
    atoms.calc = SinglePointCalculator(atoms, energy=-2.0, free_energy=-3.0, forces=np.ones((2, 3)))
    write_structures(tmp_path / "a.xyz", [atoms])
    back = read(tmp_path / "a.xyz")
    assert back.calc.results["energy"] == -1.0
    assert back.calc.results["free_energy"] == -3.0
    np.testing.assert_allclose(back.calc.results["forces"], 1.0)


def test_what_no_extxyz_file_holds_is_named(tmp_path, caplog) -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], info={"a=b": 1, "set": {1}, "good": 1})
    atoms.arrays |= {"z": np.zeros(2, complex), "chain": np.array(["", "B"]), "empty": np.zeros((2, 0))}
    write_structures(tmp_path / "a.xyz", [atoms])
    back = read(tmp_path / "a.xyz")
    assert back.info == {"good": 1}
    assert set(back.arrays) == {"numbers", "positions"}
    for name in ("info['a=b']", "info['set']", "arrays['z']", "arrays['chain']", "arrays['empty']"):
        assert f"{name} of 1 structures is left out: an extxyz file cannot hold it" in caplog.text


@pytest.mark.parametrize("name", ["a.traj", "a.db", "a.json", "a.cif", "a.pdb", "a.csv", "a.npz", "a.vasp", "a", "xyz"])
def test_other_formats_are_refused(name) -> None:
    with pytest.raises(DataError, match="output must be an extxyz file"):
        require_extxyz(name)


def test_what_cannot_be_written_is_known_at_once(tmp_path) -> None:
    file = tmp_path / "a.xyz"
    file.touch()
    with pytest.raises(DataError, match="exists already"):
        check_output(file, overwrite=False)
    for inputs in ([file], [tmp_path], [str(tmp_path / "*.xyz")]):
        with pytest.raises(DataError, match="is read by this command"):
            check_output(file, overwrite=True, inputs=inputs)
    with pytest.raises(DataError, match="is a folder; give the name of a file"):
        check_output(tmp_path, overwrite=True)
    with pytest.raises(DataError, match=r"a\.xyz is no folder"):
        check_output(file / "b.xyz", overwrite=False)
    check_output(file, overwrite=True, inputs=["base"])
    check_output(tmp_path / "new" / "b.xyz", overwrite=False)


def test_a_folder_without_permission(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(DataError, match="permission denied"):
        check_output(tmp_path / "b.xyz", overwrite=False)
