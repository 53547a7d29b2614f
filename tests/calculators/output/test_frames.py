"""Frames carry what was computed, and what the user has written to them."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones

from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.output.frames import snapshot
from tests.calculators.pair_potential import PairPotential


class Compiled(LennardJones):
    """Somebody else's calculator, which means something else by the word."""

    compiled = "with gfortran"
    code = "Fortran"


@pytest.mark.parametrize("info", [{}, {"compiled": "by hand"}])
def test_the_mark_of_compiled_code_is_only_that_of_this_package(info):
    dimer = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 1.2]], info=dict(info), calculator=Compiled())
    frame = snapshot(dimer, step=3)
    assert frame.info == {**info, "step": 3}
    np.testing.assert_array_equal(frame.get_forces(), dimer.get_forces())
    dimer.calc = IKCalculator(PairPotential(), device="cpu")
    assert snapshot(dimer).info == {"compiled": False}
