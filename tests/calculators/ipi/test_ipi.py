"""Path integrals of i-PI itself, with beads together, alone and through a socket."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.ipi.export import IpiExportSettings, export_ipi
from tests.calculators.ipi.engine import isolated, needs_ipi, potential, stored

SCRIPTS = Path(sys.executable).parent
BEADS = 4
INPUT = """
<simulation verbosity='quiet'>
  <output prefix='run'>
    <properties stride='1' filename='out'>
      [ conserved{{electronvolt}}, potential{{electronvolt}}, pressure_cv ]
    </properties>
    <trajectory filename='beads' stride='10' format='ase'> positions{{ase}} </trajectory>
  </output>
  <total_steps> 10 </total_steps>
  <prng><seed> 1 </seed></prng>
  {forces}
  <system>
    <initialize nbeads='4'>
      <file mode='ase'> start.extxyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces> <force forcefield='ik'/> </forces>
    <ensemble> <temperature units='kelvin'> 300 </temperature> </ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 0.1 </timestep> </dynamics>
    </motion>
  </system>
</simulation>
"""
DIRECT = """
<ffdirect name='ik' pbc='false'>
  <pes> custom </pes> <pes_path> ik_pes.py </pes_path> <batch_size> {beads} </batch_size>
  <parameters> {{ template: start.extxyz, model: model.safetensors }} </parameters>
</ffdirect>
"""
SOCKET = "<ffsocket name='ik' mode='unix' pbc='false'> <address> {address} </address> </ffsocket>"


def rows(folder, forces, driver=()):
    """The rows of a run: conserved energy, potential energy and pressure of every step.

    Args:
        folder: Has the start, the model and the file of the driver.
        forces: The part of the input that names them.
        driver: Words of a driver to start beside i-PI.
    """
    (folder / "input.xml").write_text(INPUT.format(forces=forces))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, SCRIPTS / "i-pi", "input.xml"]
    with (folder / "log").open("w") as log:
        ipi = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)
        if driver:
            while not Path(f"/tmp/ipi_{driver[0]}").exists() and ipi.poll() is None:
                time.sleep(0.1)
            words = [sys.executable, SCRIPTS / "i-pi-py_driver", "-u", "-a", *driver]
            subprocess.run(words, cwd=folder, env=environment, stdout=log, stderr=log, check=True, timeout=120)
        assert ipi.wait(120) == 0, (folder / "log").read_text()
    return np.loadtxt(folder / "run.out")


def ready(folder):
    """A folder with what a run needs."""
    folder.mkdir()
    atoms = isolated()
    atoms.write(folder / "start.extxyz")
    stored(folder)
    export_ipi(IpiExportSettings(str(folder / "ik_pes.py")))
    return folder


@needs_ipi
@pytest.mark.slow
def test_path_integrals_with_beads_together_alone_and_through_a_socket(tmp_path):
    together = ready(tmp_path / "together")
    table = rows(together, DIRECT.format(beads=BEADS))
    assert len(table) == 11
    assert np.ptp(table[:, 1]) > 1e-3  # eV: potential and kinetic energy are exchanged
    assert np.ptp(table[:, 0]) < 0.02 * np.ptp(table[:, 1])
    last = [read(together / f"run.beads_{number}.extxyz", -1) for number in range(BEADS)]
    for bead in last:
        bead.pbc = False
        bead.calc = IKCalculator(potential(), device="cpu")
    energies = [bead.get_potential_energy() for bead in last]
    assert np.ptp(energies) > 1e-3
    assert table[-1, 1] == pytest.approx(np.mean(energies), abs=1e-5)  # files have eight digits
    np.testing.assert_allclose(rows(ready(tmp_path / "alone"), DIRECT.format(beads=1)), table, rtol=1e-7)
    address = f"ik_e3nn_test_{os.getpid()}"
    options = "template=start.extxyz,model=model.safetensors"
    driver = (address, "-m", "custom", "-P", "ik_pes.py", "-o", options)
    np.testing.assert_allclose(rows(ready(tmp_path / "s"), SOCKET.format(address=address), driver), table, rtol=1e-7)


def test_a_file_is_not_replaced_unless_asked(tmp_path):
    path = tmp_path / "sub" / "ik_pes.py"
    assert export_ipi(IpiExportSettings(str(path))).startswith(f"{path}: name it in <pes_path> of i-PI's input")
    assert "-P ik_pes.py -o template=" in path.read_text()
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"ik_pes\.py exists: choose another file with -o, or give --overwrite"):
        export_ipi(IpiExportSettings(str(path)))
    assert path.read_text() == "mine"
    export_ipi(IpiExportSettings(str(path), overwrite=True))
    assert "IKDriver" in path.read_text()
