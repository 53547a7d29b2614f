"""SMILES, SDF, bond perception and PyG give the same molecules."""

import re

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from rdkit import Chem
from rdkit.Chem import rdDepictor
from torch_geometric.data import Data

from ik_e3nn.data import (
    atoms_from_mol,
    conformers,
    from_pyg,
    molecule_from_smiles,
    perceive_bonds,
    read_labels,
    read_properties,
    read_structures,
    write_structures,
)
from ik_e3nn.data.bonds.completeness import geometry_problem
from ik_e3nn.data.bonds.perception import perceive_molecule
from ik_e3nn.data.generation.generate import GenerateSettings
from ik_e3nn.data.generation.plan import starting_structures
from ik_e3nn.data.structures.molecules import mol_from_atoms
from ik_e3nn.errors import DataError
from ik_e3nn.graph import build_graph, get_bonds
from ik_e3nn.targets import Intensive


def kinds(atoms):
    return np.bincount(get_bonds(atoms)[:, 2], minlength=5)[1:].tolist()


@pytest.mark.parametrize(
    ("smiles", "formula", "charge", "spin", "bonds"),
    [
        ("CCO", "C2H6O", 0, 1, [8, 0, 0, 0]),
        ("C=O", "CH2O", 0, 1, [2, 1, 0, 0]),
        ("C#N", "CHN", 0, 1, [1, 0, 1, 0]),
        ("c1ccccc1", "C6H6", 0, 1, [6, 0, 0, 6]),
        ("[NH4+]", "H4N", 1, 1, [4, 0, 0, 0]),
        ("CC(=O)[O-]", "C2H3O2", -1, 1, [5, 1, 0, 0]),
        ("[CH3]", "CH3", 0, 2, [3, 0, 0, 0]),
        ("[Na+]", "Na", 1, 1, [0, 0, 0, 0]),
        (r"C/C=C\C", "C4H8", 0, 1, [10, 1, 0, 0]),
    ],
)
def test_molecules_from_smiles(tmp_path, smiles, formula, charge, spin, bonds):
    atoms = molecule_from_smiles(smiles)
    assert atoms.get_chemical_formula() == formula
    assert (atoms.info["charge"], atoms.info["spin"]) == (charge, spin)
    assert kinds(atoms) == bonds
    rows = get_bonds(atoms)
    lengths = np.linalg.norm(atoms.positions[rows[:, 0]] - atoms.positions[rows[:, 1]], axis=1)
    assert np.all((lengths > 0.9) & (lengths < 1.7))
    write_structures(tmp_path / "a.xyz", [atoms])
    [copy] = read_structures(tmp_path / "a.xyz")
    assert np.array_equal(get_bonds(copy), rows)
    assert copy.info["charge"] == charge


@pytest.mark.parametrize("seed", [0, 3])
def test_conformers_are_different_and_repeatable(seed):
    first, second = conformers("CCCCO", 5, seed), conformers("CCCCO", 5, seed)
    assert len(first) > 1
    for one, two in zip(first, second, strict=True):
        assert np.array_equal(one.positions, two.positions)
    shapes = [np.sort(atoms.get_all_distances().ravel()) for atoms in first]
    assert all(np.abs(shapes[0] - shape).max() > 0.05 for shape in shapes[1:])


@pytest.mark.parametrize("smiles", ["C(", "", "CX", "C1CC"])
def test_bad_smiles(smiles, capfd):
    with pytest.raises(DataError, match="'OCC O' has a blank, after which nothing is read"):
        molecule_from_smiles("OCC O")
    with pytest.raises(DataError, match="cannot be read; check its brackets"):
        molecule_from_smiles(smiles)
    assert capfd.readouterr().err == ""


def test_impossible_requests():
    with pytest.raises(DataError, match="number of conformers must be at least 1"):
        conformers("C", 0)
    with pytest.raises(DataError, match="seed must not be negative, got -1"):
        conformers("C", 1, seed=-1)
    with pytest.raises(DataError, match=r"'C.\[NH4\+\]' are 2 molecules, whose relative positions are not known"):
        molecule_from_smiles("C.[NH4+]")
    with pytest.raises(DataError, match=r"'\*CC' has an atom \* that stands for any element"):
        molecule_from_smiles("*CC")
    with pytest.raises(DataError, match="no coordinates"):
        atoms_from_mol(Chem.MolFromSmiles("C"))
    zero = Chem.RWMol(Chem.MolFromSmiles("C.C"))
    zero.AddBond(0, 1, Chem.BondType.HYDROGEN)
    zero.AddConformer(Chem.Conformer(2))
    with pytest.raises(DataError, match="between atoms 0 and 1 is of kind HYDROGEN"):
        atoms_from_mol(zero.GetMol())


# In the last two, atoms across a ring of four or a cage are so near that they look bonded.
@pytest.mark.parametrize(
    "smiles", ["CCO", "c1ccncc1", "CC(=O)[O-]", "C[NH3+]", "C#N", "[Cl-]", "C1C2CC1C2", "OC12CC(C1)(C2)C#N"]
)
def test_perceived_bonds_are_those_of_the_smiles(smiles):
    atoms = molecule_from_smiles(smiles)
    rows = perceive_bonds(atoms, atoms.info["charge"])
    expected = get_bonds(atoms)
    expected[:, :2].sort(axis=1)
    assert sorted(rows[:, :2].tolist()) == sorted(expected[:, :2].tolist())
    assert sorted(rows[:, 2]) == sorted(expected[:, 2])


@pytest.mark.parametrize(
    "smiles",
    [
        *("O=C(O)c1cccs1", "O=C(O)c1ccco1", "O=C(O)c1ccc[nH]1", "O=C(O)c1c[nH]cn1", "O=C(O)c1cncs1", "NC(=O)c1cccs1"),
        *("O=[N+]([O-])c1cccs1", "O=[N+]([O-])c1ccccc1", "C[N+](=O)[O-]", "CN=[N+]=[N-]", "C=[N+]=[N-]"),
        *("CS(C)=O", "CS(C)(=O)=O", "COP(=O)(O)OC", "[O-][n+]1ccccc1", "NCC(=O)O", "O=C([O-])c1cccs1"),
        *(
            "[O-][n+]1cc[n+]([O-])cc1",
            "[O-][n+]1onc2ccccc21",
            "c1cc[n-]c1",
        ),  # by no charge that an element does not have
        *("[NH3+]CC(=O)[O-]", "C[N+](C)(C)CC(=O)[O-]"),  # ions inside stay ions where no bond can be shifted
    ],
)
def test_perceived_bonds_do_not_depend_on_the_order_of_the_atoms(smiles):
    made, rng = molecule_from_smiles(smiles), np.random.default_rng(0)
    for order in (np.arange(len(made)), *(rng.permutation(len(made)) for _ in range(8))):
        atoms = made[order]
        atoms.info = {"charge": made.info["charge"]}
        found = perceive_molecule(atoms, atoms.info["charge"])
        assert Chem.MolToSmiles(Chem.RemoveHs(found)) == Chem.CanonSmiles(smiles)
        assert np.allclose(found.GetConformer().GetPositions(), atoms.positions)
        assert [atom.GetAtomicNum() for atom in found.GetAtoms()] == atoms.numbers.tolist()


def test_a_carboxylate_has_its_double_bond_where_it_is_short():
    atoms = molecule_from_smiles("[O-]C=O")
    carbon = int(np.flatnonzero(atoms.numbers == 6)[0])
    for short, long in np.flatnonzero(atoms.numbers == 8)[[[0, 1], [1, 0]]].tolist():
        moved = atoms.copy()
        moved.set_distance(carbon, short, 1.22, fix=0)
        moved.set_distance(carbon, long, 1.30, fix=0)
        kinds_of = {tuple(sorted(row[:2])): row[2] for row in perceive_bonds(moved, charge=-1).tolist()}
        assert kinds_of[tuple(sorted((carbon, short)))] == 2
        assert kinds_of[tuple(sorted((carbon, long)))] == 1


def test_bonds_that_cannot_be_perceived():
    with pytest.raises(DataError, match="for molecules only"):
        perceive_bonds(bulk("Cu"), 0)
    with pytest.raises(DataError, match="no bonds fit the geometry of CH4 with charge 3"):
        perceive_bonds(molecule("CH4"), 3)


def sdf(*smiles):
    blocks = []
    for one in smiles:
        atoms = molecule_from_smiles(one)
        mol = Chem.AddHs(Chem.MolFromSmiles(one))
        conformer = Chem.Conformer(mol.GetNumAtoms())
        for index, position in enumerate(atoms.positions.tolist()):
            conformer.SetAtomPosition(index, position)
        conformer.Set3D(True)
        mol.AddConformer(conformer)
        mol.SetProp("_Name", f"name of {one}")
        blocks.append(Chem.MolToMolBlock(mol))
    return "".join(f"{block}$$$$\n" for block in blocks)


def test_sdf_keeps_bonds_charges_and_names(tmp_path):
    (tmp_path / "two.sdf").write_text(sdf("CC(=O)[O-]", "c1ccccc1"))
    acetate, benzene = read_structures(tmp_path)
    assert (acetate.info["charge"], benzene.info["charge"]) == (-1, 0)
    assert kinds(acetate) == [5, 1, 0, 0]
    assert kinds(benzene) == [6, 0, 0, 6]
    assert benzene.info["name"] == "name of c1ccccc1"
    assert np.allclose(benzene.positions, molecule_from_smiles("c1ccccc1").positions, atol=1e-3)
    assert len(read_structures(tmp_path / "two.sdf", index=-1)) == 1


def test_sdf_that_fails_sanitisation_is_kept(tmp_path, caplog):
    text = sdf("CO").replace("  1  2  1  0", "  1  2  3  0")
    (tmp_path / "bad.sdf").write_text(text)
    [atoms] = read_structures(tmp_path / "bad.sdf")
    assert kinds(atoms) == [4, 0, 1, 0]
    assert "does not pass RDKit's checks" in caplog.text


def test_sdf_without_hydrogens_is_noticed(tmp_path, caplog):
    mol = Chem.RemoveHs(Chem.MolFromMolBlock(sdf("CCO").split("$$$$")[0]))
    (tmp_path / "heavy.mol").write_text(Chem.MolToMolBlock(mol))
    [atoms] = read_structures(tmp_path / "heavy.mol")
    assert (len(atoms), atoms.info["missing_hydrogens"]) == (3, 6)
    assert "lacks 6 hydrogens; add them first" in caplog.text
    with pytest.raises(DataError, match="C2O lacks 6 hydrogens; add them first, for example with RDKit"):
        starting_structures(GenerateSettings(output="a.xyz", structures=[f"{tmp_path}/heavy.mol"]))
    with pytest.raises(DataError, match=r"molecule 0 of .*heavy.mol: C2O lacks 6 hydrogens"):
        read_properties(tmp_path / "heavy.mol", [Intensive("gap", "eV")])


@pytest.mark.parametrize(("smiles", "spin"), [("[CH2]C", 2), ("[CH2]", 3), ("[O-]C", 1), ("O", 1)])
def test_sdf_keeps_radicals(tmp_path, smiles, spin):
    (tmp_path / "a.sdf").write_text(sdf(smiles))
    [atoms] = read_structures(tmp_path)
    assert atoms.info["spin"] == spin
    assert "missing_hydrogens" not in atoms.info


@pytest.mark.parametrize(
    ("smiles", "kept", "problem"),
    [
        ("CCO", slice(None), ""),
        ("CCO", slice(3), "no bonds fit the geometry of C2O"),
        ("c1ccccc1", slice(6), "a triple bond in a small ring; it lacks hydrogens"),
        ("CCO", slice(8), "an odd number of electrons"),
        ("C", slice(1), "leave 4 electrons unpaired"),
        ("[CH2]", slice(None), "leave 2 electrons unpaired"),
        ("[CH3]", slice(None), r"an odd number of electrons \(9\)"),
        ("O=C=O", slice(None), ""),
        ("N#N", slice(None), ""),
        ("ClC(Cl)(Cl)Cl", slice(None), ""),
        ("[O-]C=O", slice(None), ""),
        ("[He]", slice(None), ""),
    ],
)
def test_a_geometry_that_is_no_whole_molecule_is_noticed(smiles, kept, problem):
    made = molecule_from_smiles(smiles)
    atoms = made[kept]
    atoms.info = {"charge": made.info["charge"]}
    assert re.search(problem, found := geometry_problem(atoms)), found
    assert bool(problem) == bool(found)


def test_a_double_bond_that_is_not_flat_is_two_missing_hydrogens():
    made = molecule_from_smiles("CC(C)C(C)C")
    assert geometry_problem(made) == geometry_problem(Atoms(made.numbers, made.positions)) == ""
    distances = made.get_all_distances()
    carbon = made.numbers == 6
    tertiary = [i for i in np.flatnonzero(carbon) if (distances[i][carbon] < 1.7).sum() == 4]
    gone = [int(np.flatnonzero(~carbon)[distances[i][~carbon].argmin()]) for i in tertiary]
    bare = Atoms(made.numbers, made.positions)
    del bare[gone]
    assert geometry_problem(bare) == "2 atoms lack hydrogens by the angles between their bonds"


@pytest.mark.parametrize(
    ("smiles", "drawn"),
    [("O", (1.5, 0.62)), ("O=C=O", (1.5, 1.0)), ("C#N", (1.5, 0.62)), ("[H][H]", (1.5, 1.0)), ("FF", (1.5,))],
)
def test_drawings_of_few_atoms_are_told_from_geometries_in_a_plane(tmp_path, smiles, drawn):
    """All are flat: what tells a drawing is its bonds, here as RDKit (1.5 A) and PubChem draw them."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDepictor.Compute2DCoords(mol)
    positions = mol.GetConformer().GetPositions()
    geometry = molecule_from_smiles(smiles)
    for length in drawn:
        mol.GetConformer().SetPositions(positions * length / 1.5)
        (tmp_path / "flat.sdf").write_text(Chem.MolToMolBlock(mol))
        with pytest.raises(DataError, match="molecule 0 of .*flat.sdf is a flat drawing"):
            read_structures(tmp_path / "flat.sdf")
    size = geometry.get_all_distances()[mol.GetBondWithIdx(0).GetBeginAtomIdx()]
    mol.GetConformer().SetPositions(positions * size[mol.GetBondWithIdx(0).GetEndAtomIdx()] / 1.5)
    if smiles != "C#N":
        (tmp_path / "flat.sdf").write_text(Chem.MolToMolBlock(mol))
        assert len(read_structures(tmp_path / "flat.sdf")[0]) == len(geometry)


def test_sdf_errors(tmp_path):
    mol = Chem.MolFromSmiles("CCCCO")
    rdDepictor.Compute2DCoords(mol)
    (tmp_path / "flat.mol").write_text(Chem.MolToMolBlock(mol))
    (tmp_path / "broken.sdf").write_text("nonsense\n$$$$\n")
    with pytest.raises(DataError, match="flat drawing"):
        read_structures(tmp_path / "flat.mol")
    with pytest.raises(DataError, match=r"no molecule in .*broken.sdf can be read"):
        read_structures(tmp_path / "broken.sdf")


def test_from_pyg_like_qm9():
    atoms = molecule_from_smiles("C=O")
    rows = get_bonds(atoms)
    both = np.concatenate([rows, rows[:, [1, 0, 2]]])
    data = Data(
        z=torch.tensor(atoms.numbers),
        pos=torch.tensor(atoms.positions, dtype=torch.float32),
        edge_index=torch.tensor(both[:, :2].T),
        edge_attr=torch.nn.functional.one_hot(torch.tensor(both[:, 2] - 1), 4).float(),
        y=torch.zeros(1, 19),
    )
    copy = from_pyg(data)
    assert np.array_equal(copy.numbers, atoms.numbers)
    assert np.allclose(copy.positions, atoms.positions, atol=1e-6)
    assert get_bonds(copy).tolist() == sorted(rows.tolist())
    assert not copy.pbc.any()


def test_from_pyg_takes_our_own_graphs_and_labels():
    atoms = molecule_from_smiles("CCO")
    atoms.info["charge"] = 1
    graph = build_graph(atoms, 5.0, dtype=torch.float64)
    graph["energy"], graph["forces"] = torch.tensor([-3.0]), torch.ones(9, 3)
    graph["stress"] = torch.full((1, 3, 3), torch.nan)
    copy = from_pyg(graph)
    assert np.array_equal(copy.positions, atoms.positions)
    assert sorted(get_bonds(copy).tolist()) == sorted(get_bonds(atoms).tolist())
    assert copy.info["charge"] == 1
    data = read_labels([copy])
    assert data.labels[0].energy == -3.0
    assert data.counts() == {"energy": 1, "forces": 1, "stress": 0}


def test_from_pyg_crystal():
    copy = from_pyg(build_graph(bulk("Cu"), 3.0, dtype=torch.float64))
    assert copy == bulk("Cu")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(pos=torch.zeros(1, 3)), "a Data needs z"),
        (Data(z=torch.ones(2), pos=torch.zeros(1, 3)), "2 atomic numbers, but positions of shape"),
        (
            Data(z=torch.ones(2), pos=torch.eye(2, 3), edge_index=torch.tensor([[0], [1]]), edge_attr=torch.ones(1, 2)),
            "edge_attr must be one-hot",
        ),
    ],
)
def test_from_pyg_errors(data, message):
    with pytest.raises(DataError, match=message):
        from_pyg(data)


def test_single_atoms_from_pyg():
    assert from_pyg(Data(z=torch.tensor([11]), pos=torch.zeros(1, 3))) == Atoms("Na")


@pytest.mark.parametrize("smiles", ["CC=O", "c1ccoc1", "c1cc[nH]c1", "C[NH3+]", "CC(=O)[O-]", "c1ccncc1", "C#N"])
def test_structure_and_bonds_make_the_molecule_again(smiles):
    atoms = molecule_from_smiles(smiles)
    again = Chem.RemoveHs(mol_from_atoms(atoms, atoms.info["bonds"]))
    assert Chem.MolToSmiles(again) == Chem.MolToSmiles(Chem.MolFromSmiles(smiles))


def test_bonds_that_make_no_molecule_are_refused():
    atoms = molecule_from_smiles("C")
    rows = [[0, 1, 2], [0, 2, 2], [0, 3, 2], [0, 4, 2]]
    with pytest.raises(DataError, match="RDKit cannot make a molecule of the bonds of"):
        mol_from_atoms(atoms, rows)
