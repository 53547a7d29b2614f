"""What a run leaves is whole, and a restart goes on from it exactly."""

from ase import Atoms
from ase.io import read

from ik_e3nn_calculators.frames import AseTrajectoryFile


def test_a_binary_trajectory_is_cut_back_to_its_mark(tmp_path):
    file = AseTrajectoryFile(tmp_path / "a.traj")
    for x in range(5):
        file.append(Atoms("H", positions=[[x, 0, 0]]))
    file.cut(3)
    assert [atoms.positions[0, 0] for atoms in read(tmp_path / "a.traj", ":")] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.traj"]
