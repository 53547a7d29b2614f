import pytest
from ase import Atoms

from ik_e3nn.data import joined
from ik_e3nn.graph import get_bonds


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {}, {}),
        ({"charge": -1}, {"charge": 2}, {"charge": 1}),
        ({"charge": 1}, {}, {"charge": 1}),
        ({"charge": 0.5}, {"charge": 0.25}, {"charge": 0.75}),
        ({"spin": 2}, {"spin": 3}, {"spin": 4}),  # 1 and 2 unpaired electrons
        ({}, {"spin": 1}, {"spin": 2}),  # nine electrons: one is unpaired
        ({"charge": -1}, {"spin": 1}, {"charge": -1, "spin": 1}),
    ],
    ids=str,
)
def test_charges_and_unpaired_electrons_add_up(first, second, expected):
    hydroxyl, neon = Atoms("OH", [[0, 0, 0], [0, 0, 1]], info=first), Atoms("Ne", [[9, 0, 0]], info=second)
    assert joined(hydroxyl, neon).info == expected


def test_bonds_are_renumbered_and_the_first_gives_the_cell():
    first = Atoms("OH", [[0, 0, 0], [0, 0, 1]], cell=[5, 6, 7], pbc=(True, True, False), info={"bonds": [0, 1, 1]})
    second = Atoms("N2", [[3, 0, 0], [3, 0, 1.1]], info={"bonds": [0, 1, 3]})
    both = joined(first, second)
    assert get_bonds(both).tolist() == [[0, 1, 1], [2, 3, 3]]
    assert both.cell.lengths().tolist() == [5, 6, 7]
    assert both.pbc.tolist() == [True, True, False]
    assert get_bonds(first).tolist() == [[0, 1, 1]]
