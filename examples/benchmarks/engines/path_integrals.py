"""i-PI: four beads together and one by one, compared with the ASE calculator, in processor time.

    python -m examples.benchmarks.engines.path_integrals      # five minutes of one core; needs ik-e3nn[ipi]

A step is the evaluation of four beads. ``ms_per_step`` is the driver's, ``ase_ms_per_step`` is that of ASE calculators,
one for each bead, and ``share_not_model`` is the share of the processor time of a run of i-PI that is not the driver's.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import molecule

from examples.benchmarks.engines.rows import replace_rows
from ik_e3nn_calculators import IKCalculator
from ik_e3nn_calculators.ipi.driver import IKDriver
from ik_e3nn_calculators.ipi.export import IpiExportSettings, export_ipi

BEADS, STEPS, ROUNDS = 4, 5, 8
INPUT = Path(__file__).resolve().parents[2] / "engines" / "ipi" / "ethanol.xml"
BOHR, HARTREE = 0.52917721, 1 / 0.036749326  # as i-PI has them


def water_box() -> Atoms:
    """27 molecules of water in random orientations."""
    rng = np.random.default_rng(0)
    box = Atoms(cell=[9.3] * 3, pbc=True)
    for corner in np.ndindex(3, 3, 3):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.positions += 3.1 * np.array(corner)
        box += water
    return box


SYSTEMS = {"ethanol": molecule("CH3CH2OH", vacuum=10.0), "27 H2O": water_box()}


def measured(name: str, dtype: str, batch: bool, folder: Path) -> dict[str, Any]:
    """A row of the table."""
    atoms, rng = SYSTEMS[name], np.random.default_rng(0)
    atoms.write(folder / "start.xyz")
    driver = IKDriver(str(folder / "start.xyz"), dtype=dtype, device="cpu")
    copies = [atoms.copy() for _ in range(BEADS)]
    for one in copies:
        one.calc = IKCalculator("base", dtype=dtype, device="cpu")
    cells = [atoms.cell.array.T / BOHR] * BEADS

    def beads() -> list[np.ndarray]:
        return [atoms.positions + rng.normal(0, 0.03, atoms.positions.shape) for _ in range(BEADS)]

    def ours(positions: list[np.ndarray]) -> list[Any]:
        given = [x / BOHR for x in positions]
        return driver(cells, given) if batch else [driver(cells[0], x) for x in given]

    def theirs(positions: list[np.ndarray]) -> None:
        for one, x in zip(copies, positions, strict=True):
            one.positions[:] = x
            one.get_forces(), one.get_stress() if atoms.pbc.all() else None

    times: dict[Any, list[float]] = {ours: [], theirs: []}
    for _ in range(ROUNDS):  # in turn, so that other work on the machine acts on both
        moves = [beads() for _ in range(STEPS)]
        for function, found in times.items():
            started = time.process_time()
            for positions in moves:
                function(positions)
            found.append((time.process_time() - started) / STEPS)
    last = beads()
    results = ours(last)
    theirs(last)
    volume, pressure = atoms.get_volume(), None
    if atoms.pbc.all():
        differences = [
            np.trace(virial) * HARTREE / volume / 3 + one.get_stress()[:3].mean()
            for (_, _, virial, _), one in zip(results, copies, strict=True)
        ]
        pressure = float(max(map(abs, differences)) / units.GPa)
    pairs = list(zip(results, copies, strict=True))
    return {
        "system": f"{name}, {BEADS} beads {'together' if batch else 'one by one'}", "ranks": 1, "dtype": dtype,
        "atoms": len(atoms),
        "energy_error_eV": max(abs(e * HARTREE - one.get_potential_energy()) for (e, *_), one in pairs),
        "force_error_eV_per_A": max(abs(f * HARTREE / BOHR - one.get_forces()).max() for (_, f, *_), one in pairs),
        "pressure_error_GPa": pressure,
        "ms_per_step": 1e3 * median(times[ours]), "ase_ms_per_step": 1e3 * median(times[theirs]),
    }  # fmt: skip


TIMED = """
import time

class Timed(IKDriver):
    times = []

    def __call__(self, cell, pos):
        started = time.process_time()
        found = super().__call__(cell, pos)
        self.times.append((started, time.process_time()))
        if len(self.times) == 400:
            inside = sum(end - start for start, end in self.times)
            with open("share", "w") as file:
                file.write(str(1 - inside / (self.times[-1][1] - self.times[0][0])))
        return found

__DRIVER_CLASS__ = "Timed"
"""


def share_not_driver(folder: Path, dtype: str) -> float:
    """Share of the processor time of a run of i-PI with ethanol, after its start, that is not the driver's."""
    SYSTEMS["ethanol"].write(folder / "start.xyz")
    export_ipi(IpiExportSettings(str(folder / "ik_pes.py"), overwrite=True))
    with (folder / "ik_pes.py").open("a") as file:
        file.write(TIMED)
    (folder / "input.xml").write_text(INPUT.read_text().replace(" 2000 ", " 400 ").replace("float32", dtype))
    command = [Path(sys.executable).parent / "i-pi", "input.xml"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return float((folder / "share").read_text())


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for dtype in ("float32", "float64"):
            for system in SYSTEMS:
                for batch in (True, False):
                    row = measured(system, dtype, batch, Path(name))
                    if system == "ethanol" and batch:
                        row["share_not_model"] = share_not_driver(Path(name), dtype)
                    print(row)
                    rows.append(row)
    replace_rows("ipi", rows)


if __name__ == "__main__":
    main()
