"""What calculators are given is checked, and what they give is finite and belongs to the structure."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from ik_e3nn.data import StructureDataset
from ik_e3nn.errors import ConfigError, DataError, ExplosionError
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.training.inference.prediction import predict
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.calculator.evaluator import Evaluator


def potential():
    torch.manual_seed(0)
    return InteratomicPotential(["H", "C", "O"], 4.0, num_channels=4, l_max=1).eval()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"skin": float("nan")}, "skin must be a finite length in A of at least 0, got nan"),
        ({"skin": -1.0}, "skin must be a finite length"),
        ({"skin": "0.5"}, "skin must be a finite length in A of at least 0, got '0.5'"),
        ({"max_edges": 0}, "max_edges must be a whole number of at least 1, or None for no bound; got 0"),
        ({"max_edges": 10.5}, "max_edges must be a whole number"),
        ({"max_edges": True}, "max_edges must be a whole number"),
        ({"compile": "no"}, "compile must be True, False or 'auto', got 'no'"),
        ({"compile": 1}, "compile must be True, False or 'auto', got 1"),
        ({"skip_fixed": "false"}, "skip_fixed must be True or False, got 'false'"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'float64', got 'float16'"),
        ({"dtype": torch.float16}, "dtype must be 'float32' or 'float64', got 'torch.float16'"),
        ({"device": "gpu"}, r"unknown device 'gpu'; use 'auto'.* \(a GPU is called 'cuda'\)"),
        ({"device": "cuda:99"}, "device 'cuda:99' was asked for, but torch sees .* GPU here; use 'auto'"),
        ({"device": "meta"}, "device 'meta' is not supported"),
        ({"device": 3.5}, "device must be a name or a torch.device; got 3.5"),
        ({"uncertainty": 3}, "uncertainty must be a file of `ik-e3nn calibrate`, got 3"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        IKCalculator(potential(), **arguments)


def test_no_models_and_wrong_arguments_of_others():
    with pytest.raises(DataError, match="the list of models is empty"):
        IKCalculator(model=[])
    with pytest.raises(ConfigError, match="compile must be True, False or 'auto', got 'yes'"):
        Evaluator(potential(), compile="yes")
    for r_max in (float("nan"), float("inf"), "5", True, -1.0):
        with pytest.raises(ValueError, match="r_max must be positive and finite"):
            InteratomicPotential(["H"], r_max)
    with pytest.raises(ValueError, match="inputs must be a list of names; got the text 'spin'"):
        InteratomicPotential(["H"], inputs="spin")


def test_threads_share_a_calculator():
    """Each thread gets the numbers of its own molecule."""
    names = ["CH3OH", "H2O", "CH4", "CH3CH2OH"]
    expected = {}
    for name in names:
        alone = molecule(name)
        alone.calc = IKCalculator(potential(), device="cpu")
        expected[name] = alone.get_potential_energy(), alone.get_forces()
    shared = IKCalculator(potential(), device="cpu")

    def work(number):
        atoms = molecule(names[number % len(names)])
        atoms.calc = shared
        return names[number % len(names)], atoms.get_potential_energy(), atoms.get_forces()

    with ThreadPoolExecutor(4) as pool:
        for name, energy, forces in pool.map(work, range(40)):
            assert energy == expected[name][0]
            assert np.array_equal(forces, expected[name][1])


def test_copies_have_their_own_lock():
    calculator = IKCalculator(potential(), device="cpu")
    for other in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        atoms, again = molecule("H2O"), molecule("H2O")
        atoms.calc, again.calc = calculator, other
        assert again.get_potential_energy() == atoms.get_potential_energy()


def test_numbers_that_are_not_finite_name_the_closest_atoms():
    crowded = Atoms("CHO", [[0, 0, 0], [0, 0, 1.1], [0, 0, 1.1 + 2e-3]])
    model = potential()
    with torch.no_grad():
        model.interactions[0].up.weight.mul_(1e25)  # products of such features are beyond float32
    crowded.calc = IKCalculator(model, device="cpu")
    with pytest.raises(ExplosionError, match=r"its closest atoms, 1 \(H\) and 2 \(O\), are 0.002 A apart"):
        crowded.get_potential_energy()
    graphs = StructureDataset([crowded], model.r_max)
    with pytest.raises(
        DataError, match=r"structure 0 \(counted from 0, with 3 atoms\) are NaN or infinite: its closest"
    ):
        predict(model, graphs)
