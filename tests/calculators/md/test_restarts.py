"""What a run leaves is whole, starts at the temperature asked for, and is continued exactly, constraints included."""

import logging
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixCom, FixedPlane, FixInternals, FixScaled, Hookean
from ase.io import read

from ik_e3nn.data import read_labels, read_structures
from ik_e3nn.errors import DataError
from ik_e3nn_calculators import MDSettings, RelaxSettings, run_md, run_relax
from ik_e3nn_calculators.output.frames import AseTrajectoryFile

CONSTRAINTS = {
    "FixAtoms": FixAtoms([2]),
    "FixCartesian": FixCartesian([0], (True, False, True)),
    "FixScaled": FixScaled([0], (True, False, True)),
    "FixedPlane": FixedPlane(0, (0, 1, 1)),
    "FixBondLengths": FixBondLengths([[0, 1], [1, 2]]),
    "FixInternals": FixInternals(bonds=[[None, [0, 1]]]),
    "FixCom": FixCom(),
    "Hookean": Hookean(0, 2, 5.0, 1.0),
}


def settings(folder, **changes) -> MDSettings:
    values = {"steps": 8, "log_interval": 1, "frame_interval": 4, "checkpoint_interval": 4, "timestep": 0.5}
    return MDSettings("unused", output=str(folder), progress=False, plots=False, **{**values, **changes})


def ethanol(*constraints) -> Atoms:
    atoms = molecule("CH3CH2OH", vacuum=4.0)
    atoms.set_constraint(list(constraints))
    return atoms


def temperatures(folder) -> list[float]:
    return np.genfromtxt(folder / "log.csv", delimiter=",", names=True)["temperature"].reshape(-1).tolist()


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.set_constraint(FixBondLengths([[0, 1], [0, 2]]))
    return atoms


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    atoms.info.clear()  # of ase.build; extxyz cannot hold it
    atoms.set_constraint(FixAtoms(mask=[atom.tag == 3 for atom in atoms]))
    return atoms


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "npt"])
@pytest.mark.parametrize(
    "atoms",
    [molecule("H2"), molecule("CH3CH2OH"), bulk("Cu") * 2, slab(), water(), Atoms("Cu")],
    ids=["H2", "ethanol", "crystal", "slab", "rigid water", "one atom"],
)
def test_every_run_starts_at_the_temperature_asked_for(tmp_path, atoms, ensemble):
    if ensemble == "npt" and not atoms.pbc.all():
        pytest.skip("needs a periodic cell")
    run_md(settings(tmp_path, ensemble=ensemble, steps=0), atoms=atoms, calculator=EMT())
    assert temperatures(tmp_path) == [pytest.approx(300.0)]


def test_bonds_of_fixed_length_leave_no_drift(tmp_path):
    run_md(settings(tmp_path), atoms=water(), calculator=EMT())
    last = read(tmp_path / "final.traj")
    assert np.abs(last.get_momenta()).max() > 0.01
    assert np.abs(last.get_momenta().sum(axis=0)).max() < 1e-9
    assert last.get_distance(0, 1) == pytest.approx(water().get_distance(0, 1), abs=1e-9)


def test_drift_that_comes_with_the_structure_counts_as_heat(tmp_path):
    atoms = molecule("H2O")
    atoms.set_momenta(np.ones((3, 3)) * atoms.get_masses()[:, None] * 0.01)
    run_md(settings(tmp_path, velocities="file", steps=0), atoms=atoms, calculator=EMT())
    assert temperatures(tmp_path) == [pytest.approx(atoms.get_temperature())]  # ASE's, over all 9


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_every_constraint_is_continued_bit_for_bit(tmp_path, name, ensemble):
    def start() -> Atoms:
        return ethanol(CONSTRAINTS[name].copy())

    run_md(settings(tmp_path / "straight", ensemble=ensemble), atoms=start(), calculator=EMT())
    run_md(settings(tmp_path / "md", ensemble=ensemble, steps=4), atoms=start(), calculator=EMT())
    run_md(settings(tmp_path / "md", ensemble=ensemble, restart=True), calculator=EMT())
    for file in ("log.csv", "trajectory.extxyz", "final.extxyz"):
        assert (tmp_path / "md" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes()


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_the_file_to_go_on_from_has_the_constraints(tmp_path, name, caplog):
    chosen = RelaxSettings("unused", output=str(tmp_path), steps=1, fmax=1e-9, progress=False, plots=False)
    with caplog.at_level(logging.WARNING):
        summary = run_relax(chosen, atoms=ethanol(CONSTRAINTS[name].copy()), calculator=EMT())
    again = read(summary.structure)
    assert type(again.constraints[0]) is type(CONSTRAINTS[name])
    kept = name in ("FixAtoms", "FixCartesian")
    file = "final.extxyz" if kept else "final.traj"
    assert f"continue from {file}" in summary.message
    assert ("extended XYZ cannot hold these constraints: " + name in caplog.text) is not kept
    assert read(tmp_path / "final.extxyz").positions == pytest.approx(again.positions, abs=1e-7)


def test_springs_are_not_in_the_labels_of_frames(tmp_path):
    atoms = ethanol(Hookean(0, 2, 5.0, 1.0))
    run_md(settings(tmp_path), atoms=atoms, calculator=EMT())
    frame = read(tmp_path / "trajectory.extxyz", "-1")
    energy, forces = frame.get_potential_energy(), frame.get_forces(apply_constraint=False)
    bare = frame.copy()
    bare.set_constraint()
    bare.calc = EMT()
    assert energy == pytest.approx(bare.get_potential_energy(), abs=1e-5)
    assert forces == pytest.approx(bare.get_forces(), abs=1e-4)
    log = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
    assert log["epot"][-1] - energy == pytest.approx(atoms.constraints[0].adjust_potential_energy(frame), abs=1e-4)
    assert log["epot"][-1] - energy > 0.5
    assert np.ptp(log["etot"]) < 0.05 * np.ptp(log["ekin"])  # conserved with the spring


def test_velocities_that_are_not_in_the_file_are_missed(tmp_path):
    with pytest.raises(DataError, match="takes the momenta from the structure, but it has none"):
        run_md(settings(tmp_path / "md", velocities="file"), atoms=molecule("H2O"), calculator=EMT())
    assert not (tmp_path / "md").exists()


def test_a_step_that_is_long_for_hydrogen_gets_a_word(tmp_path, caplog):
    def warned(name, **changes) -> bool:
        caplog.clear()
        run_md(settings(tmp_path / name, steps=0, **changes), atoms=molecule("H2O"), calculator=EMT())
        return "is long for hydrogen" in caplog.text

    assert warned("long", timestep=2.0)
    assert not warned("short", timestep=1.0)
    caplog.clear()
    run_md(settings(tmp_path / "rigid", steps=0, timestep=2.0), atoms=water(), calculator=EMT())
    assert "is long for hydrogen" not in caplog.text


def test_frames_have_the_labels_of_the_run_and_not_of_its_start(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.info.update(REF_energy=-7.0, my_energy_std=0.1, label_units="eV ang", name="copper")
    atoms.arrays["REF_forces"] = np.ones((4, 3))
    run_md(settings(tmp_path / "md", steps=4, frame_interval=2), atoms=atoms, calculator=EMT())
    relaxing = RelaxSettings("unused", output=str(tmp_path / "relax"), steps=2, plots=False, progress=False)
    run_relax(relaxing, atoms=atoms, calculator=EMT())
    frames = [frame for name in ("md", "relax") for frame in read_structures(tmp_path / name / "trajectory.extxyz")]
    frames += read_structures([tmp_path / "md" / "final.extxyz", tmp_path / "relax" / "final.extxyz"])
    data = read_labels(frames)
    assert data.sources == {"energy": "energy", "forces": "forces"}
    for frame, label in zip(frames, data.labels, strict=True):
        assert frame.info["name"] == "copper"
        frame.calc = EMT()
        assert label.energy == pytest.approx(frame.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(label.forces, frame.get_forces(), atol=1e-6)
    assert atoms.info["REF_energy"] == -7.0


def test_half_the_temperature_gets_a_word(tmp_path, caplog):
    atoms = bulk("Cu") * 2  # at its minimum
    chosen = {"steps": 200, "timestep": 5.0}
    summary = run_md(settings(tmp_path / "nve", **chosen), atoms=atoms, calculator=EMT())
    assert summary.mean_temperature_K == pytest.approx(150.0, rel=0.2)
    assert (
        "300 K was requested. At constant energy, half of the kinetic energy of a relaxed structure becomes potential"
        in caplog.text
    )
    caplog.clear()
    run_md(settings(tmp_path / "warm", equilibrate_ps=0.5, **chosen), atoms=atoms, calculator=EMT())
    atoms.set_constraint(FixAtoms(range(len(atoms))))
    run_md(settings(tmp_path / "fixed", steps=20), atoms=atoms, calculator=EMT())
    assert "was requested" not in caplog.text


def test_the_heat_of_a_strained_start_gets_another_word(tmp_path, caplog):
    atoms = bulk("Cu") * 2
    atoms.rattle(0.1, seed=0)
    summary = run_md(settings(tmp_path / "nve", steps=100), atoms=atoms, calculator=EMT())
    assert summary.mean_temperature_K > 375.0
    assert "300 K was requested. At constant energy, an unrelaxed structure turns its strain" in caplog.text


def test_a_binary_trajectory_is_cut_back_to_its_mark(tmp_path):
    file = AseTrajectoryFile(tmp_path / "a.traj")
    for x in range(5):
        file.append(Atoms("H", positions=[[x, 0, 0]]))
    file.cut(3)
    assert [atoms.positions[0, 0] for atoms in read(tmp_path / "a.traj", ":")] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.traj"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("start.traj", b"garbage", "start.traj has changed since the run began; restore a copy"),
        ("start.traj", None, "start.traj cannot be read"),
        ("settings.json", b"{}", "settings.json is damaged .it has no 'ensemble'"),
        ("settings.json", None, "settings.json cannot be read: No such file"),
        ("checkpoint.npz", b"garbage", "checkpoint.npz cannot be read .*; start the run anew with overwrite"),
    ],
)
def test_damaged_files_of_a_run_are_named(tmp_path, name, content, message):
    run_md(settings(tmp_path, steps=1), atoms=ethanol(), calculator=EMT())
    (tmp_path / name).unlink()
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        run_md(settings(tmp_path, steps=2, restart=True), atoms=ethanol(), calculator=EMT())


def rows_of(folder) -> list[int]:
    return np.genfromtxt(folder / "log.csv", delimiter=",", names=True)["step"].reshape(-1).astype(int).tolist()


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Runs of 40 steps, one with each kind of trajectory."""
    folder = tmp_path_factory.mktemp("begun")
    for kind in ("extxyz", "traj"):
        run_md(lengthened(folder / kind, steps=40, restart=False, trajectory=kind), atoms=water(), calculator=EMT())
    return folder


def lengthened(folder, **changes) -> MDSettings:
    chosen = {"steps": 60, "log_interval": 10, "frame_interval": 10, "checkpoint_interval": 20, "restart": True}
    return settings(folder, **{**chosen, **changes})


def beginning(path, share) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def without_first_frame(path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[5:]))


def without_first_row(path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[2:]]))


LOST = [
    ("log.csv", None, [50, 60], "rows up to step 40"),
    ("log.csv", 0.0, [50, 60], "rows up to step 40"),
    ("log.csv", 0.5, [0, 10, 50, 60], "rows after step 10 up to step 40"),
    ("log.csv", without_first_row, [10, 20, 30, 40, 50, 60], "rows before step 10"),
    ("trajectory.extxyz", None, [50, 60], "frames up to step 40"),
    ("trajectory.extxyz", 0.0, [50, 60], "frames up to step 40"),
    ("trajectory.extxyz", 0.5, [0, 10, 50, 60], "frames after step 10 up to step 40"),
    ("trajectory.extxyz", without_first_frame, [10, 20, 30, 40, 50, 60], "frames before step 10"),
    ("trajectory.traj", None, [50, 60], "frames up to step 40"),
    ("trajectory.traj", 0.0, [50, 60], "frames up to step 40"),
    ("trajectory.traj", 0.9, [0, 10, 20, 30, 50, 60], "frames after step 30 up to step 40"),
]


@pytest.mark.parametrize(("name", "damage", "left", "message"), LOST)
def test_a_warning_of_what_is_missing_of_a_continued_run(begun, tmp_path, caplog, name, damage, left, message):
    kind = "traj" if name.endswith("traj") else "extxyz"
    shutil.copytree(begun / kind, tmp_path, dirs_exist_ok=True)
    if damage is None:
        (tmp_path / name).unlink()
    elif callable(damage):
        damage(tmp_path / name)
    else:
        beginning(tmp_path / name, damage)
    run_md(lengthened(tmp_path, trajectory=kind), calculator=EMT())
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [
        f"{tmp_path / name} holds no {message}: it was shortened or removed after they were written, and they are lost"
    ]
    steps = rows_of(tmp_path) if name == "log.csv" else [atoms.info["step"] for atoms in read(tmp_path / name, ":")]
    assert steps == left


def test_what_came_after_the_checkpoint_is_not_missed(begun, tmp_path, caplog):
    shutil.copytree(begun / "extxyz", tmp_path, dirs_exist_ok=True)
    for name in ("log.csv", "trajectory.extxyz"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes() + path.read_bytes()[:50])
    run_md(lengthened(tmp_path, frame_interval=4, log_interval=3), calculator=EMT())
    run_md(lengthened(tmp_path, steps=70), calculator=EMT())
    assert not [record for record in caplog.records if record.name.endswith(".kept")]
    assert rows_of(tmp_path)[:6] == [0, 10, 20, 30, 40, 42]


def test_a_trajectory_that_cannot_be_read_is_named(begun, tmp_path):
    shutil.copytree(begun / "traj", tmp_path, dirs_exist_ok=True)
    beginning(tmp_path / "trajectory.traj", 0.01)
    with pytest.raises(DataError, match=r"trajectory.traj cannot be read .*; restore a copy, or move it away"):
        run_md(lengthened(tmp_path, trajectory="traj"), calculator=EMT())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("10,0.005", "10,0#005", r"line 3 \(could not convert string to float: '0#005"),
        ("10,0.005", "10.0.005", r"line 3 \(it has 5 values for 6 columns\)"),
        ("\n20,", "J20,", r"line 3 \(it has 11 values for 6 columns\)"),
        ("epot", "epou", r"line 1 \(the columns are step, time_ps, epou"),
    ],
)
def test_a_damaged_log_is_named_before_the_run_goes_on(begun, tmp_path, old, new, message):
    shutil.copytree(begun / "extxyz", tmp_path, dirs_exist_ok=True)
    log = tmp_path / "log.csv"
    log.write_text(log.read_text().replace(old, new))
    before = log.read_bytes()
    with pytest.raises(DataError, match=f"log.csv is damaged in {message}.*: restore a copy, repair that line"):
        run_md(lengthened(tmp_path), calculator=EMT())
    assert log.read_bytes() == before
    assert len(read(tmp_path / "trajectory.extxyz", ":")) == 5


def test_the_last_structure_is_written_whatever_happens_to_the_log(begun, tmp_path):
    class Spoiler(EMT):
        def calculate(self, *args, **kwargs) -> None:
            super().calculate(*args, **kwargs)
            with (tmp_path / "log.csv").open("a") as file:
                file.write("spoiled\n")

    with pytest.raises(DataError, match=r"log.csv is damaged in line .*it has 1 values for 6 columns"):
        run_md(settings(tmp_path, steps=2), atoms=water(), calculator=Spoiler())
    assert read(tmp_path / "final.extxyz").info["step"] == 2


@pytest.mark.parametrize("name", ["final.extxyz", "start.traj", "linked.traj"])
def test_a_run_does_not_replace_what_it_reads(begun, tmp_path, monkeypatch, name):
    shutil.copytree(begun / "extxyz", tmp_path, dirs_exist_ok=True)
    (tmp_path / "linked.traj").symlink_to("start.traj")
    monkeypatch.chdir(tmp_path.parent)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    source = f"{tmp_path.name}/{name}"
    replaced = "is read by this command, and would be replaced by its output; choose another output folder"
    starts = MDSettings(source, output=str(tmp_path), overwrite=True, progress=False)
    with pytest.raises(DataError, match=replaced):
        run_md(starts, calculator=EMT())
    if name == "final.extxyz":
        with pytest.raises(DataError, match=f"final.extxyz {replaced}"):
            run_relax(RelaxSettings(source, output=str(tmp_path), overwrite=True), calculator=EMT())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_a_warning_if_nothing_can_move(tmp_path, caplog, ensemble):
    atoms = molecule("H2O")
    atoms.set_constraint([FixAtoms([0, 1]), FixCartesian([2])])
    run_md(settings(tmp_path / "held", ensemble=ensemble, steps=1), atoms=atoms, calculator=EMT())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "no atom can move: the constraints fix all atoms, so the run stays at 0 K"
    ]
    caplog.clear()
    atoms.set_constraint(FixAtoms([0, 1]))
    run_md(settings(tmp_path / "free", ensemble=ensemble, steps=1), atoms=atoms, calculator=EMT())
    assert "no atom can move" not in caplog.text
