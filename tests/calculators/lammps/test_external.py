"""``fix external`` on one and two processes has the energies, forces and stress of the ASE calculator."""

import json
import os
import subprocess
import sys
from importlib import util

import numpy as np
import pytest

from ik_e3nn.errors import DataError, UnknownSpeciesError
from ik_e3nn.models import save_model
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.lammps.external import ExternalForces, attach
from tests.calculators.lammps.engine import BAR, SCRIPTS, Engine, needs_lammps
from tests.calculators.lammps.test_lammps import CUTOFF, ELEMENTS, crystal, metal, potential

SCRIPT = """
import json, sys
import numpy as np
try:
    from mpi4py import MPI  # before lammps: it loads the library of MPI
    comm = MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else None
except ImportError:
    comm = None
import lammps
from ik_e3nn_calculators.lammps.external import attach

elements = sys.argv[1].split()
lmp = lammps.lammps(cmdargs=["-screen", "none", "-log", "none"])
lmp.commands_string(open("in.lammps").read())
keep = attach(lmp, "model.safetensors", elements, comm=comm, max_edges=500)
lmp.command("run 10")
lmp.command("run 0")
found = {
    "energy": lmp.get_thermo("pe"),
    "pressure": [float(lmp.extract_compute("p", 0, 1)[k]) for k in (0, 1, 2, 5, 4, 3)],
    "forces": np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3).tolist(),
    "positions": np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3).tolist(),
}
if comm is None or comm.rank == 0:
    json.dump(found, open("found.json", "w"))
lmp.close()
"""


def launched(folder, atoms, processes, script=SCRIPT):
    """The structure as LAMMPS has it, and the finished process of a script."""
    if processes > 1 and util.find_spec("mpi4py") is None:
        pytest.skip("several processes need mpi4py")
    save_model(potential(), folder / "model.safetensors")
    engine = Engine(folder, None, "", ELEMENTS)
    turned = engine.write(atoms)
    lines = engine.commands(atoms)[:-2]  # without the pair style
    lines += [
        f"pair_style zero {CUTOFF} nocoeff", "pair_coeff * *",
        "fix move all nve", "timestep 0.0001", "compute p all pressure NULL pair fix",
        "thermo_style custom step pe c_p[*]",
    ]  # fmt: skip
    (folder / "in.lammps").write_text("\n".join(lines))
    (folder / "run.py").write_text(script)
    command = [sys.executable, "run.py", " ".join(ELEMENTS)]
    command = [SCRIPTS / "mpirun", "-n", str(processes), *command] if processes > 1 else command
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return turned, subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@needs_lammps
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("make", [crystal, metal])
def test_the_calculator_of_ase_has_the_same_results(tmp_path, make, processes):
    turned, done = launched(tmp_path, make(), processes)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    turned.positions = found["positions"]
    turned.calc = IKCalculator(potential())
    assert found["energy"] == pytest.approx(turned.get_potential_energy(), rel=1e-10)
    np.testing.assert_allclose(found["forces"], turned.get_forces(), atol=1e-9)
    assert abs(np.array(found["forces"])).max() > 0.1
    np.testing.assert_allclose(-np.array(found["pressure"]) / BAR, turned.get_stress(), atol=1e-8)


@pytest.mark.slow
@needs_lammps
@pytest.mark.parametrize(
    ("fault", "message", "processes"),
    [
        ("keep.constants = {}", "the model needs 'cell', but the structure does not give it", 1),
        ("next(keep.model.parameters()).data.fill_(np.nan)", "the energy or a force is NaN or infinite", 2),
    ],
)
def test_after_an_error_no_run_goes_on(tmp_path, fault, message, processes):
    """LAMMPS would use the forces of the last step."""
    broken = SCRIPT.replace('lmp.command("run 0")', f'{fault}\nlmp.command("run 3")')
    _, done = launched(tmp_path, crystal(), processes, broken)
    assert done.returncode != 0
    assert message in done.stderr
    assert "the forces of step 10 cannot be computed, so this run is ended" in done.stderr
    assert not (tmp_path / "found.json").exists()


class Lammps:
    """As much of LAMMPS as the checks look at."""

    def __init__(self, units="metal", ntypes=1, processes=1):
        self.facts = {"units": units, "ntypes": ntypes, "world_size": processes}

    def extract_global(self, name):
        return self.facts[name]

    extract_setting = extract_global


def test_what_cannot_be_done_is_refused():
    with pytest.raises(DataError, match="fix external needs units metal, got units real"):
        attach(Lammps("real"), potential(), ["H"])
    with pytest.raises(DataError, match="LAMMPS takes a single potential, got Committee"):
        attach(Lammps(), [potential(), potential()], ["H"])
    with pytest.raises(DataError, match=r"an element for each of the 3 atom types, got 1: \['H'\]"):
        attach(Lammps(ntypes=3), potential(), ["H"])
    with pytest.raises(DataError, match="LAMMPS has 2 processes, but the communicator 1: give comm="):
        attach(Lammps(processes=2), potential(), ["H"])
    with pytest.raises(UnknownSpeciesError, match="the model does not know Xe, named for an atom type"):
        ExternalForces(Lammps(), "ik", potential(), ["H", "Xe"], None, {})
