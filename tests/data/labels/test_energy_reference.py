"""E0 fits: exact where the data determine them, honest where they do not."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ik_e3nn.data import fit_energy_reference, read_labels
from ik_e3nn.data.labels.energy_reference import is_isolated
from ik_e3nn.errors import DataError

TRUE = {1: -13.5, 6: -1030.0, 8: -2040.0}
FORMULAS = ["CH4", "H2O", "CO2", "C2H6", "C2H6O", "O2"]


def energies(structures):
    return [sum(TRUE[number] for number in atoms.numbers) for atoms in structures]


def test_exact_compositions_are_recovered(caplog):
    structures = [Atoms(formula) for formula in FORMULAS]
    with caplog.at_level(logging.INFO, logger="ik_e3nn"):
        reference = fit_energy_reference(structures, energies(structures))
    assert reference.values == pytest.approx(TRUE)
    assert reference.rank == 3
    assert 1 < reference.condition < 20
    assert reference.source.startswith("least squares over 6 structures (H, C, O; rank 3 of 3")
    assert "E0: least squares over 6 structures" in caplog.text


def test_one_composition_gives_the_smallest_solution_and_says_so(caplog):
    structures = [Atoms("C2H6O")] * 5
    with caplog.at_level(logging.WARNING, logger="ik_e3nn"):
        reference = fit_energy_reference(structures, energies(structures))
    total = sum(reference.values[number] for number in structures[0].numbers)
    assert total == pytest.approx(energies(structures)[0])
    counts = np.array([6.0, 2.0, 1.0])
    assert np.allclose(list(reference.values.values()), total * counts / (counts @ counts))
    assert reference.rank == 1
    assert "rank 1 of 3" in reference.source
    assert "solution of smallest norm" in reference.source
    assert "only sums over compositions" in caplog.text


def test_isolated_atoms_win():
    structures = [
        Atoms("H"),
        Atoms("C", info={"config_type": "isolated_atom"}),
        Atoms("CH4"),
        Atoms("CH4O"),
        Atoms("C2H6O"),
    ]
    labels = np.array(energies(structures)) - [0.0, 0.0, 17.0, 21.0, 33.0]
    reference = fit_energy_reference(structures, labels)
    assert reference.values[1] == TRUE[1]
    assert reference.values[6] == TRUE[6]
    assert reference.values[8] == pytest.approx(TRUE[8] - 27.0)
    assert reference.source.startswith("isolated atoms (H, C); least squares over 2 structures (O;")


def test_given_values_are_kept_and_compared(caplog):
    structures = [Atoms("H"), Atoms("CH4")]
    with caplog.at_level(logging.WARNING, logger="ik_e3nn"):
        reference = fit_energy_reference(structures, energies(structures), given={1: -12.0, 6: -1030.0, 92: 0.0})
    assert reference.values == {1: -12.0, 6: -1030.0}
    assert reference.rank == 0
    assert reference.source == "given (H, C)"
    assert "E0 of H is given as -12.0000 eV, but the isolated atom in the data has -13.5000 eV" in caplog.text


def test_a_reference_of_another_method_is_noticed(caplog):
    structures = [Atoms("CH4")]
    with caplog.at_level(logging.WARNING, logger="ik_e3nn"):
        fit_energy_reference(structures, energies(structures), given={1: -13.5, 6: -5.0})
    assert "which no chemical bond explains" in caplog.text
    caplog.clear()
    fit_energy_reference(structures, np.array(energies(structures)) - 17.0, given=TRUE)
    assert not caplog.records


def test_missing_energies_do_not_count():
    structures = [Atoms("H2"), Atoms("H2"), Atoms("H4")]
    reference = fit_energy_reference(structures, [-4.0, np.nan, -8.0])
    assert reference.values[1] == pytest.approx(-2.0)


@pytest.mark.parametrize(
    ("atoms", "answer"),
    [
        (Atoms("H"), True),
        (Atoms("H", cell=[20, 20, 20], pbc=True), True),
        (bulk("Cu"), False),
        (Atoms("Na", info={"charge": 1}), False),
        (Atoms("H2"), False),
        (Atoms("Cu", cell=[3, 3, 3], pbc=True, info={"config_type": "IsolatedAtom"}), True),
    ],
)
def test_what_an_isolated_atom_is(atoms, answer):
    assert is_isolated(atoms) is answer


def test_several_states_of_an_atom_give_the_lowest(caplog):
    reference = fit_energy_reference([Atoms("O"), Atoms("O")], [-2038.0, -2040.0])
    assert reference.values[8] == -2040.0
    assert "several energies for an isolated O atom" in caplog.text


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        ([1.0, 2.0], None, "1 structures, but 2 energies"),
        ([np.nan], None, "E0 of H cannot be fitted: no structure with them has an energy"),
        ([1.0], {1: np.inf}, "given E0 values must be finite"),
    ],
)
def test_errors(labels, given, message):
    with pytest.raises(DataError, match=message):
        fit_energy_reference([Atoms("H2")], labels, given)


def test_marked_atoms_that_are_not_alone_are_named(caplog):
    mark = {"config_type": "IsolatedAtom", "REF_energy": -13.0}
    frames = [Atoms("H", cell=[size] * 3, pbc=True, info=mark) for size in (2.0, 20.0)]
    frames += [Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], info=mark), Atoms("H", info=mark), Atoms("H", pbc=True, info=mark)]
    data = read_labels(frames, require=["energy"], places=[f"structure {k} of a.xyz" for k in range(5)])
    assert data.doubts == (
        "structure 0 of a.xyz is marked as an isolated atom (H), but its periodic images are 2 A away: its energy, "
        "which is taken for E0, is not that of an isolated atom; remove the mark, or correct the cell or pbc",
        "structure 2 of a.xyz is marked as an isolated atom (H2), but has 2 atoms: E0 is not taken from it; correct "
        "its config_type",
    )
    assert data.doubts[0] in caplog.text
