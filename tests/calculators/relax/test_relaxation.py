import csv
import json
import logging

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter

from ik_e3nn.errors import DataError, ExplosionError
from ik_e3nn_calculators import IKCalculator, RelaxSettings, run_relax
from ik_e3nn_calculators.relax.cell import strain_mask
from tests.calculators.pair_potential import PairPotential


def settings(folder, **changes) -> RelaxSettings:
    values = {"progress": False, "plots": False, "fmax": 0.001, **changes}
    return RelaxSettings("unused", "unused", output=str(folder), **values)


@pytest.mark.parametrize("optimizer", ["fire", "bfgs", "lbfgs"])
def test_dimer_reaches_the_minimum_of_its_pair_curve(calculator, tmp_path, optimizer):
    dimer = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.9]])
    distances = np.linspace(3.5, 4.0, 5001)
    ratio = (3.4 / distances) ** 6
    curve = 4 * 0.0104 * (ratio**2 - ratio) * (1 - (distances / 6) ** 2) ** 3
    summary = run_relax(settings(tmp_path, optimizer=optimizer, fmax=1e-5), atoms=dimer, calculator=calculator)
    assert summary.converged
    assert summary.fmax_eV_per_A < 1e-5
    assert summary.energy_eV == pytest.approx(curve.min(), abs=1e-8)
    relaxed = ase.io.read(summary.structure)
    assert relaxed.get_distance(0, 1) == pytest.approx(distances[curve.argmin()], abs=2e-3)
    assert dimer.positions[1, 2] == 3.9


def test_what_a_relaxation_leaves(cluster, calculator, tmp_path):
    summary = run_relax(settings(tmp_path, plots=True), atoms=cluster, calculator=calculator)
    assert {path.name for path in tmp_path.iterdir()} == {
        "trajectory.extxyz", "log.csv", "final.extxyz", "forces.png", "summary.json",
    }  # fmt: skip
    with (tmp_path / "log.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["step"]) for row in table] == list(range(summary.steps + 1))
    assert float(table[-1]["fmax"]) <= 0.001 < float(table[0]["fmax"])
    assert len(ase.io.read(tmp_path / "trajectory.extxyz", ":")) == summary.steps + 1
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["converged"] is True
    assert written["energy_eV"] == summary.energy_eV
    with pytest.raises(DataError, match="already holds a run"):
        run_relax(settings(tmp_path), atoms=cluster, calculator=calculator)
    run_relax(settings(tmp_path, overwrite=True, trajectory="traj"), atoms=cluster, calculator=calculator)
    assert len(ase.io.read(tmp_path / "trajectory.traj", ":")) == summary.steps + 1
    assert not (tmp_path / "trajectory.extxyz").exists()


@pytest.mark.parametrize("cell", ["full", "hydrostatic"])
@pytest.mark.parametrize("pressure", [0.0, 0.4])
def test_cell_reaches_the_pressure(calculator, tmp_path, cell, pressure):
    atoms = bulk("Ar", "fcc", a=5.5, cubic=True)
    if cell == "full":
        strain = np.array([[1.02, 0.01, 0.0], [0.0, 0.99, 0.02], [0.0, 0.0, 1.0]])
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    chosen = settings(tmp_path, cell=cell, pressure=pressure, fmax=1e-4, optimizer="bfgs")
    summary = run_relax(chosen, atoms=atoms, calculator=calculator)
    assert summary.converged
    assert summary.pressure_GPa == pytest.approx(pressure, abs=1e-3)
    relaxed = ase.io.read(summary.structure)
    relaxed.calc = calculator
    np.testing.assert_allclose(relaxed.get_stress(), [*[-pressure * units.GPa] * 3, 0, 0, 0], atol=1e-5)
    assert summary.volume_A3 == pytest.approx(relaxed.get_volume(), rel=1e-6)


def test_slab_keeps_its_open_axis(calculator, tmp_path):
    cell = [[5.6, 0.4, 0.0], [-1.2, 5.9, 0.0], [0.0, 0.0, 15.0]]
    positions = [[0, 0, 0], [2.8, 2.9, 1.4], [0.2, -0.1, 3.4], [2.6, 3.2, 5.1]]
    slab = Atoms("Ar4", positions=positions, cell=cell, pbc=(True, True, False))
    summary = run_relax(settings(tmp_path, cell="full", fmax=1e-3), atoms=slab, calculator=calculator)
    relaxed = ase.io.read(summary.structure)
    assert summary.converged
    assert summary.pressure_GPa is None
    np.testing.assert_allclose(relaxed.cell.array[2], cell[2], atol=1e-7)
    np.testing.assert_allclose(relaxed.cell.array[:2, 2], 0.0, atol=1e-7)
    assert np.abs(relaxed.cell.array[:2] - np.array(cell)[:2]).max() > 0.01


def test_mask_of_strains():
    assert strain_mask(Atoms("Ar", cell=[3, 3, 3], pbc=True)) == [1] * 6
    assert strain_mask(Atoms("Ar", cell=[3, 9, 9], pbc=(True, False, False))) == [1, 0, 0, 0, 0, 0]
    tilted = Atoms("Ar", cell=[[3, 0, 0], [0, 3, 0], [1, 0, 9]], pbc=(True, True, False))
    with pytest.raises(DataError, match="open cell vector shares Cartesian components with a periodic one"):
        strain_mask(tilted)


def test_fixed_atoms_stay_and_do_not_hinder_convergence(cluster, calculator, tmp_path):
    cluster.positions[0] *= 1.1
    cluster.set_constraint(FixAtoms([0, 1]))
    summary = run_relax(settings(tmp_path), atoms=cluster, calculator=calculator)
    relaxed = ase.io.read(summary.structure)
    assert summary.converged
    np.testing.assert_allclose(relaxed.positions[:2], cluster.positions[:2], atol=1e-7)
    assert np.abs(relaxed.positions[2:] - cluster.positions[2:]).max() > 0.01
    assert np.linalg.norm(relaxed.get_forces(apply_constraint=False)[0]) > 0.001


def test_one_warning_if_not_converged(cluster, calculator, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        summary = run_relax(settings(tmp_path, steps=2), atoms=cluster, calculator=calculator)
    assert not summary.converged
    assert summary.steps == 2
    assert "not converged: the largest force is" in summary.message
    assert caplog.messages.count(summary.message) == 1


def test_one_atom_is_relaxed_at_once(calculator, tmp_path):
    summary = run_relax(settings(tmp_path, plots=True), atoms=Atoms("Ar"), calculator=calculator)
    assert summary.converged
    assert summary.steps == 0


def test_nan_stops(cluster, tmp_path):
    class Broken(PairPotential):
        def forward(self, graph, **wanted):
            outputs = super().forward(graph, **wanted)
            return {name: values * float("nan") for name, values in outputs.items()}

    with pytest.raises(ExplosionError, match="NaN or infinite"):
        run_relax(settings(tmp_path), atoms=cluster, calculator=IKCalculator(Broken(), device="cpu"))


def test_cell_of_an_open_structure(cluster, slab_like, calculator, tmp_path):
    with pytest.raises(DataError, match="needs a periodic structure with three cell vectors"):
        run_relax(settings(tmp_path, cell="full"), atoms=cluster, calculator=calculator)
    with pytest.raises(DataError, match="would strain an open direction"):
        run_relax(settings(tmp_path, cell="hydrostatic"), atoms=slab_like, calculator=calculator)
    with pytest.raises(DataError, match=r"mask allows strains of zz, but pbc is \[True, True, False\]"):
        run_relax(settings(tmp_path, cell="full", mask=[1, 1, 1, 0, 0, 1]), atoms=slab_like, calculator=calculator)


@pytest.fixture
def slab_like():
    return Atoms("Ar", cell=[4, 4, 15], pbc=(True, True, False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fmax": 0.0}, "fmax is 0.0, but it must be positive"),
        ({"steps": -1}, "steps is -1, but it must be zero or positive"),
        ({"optimizer": "newton"}, "optimizer is 'newton', but it must be one of 'fire', 'bfgs', 'lbfgs'"),
        ({"cell": "yes"}, "cell is 'yes', but it must be one of 'fixed', 'full', 'hydrostatic'"),
        ({"mask": [1, 1, 1]}, "mask must have six entries, 0 or 1"),
        ({"pressure": 1.0}, "pressure is 1.0, but has no effect, because cell is 'fixed'; set cell to 'full' or"),
        ({"mask": [1] * 6}, "mask is .*, but has no effect, because cell is 'fixed'; set cell to 'full' or 'hydro"),
    ],
)
def test_settings_out_of_range(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, **changes)


def test_a_cell_is_measured_by_the_criterion_that_the_optimizer_uses(box, calculator, tmp_path):
    """ASE's largest row of the filter's forces, atoms and cell; a strained crystal has none on its atoms."""
    atoms = bulk("Ar", "fcc", a=5.0, cubic=True)
    summary = run_relax(settings(tmp_path, cell="full", steps=0, fmax=1e-3), atoms=atoms, calculator=calculator)
    atoms.calc = calculator
    forces = np.linalg.norm(FrechetCellFilter(atoms).get_forces(), axis=1)
    assert summary.fmax_eV_per_A == pytest.approx(forces[:4].max(), abs=1e-9)
    assert summary.fmax_cell_eV_per_A == pytest.approx(forces[4:].max(), rel=1e-9)
    assert summary.fmax_cell_eV_per_A > 1e-2 > summary.fmax_eV_per_A
    assert f"the largest force on atoms and cell is {forces.max():.4g} eV/A after 0 steps" in summary.message
    header = (tmp_path / "log.csv").read_text().split()[0]
    assert header.startswith("step,energy,fmax,fmax_cell")
