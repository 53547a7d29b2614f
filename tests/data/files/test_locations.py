"""Alternate locations and occupancies: one conformer of a protein, and no calculation of half an atom."""

import gzip

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ik_e3nn.data import read_structures, write_structures
from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph, check_occupancy


def line(name, location, residue, position, occupancy=1.0, *, number=1, chain="A", insertion="", element=None):
    element = name[0] if element is None else element
    padded = f" {name:<3}" if len(name) < 4 else name
    x, y, z = position
    return (
        f"ATOM      1 {padded}{location or ' ':1}{residue:>3} {chain}{number:4d}{insertion or ' ':1}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}  0.00          {element:>2}"
    )


def read_lines(folder, *lines, name="a.pdb"):
    (folder / name).write_text("\n".join(lines) + "\n")
    return read_structures(folder / name)


SERINE = [
    line("N", "", "SER", (0, 0, 0)),
    line("CA", "", "SER", (1.46, 0, 0)),
    line("CB", "A", "SER", (2.0, 1.4, 0), 0.6),
    line("CB", "B", "SER", (2.0, 1.3, 0.3), 0.4),
    line("OG", "A", "SER", (3.4, 1.4, 0), 0.3),
    line("OG", "B", "SER", (2.0, 2.4, 1.3), 0.7),
]


def test_one_residue_takes_one_letter(tmp_path):
    """Two angstrom apart, so no distance tells them; by atom it would be CB of A with OG of B."""
    [atoms] = read_lines(tmp_path, *SERINE)
    assert atoms.get_chemical_formula() == "C2NO"
    assert np.allclose(atoms.positions[2:], [[2.0, 1.3, 0.3], [2.0, 2.4, 1.3]])  # B: 0.55 on average, A: 0.45
    assert "occupancy" not in atoms.arrays
    build_graph(atoms, 3.0)


def test_equal_occupancies_take_the_first_letter(tmp_path):
    lines = [line("O", letter, "HOH", (x, 0, 0), 0.5) for letter, x in (("B", 0), ("A", 2), ("C", 4))]
    [atoms] = read_lines(tmp_path, *lines)
    assert atoms.positions[:, 0].tolist() == [2.0]


def test_residues_in_contact_take_the_same_letter_and_others_their_own(tmp_path):
    lines = [
        line("CB", "A", "ALA", (0, 0, 0), 0.7, number=1),
        line("CB", "B", "ALA", (0, 0, 1), 0.3, number=1),
        line("CB", "A", "ALA", (2.5, 0, 0), 0.4, number=2),  # touches A of residue 1
        line("CB", "B", "ALA", (2.5, 0, 1), 0.6, number=2),
        line("CB", "A", "ALA", (20, 0, 0), 0.4, number=3),
        line("CB", "B", "ALA", (20, 0, 1), 0.6, number=3),
    ]
    [atoms] = read_lines(tmp_path, *lines)
    assert atoms.positions[:, 2].tolist() == [0, 0, 1]


def test_chains_and_insertion_codes_are_residues_of_their_own(tmp_path):
    lines = [
        line("CA", "A", "GLY", (0, 0, 0), 0.6),
        line("CA", "B", "GLY", (0, 0, 1), 0.4),
        line("CA", "A", "GLY", (20, 0, 0), 0.3, insertion="A"),
        line("CA", "B", "GLY", (20, 0, 1), 0.7, insertion="A"),
        line("CA", "A", "GLY", (40, 0, 0), 0.2, chain="B"),
        line("CA", "B", "GLY", (40, 0, 1), 0.8, chain="B"),
    ]
    [atoms] = read_lines(tmp_path, *lines)
    assert atoms.positions[:, 2].tolist() == [0, 1, 1]
    assert atoms.arrays["chainids"].tolist() == ["A", "A", "B"]


def test_hydrogens_of_the_other_conformer_are_left_out(tmp_path):
    """Histidine is protonated at ND1 in A and at NE2 in B: both together would be a cation."""
    lines = [
        line("ND1", "", "HIS", (0, 0, 0)),
        line("NE2", "", "HIS", (2.2, 0, 0)),
        line("HD1", "A", "HIS", (-1, 0, 0), 0.7),
        line("HE2", "B", "HIS", (3.2, 0, 0), 0.3),
    ]
    [atoms] = read_lines(tmp_path, *lines)
    assert atoms.arrays["atomtypes"].tolist() == ["ND1", "NE2", "HD1"]


def test_an_atom_that_only_the_other_letter_has_is_kept_with_its_hydrogens(tmp_path):
    lines = [
        line("CB", "A", "SER", (0, 0, 0), 0.4),
        line("HB2", "A", "SER", (0, 0, 1.09), 0.4),
        line("OG", "A", "SER", (1.4, 0, 0), 0.4),
        line("HG", "A", "SER", (1.7, 0.9, 0), 0.4),
        line("OG", "B", "SER", (0, 1.4, 0), 0.6),
    ]
    [atoms] = read_lines(tmp_path, *lines)
    assert sorted(atoms.arrays["atomtypes"]) == ["CB", "HB2", "OG"]
    assert atoms.positions[-1].tolist() == [0, 1.4, 0]


def test_a_letter_alone_is_the_atom_and_another_residue_is_not_mixed_in(tmp_path):
    lines = [
        line("OG", "A", "SER", (0, 0, 0), 0.5),
        line("CG2", "B", "THR", (9, 0, 0), 0.4, number=2),
        line("OG1", "B", "THR", (9, 0, 2), 0.4, number=2),
        line("OG", "A", "SER", (9, 0, 1), 0.6, number=2),
    ]
    [atoms] = read_lines(tmp_path, *lines)
    assert atoms.get_chemical_symbols() == ["O", "O"]
    assert atoms.arrays["residuenames"].tolist() == ["SER", "SER"]


def test_models_have_their_own_choice_and_all_of_them_the_cell(tmp_path):
    text = ["CRYST1   20.000   20.000   20.000  90.00  90.00  90.00 P 1           1"]
    for number, occupancy in ((1, 0.4), (2, 0.6)):
        sites = [line("O", "A", "HOH", (1, 0, 0), occupancy), line("O", "B", "HOH", (2, 0, 0), 1 - occupancy)]
        text += [f"MODEL     {number:4d}", *sites, "ENDMDL"]
    first, second = read_lines(tmp_path, *text, "END")
    assert first.positions[0, 0] == 2
    assert second.positions[0, 0] == 1
    assert np.allclose(first.cell.lengths(), 20)
    assert np.allclose(second.cell.lengths(), 20)


def test_a_gzipped_file_and_the_index(tmp_path):
    (tmp_path / "a.pdb.gz").write_bytes(gzip.compress("\n".join(SERINE).encode()))
    [atoms] = read_structures(tmp_path / "a.pdb.gz", index="-1")
    assert len(atoms) == 4


def test_a_crystal_record_that_means_no_cell(tmp_path, caplog):
    dummy = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1"
    [atoms] = read_lines(tmp_path, dummy, *SERINE)
    assert not atoms.pbc.any()
    unit = "CRYST1   30.000   40.000   50.000  90.00  90.00  90.00 P 21 21 21    4"
    [atoms] = read_lines(tmp_path, unit, *SERINE)
    assert not atoms.pbc.any()
    assert "one asymmetric unit of a crystal with the space group P 21 21 21" in caplog.text


def test_elements_without_their_columns(tmp_path):
    """ASE reads CA as calcium and HG as mercury."""
    lines = [line(name, "", "SER", (k, 0, 0), element="") for k, name in enumerate(["CA", "OG", "HG", "HB2"])]
    lines += [line("CA", "", " CA", (9, 0, 0), element=""), line("CLA", "", "CLA", (12, 0, 0), element="")]
    [atoms] = read_lines(tmp_path, *lines)
    assert atoms.get_chemical_symbols() == ["C", "O", "H", "H", "Ca", "Cl"]
    doubtful = line("X", "", "LIG", (0, 0, 0), element="").replace(" X  ", "CO1 ")
    with pytest.raises(DataError, match="line 1 of .*'CO1' in LIG may be Co or C; fill in the columns 77 and 78"):
        read_lines(tmp_path, doubtful)


def test_a_line_of_a_pdb_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"line 2 of .*a.pdb cannot be read: could not convert"):
        read_lines(tmp_path, SERINE[0], SERINE[1].replace("1.460", "1.4x0"))
    with pytest.raises(DataError, match="there are no atoms in"):
        read_lines(tmp_path, "REMARK nothing")
    with pytest.raises(DataError, match="'Qq' is no chemical element"):
        read_lines(tmp_path, line("CA", "", "SER", (0, 0, 0), element="Qq"))


MMCIF = """data_1ABC
loop_
_atom_site.group_PDB
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.auth_comp_id
_atom_site.auth_asym_id
_atom_site.auth_seq_id
_atom_site.pdbx_PDB_ins_code
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.pdbx_PDB_model_num
ATOM C "C5'" . DA A 7 ? 0.0 0.0 0.0 1.00 1
ATOM O O5' A DA A 7 ? 1.4 0.0 0.0 0.35 1
ATOM O O5' B DA A 7 ? 0.0 1.4 0.0 0.65 1
HETATM D D1 . DOD B 8 ? 9.0 0.0 0.0 1.00 1
#
"""


def test_mmcif(tmp_path):
    (tmp_path / "a.cif").write_text(MMCIF)
    [atoms] = read_structures(tmp_path / "a.cif")
    assert atoms.get_chemical_symbols() == ["C", "O", "H"]
    assert atoms.positions[1].tolist() == [0, 1.4, 0]
    assert atoms.arrays["atomtypes"].tolist() == ["C5'", "O5'", "D1"]
    assert atoms.get_masses()[2] == pytest.approx(2.014, abs=1e-3)
    (tmp_path / "b.cif").write_text(MMCIF.replace("1.4 0.0 0.0", "1.4 0.0"))
    with pytest.raises(DataError, match=r"line 17 of .*b.cif has 12 values for the 13 columns"):
        read_structures(tmp_path / "b.cif")


CIF = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P m -3 m'
_space_group_IT_number 221
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("C1 C 0 0 0 0.6\nN1 N 0 0 0 0.4", r"C 0.6 \+ N 0.4 at atom 0"),
        ("C1 C 0 0 0 0.6\nN1 N 0 0 0.01 0.4", "C 0.6 at atom 0, N 0.4 at atom 1"),
        ("O1 O 0.02 0 0 0.1667(3)", "O 0.1667 at atom 0"),
        ("C1 C 0 0 0 1\nN1 N 0 0 0 1", r"C 1 \+ N 1 at atom 0"),
        ("C1 C 0.5 0 0 1\nN1 N 0 0.5 0 1", r"the symmetry puts N \(site 1\) where C is"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_disordered_crystals_are_refused(tmp_path, rows, message, ending):
    text = (CIF + rows + "\n").encode()
    path = tmp_path / f"a.cif{ending}"
    path.write_bytes(gzip.compress(text) if ending else text)
    with pytest.raises(DataError, match=rf"block 'x' of .*a.cif{ending}: .*{message}"):
        read_structures(path)


@pytest.mark.parametrize("occupancies", [("1.0", "1.000"), (".", "?"), ("1", ".")])
def test_ordered_crystals_pass(tmp_path, occupancies):
    first, second = occupancies
    (tmp_path / "a.cif").write_text(f"{CIF}Na1 Na 0 0 0 {first}\nCl1 Cl .5 .5 .5 {second}\nCl2 Cl -.5 .5 .5 {second}\n")
    [atoms] = read_structures(tmp_path / "a.cif")
    assert atoms.get_chemical_formula() == "ClNa"  # the second chlorine is an image of the first
    assert "occupancy" not in atoms.info


def test_ase_structures_with_occupancies_are_refused_where_graphs_are_made(tmp_path):
    (tmp_path / "a.cif").write_text(CIF + "C1 C 0 0 0 0.6\nN1 N 0 0 0 0.4\nO1 O .5 .5 .5 1\n")
    atoms = ase.io.read(tmp_path / "a.cif") * (2, 1, 1)
    with pytest.raises(DataError, match=r"several elements: C 0.6 \+ N 0.4 at atom 0;"):
        build_graph(atoms, 3.0)
    write_structures(tmp_path / "again.xyz", [atoms])
    with pytest.raises(DataError, match="again.xyz: sites are occupied in part"):
        read_structures(tmp_path / "again.xyz")
    ordered = atoms[atoms.numbers == 8]
    build_graph(ordered, 3.0)  # the disordered kind is not there anymore


def test_occupancies_of_atoms():
    atoms = bulk("Cu", cubic=True)
    for values, is_partial in (([1, 1, 1, 1], False), ([0, 0, 0, 0], False), ([1, 0.5, 1, 1], True)):
        atoms.set_array("occupancy", np.array(values, dtype=float))
        if is_partial:
            with pytest.raises(DataError, match=r"Cu 0.5 at atom 1; .* delete \"occupancy\" from atoms.info"):
                check_occupancy(atoms)
        else:
            check_occupancy(atoms)
    check_occupancy(Atoms("C", info={"occupancy": 0.25}))  # a coverage, say: no table of sites


@pytest.mark.parametrize("name", ["LIG", "HOH"])
def test_alternates_in_different_residues(tmp_path, name):
    def pair(first, second, distance):
        return [
            line("O", "A", name, (0, 0, 0), first, number=1),
            line("O", "B", name, (distance, 0, 0), second, number=2),
        ]

    for occupancies, x in (((0.6, 0.4), 0.0), ((0.4, 0.6), 0.5), ((0.5, 0.5), 0.0)):
        [atoms] = read_lines(tmp_path, *pair(*occupancies, 0.5))
        assert atoms.positions[:, 0].tolist() == [x]
    assert len(read_lines(tmp_path, *pair(0.5, 0.5, 2.7))[0]) == 2


def test_parts_of_atoms_without_letters(tmp_path, caplog):
    waters = [line("O", "", "HOH", (x, 0, 0), 0.5, number=number) for number, x in ((1, 0.0), (2, 1.0), (3, 9.0))]
    message = r"model 0 of .*a.pdb: O of HOH A1 \(occupancy 0.5\) and O of HOH A2 .* are 1.00 A apart"
    with pytest.raises(DataError, match=message):
        read_lines(tmp_path, *waters)
    with caplog.at_level("INFO"):
        [atoms] = read_lines(tmp_path, *waters[1:])
    assert len(atoms) == 2
    assert "2 sites without a letter are occupied in part" in caplog.text
    nitrogen = [line(f"N{k}", "", "LIG", (1.1 * k, 0, 0), 0.5) for k in range(2)]
    assert len(read_lines(tmp_path, *nitrogen)[0]) == 2
    zero = [line("O", "", "LIG", (0.9 * k, 0, 0), 0.0) for k in range(2)]  # programs write 0 for what they do not know
    assert len(read_lines(tmp_path, *zero)[0]) == 2


@pytest.mark.parametrize(("groups", "is_ordered"), [((1, 2), False), ((-1, "."), False), ((1, "."), True)])
def test_groups_of_disorder_without_occupancies(tmp_path, groups, is_ordered):
    text = CIF.replace("_atom_site_occupancy", "_atom_site_disorder_group")
    (tmp_path / "a.cif").write_text(f"{text}O1 O 0 0 0 {groups[0]}\nO2 O .5 .5 .5 {groups[1]}\n")
    if is_ordered:
        assert len(read_structures(tmp_path / "a.cif")[0]) == 2
    else:
        with pytest.raises(DataError, match="block 'x' of .*a.cif: sites are occupied in part: .* disorder groups"):
            read_structures(tmp_path / "a.cif")


def test_sites_of_occupancy_zero_are_named(tmp_path, caplog):
    waters = [line("O", "", "HOH", (5.0 * k, 0, 0), float(k), number=k) for k in range(2)]
    assert len(read_lines(tmp_path, *waters)[0]) == 2
    assert "1 sites have the occupancy 0 (they were modeled, and not seen in the experiment): O of HOH A0; they" in (
        caplog.text
    )
    caplog.clear()
    read_lines(tmp_path, waters[0])  # zero everywhere: not known
    assert not caplog.text
    with pytest.raises(DataError, match=r"O of HOH A0 \(occupancy 0\) and O of HOH A1 .* are 1.00 A apart"):
        read_lines(tmp_path, waters[0], line("O", "", "HOH", (1, 0, 0), number=1))


RES = "TITL x 0.0 125.0 -7.5 0 0 2 (P1) n - 1\nCELL 1.0 5 5 5 90 90 90\nLATT -1\nSFAC C N\n"


@pytest.mark.parametrize(
    ("occupancy", "problem"),
    [
        ("1.0", ""),
        ("11.00000", ""),
        ("0.5", "sites are occupied in part or by several elements: C 0.5 at atom 0"),
        ("10.5", "sites are occupied in part or by several elements: C 0.5 at atom 0"),
        ("0", "sites are occupied in part or by several elements: C 0 at atom 0"),
        ("21.0", "sites are occupied in part: the occupancy of C at atom 0, 21.0, refers to a free variable"),
        ("-21.0", ".* the occupancy of C at atom 0, -21.0, refers to a free variable"),
        ("", "1 atoms with an occupancy can be read, and there are 2 lines of atoms"),
    ],
)
def test_occupancies_of_shelx_files(tmp_path, occupancy, problem):
    text = f"{RES}C 1 0 0 0 {occupancy}\nN 2 0.5 0 0 1.0\nEND\n"
    (tmp_path / "a.res").write_text(text + text)
    if problem:
        with pytest.raises(DataError, match=f"structure 0 of .*a.res: {problem}"):
            read_structures(tmp_path / "a.res")
    else:
        first, second = read_structures(tmp_path / "a.res")
        assert first == second
        assert (first.get_chemical_formula(), first.get_potential_energy()) == ("CN", -7.5)
        assert "occupancy" not in first.info


@pytest.mark.parametrize("change", [("LATT -1", "LATT 1"), ("SFAC", "SYMM -X, 0.5+Y, -Z\nSFAC")])
def test_shelx_files_of_asymmetric_units_are_refused(tmp_path, change):
    (tmp_path / "a.res").write_text(RES.replace(*change) + "C 1 0 0 0 11.0\nEND\n")
    with pytest.raises(DataError, match="it holds the atoms of one asymmetric unit"):
        read_structures(tmp_path / "a.res")
