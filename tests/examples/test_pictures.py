"""Pictures of the benchmarks, drawn again from their stored results, can be read at the width of a page."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import faults

pytestmark = pytest.mark.usefixtures("benchmarks")

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"
RESULTS = BENCHMARKS / "results"


def script(name):
    """One of the scripts beside which there is a folder of the same name, or none."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def module(name):
    return importlib.import_module(name)


DRAWN = {
    "potentials": lambda rows, path: module("potentials.report").plot(rows, path),
    "ablation": lambda rows, path: module("ablation.report").plot(rows, path),
    "extrapolation": lambda rows, path: module("extrapolation.report").plot(rows, path),
    "finetune": lambda rows, path: module("finetune.report").plot(rows, path),
    "grids_digits": lambda rows, path: module("grids.report")._plot_digits(rows["digits"], path),
    "grids_angles": lambda rows, path: module("grids.report")._plot_angles(rows["angles"], path),
    "groups": lambda rows, path: module("groups.report").plot(rows, path),
    "point_clouds": lambda rows, path: module("point_clouds.report").plot(rows, path),
    "potential_speed_floor": lambda rows, path: module("model_speed.page").plot_floor(rows["floor"], path),
    "potential_speed_md": lambda rows, path: module("model_speed.page").plot_md(rows["md"], path),
    "potential_speed_scaling": lambda rows, path: module("model_speed.page").plot_scaling(rows["scaling"], path),
    "kernel_throughput": lambda rows, path: module("kernel_throughput.report").plot(
        rows["growth"], rows["paper_code"]["O3"]["train_edges_per_s"], path
    ),
    "engines": lambda rows, path: importlib.import_module("examples.benchmarks.engines.page").draw(
        rows, json.loads((RESULTS / "lammps_scaling.json").read_text()), path
    ),
    "nbody": lambda rows, path: script("nbody").plot(rows, path),
    "sphere": lambda rows, path: script("sphere").plot(rows, path),
    "face": lambda found, path: script("face").plot(found["errors"], found["sites"], found["dynamics"], path),
    "pocket": lambda content, path: module("pocket.report").plot(content, path),
    "surface": lambda rows, path: script("surface").plot(rows["errors"], path),
    "surface_base": lambda rows, path: script("surface_base").plot(rows, path),
    "qm9_flexibility": lambda rows, path: module("qm9.page").flexibility(rows, path.parent),
    "qm9_learning": lambda rows, path: module("qm9.page").learning(rows, path.parent),
}
OTHERS = {"dynamics"}  # drawn from the log files of the runs, which are not stored


def test_every_stored_picture_is_drawn_here():
    assert {path.stem for path in RESULTS.glob("*.png")} == {*DRAWN, *OTHERS}


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_of_benchmarks_can_be_read(name, drawn, tmp_path):
    stored = next(path for path in sorted(RESULTS.glob("*.json"), reverse=True) if name.startswith(path.stem))
    DRAWN[name](json.loads(stored.read_text()), tmp_path / f"{name}.png")
    assert (tmp_path / f"{name}.png").exists()
    (figure,) = drawn
    assert not faults(figure)


def test_the_picture_of_dynamics_can_be_read(drawn, tmp_path):
    rng = np.random.default_rng(0)
    for system in ("ethanol", "copper"):
        for preset in ("small", "medium", "large"):
            run = tmp_path / f"nve_{system}_{preset}_float32"
            run.mkdir()
            run.with_suffix(".json").write_text("{}")
            table = np.stack([0.01 * np.arange(-50, 2000), 0.001 * rng.normal(size=2050)], 1)
            np.savetxt(run / "log.csv", table, delimiter=",", header="time_ps,etot", comments="")
    script("dynamics").report([], tmp_path, tmp_path / "dynamics.json")
    (figure,) = drawn
    assert [len(axes.lines) for axes in figure.axes] == [3, 3]
    assert not faults(figure)


def test_the_page_on_speed_is_that_of_the_stored_results(tmp_path):
    (tmp_path / "results").mkdir()
    results = json.loads((RESULTS / "potential_speed.json").read_text())
    module("model_speed.page").write(results, tmp_path / "results" / "potential_speed", tmp_path / "potential_speed.md")
    assert (tmp_path / "potential_speed.md").read_text() == (BENCHMARKS / "potential_speed.md").read_text()
