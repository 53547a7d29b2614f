"""Isotopes keep their masses through every door and every step; masses of the IUPAC's table."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from rdkit import Chem

from ik_e3nn.data import joined, molecule_from_smiles, read_structures, write_structures
from ik_e3nn.data.bonds.perception import perceive_molecule
from ik_e3nn.data.generation.generate import GenerateSettings, generate
from ik_e3nn.data.generation.plan import fingerprint, starting_structures
from ik_e3nn.data.structures.isotopes import isotopes_of, set_isotopes
from ik_e3nn.data.structures.molecules import atoms_from_mol, mol_from_atoms
from ik_e3nn.errors import DataError
from ik_e3nn_calculators.dock.search.energies import CalculatorEnergies
from ik_e3nn_calculators.dock.system.host import Host

HEAVY_WATER = pytest.approx([2.0141018, 15.999, 2.0141018], abs=1e-6)


def heavy_water():
    return molecule_from_smiles("[2H]O[2H]")


def test_smiles():
    assert heavy_water().get_masses() == HEAVY_WATER
    assert molecule_from_smiles("[13CH4]").get_masses()[0] == pytest.approx(13.00335, abs=1e-4)
    assert "masses" not in molecule_from_smiles("O").arrays
    with pytest.raises(DataError, match="atom 0 is C-99, which is not a known isotope"):
        molecule_from_smiles("[99CH4]")


def test_sdf(tmp_path):
    atoms = heavy_water()
    molecule = mol_from_atoms(atoms, atoms.info["bonds"])
    Chem.MolToMolFile(molecule, str(tmp_path / "a.mol"))
    [again] = read_structures(tmp_path / "a.mol")
    assert again.get_masses() == HEAVY_WATER


@pytest.mark.parametrize("suffix", ["xyz", "xyz.gz", "traj"])
def test_files_keep_masses(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    (write_structures if "xyz" in suffix else ase.io.write)(path, [heavy_water()])
    assert read_structures(path)[0].get_masses() == HEAVY_WATER


def test_molecules_for_rdkit_keep_isotopes():
    atoms = heavy_water()
    for molecule in (mol_from_atoms(atoms, atoms.info["bonds"]), perceive_molecule(atoms, 0)):
        assert [atom.GetIsotope() for atom in molecule.GetAtoms()] == [2, 0, 2]
        assert atoms_from_mol(molecule).get_masses() == HEAVY_WATER


def test_shifted_masses_are_no_isotopes():
    assert isotopes_of(Atoms("OH2", masses=[9.95, 4.032, 4.032])) == [0, 0, 0]
    assert isotopes_of(Atoms("OH2")) == [0, 0, 0]
    atoms = Atoms("OH2")
    set_isotopes(atoms, [18, 0, 3])
    assert isotopes_of(atoms) == [18, 0, 3]
    assert atoms.get_masses() == pytest.approx([17.99916, 1.008, 3.01605], abs=1e-4)


def test_joined_structures_and_poses_keep_masses():
    both = joined(Atoms("Na"), heavy_water())
    assert both.get_masses()[1:] == HEAVY_WATER
    assert "masses" not in joined(Atoms("Na"), Atoms("H")).arrays
    atoms = heavy_water()
    poses = CalculatorEnergies(atoms, Host(Atoms("Na", [[0, 0, -5]]), "ion"), calculator=EMT())
    assert poses.structure(atoms.positions).get_masses()[1:] == HEAVY_WATER


def test_generated_frames_keep_masses(tmp_path):
    """Harmonic displacements of heavy atoms are smaller, so the masses have to be there from the start."""
    chosen = GenerateSettings(
        output=f"{tmp_path}/a.xyz", smiles=["[2H][2H]"], calculator="emt", method="rattle", num_frames=2
    )
    [[start]] = starting_structures(chosen)
    assert start.get_masses() == pytest.approx([2.0141018] * 2, abs=1e-6)
    light = start.copy()
    del light.arrays["masses"]
    assert fingerprint(chosen, [[start]]) != fingerprint(chosen, [[light]])
    generate(chosen)
    for atoms in ase.io.read(chosen.output, ":"):
        assert atoms.get_masses() == pytest.approx([2.0141018] * 2, abs=1e-6)
        assert isinstance(EMT().get_potential_energy(atoms), float)


def test_deuterium_in_xyz_files(tmp_path):
    (tmp_path / "a.xyz").write_text("3\n\nO 0 0 0\nD 0.96 0 0\nT 0 0.96 0\n1\n\nH 0 0 0\n")
    water, atom = read_structures(tmp_path / "a.xyz")
    assert water.get_chemical_symbols() == ["O", "H", "H"]
    assert water.get_masses() == pytest.approx([15.999, 2.0141018, 3.0160493], abs=1e-6)
    assert np.allclose(water.positions[1:], [[0.96, 0, 0], [0, 0.96, 0]])
    assert "masses" not in atom.arrays
    assert read_structures(tmp_path / "a.xyz", index=-2)[0].get_masses()[1] == pytest.approx(2.0141018)
    extended = "2\nProperties=pos:R:3:species:S:1 energy=1.5\n0 0 0 D\n0 0 0.7 H\n"
    (tmp_path / "b.xyz").write_text(extended)
    [atoms] = read_structures(tmp_path / "b.xyz")
    assert atoms.get_masses() == pytest.approx([2.0141018, 1.008])
    assert atoms.get_potential_energy() == 1.5
