import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import molecule
from rdkit import Chem

from ik_e3nn.data.structures.molecules import mol_from_atoms
from ik_e3nn.errors import DataError
from ik_e3nn_calculators import IKCalculator, MDSettings, RelaxSettings, run_md, run_relax
from ik_e3nn_calculators.systems.structures import load_structure
from tests.calculators.pair_potential import PairPotential


def test_last_frame_of_a_file(tmp_path):
    frames = [molecule("H2O"), molecule("CH3CH2OH")]
    ase.io.write(tmp_path / "two.xyz", frames)
    loaded = load_structure(str(tmp_path / "two.xyz"))
    assert loaded.get_chemical_formula() == "C2H6O"
    np.testing.assert_allclose(loaded.positions, frames[1].positions, atol=1e-7)


def test_smiles_brings_bonds_and_charge():
    loaded = load_structure("[NH4+]")
    assert loaded.get_chemical_formula() == "H4N"
    assert loaded.info["charge"] == 1
    assert len(loaded.info["bonds"]) == 12


@pytest.mark.parametrize("source", ["absent.xyz", "C(C", "C1CC"])
def test_neither_file_nor_smiles(source):
    with pytest.raises(DataError, match="neither an existing file nor a usable SMILES string"):
        load_structure(source)


def test_from_smiles_to_relaxation_and_dynamics(tmp_path):
    model = PairPotential((1, 6, 8), sigma=0.9, epsilon=0.02, r_max=4.0, inputs=["bond_types", "total_charge"])
    calculator = IKCalculator(model, device="cpu")
    md = MDSettings("CCO", "unused", steps=5, temperature=20.0, output=str(tmp_path / "md"), progress=False)
    assert run_md(md, calculator=calculator).num_atoms == 9
    relax = RelaxSettings("CCO", "unused", steps=3, output=str(tmp_path / "relax"), progress=False)
    run_relax(relax, calculator=calculator)
    frame = ase.io.read(tmp_path / "relax" / "final.extxyz")
    assert frame.info["bonds"].shape == (24,)
    assert frame.info["charge"] == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("O.O", "'O.O' are 2 molecules, whose relative positions are not known"),
        ("*CC", r"SMILES '\*CC' has an atom \* that stands for any element"),
        ("C(C)(C)(C)(C)C", "Explicit valence for atom # 0 C, 5, is greater than permitted"),
        ("c1cccc1", "Can't kekulize"),
        ("D", "SMILES 'D' cannot be read"),
        ("water.xyz", "check the name and the folder of the file"),
        ("C" * 5000, "a molecule of 15002 atoms is too large"),
        ("(" * 5000, r"SMILES '\(+ cannot be read"),
        ("C\0C", "cannot be read"),
    ],
)
def test_the_error_of_a_source_says_what_is_wrong(source, message):
    with pytest.raises(DataError, match=message) as caught:
        load_structure(source)
    assert len(str(caught.value)) < 500


def test_a_bad_seed_is_called_so():
    with pytest.raises(DataError, match=r"^the seed must not be negative, got -1"):
        load_structure("CCO", seed=-1)


def test_a_long_smiles_string_is_no_name_of_a_file():
    long = "[12C]([1H])([1H])([1H])" + "[12C]([1H])([1H])" * 14 + "[12C]([1H])([1H])[1H]"
    assert len(long) > 255
    assert load_structure(long).get_chemical_formula() == "C16H34"


@pytest.mark.parametrize("suffix", ["xyz", "xyz.gz", "traj", "json"])
def test_which_of_several_frames_is_taken(tmp_path, caplog, suffix):
    path = tmp_path / f"a.{suffix}"
    ase.io.write(
        path, [molecule(name) for name in ("H2O", "CH4", "CO2")], **({"format": "extxyz"} if "gz" in suffix else {})
    )
    assert load_structure(str(path)).get_chemical_formula() == "CO2"
    assert f"frame 2 of 0 to 2 in {path} is taken (the last; choose another with frame)" in caplog.text
    caplog.clear()
    assert load_structure(str(path), frame=1).get_chemical_formula() == "CH4"
    assert load_structure(str(path), frame=-3).get_chemical_formula() == "H2O"
    assert not caplog.records
    with pytest.raises(DataError, match="has 3 frames, counted from 0; there is no frame 3"):
        load_structure(str(path), frame=3)


def test_runs_take_the_frame_that_is_asked_for(tmp_path):
    ase.io.write(tmp_path / "a.xyz", [molecule("CH3OH"), molecule("CH4")])
    calculator = IKCalculator(PairPotential((1, 6, 8), sigma=0.9, epsilon=0.02, r_max=4.0), device="cpu")
    options = {"progress": False, "plots": False, "frame": 0}
    md = MDSettings(f"{tmp_path}/a.xyz", "unused", steps=1, output=f"{tmp_path}/md", **options)
    assert run_md(md, calculator=calculator).num_atoms == 6
    run_relax(
        RelaxSettings(f"{tmp_path}/a.xyz", "unused", steps=1, output=f"{tmp_path}/r", **options), calculator=calculator
    )
    assert len(ase.io.read(tmp_path / "r" / "final.extxyz")) == 6


def test_a_molecule_without_its_hydrogens_is_refused(tmp_path):
    block = Chem.MolToMolBlock(Chem.RemoveHs(embedded("CCO")))
    (tmp_path / "a.mol").write_text(block)
    with pytest.raises(DataError, match="C2O lacks 6 hydrogens; add them first"):
        load_structure(str(tmp_path / "a.mol"))


def embedded(smiles):
    atoms = load_structure(smiles)
    return mol_from_atoms(atoms, atoms.info["bonds"])


def test_heavy_water_moves_with_its_own_masses(tmp_path):
    """Dynamics, its frames and its continuation: momenta are masses times velocities."""
    model = PairPotential((1, 8), sigma=0.9, epsilon=0.02, r_max=4.0)
    options = {"output": f"{tmp_path}/md", "progress": False, "plots": False, "frame_interval": 1}
    for steps, restart in ((2, False), (4, True)):
        md = MDSettings("[2H]O[2H]", "unused", steps=steps, restart=restart, checkpoint_interval=1, **options)
        run_md(md, calculator=IKCalculator(model, device="cpu"))
    frames = ase.io.read(tmp_path / "md" / "trajectory.extxyz", ":")
    assert len(frames) == 5
    for atoms in frames:
        assert atoms.get_masses() == pytest.approx([2.0141018, 15.999, 2.0141018])
    before, after = frames[1:3]
    moved = (after.positions - before.positions) / (0.5 * units.fs)
    middle = (before.get_velocities() + after.get_velocities()) / 2
    np.testing.assert_allclose(moved, middle, atol=1e-3)


def test_a_warning_of_a_molecule_that_seems_to_lack_hydrogens(tmp_path, caplog):
    atoms = molecule("CH3CH2OH")
    ase.io.write(tmp_path / "whole.xyz", atoms)
    ase.io.write(tmp_path / "bare.xyz", atoms[atoms.numbers > 1])
    load_structure(str(tmp_path / "whole.xyz"))
    assert not caplog.text
    load_structure(str(tmp_path / "bare.xyz"))
    assert "2 atoms of" in caplog.text
    assert "it seems to lack hydrogens" in caplog.text
