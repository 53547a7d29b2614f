import copy
import logging
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from ik_e3nn.data import molecule_from_smiles
from ik_e3nn.errors import ConfigError, DataError, MissingInputError, ModelFileError, UnknownSpeciesError
from ik_e3nn.models import InteratomicPotential, load_model, save_model
from ik_e3nn_calculators import IKCalculator
from tests.calculators.pair_potential import PairPotential


def model_calls(calculator) -> int:
    return calculator.model.calls


class TestPhysics:
    def test_forces_are_minus_the_gradient_of_the_energy(self, periodic, calculator):
        periodic.calc = calculator
        forces = periodic.get_forces()
        assert np.abs(forces).max() > 1e-3
        np.testing.assert_allclose(forces, calculate_numerical_forces(periodic, eps=1e-4), atol=1e-7)

    def test_stress_is_the_strain_derivative_of_the_energy(self, periodic, calculator):
        periodic.calc = calculator
        stress = periodic.get_stress()
        assert np.abs(stress).max() > 1e-5
        np.testing.assert_allclose(stress, calculate_numerical_stress(periodic, eps=1e-5), atol=1e-9)

    def test_parts_sum_to_the_whole(self, periodic, calculator):
        periodic.calc = calculator
        assert periodic.get_potential_energies().sum() == pytest.approx(periodic.get_potential_energy(), abs=1e-12)
        np.testing.assert_allclose(periodic.get_stresses().sum(axis=0), periodic.get_stress(), atol=1e-14)
        assert np.abs(periodic.get_forces().sum(axis=0)).max() < 1e-12
        assert periodic.get_potential_energy(force_consistent=True) == periodic.get_potential_energy()

    def test_energy_of_a_dimer_by_hand(self, calculator):
        dimer = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 4.0]], calculator=calculator)
        ratio = (3.4 / 4.0) ** 6
        expected = 4 * 0.0104 * (ratio**2 - ratio) * (1 - (4 / 6) ** 2) ** 3
        assert dimer.get_potential_energy() == pytest.approx(expected, rel=1e-12)

    def test_same_results_in_a_larger_cell_and_after_wrapping(self, box, calculator):
        box.calc = calculator
        energy, stress = box.get_potential_energy(), box.get_stress()
        double = box.repeat((2, 1, 1))
        double.calc = calculator
        assert double.get_potential_energy() == pytest.approx(2 * energy, rel=1e-12)
        np.testing.assert_allclose(double.get_stress(), stress, atol=1e-13)
        moved = box.copy()
        moved.positions[::3] += 2 * box.cell[0] - box.cell[2]
        moved.calc = calculator
        assert moved.get_potential_energy() == pytest.approx(energy, rel=1e-12)

    @pytest.mark.parametrize("distance", [1.0, 50.0])
    def test_no_edges(self, calculator, distance):
        atoms = Atoms("Ar") if distance == 1.0 else Atoms("Ar2", positions=[[0, 0, 0], [distance, 0, 0]])
        atoms.calc = calculator
        assert atoms.get_potential_energy() == 0.0
        assert not atoms.get_forces().any()
        assert atoms.get_potential_energies().shape == (len(atoms),)

    def test_one_atom_in_a_periodic_cell_sees_its_images(self, calculator):
        atoms = Atoms("Ar", cell=[3.7, 3.9, 4.1], pbc=True, calculator=calculator)
        assert abs(atoms.get_potential_energy()) > 1e-3
        assert np.abs(atoms.get_forces()).max() < 1e-14
        np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-9)


class TestState:
    def test_atoms_are_never_written_to(self, periodic, calculator):
        periodic.info["charge"] = 1
        periodic.set_array("tag_of_mine", np.arange(len(periodic)))
        before = copy.deepcopy(periodic)
        periodic.calc = calculator
        periodic.get_forces()
        periodic.get_stresses()
        assert periodic == before
        assert periodic.info == before.info
        assert set(periodic.arrays) == set(before.arrays)
        for name, values in before.arrays.items():
            np.testing.assert_array_equal(periodic.arrays[name], values)
            assert periodic.arrays[name].dtype == values.dtype

    def test_one_evaluation_serves_all_properties(self, box, calculator):
        box.calc = calculator
        box.get_stress()
        box.get_forces()
        box.get_potential_energy()
        box.get_potential_energies()
        assert model_calls(calculator) == 1
        box.positions[0] += 0.01
        box.get_forces()
        box.get_stress()
        assert model_calls(calculator) == 2

    def test_a_further_property_leaves_earlier_results_as_they_were(self, box, calculator):
        box.calc = calculator
        forces = box.get_forces()
        box.get_stress()
        box.get_stresses()
        np.testing.assert_array_equal(box.get_forces(), forces)

    def test_results_are_copies(self, box, calculator):
        box.calc = calculator
        box.get_forces()[:] = 7.0
        assert not (box.get_forces() == 7.0).any()

    @pytest.mark.parametrize(
        ("name", "key", "first", "second"),
        [
            ("total_charge", "charge", 0, 1),
            ("spin", "spin", 1, 3),
            ("bond_types", "bonds", [0, 1, 1], [0, 1, 2]),
        ],
    )
    def test_declared_inputs_count_as_changes(self, cluster, name, key, first, second):
        calculator = IKCalculator(PairPotential(inputs=[name]), device="cpu")
        cluster.info[key] = first
        cluster.calc = calculator
        energy = cluster.get_potential_energy()
        cluster.get_potential_energy()
        assert model_calls(calculator) == 1
        cluster.info[key] = second
        changed = cluster.get_potential_energy()
        assert changed != pytest.approx(energy, rel=1e-3)
        fresh = cluster.copy()
        fresh.calc = IKCalculator(PairPotential(inputs=[name]), device="cpu")
        assert changed == fresh.get_potential_energy()

    def test_bonds_changed_in_place_count_too(self, cluster):
        calculator = IKCalculator(PairPotential(inputs=["bond_types"]), device="cpu")
        cluster.info["bonds"] = np.array([0, 1, 1])
        cluster.calc = calculator
        energy = cluster.get_potential_energy()
        cluster.info["bonds"][2] = 3
        assert cluster.get_potential_energy() != energy

    def test_undeclared_inputs_cost_nothing(self, cluster, calculator):
        cluster.calc = calculator
        cluster.get_potential_energy()
        cluster.info["charge"] = 1
        cluster.set_initial_charges(np.ones(7))
        cluster.set_initial_magnetic_moments(np.ones(7))
        cluster.get_potential_energy()
        assert model_calls(calculator) == 1

    def test_one_calculator_for_many_structures(self, box, cluster, calculator):
        energies = []
        for atoms in (box, cluster, box, cluster):
            atoms.calc = calculator
            energies.append(atoms.get_potential_energy())
        assert energies[0] == energies[2] != energies[1] == energies[3]

    def test_list_is_rebuilt_only_when_needed(self, box, calculator):
        box.calc = calculator
        box.get_forces()
        for _ in range(5):
            box.positions += 0.01
            box.get_forces()
        assert calculator.neighbor_rebuilds == 1
        box.positions[3, 0] += 0.3
        box.get_forces()
        assert calculator.neighbor_rebuilds == 2

    def test_moving_with_a_kept_list_equals_a_fresh_calculator(self, cluster):
        calculator = IKCalculator(PairPotential(inputs=["bond_types"]), device="cpu")
        cluster.info["bonds"] = [0, 1, 1, 5, 6, 2]
        cluster.calc = calculator
        rng = np.random.default_rng(0)
        for _ in range(10):
            cluster.positions += rng.normal(scale=0.05, size=(7, 3))
            fresh = cluster.copy()
            fresh.calc = IKCalculator(PairPotential(inputs=["bond_types"]), device="cpu")
            np.testing.assert_array_equal(cluster.get_forces(), fresh.get_forces())


class TestPrecision:
    def test_two_dtypes_in_one_process(self, box):
        ambient = torch.get_default_dtype()
        model = PairPotential()
        single = IKCalculator(model, device="cpu", dtype="float32")
        double = IKCalculator(model, device="cpu")
        results = {}
        for name, calculator in (("single", single), ("double", double), ("again", single)):
            box.calc = calculator
            results[name] = box.get_forces()
        assert single.evaluator.dtype == torch.float32
        assert double.evaluator.dtype == torch.float64
        assert model.dtype == torch.float64
        assert torch.get_default_dtype() == ambient
        np.testing.assert_array_equal(results["single"], results["again"])
        error = np.abs(results["single"] - results["double"]).max()
        assert 0 < error < 1e-5

    @pytest.mark.parametrize("ambient", [torch.float16, torch.float64])
    def test_hostile_ambient_dtype(self, box, calculator, ambient):
        box.calc = calculator
        expected = box.get_forces()
        before = torch.get_default_dtype()
        torch.set_default_dtype(ambient)
        try:
            other = box.copy()
            other.calc = IKCalculator(PairPotential(), device="cpu")
            np.testing.assert_array_equal(other.get_forces(), expected)
        finally:
            torch.set_default_dtype(before)

    def test_far_from_the_origin_float32_loses_nothing(self, cluster):
        near, far = cluster, cluster.copy()
        far.positions += 4096.0
        for atoms in (near, far):
            atoms.calc = IKCalculator(PairPotential(), device="cpu", dtype="float32")
        np.testing.assert_allclose(far.get_forces(), near.get_forces(), atol=1e-8)

    def test_callers_model_is_copied(self):
        model = PairPotential().train()
        calculator = IKCalculator(model, device="cpu", dtype="float32")
        assert model.training
        assert model.epsilon.requires_grad
        assert not calculator.model.training
        assert not calculator.model.epsilon.requires_grad

    def test_unknown_dtype_and_device(self):
        with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'half'"):
            IKCalculator(PairPotential(), device="cpu", dtype="half")
        with pytest.raises(ValueError, match="unknown device 'gpu0'"):
            IKCalculator(PairPotential(), device="gpu0")


class TestErrors:
    def test_unknown_species_names_both_sides(self, calculator):
        atoms = Atoms("CuArO", positions=np.eye(3) * 3, calculator=calculator)
        with pytest.raises(UnknownSpeciesError, match="holds O, Cu, but the model knows only Ar"):
            atoms.get_potential_energy()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_bad_positions(self, cluster, calculator, value):
        cluster.calc = calculator
        cluster.get_forces()
        cluster.positions[4, 1] = value
        with pytest.raises(DataError, match=r"NaN or infinite for 1 of 7 atoms, the first: 4 \(Ar\)"):
            cluster.get_forces()
        cluster.positions[4, 1] = 0.0
        assert np.isfinite(cluster.get_forces()).all()

    def test_bad_cell(self, box, calculator):
        box.calc = calculator
        box.cell[0, 0] = np.nan
        with pytest.raises(DataError, match="cell is NaN or infinite"):
            box.get_potential_energy()

    def test_no_atoms(self, calculator):
        with pytest.raises(DataError, match="no atoms"):
            Atoms(calculator=calculator).get_potential_energy()

    CASES: ClassVar = [
        ({}, MissingInputError, r"needs the total charge in e.*atoms\.info\['charge'\]"),
        ({"charge": [1, 2]}, DataError, "must be one finite number"),
        ({"charge": float("nan")}, DataError, "must be one finite number"),
        ({"charge": "plus"}, DataError, "must be one finite number; got 'plus'"),
    ]

    @pytest.mark.parametrize(("info", "kind", "message"), CASES)
    def test_missing_or_bad_charge(self, cluster, info, kind, message):
        cluster.info.update(info)
        cluster.calc = IKCalculator(PairPotential(inputs=["total_charge"]), device="cpu")
        with pytest.raises(kind, match=message):
            cluster.get_potential_energy()

    def test_missing_spin(self, cluster):
        cluster.calc = IKCalculator(PairPotential(inputs=["spin"]), device="cpu")
        with pytest.raises(MissingInputError, match="spin multiplicity"):
            cluster.get_forces()

    def test_a_warning_of_a_molecule_without_bonds(self, cluster, caplog):
        cluster.calc = IKCalculator(PairPotential(inputs=["bond_types"]), device="cpu")
        with caplog.at_level(logging.WARNING):
            cluster.get_forces()
            cluster.positions += 0.01
            cluster.get_forces()
        (said,) = [record.message for record in caplog.records if "has none in" in record.message]
        assert said.startswith(
            "the model uses bonds, but this molecule has none in atoms.info['bonds']; "
            "all its edges count as non-bonded. "
        )

    def test_one_warning_of_stored_bonds_of_other_positions(self, caplog):
        atoms = molecule_from_smiles("CCO")
        atoms.calc = IKCalculator(
            InteratomicPotential(["H", "C", "O"], 4.0, num_channels=2, inputs=["bond_types"]), device="cpu"
        )
        atoms.get_forces()
        assert "covalent radii" not in caplog.text
        atoms.positions = atoms.positions[::-1].copy()
        for _ in range(2):
            atoms.get_forces()
            atoms.positions *= 1.5
        assert len(re.findall("A long, .* times the sum of their covalent radii", caplog.text)) == 1

    @pytest.mark.parametrize("ask", ["get_stress", "get_stresses"])
    def test_stress_needs_a_volume(self, cluster, calculator, ask):
        cluster.calc = calculator
        with pytest.raises(PropertyNotImplementedError, match="a stress needs a volume"):
            getattr(cluster, ask)()
        cluster.set_cell(np.diag([5.0, 5.0, 0.0]))
        cluster.pbc = (True, True, False)
        with pytest.raises(PropertyNotImplementedError, match="2 independent vectors"):
            getattr(cluster, ask)()
        assert np.isfinite(cluster.get_forces()).all()

    def test_not_a_model(self, tmp_path):
        with pytest.raises(TypeError, match="model file or an InteratomicPotential, got int"):
            IKCalculator(3)
        with pytest.raises(DataError, match="Linear is not an interatomic potential"):
            IKCalculator(torch.nn.Linear(2, 2), device="cpu")

    def test_no_model_file(self, tmp_path, monkeypatch):
        """The calculator and the reader of files give the same error, with what may have been meant."""
        monkeypatch.chdir(tmp_path)
        for name in ("run", "empty"):
            (tmp_path / name).mkdir()
        save_model(InteratomicPotential(["H"], num_channels=2), tmp_path / "run/model.safetensors")
        for given, message in (
            ("absent.safetensors", "there is no model file 'absent.safetensors'$"),
            ("Base", "there is no model file 'Base'; did you mean 'base'\\?"),
            ("base_properties", "did you mean 'base-properties'\\?"),
            ("run", "there is no model file 'run', which is a folder; did you mean 'run/model.safetensors'\\?"),
            ("empty", "there is no model file 'empty', which is a folder; give the model file"),
        ):
            for read in (IKCalculator, load_model):
                for kind in (ModelFileError, FileNotFoundError):
                    with pytest.raises(kind, match=message):
                        read(given)

    def test_negative_skin(self):
        with pytest.raises(ConfigError, match="skin must be a finite length in A of at least 0, got -1.0"):
            IKCalculator(PairPotential(), device="cpu", skin=-1.0)


def test_misspelled_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="IKCalculator has no argument 'devise'; did you mean 'device'"):
        IKCalculator(PairPotential(), devise="cpu")


def test_sites_that_are_occupied_in_part_are_refused_also_after_the_same_atoms_in_order(calculator):
    ordered = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 4.0]], info={"occupancy": {"0": {"Ar": 1.0}, "1": {"Ar": 1}}})
    assert calculator.get_potential_energy(ordered) != 0
    disordered = ordered.copy()
    disordered.info["occupancy"] = {"0": {"Ar": 1.0}, "1": {"Ar": 0.6, "Kr": 0.4}}
    with pytest.raises(DataError, match=r"several elements: Ar 0.6 \+ Kr 0.4 at atom 1"):
        IKCalculator(calculator.model).get_potential_energy(disordered)
    disordered.positions[1, 2] += 0.1
    with pytest.raises(DataError, match=r"several elements: Ar 0.6 \+ Kr 0.4 at atom 1"):
        calculator.get_potential_energy(disordered)
