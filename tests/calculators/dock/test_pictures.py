"""Pictures of a pose search say what is on them, and tell the molecule from its host."""

from dataclasses import fields, replace

import numpy as np
import pytest
from ase.build import molecule

from ik_e3nn_calculators.dock.poses.results import Pose, plot_best, plot_energies
from ik_e3nn_calculators.dock.system.host import Host
from tests.pictures import faults


def pose(number):
    values = {"pose": number, "cluster": number, "outside": "", "converged": True, "binding_eV": -0.1, "rmsd_A": np.nan}
    return Pose(**({field.name: 1.0 for field in fields(Pose)} | values))


def test_titles_units_and_colors(tmp_path, drawn):
    water, benzene = molecule("H2O"), molecule("C6H6")
    water.positions += [0, 0, 3.0]
    plot_best(tmp_path / "a.png", [pose(0)], [benzene + water], Host(benzene, "benzene"))
    plot_energies(tmp_path / "b.png", [pose(k) for k in range(12)])
    best, energies = drawn
    assert not faults(best) + faults(energies)
    assert best.get_suptitle() == "best distinct poses and their binding energies\nfrom the side, and from above"
    assert [axes.get_xlabel() for axes in best.axes] == ["x (Å)"] * 2
    rims = [patch.get_linewidth() for patch in best.axes[0].patches]
    assert (rims.count(1.0), rims.count(0.5)) == (len(water), len(benzene))
    text = "12 ranked poses, colors are distinct poses, one for all from the 10th on"
    assert energies.get_suptitle() == text
    assert [axes.get_xlabel() for axes in energies.axes] == ["height (Å)", "tilt (degrees)"]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_pictures_of_several_poses_can_be_read(count, tmp_path, drawn, rng):
    water, benzene = molecule("H2O"), molecule("C6H6")
    water.positions += [0, 0, 3.0]
    poses = [pose(number) for number in range(count)]
    plot_best(tmp_path / "a.png", poses, [benzene + water] * count, Host(benzene, "benzene"))
    plot_energies(tmp_path / "b.png", [replace(one, rmsd_A=rng.uniform()) for one in poses])
    assert [len(figure.axes) for figure in drawn] == [2 * count, 3]
    assert not [faults(figure) for figure in drawn if faults(figure)]
