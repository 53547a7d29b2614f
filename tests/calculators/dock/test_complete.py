"""Hosts and ligands must have their atoms, of elements that the model knows; atoms out of reach do not count."""

import logging

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, graphene_nanoribbon, molecule, nanotube, surface
from rdkit import Chem
from rdkit.Chem import AllChem

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.errors import DataError, MissingInputError, UnknownSpeciesError
from ik_e3nn.graph.bonds.hydrogens import atoms_without_hydrogens
from ik_e3nn.models import InteratomicPotential, save_model
from ik_e3nn_calculators.dock import DockSettings, RegionSettings, run_dock
from ik_e3nn_calculators.dock.search.energies import ModelEnergies
from ik_e3nn_calculators.dock.system.checks import check_host
from ik_e3nn_calculators.dock.system.complete import check_elements, check_host_hydrogens
from ik_e3nn_calculators.dock.system.host import Host, pocket_of, read_host
from ik_e3nn_calculators.dock.system.ligand import read_ligand
from ik_e3nn_calculators.dock.system.reference import reference_pose
from ik_e3nn_calculators.dock.system.region import Region


def peptide(sequence="GAVF"):
    mol = Chem.AddHs(Chem.MolFromSequence(sequence), addResidueInfo=True)
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return mol


def as_pdb(path, mol, kept=lambda atom: True):
    """A PDB file of some of the atoms; returns how many carbon atoms ask for hydrogens by their valence."""
    rows = [line for line in Chem.MolToPDBBlock(mol).splitlines() if line.startswith(("ATOM", "HETATM"))]
    path.write_text("\n".join(row for row, atom in zip(rows, mol.GetAtoms(), strict=True) if kept(atom)) + "\nEND\n")
    return sum(atom.GetAtomicNum() == 6 and atom.GetTotalNumHs(includeNeighbors=True) > 0 for atom in mol.GetAtoms())


def is_polar_or_heavy(atom):
    return atom.GetAtomicNum() > 1 or atom.GetNeighbors()[0].GetAtomicNum() != 6


@pytest.mark.parametrize(("kept", "hydrogens"), [(lambda a: a.GetAtomicNum() > 1, 0), (is_polar_or_heavy, 6)])
def test_carbon_atoms_that_lack_hydrogens_are_those_that_rdkit_counts(tmp_path, kept, hydrogens):
    asking = as_pdb(tmp_path / "a.pdb", peptide(), kept)
    host = read_host(str(tmp_path / "a.pdb"))
    assert (host.atoms.numbers == 1).sum() == hydrogens
    assert (host.atoms.numbers[host.lacking] == 6).sum() == len(host.lacking) == asking
    with pytest.raises(
        DataError,
        match=rf"{asking} of its 19 carbon atoms lack their hydrogens \(CA of GLY A 1, .*\), and {hydrogens} of its "
        rf"{len(host.atoms)} atoms are hydrogen.*pdbfixer in.pdb --add-atoms=all",
    ):
        check_host_hydrogens(host)


def test_a_complete_peptide_lacks_nothing(tmp_path):
    as_pdb(tmp_path / "a.pdb", peptide())
    assert len(read_host(str(tmp_path / "a.pdb")).lacking) == 0


@pytest.mark.parametrize(
    "atoms",
    [
        *(molecule(name) for name in ("CO2", "CO", "CF4", "CCl4", "C2F4", "HCN", "C60", "CS2", "OCS", "O3", "N2O")),
        molecule_from_smiles("FC(F)(Cl)C(Br)I"), molecule_from_smiles("[C-]#[O+]"),
        molecule_from_smiles("N#CC1=NC(C#N)=NC(C#N)=N1"), molecule_from_smiles("OC(=O)c1cc2ccccc2[nH]1"),
        graphene_nanoribbon(3, 4, saturated=False, vacuum=5), bulk("C"), bulk("Cu"), bulk("MgO", "rocksalt", a=4.21),
        surface(bulk("SiC", "zincblende", a=4.36, cubic=True), (1, 1, 1), 2, vacuum=5),
        surface(bulk("C", cubic=True), (1, 1, 1), 3, vacuum=5), bulk("TiC", "rocksalt", a=4.33), Atoms("C"), Atoms("O"),
        Atoms("Ar4", np.eye(4)[:, :3] * 4),
    ],
    ids=str,
)  # fmt: skip
def test_what_has_no_hydrogens_by_nature_lacks_none(atoms):
    assert len(atoms_without_hydrogens(atoms)) == 0


@pytest.mark.parametrize("name", ["C6H6", "C5H5N", "C4H4O", "CH3COOH", "C2H2", "CH3CN", "bicyclobutane"])
def test_noise_takes_no_hydrogen_away(name):
    for seed in range(20):
        atoms = molecule(name)
        atoms.rattle(0.1, seed=seed)
        assert len(atoms_without_hydrogens(atoms)) == 0


def test_a_bent_double_bond_lacks_nothing():
    """One hydrogen alone cannot be missing where the number of electrons is even."""
    ethylene = molecule("C2H4")
    ethylene.positions[ethylene.numbers == 1, 0] += np.where(ethylene.positions[ethylene.numbers == 1, 2] > 0, 0.8, 0.0)
    assert len(atoms_without_hydrogens(ethylene)) == 0


def test_carbon_alone_is_told_from_hydrocarbons_without_hydrogens():
    chain = Atoms("C2", [[0, 0, 0], [1.27, 0.86, 0]], cell=[2.54, 8, 8], pbc=True)  # polyethylene
    assert atoms_without_hydrogens(chain).tolist() == [0, 1]
    for name in ("C2H6", "C2H4", "C3H8", "isobutane", "C6H6"):
        bare = molecule(name)[molecule(name).numbers == 6]
        assert len(atoms_without_hydrogens(bare)) == len(bare)
    carbyne = Atoms("C", cell=[1.28, 8, 8], pbc=[True, False, False])
    small = [Atoms("C" * n, [[0, 0, 1.28 * k] for k in range(n)]) for n in (2, 3)]
    for atoms in (carbyne, *small, nanotube(5, 0, length=2), surface(bulk("C", cubic=True), (1, 0, 0), 2, vacuum=5)):
        assert len(atoms_without_hydrogens(atoms)) == 0


@pytest.mark.parametrize(("smiles", "count"), [("CCO", 1), ("OCCO", 2), ("CCN", 1), ("CNC", 1), ("OCC(=O)N", 1)])
def test_oxygen_and_nitrogen_without_hydrogens_are_found(smiles, count):
    """Only on saturated carbon: elsewhere a double bond may be meant."""
    atoms = molecule_from_smiles(smiles)
    distances = atoms.get_all_distances()
    polar = [i for i in np.flatnonzero(atoms.numbers == 1) if atoms.numbers[np.argsort(distances[i])[1]] in (7, 8)]
    bare = Atoms(atoms.numbers, atoms.positions)
    del bare[polar]
    found = atoms_without_hydrogens(bare)
    assert len(found) == count
    assert set(bare.numbers[found]) <= {7, 8}


def test_carbon_dioxide_on_a_slab_lacks_nothing():
    slab = fcc111("Cu", (2, 2, 2), vacuum=8.0)
    for name, height in (("CO", 1.9), ("CO2", 3.0)):
        adsorbate = molecule(name)
        adsorbate.positions += slab.positions[-1] + [0, 0, height - adsorbate.positions[:, 2].min()]
        slab += adsorbate
    assert len(atoms_without_hydrogens(slab)) == 0


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "CH3COOH", "CH3CN", "CH3CONH2", "CH3CH2Cl", "C5H5N"])
def test_molecules_without_their_hydrogens_lack_them(name):
    atoms = molecule(name)
    carbon = atoms.numbers == 6
    bonded = np.array(
        [((atoms.get_distances(i, range(len(atoms))) < 1.2) & (atoms.numbers == 1)).any() for i in range(len(atoms))]
    )
    heavy = atoms.numbers > 1
    assert atoms_without_hydrogens(atoms[heavy]).tolist() == np.flatnonzero((carbon & bonded)[heavy]).tolist()


def test_ice_without_hydrogens_is_refused(tmp_path):
    ase.io.write(tmp_path / "ice.xyz", Atoms("O4", 2.75 * np.eye(4)[:, :3]))
    with pytest.raises(DataError, match="4 of its 4 atoms of C, N and O that need them lack their hydrogens"):
        check_host_hydrogens(read_host(str(tmp_path / "ice.xyz")))


def test_one_incomplete_side_chain_is_named_and_accepted(tmp_path, caplog):
    mol = peptide("GAVFAVLA")
    carbon = next(a for a in mol.GetAtoms() if a.GetPDBResidueInfo().GetName().strip() == "CB")
    gone = {a.GetIdx() for a in carbon.GetNeighbors() if a.GetAtomicNum() == 1}
    as_pdb(tmp_path / "a.pdb", mol, lambda atom: atom.GetIdx() not in gone)
    with caplog.at_level(logging.WARNING):
        check_host_hydrogens(read_host(str(tmp_path / "a.pdb")))
    assert "1 of its 36 carbon atoms lack their hydrogens (CB of ALA A 2)" in caplog.text


def test_ligands_without_hydrogens_are_refused(tmp_path):
    bare = Chem.MolFromSmiles("CCO")
    AllChem.EmbedMolecule(bare, randomSeed=1)
    (tmp_path / "a.sdf").write_text(Chem.MolToMolBlock(bare) + "$$$$\n")
    with pytest.raises(DataError, match=r"a.sdf lacks hydrogens: it has 0 of 6.*AddHs\(molecule, addCoords=True\)"):
        read_ligand(str(tmp_path / "a.sdf"), 1, 0)
    atoms = molecule("CH3CH2OH")
    ase.io.write(tmp_path / "a.xyz", atoms[atoms.numbers > 1])
    with pytest.raises(DataError, match=r"a.xyz lacks hydrogens: 2 of 3 atoms lack them \(C 0, C 1\)"):
        read_ligand(str(tmp_path / "a.xyz"), 1, 0)


def test_a_reference_needs_no_hydrogens(tmp_path, caplog):
    """Only its heavy atoms are compared; nothing is said about its hydrogens."""
    ligand = read_ligand("CC(=O)Nc1ccc(O)cc1", 1, 0)
    heavy = ligand.conformers[0][ligand.heavy]
    for name, content in (("a.sdf", Chem.MolToMolBlock(_posed(ligand)) + "$$$$\n"), ("a.xyz", None), ("a.pdb", None)):
        if content is None:
            ase.io.write(tmp_path / name, Atoms(heavy.numbers, heavy.positions))
        else:
            (tmp_path / name).write_text(content)
        with caplog.at_level(logging.WARNING):
            np.testing.assert_allclose(reference_pose(ligand, str(tmp_path / name)), heavy.positions, atol=2e-3)
    assert not caplog.text


def _posed(ligand):
    """The ligand's heavy atoms with its first geometry."""
    mol = Chem.Mol(ligand.molecule)
    conformer = Chem.Conformer(len(ligand))
    for index, point in enumerate(ligand.conformers[0].positions):
        conformer.SetAtomPosition(index, point.tolist())
    mol.AddConformer(conformer)
    return Chem.RemoveHs(mol)


def test_a_warning_names_the_molecule_that_is_taken_of_several(tmp_path, caplog):
    ase.io.write(tmp_path / "two.xyz", [molecule("CH4"), molecule("H2O")])
    mol = peptide("G")
    (tmp_path / "two.sdf").write_text(2 * (Chem.MolToMolBlock(mol) + "$$$$\n"))
    with caplog.at_level(logging.INFO):
        assert read_host(str(tmp_path / "two.xyz")).atoms.get_chemical_formula() == "H2O"
        read_ligand(str(tmp_path / "two.sdf"), 1, 0)
    assert "frame 1 of 0 to 1 in" in caplog.text
    assert "two.xyz is taken" in caplog.text
    assert "two.sdf holds 2 molecules; the first is used" in caplog.text


def test_an_unknown_element_names_its_residue_and_distance():
    atoms = Atoms("CZn2", [[0, 0, 0], [7.0, 0, 0], [0, 5.5, 0]])
    for key, values in (("residuenames", ["ALA", "ZN", "ZN"]), ("atomtypes", ["CA", "ZN", "ZN"])):
        atoms.set_array(key, np.array(values))
    atoms.set_array("residuenumbers", np.array([1, 301, 302]))
    host, region = Host(atoms, "host.pdb"), Region(np.full(3, -1.0), np.full(3, 1.0), sphere=True)
    with pytest.raises(
        UnknownSpeciesError, match=r"knows H, C; it cannot dock with Zn in the host \(ZN of ZN 302, ZN of ZN 301, 4.5 A"
    ):
        check_elements([1, 6], np.array([6, 1]), host, region.distances(atoms.positions))
    near = pocket_of(host, region.distances(atoms.positions), 4.0)
    check_elements([1, 6], np.array([6, 1]), near, region.distances(near.atoms.positions))
    with pytest.raises(UnknownSpeciesError, match="cannot dock with O in the ligand"):
        check_elements([1, 6], np.array([8, 1]), near, region.distances(near.atoms.positions))


def small_model(**options):
    torch.manual_seed(0)
    return InteratomicPotential(["H", "He", "C", "N", "O"], 2.5, num_channels=4, num_layers=2, **options).eval()


def test_atoms_that_are_left_out_change_no_difference_of_energies(tmp_path):
    """A row of atoms: what is beyond twice the layers times the cutoff cannot be felt, what is nearer can."""
    model = small_model().double()
    row = Atoms("He30", [[1.8 * k, 0.2 * (k % 2), 0] for k in range(30)])
    host, ligand = Host(row, "row.xyz"), read_ligand("[He]", 1, 0)
    poses = np.array([[[-1.7, 0.3, 0.0]], [[-1.5, 0.9, 0.4]]])
    region = Region(np.array([-2.0, 0.0, 0.0]), np.array([-1.5, 1.0, 1.0]))

    def binding(part):
        energies = ModelEnergies(ligand.conformers[0], part, model=model)
        return energies(poses)[0] - energies.of_host() - energies.alone(poses)[0]

    distances = region.distances(row.positions)
    exact, near = (pocket_of(host, distances, reach) for reach in (2 * 2 * 2.5, 3.0))
    assert len(near.atoms) < len(exact.atoms) < 10
    np.testing.assert_allclose(binding(exact), binding(host), atol=1e-10)
    assert np.abs(binding(near) - binding(host)).max() > 1e-7


def test_a_search_leaves_out_what_is_out_of_reach(tmp_path, caplog):
    """An element that the model does not know and atoms without hydrogens do not matter far away."""
    save_model(small_model(), tmp_path / "model.safetensors")
    far = Atoms("C2OZn", [[60, 0, 0], [61.4, 0.5, 0], [62.5, 0, 0.9], [70, 0, 0]])
    ase.io.write(tmp_path / "host.xyz", Atoms("He2", [[0, 0, 0], [3, 0, 0]]) + far)
    common = {
        "host": str(tmp_path / "host.xyz"), "model": str(tmp_path / "model.safetensors"), "poses": 2, "steps": 2,
        "region": RegionSettings(sphere=[1.5, 2.5, 0, 1]), "progress": False, "plots": False,
    }  # fmt: skip
    with caplog.at_level(logging.INFO):
        run_dock(DockSettings("[He]", output=str(tmp_path / "a"), **common))
    assert "2 of 6 atoms" in caplog.text
    assert "approximate" not in caplog.text
    run_dock(DockSettings("[He]", output=str(tmp_path / "b"), pocket=5.0, **common))
    assert (
        "within 10 A of the ligand, but atoms beyond 5 A are left out (pocket), so binding energies are appro"
        in caplog.text
    )
    with pytest.raises(DataError, match=r"2 of its 2 carbon atoms lack their hydrogens \(C 2, C 3\)"):
        run_dock(DockSettings("[He]", output=str(tmp_path / "c"), pocket=100.0, **common))


def test_a_host_says_what_the_model_asks_for():
    """Its charge is not taken for zero, nor its bonds for none."""
    water, slab = molecule("H2O"), fcc111("C", (2, 2, 2), a=3.6, vacuum=8.0)
    for inputs, message in ((["total_charge"], "needs the charge of host"), (["bond_types"], "host has none")):
        with pytest.raises(MissingInputError, match=message):
            check_host(small_model(inputs=inputs), Host(water, "host"))
    water.info |= {"charge": 0, "bonds": [0, 1, 1, 0, 2, 1]}
    check_host(small_model(inputs=["total_charge", "bond_types"]), Host(water, "host"))
    check_host(small_model(inputs=["bond_types"]), Host(slab, "slab"))
