"""Bonds follow the atoms through everything that ASE does with them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, make_supercell, molecule, sort
from ase.io import read, write

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.data.files.reading import read_structures
from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph, fitting_bonds, get_bonds, has_bonds, neighbor_list, remove_bonds, set_bonds
from ik_e3nn.graph.bonds.stored import stored_bonds

ACETAMIDE = "CC(N)=O"
# Of acetamide: two C-C/C-N single bonds, the C=O double bond, five bonds to hydrogen.
CHEMISTRY = {("C", "C", 1): 1, ("C", "N", 1): 1, ("C", "O", 2): 1, ("C", "H", 1): 3, ("H", "N", 1): 2}
CELL = [4.0, 4.2, 4.5]  # A: the molecules in it are in contact with their images


def chemistry(atoms):
    """How many bonds there are of each kind, all of them between atoms at bonding distance."""
    found = {}
    for i, j, kind in fitting_bonds(atoms):
        assert atoms.get_distance(i, j, mic=True) < 1.6
        key = (*sorted((atoms.symbols[i], atoms.symbols[j])), int(kind))
        found[key] = found.get(key, 0) + 1
    return found


def times(count, counts=None):
    return {key: count * number for key, number in (counts or CHEMISTRY).items()}


@pytest.fixture
def acetamide():
    return molecule_from_smiles(ACETAMIDE)


@pytest.fixture
def crystal(acetamide):
    atoms = acetamide.copy()
    atoms.cell, atoms.pbc = CELL, True
    atoms.positions += 3.3  # across the boundary of the cell
    atoms.wrap()
    assert max(atoms.get_distance(i, j) for i, j, _ in get_bonds(atoms)) > 2.5
    return atoms


@pytest.mark.parametrize(
    "change",
    [
        sort,
        lambda a: a[::-1],
        lambda a: a[np.random.default_rng(0).permutation(len(a))],
        lambda a: sort(a, a.positions[:, 0])[::-1],
        Atoms,
        lambda a: sort(a[::-1]).copy(),
    ],
)
def test_the_order_of_the_atoms_does_not_matter(acetamide, crystal, change):
    assert chemistry(change(acetamide)) == CHEMISTRY
    assert chemistry(change(crystal)) == CHEMISTRY


def test_a_part_has_the_bonds_between_its_atoms(acetamide):
    part = acetamide[[i for i in range(len(acetamide)) if acetamide.symbols[i] != "H"]]
    assert chemistry(part) == {("C", "C", 1): 1, ("C", "N", 1): 1, ("C", "O", 2): 1}
    for index in range(len(acetamide)):
        less = acetamide.copy()
        del less[index]
        assert len(get_bonds(less)) == 8 - (get_bonds(acetamide)[:, :2] == index).sum()
    assert chemistry(acetamide[:-1]) == CHEMISTRY | {("H", "N", 1): 1}


def test_joined_copies_and_other_molecules_keep_theirs(acetamide):
    far = acetamide.copy()
    far.positions += 20.0
    cyanide = molecule_from_smiles("C#N")
    cyanide.positions -= 20.0
    three = acetamide + far + cyanide
    expected = times(2) | {("C", "H", 1): 7, ("C", "N", 3): 1}
    assert chemistry(three) == expected
    assert chemistry(three[np.random.default_rng(1).permutation(len(three))]) == expected
    three.extend(acetamide[:0])
    assert chemistry(three) == expected


def test_copies_of_an_atom_without_bonds_have_none():
    argon = molecule_from_smiles("[Ar]")
    other = argon.copy()
    other.positions += 4.0
    assert get_bonds(argon + other).tolist() == []


@pytest.mark.parametrize("first", [True, False])
def test_over_a_metal_without_bonds(acetamide, first):
    slab = fcc111("Pt", (3, 3, 2), vacuum=8.0)
    acetamide.positions += slab.positions[-1] + [0, 0, 3.5] - acetamide.positions.mean(0)
    both = acetamide + slab if first else slab + acetamide
    assert chemistry(both) == CHEMISTRY
    assert chemistry(sort(both)) == CHEMISTRY


def test_repeated_crystals_take_the_nearest_image(crystal):
    for big in (crystal * (3, 2, 2), crystal.repeat((2, 2, 3)), make_supercell(crystal, np.diag([1, 4, 3]))):
        assert chemistry(big) == times(12)
        big.wrap()
        assert chemistry(big[np.random.default_rng(2).permutation(len(big))]) == times(12)
    again = (crystal * (2, 1, 1)) * (1, 2, 1)
    assert chemistry(again) == times(4)
    del again[np.flatnonzero(again.symbols == "H")[:3]]
    assert len(get_bonds(again)) == 4 * 8 - 3


@pytest.mark.parametrize(
    "change",
    [
        lambda a: make_supercell(a, np.eye(3)),
        lambda a: make_supercell(a, [[1, 1, 0], [0, 1, 0], [0, -1, 1]]),
        lambda a: Atoms(cell=a.cell, pbc=a.pbc) + a,
        lambda a: Atoms() + Atoms(a.numbers, a.positions)[:0] + a[::-1],
    ],
)
def test_whole_structures_that_ase_makes_without_info_keep_them(crystal, change):
    changed = change(crystal)
    assert "bonds" not in changed.info
    assert has_bonds(changed)
    changed.pbc, changed.cell = True, crystal.cell if not changed.cell.rank else changed.cell
    assert chemistry(changed) == CHEMISTRY
    expected = np.bincount(build_graph(crystal, 3.0)["bond_types"].numpy(), minlength=5)
    assert np.bincount(build_graph(changed, 3.0)["bond_types"].numpy(), minlength=5).tolist() == expected.tolist()


def test_each_graph_edge_of_a_repeated_crystal_has_the_type_that_it_had(crystal):
    one, eight = build_graph(crystal, 3.0), build_graph(crystal * (2, 2, 2), 3.0)
    counts = [np.bincount(graph["bond_types"].numpy(), minlength=5) for graph in (one, eight)]
    assert counts[1].tolist() == (8 * counts[0]).tolist()


@pytest.mark.parametrize("suffix", ["xyz", "xyz.gz"])
def test_files_keep_what_was_done_before(tmp_path, acetamide, suffix):
    write(tmp_path / f"a.{suffix}", [acetamide[::-1], acetamide + cyanide_far(), acetamide], format="extxyz")
    found = read_structures(tmp_path / f"a.{suffix}")
    assert [len(get_bonds(atoms)) for atoms in found] == [8, 10, 8]
    assert chemistry(found[0]) == CHEMISTRY
    # the list in ``info``, for other readers, is that of the present order
    assert sorted(map(tuple, np.reshape(found[0].info["bonds"], (-1, 3)))) == sorted(map(tuple, get_bonds(found[0])))
    write(tmp_path / "b.traj", found)  # keeps the list, but no arrays
    assert [chemistry(atoms) for atoms in read(tmp_path / "b.traj", ":")] == [chemistry(atoms) for atoms in found]


def cyanide_far():
    cyanide = molecule_from_smiles("C#N")
    cyanide.positions += 9.0
    return cyanide


def test_a_sorted_structure_in_a_format_without_arrays_is_refused(tmp_path, acetamide):
    write(tmp_path / "a.traj", sort(acetamide))
    with pytest.raises(DataError, match="the bonds do not fit the structure"):
        build_graph(read(tmp_path / "a.traj"), 5.0)


def test_stretched_and_broken_bonds_stay(acetamide):
    acetamide.positions[2:] *= 3.0
    assert len(fitting_bonds(acetamide)) == 8
    assert len(fitting_bonds(acetamide[::-1])) == 8


def test_a_bond_that_is_stretched_too_far_for_its_copy_to_be_known_is_refused(acetamide):
    acetamide.cell, acetamide.pbc = [20.0] * 3, True
    acetamide.positions[0] += acetamide.positions[0] - acetamide.positions[1]  # C-C of 3 A
    assert len(get_bonds(acetamide)) == 8
    with pytest.raises(DataError, match=r"^2 bond\(s\) of the repeated structure are longer than 1\.8 times"):
        get_bonds(acetamide * (2, 1, 1))
    part = acetamide * (2, 1, 1)
    del part[-1]  # of what was cut, nobody knows which bonds are there
    assert len(get_bonds(part)) == 13


def test_a_list_given_by_hand_counts_instead(acetamide):
    acetamide.info["bonds"] = np.array(acetamide.info["bonds"])
    acetamide.info["bonds"][2] = 2  # C=C
    assert chemistry(acetamide)["C", "C", 2] == 1
    assert not stored_bonds(acetamide).known.any()
    del acetamide.info["bonds"]
    assert chemistry(acetamide) == CHEMISTRY  # the bonds that are stored with the atoms
    remove_bonds(acetamide)
    assert not has_bonds(acetamide)
    assert get_bonds(acetamide).shape == (0, 3)
    part = molecule_from_smiles(ACETAMIDE)[::-1] + cyanide_far()
    remove_bonds(part)
    assert not has_bonds(part)


def test_a_list_for_atoms_that_have_none_is_added(acetamide):
    water = molecule("H2O")
    water.info["bonds"] = [0, 1, 1, 0, 2, 1]
    water.positions += 12.0
    assert chemistry(water + acetamide) == CHEMISTRY | {("H", "O", 1): 2}


def test_copies_on_top_of_each_other_are_refused(acetamide):
    with pytest.raises(DataError, match="so close to each other that it is ambiguous which atoms are bonded"):
        get_bonds(acetamide + acetamide)


def test_bonds_to_own_images_are_refused_after_repeating():
    chain = Atoms("C", cell=[1.3, 9, 9], pbc=[True, False, False])
    set_bonds(chain, [[0, 0, 2]])
    assert get_bonds(chain).tolist() == [[0, 0, 2]]
    with pytest.raises(DataError, match="bonds between an atom and its own image"):
        get_bonds(chain * (3, 1, 1))


def test_close_packed_structures_have_the_list_alone():
    cluster = Atoms("Ar", cell=[4.0] * 3, pbc=True) * (4, 4, 4)
    pairs = neighbor_list(cluster.positions, cluster.cell.array, cluster.pbc, 5.7)[0]
    rows = [[i, j, 1] for i, j in pairs.T.tolist() if i < j]
    set_bonds(cluster, rows)
    assert "bond_partners" not in cluster.arrays
    assert len(get_bonds(cluster)) == len(rows) == 64 * 18 / 2


def test_an_array_of_another_shape_is_named(acetamide):
    acetamide.arrays["bond_partners"] = np.zeros((9, 2), dtype=int)
    with pytest.raises(DataError, match=r"'bond_partners'\] must hold 7 integers for every atom, got shape \(9, 2\)"):
        get_bonds(acetamide)


def test_a_hundred_thousand_atoms(crystal):
    large = crystal * (22, 22, 23)
    bonds = get_bonds(large)
    assert len(bonds) == 22 * 22 * 23 * 8
    assert np.bincount(bonds[:, :2].ravel()).max() == 4


def test_atoms_that_were_overwritten_in_place_are_noticed(acetamide) -> None:
    order = np.arange(9)[::-1]
    overwritten = acetamide.copy()
    overwritten.positions[:], overwritten.numbers[:] = acetamide.positions[order], acetamide.numbers[order]
    changed = acetamide.copy()
    changed.symbols[3] = "N"
    for atoms, message in (
        (overwritten, r"atom 0 is H, but was C when they were set \([4-9] of 9 atoms have changed\)"),
        (changed, r"atom 3 is N, but was O when they were set \(1 of 9 atoms have changed\).*set_bonds"),
    ):
        for one in (atoms, atoms[order], atoms[:8], atoms + acetamide):
            without_list = one.copy()
            without_list.info.clear()
            for bonds_of in (get_bonds, fitting_bonds):
                for each in (one, without_list):
                    with pytest.raises(DataError, match=message if one is atoms else "when they were set"):
                        bonds_of(each)
        set_bonds(atoms, [[0, 1, 1]])
        assert get_bonds(atoms).tolist() == [[0, 1, 1]]


def test_records_of_earlier_versions_know_no_elements(acetamide) -> None:
    expected = get_bonds(acetamide[::-1])
    acetamide.arrays["bond_partners"][:, 2] %= 10**7
    assert np.array_equal(get_bonds(acetamide[::-1]), expected)
    assert acetamide.arrays["bond_partners"].max() < 2**31
    acetamide.symbols[3] = "N"
    assert len(get_bonds(acetamide)) == 8
