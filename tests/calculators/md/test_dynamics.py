import csv
import json

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms

from ik_e3nn.errors import DataError, ExplosionError, UnknownSpeciesError
from ik_e3nn_calculators import IKCalculator, MDSettings, run_md
from ik_e3nn_calculators.md.settings import ExplosionLimits
from tests.calculators.pair_potential import PairPotential


class KilledError(Exception):
    """Stands for a kill in the middle of a step."""


class Mortal(IKCalculator):
    """Dies after so many evaluations."""

    def __init__(self, lives: int) -> None:
        super().__init__(PairPotential(), device="cpu")
        self.lives = lives

    def calculate(self, *args, **kwargs) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise KilledError
        super().calculate(*args, **kwargs)


def settings(folder, **changes) -> MDSettings:
    values = {
        "ensemble": "nve",
        "steps": 40,
        "timestep": 2.0,
        "temperature": 40.0,
        "log_interval": 5,
        "frame_interval": 10,
        "checkpoint_interval": 8,
        "progress": False,
        "plots": False,
    }
    return MDSettings("unused", "unused", output=str(folder), **{**values, **changes})


def rows(folder) -> dict[str, np.ndarray]:
    with (folder / "log.csv").open() as file:
        table = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in table]) for name in table[0]}


@pytest.mark.long
class TestPhysics:
    def test_nve_conserves_energy_and_momentum(self, box, calculator, tmp_path):
        summary = run_md(settings(tmp_path / "md", steps=500, temperature=60.0), atoms=box, calculator=calculator)
        total = rows(tmp_path / "md")["etot"]
        kinetic = rows(tmp_path / "md")["ekin"]
        assert np.ptp(kinetic) > 0.02
        assert np.ptp(total) < 0.01 * np.ptp(kinetic)
        assert abs(summary.drift_meV_per_atom_per_ps) < 0.02
        last = ase.io.read(tmp_path / "md" / "final.extxyz")
        assert np.abs(last.get_momenta().sum(axis=0)).max() < 1e-6

    def test_nve_error_is_of_second_order_in_the_time_step(self, box, tmp_path):
        spread = []
        for timestep in (8.0, 4.0):
            folder = tmp_path / f"md{timestep}"
            chosen = settings(folder, steps=int(800 / timestep), timestep=timestep, log_interval=1, temperature=60.0)
            run_md(chosen, atoms=box, calculator=IKCalculator(PairPotential(), device="cpu"))
            spread.append(rows(folder)["etot"].std())
        assert 3.0 < spread[0] / spread[1] < 5.0

    def test_molecule_does_not_turn_or_drift(self, cluster, calculator, tmp_path):
        chosen = settings(tmp_path / "md", steps=200, temperature=10.0, equilibrate_ps=0.1)
        run_md(chosen, atoms=cluster, calculator=calculator)
        last = ase.io.read(tmp_path / "md" / "final.extxyz")
        assert np.abs(last.get_momenta()).max() > 0.1
        assert np.abs(last.get_momenta().sum(axis=0)).max() < 1e-6
        assert np.abs(last.get_angular_momentum()).max() < 1e-5

    def test_langevin_reaches_its_temperature(self, box, calculator, tmp_path):
        chosen = settings(
            tmp_path / "md",
            ensemble="langevin",
            steps=800,
            equilibrate_ps=1.0,
            friction=20.0,
            timestep=5.0,
            temperature=50.0,
        )
        summary = run_md(chosen, atoms=box, calculator=calculator)
        # 96 degrees of freedom: one value scatters by 7 K, and some 80 independent ones are averaged.
        assert summary.mean_temperature_K == pytest.approx(50.0, abs=3.0)
        assert 4.0 < summary.std_temperature_K < 11.0
        assert summary.drift_meV_per_atom_per_ps is None

    def test_npt_reaches_its_pressure(self, box, calculator, tmp_path):
        chosen = settings(
            tmp_path / "md", ensemble="npt", steps=1200, pressure=0.5, friction=5.0, timestep=5.0, temperature=40.0,
            barostat_ps=0.3,
        )  # fmt: skip
        summary = run_md(chosen, atoms=box, calculator=calculator)
        table = rows(tmp_path / "md")
        late = table["step"] > 300
        assert table["volume"][late].mean() < 0.98 * table["volume"][0]
        assert table["pressure"][late].mean() == pytest.approx(0.5, abs=0.05)
        assert table["temperature"][late].mean() == pytest.approx(40.0, abs=4.0)
        assert summary.neighbor_rebuilds < 100  # of 1200 steps, in each of which the cell changes
        assert summary.mean_pressure_GPa == pytest.approx(table["pressure"].mean(), abs=1e-6)

    def test_pressure_of_the_log_is_the_virial_one(self, box, calculator, tmp_path):
        summary = run_md(settings(tmp_path / "md", steps=0), atoms=box, calculator=calculator)
        assert summary.mean_temperature_K > 0.0
        assert summary.std_temperature_K is None  # of a single row
        frame = ase.io.read(tmp_path / "md" / "trajectory.extxyz")
        frame.calc = calculator
        volume = frame.get_volume()
        virial = (frame.get_stresses().sum(axis=0)[:3]).sum() * volume
        expected = (2 * frame.get_kinetic_energy() - virial) / (3 * volume) / units.GPa
        assert rows(tmp_path / "md")["pressure"][0] == pytest.approx(expected, abs=1e-6)

    def test_fixed_atoms_stay(self, box, calculator, tmp_path):
        box.set_constraint(FixAtoms([0, 5]))
        for ensemble in ("nve", "langevin"):
            chosen = settings(tmp_path / ensemble, ensemble=ensemble, equilibrate_ps=0.02)
            run_md(chosen, atoms=box, calculator=calculator)
            last = ase.io.read(tmp_path / ensemble / "final.extxyz")
            moved = np.linalg.norm(last.positions - box.positions, axis=1)
            assert np.abs(moved[[0, 5]]).max() < 1e-7
            assert np.delete(moved, [0, 5]).min() > 1e-4


class TestFiles:
    def test_what_a_run_leaves(self, box, calculator, tmp_path):
        chosen = settings(tmp_path / "md", equilibrate_ps=0.02, plots=True)
        before = box.copy()
        summary = run_md(chosen, atoms=box, calculator=calculator)
        assert box == before
        assert box.calc is None
        assert "momenta" not in box.arrays
        names = {path.name for path in (tmp_path / "md").iterdir()}
        assert names == {
            "start.traj", "settings.json", "checkpoint.npz", "log.csv", "trajectory.extxyz", "final.extxyz",
            "summary.json", "energy.png", "temperature.png",
        }  # fmt: skip
        table = rows(tmp_path / "md")
        assert list(table) == ["step", "time_ps", "epot", "ekin", "etot", "temperature", "pressure", "volume"]
        assert table["step"].tolist() == list(range(-10, 41, 5))
        np.testing.assert_allclose(table["etot"], table["epot"] + table["ekin"], atol=2e-9)
        frames = ase.io.read(tmp_path / "md" / "trajectory.extxyz", ":")
        assert [frame.info["step"] for frame in frames] == [0, 10, 20, 30, 40]
        assert frames[1].get_potential_energy() == pytest.approx(table["epot"][table["step"] == 10][0], abs=1e-6)
        assert frames[1].get_forces().any()
        written = json.loads((tmp_path / "md" / "summary.json").read_text())
        assert written["status"] == "finished"
        assert written["steps"] == 40
        assert written["time_ps"] == pytest.approx(0.08)
        assert written["ms_per_step"] > 0
        assert written["neighbor_rebuilds"] == summary.neighbor_rebuilds < 5
        assert (tmp_path / "md" / "energy.png").read_bytes()[:4] == b"\x89PNG"

    def test_drift_is_the_slope_of_the_total_energy(self, box, calculator, tmp_path):
        summary = run_md(settings(tmp_path / "md"), atoms=box, calculator=calculator)
        table = rows(tmp_path / "md")
        slope = np.polyfit(table["time_ps"], table["etot"], 1)[0]
        assert summary.drift_meV_per_atom_per_ps == pytest.approx(1000 * slope / len(box), rel=1e-6)

    def test_a_run_is_never_overwritten_unasked(self, box, calculator, tmp_path):
        run_md(settings(tmp_path), atoms=box, calculator=calculator)
        log = (tmp_path / "log.csv").read_bytes()
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(DataError, match="already holds a run"):
            run_md(settings(tmp_path), atoms=box, calculator=calculator)
        assert (tmp_path / "log.csv").read_bytes() == log
        run_md(settings(tmp_path, overwrite=True, steps=10), atoms=box, calculator=calculator)
        assert rows(tmp_path)["step"].tolist() == [0, 5, 10]
        assert (tmp_path / "notes.txt").read_text() == "mine"

    def test_a_structure_that_cannot_be_run_leaves_no_trace(self, calculator, tmp_path):
        with pytest.raises(UnknownSpeciesError):
            run_md(settings(tmp_path / "md"), atoms=Atoms("He"), calculator=calculator)
        assert not (tmp_path / "md").exists()

    def test_folder_that_cannot_be_written(self, box, calculator, tmp_path):
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(DataError, match="cannot write to the output folder"):
            run_md(settings(tmp_path / "file" / "md"), atoms=box, calculator=calculator)

    def test_one_atom(self, calculator, tmp_path):
        summary = run_md(settings(tmp_path / "md"), atoms=Atoms("Ar"), calculator=calculator)
        assert summary.mean_temperature_K == pytest.approx(40.0)
        assert summary.drift_meV_per_atom_per_ps == pytest.approx(0.0, abs=1e-9)

    def test_velocities_from_the_file(self, box, calculator, tmp_path):
        box.set_momenta(np.random.default_rng(0).normal(size=(32, 3)))
        run_md(settings(tmp_path / "md", velocities="file", steps=0), atoms=box, calculator=calculator)
        frame = ase.io.read(tmp_path / "md" / "trajectory.extxyz")
        np.testing.assert_allclose(frame.get_momenta(), box.get_momenta(), atol=1e-7)

    def test_relaxed_first(self, cluster, calculator, tmp_path):
        chosen = settings(tmp_path / "md", relax_fmax=0.001, steps=0, temperature=0.0)
        run_md(chosen, atoms=cluster, calculator=calculator)
        frame = ase.io.read(tmp_path / "md" / "trajectory.extxyz")
        assert np.linalg.norm(frame.get_forces(), axis=1).max() < 0.0011


class TestRestart:
    CASES = (
        {"ensemble": "nve"},
        {"ensemble": "nve", "equilibrate_ps": 0.05},
        {"ensemble": "langevin", "trajectory": "traj"},
        {"ensemble": "npt", "pressure": 0.1, "equilibrate_ps": 0.03},
    )

    @pytest.mark.parametrize("changes", CASES, ids=lambda case: "-".join(map(str, case.values())))
    @pytest.mark.parametrize("lives", [5, 29, 47])
    def test_killed_and_continued_is_one_straight_run(self, box, tmp_path, changes, lives):
        straight = settings(tmp_path / "straight", **changes)
        run_md(straight, atoms=box, calculator=IKCalculator(PairPotential(), device="cpu"))
        broken = settings(tmp_path / "broken", restart=True, **changes)
        try:
            run_md(broken, atoms=box, calculator=Mortal(lives))
        except KilledError:
            assert not (tmp_path / "broken" / "summary.json").exists()
        run_md(broken, atoms=box, calculator=IKCalculator(PairPotential(), device="cpu"))
        for name in ("log.csv", "final.extxyz"):
            assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
        first, second = (
            ase.io.read(next((tmp_path / name).glob("trajectory.*")), ":") for name in ("straight", "broken")
        )
        assert len(first) == len(second) == 5
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.positions, other.positions)
            np.testing.assert_array_equal(one.get_momenta(), other.get_momenta())
            np.testing.assert_array_equal(one.cell.array, other.cell.array)
        with (
            np.load(tmp_path / "straight" / "checkpoint.npz") as one,
            np.load(tmp_path / "broken" / "checkpoint.npz") as other,
        ):
            for name in ("positions", "momenta", "cell"):
                np.testing.assert_array_equal(one[name], other[name])

    def test_a_finished_run_is_made_longer(self, box, calculator, tmp_path):
        run_md(settings(tmp_path / "straight", steps=60), atoms=box, calculator=calculator)
        run_md(settings(tmp_path / "md", steps=40), atoms=box, calculator=calculator)
        summary = run_md(settings(tmp_path / "md", steps=60, restart=True), calculator=calculator)
        assert summary.steps == 60
        assert (tmp_path / "md" / "log.csv").read_bytes() == (tmp_path / "straight" / "log.csv").read_bytes()
        again = run_md(settings(tmp_path / "md", steps=60, restart=True), calculator=calculator)
        assert again.ms_per_step is None
        assert again.drift_meV_per_atom_per_ps == summary.drift_meV_per_atom_per_ps

    def test_constraints_inputs_and_bonds_survive(self, cluster, tmp_path):
        def engine():
            return IKCalculator(PairPotential(inputs=["total_charge", "bond_types"]), device="cpu")

        cluster.info.update(charge=1, bonds=np.array([0, 1, 1]))
        cluster.set_constraint(FixAtoms([2]))
        cluster.set_masses([1.0] + [39.0] * 6)
        run_md(settings(tmp_path / "straight", timestep=0.5), atoms=cluster, calculator=engine())
        run_md(settings(tmp_path / "md", timestep=0.5, steps=16), atoms=cluster, calculator=engine())
        run_md(settings(tmp_path / "md", timestep=0.5, restart=True), calculator=engine())
        assert (tmp_path / "md" / "log.csv").read_bytes() == (tmp_path / "straight" / "log.csv").read_bytes()

    def test_killed_before_the_first_checkpoint(self, box, calculator, tmp_path):
        (tmp_path / "start.traj").write_bytes(b"half")
        with pytest.raises(DataError, match=r"already holds a run \(start.traj\)"):
            run_md(settings(tmp_path), atoms=box, calculator=calculator)
        assert run_md(settings(tmp_path, restart=True), atoms=box, calculator=calculator).status == "finished"
        (tmp_path / "checkpoint.npz").unlink()
        with pytest.raises(DataError, match="already holds a run"):
            run_md(settings(tmp_path, restart=True), atoms=box, calculator=calculator)

    def test_what_a_kill_left_half_written_is_dropped(self, box, calculator, tmp_path):
        run_md(settings(tmp_path / "straight"), atoms=box, calculator=calculator)
        run_md(settings(tmp_path / "md", steps=24), atoms=box, calculator=calculator)
        for name, rest in (("log.csv", b"25,0.05,-1."), ("trajectory.extxyz", b"32\nLattice=")):
            with (tmp_path / "md" / name).open("ab") as file:
                file.write(rest)
        (tmp_path / "md" / "checkpoint.part").write_bytes(b"PK")
        run_md(settings(tmp_path / "md", restart=True), calculator=calculator)
        for name in ("log.csv", "trajectory.extxyz"):
            assert (tmp_path / "md" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()

    def test_other_physics_is_refused(self, box, calculator, tmp_path):
        run_md(settings(tmp_path), atoms=box, calculator=calculator)
        with pytest.raises(DataError, match=r"timestep: 2.0 before, 1.0 now"):
            run_md(settings(tmp_path, restart=True, timestep=1.0), calculator=calculator)

    def test_broken_checkpoint(self, box, calculator, tmp_path):
        run_md(settings(tmp_path), atoms=box, calculator=calculator)
        content = (tmp_path / "checkpoint.npz").read_bytes()
        (tmp_path / "checkpoint.npz").write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=r"checkpoint .* cannot be read"):
            run_md(settings(tmp_path, restart=True), calculator=calculator)


class TestExplosion:
    def test_too_long_a_time_step(self, box, calculator, tmp_path):
        chosen = settings(tmp_path / "md", timestep=400.0, temperature=400.0, log_interval=1, plots=True)
        with pytest.raises(ExplosionError, match=r"step \d+: .*last good frames are in .*last_frames.extxyz"):
            run_md(chosen, atoms=box, calculator=calculator)
        frames = ase.io.read(tmp_path / "md" / "last_frames.extxyz", ":")
        assert all(np.isfinite(frame.positions).all() for frame in frames)
        summary = json.loads((tmp_path / "md" / "summary.json").read_text())
        assert summary["status"] == "exploded"
        assert "step" in summary["message"]

    def test_temperature(self, box, calculator, tmp_path):
        chosen = settings(tmp_path / "md", limits=ExplosionLimits(temperature=10.0))
        with pytest.raises(ExplosionError, match=r"step 1: the temperature is \d+ K, above the limit of 10 K"):
            run_md(chosen, atoms=box, calculator=calculator)

    def test_fast_atom(self, box, calculator, tmp_path):
        chosen = settings(tmp_path / "md", limits=ExplosionLimits(displacement=1e-4))
        with pytest.raises(ExplosionError, match=r"atom \d+ \(Ar\) moved .* A in one step"):
            run_md(chosen, atoms=box, calculator=calculator)

    def test_overlapping_start(self, calculator, tmp_path):
        atoms = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 0.5]])
        with pytest.raises(ExplosionError, match=r"atoms . \(Ar\) and . \(Ar\) are at 0.24 of the sum"):
            run_md(settings(tmp_path / "md"), atoms=atoms, calculator=calculator)
        assert not (tmp_path / "md").exists()

    def test_atom_that_leaves(self, cluster, calculator, tmp_path):
        cluster.set_momenta([[0.0, 0, 0]] * 6 + [[0, 0, -20.0]])
        chosen = settings(tmp_path / "md", velocities="file", steps=100, limits=ExplosionLimits(temperature=1e5))
        with pytest.raises(ExplosionError, match=r"atom 6 \(Ar\) no longer has a neighbor within 6.0 A"):
            run_md(chosen, atoms=cluster, calculator=calculator)
        free = settings(
            tmp_path / "free", velocities="file", steps=100, limits=ExplosionLimits(temperature=1e5, leaving=False)
        )
        assert run_md(free, atoms=cluster, calculator=calculator).status == "finished"

    def test_nan_from_the_model(self, box, tmp_path):
        class Broken(PairPotential):
            def forward(self, graph, **wanted):
                outputs = super().forward(graph, **wanted)
                if self.calls > 6:
                    outputs["forces"] = outputs["forces"] * float("nan")
                return outputs

        with pytest.raises(ExplosionError, match="NaN or infinite"):
            run_md(settings(tmp_path / "md"), atoms=box, calculator=IKCalculator(Broken(), device="cpu"))
        assert np.isfinite(rows(tmp_path / "md")["etot"]).all()
        assert np.isfinite(ase.io.read(tmp_path / "md" / "last_frames.extxyz").positions).all()


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"time_ps": 1.0}, "either steps or time_ps"),
            ({"steps": None, "time_ps": 0.01, "timestep": 50.0}, "time_ps=0.01 is less than half a time step of 50 fs"),
            ({"equilibrate_ps": 0.0001}, "equilibrate_ps=0.0001 is less than half a time step of 2 fs"),
            ({"ensemble": "nvt"}, "ensemble is 'nvt', but it must be one of 'nve', 'langevin', 'npt'"),
            ({"timestep": 0.0}, "timestep is 0.0, but it must be positive"),
            ({"friction": float("nan")}, "friction is nan, but it must be a finite number"),
            ({"friction": 0.0}, "friction is 0.0, but it must be positive"),
            ({"temperature": -1.0}, "temperature is -1.0, but it must be zero or positive"),
            ({"max_edges": 0}, "max_edges is 0, but it must be at least 1"),
            ({"relax_fmax": 0.0}, "relax_fmax is 0.0, but it must be positive"),
            ({"restart": True, "overwrite": True}, "choose one"),
            ({"pressure": 1.0}, "pressure is 1.0, but has no effect, because ensemble is 'nve' and only 'npt' uses it"),
            ({"ensemble": "langevin", "barostat_ps": 2.0}, "barostat_ps is 2.0, .* 'langevin' and only 'npt' uses it"),
            ({"friction": 5.0}, "friction is 5.0, .* only 'langevin', 'npt' and an equilibration use it; set ensemble"),
        ],
    )
    def test_out_of_range(self, tmp_path, changes, message):
        with pytest.raises(ValueError, match=message):
            settings(tmp_path, **changes)

    def test_the_thermostat_of_an_equilibration_has_a_friction(self, tmp_path):
        assert settings(tmp_path, friction=5.0, equilibrate_ps=0.1).friction == 5.0

    def test_limits(self):
        with pytest.raises(ValueError, match="limits.contact is 0.0, but it must be positive"):
            ExplosionLimits(contact=0.0)

    def test_length_in_ps(self, tmp_path):
        assert settings(tmp_path, steps=None, time_ps=1.0, equilibrate_ps=0.1).num_steps == 500
        assert settings(tmp_path, steps=None).num_steps == 5000  # 10 ps by default
        assert settings(tmp_path, equilibrate_ps=0.1).num_equilibration_steps == 50

    @pytest.mark.parametrize("make", ["open", "fixed"])
    def test_npt_needs_a_free_periodic_cell(self, box, cluster, calculator, tmp_path, make):
        atoms, message = (cluster, "three periodic directions") if make == "open" else (box, "cannot keep constraints")
        if make == "fixed":
            atoms.set_constraint(FixAtoms([0]))
        with pytest.raises(DataError, match=message):
            run_md(settings(tmp_path / "md", ensemble="npt"), atoms=atoms, calculator=calculator)
        assert not (tmp_path / "md").exists()
