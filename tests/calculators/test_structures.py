import ase.io
import numpy as np
import pytest
from ase.build import molecule

from ik_e3nn.errors import DataError
from ik_e3nn_calculators import IKCalculator, MDSettings, RelaxSettings, run_md, run_relax
from ik_e3nn_calculators.structures import load_structure
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
    with pytest.raises(DataError, match="neither a file here nor a SMILES string"):
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
